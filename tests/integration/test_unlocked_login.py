"""A login that was refused, mended at the server: a TEST that passes lets the mail go on at once (design 2.7)."""

from pathlib import Path

import pytest

from support.backlog_drill import send
from support.processes import serving
from support.tls_servers import login_profile, tls_server
from support.waiting import eventually

RIGHT = "correct horse"


@pytest.mark.timeout(120)
def test_after_a_passed_test_the_login_is_tried_again_and_its_mail_goes_on(tmp_path: Path) -> None:
    logins = {"relay": "not yet that"}
    with tls_server(logins=logins, auth_required=True) as server:
        inventory = login_profile("right", server, '{ env = "TEST_RIGHT" }')
        with serving(tmp_path, inventory, environment={"TEST_RIGHT": RIGHT}) as node:

            def locked() -> list[bool]:
                found = node.get("server-profiles/right/state")["servers"]
                assert isinstance(found, list)
                return [bool(row["login_locked_until"]) for server in found for row in server["workers"]]

            eventually(lambda: locked() == [False], "a row of the server")
            send(node.port, "you@right.example", 5)
            eventually(lambda: locked() == [True], "a locked login")
            assert len(server.logins) == 1
            assert node.api("POST", "server-profiles/right/test")[1]["ok"] is False
            assert len(server.logins) == 2
            assert locked() == [True]
            logins["relay"] = RIGHT
            assert node.api("POST", "server-profiles/right/test")[1]["ok"] is True
            eventually(lambda: len(server.mails) == 5, "all mails", 20)  # the schedule would take a minute
            node.wait_empty()
            eventually(lambda: locked() == [False], "a login that is not locked", 5)
