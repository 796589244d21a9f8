"""Next hops that want less of us, or come and go: nothing fails, no try is wrongly used up, no DSN is made."""

from pathlib import Path

import pytest

from support.backlog_drill import send
from support.flapping_drill import drill as flapping_drill
from support.limited_server import LimitedServer, running
from support.processes import Node, inventory_for, serving
from support.server_drill import events
from support.waiting import eventually


def tries(node: Node) -> set[object]:
    mails = node.get("mails?limit=200")["items"]
    assert isinstance(mails, list)
    return {(r["state"], r["tries"]) for one in mails for r in one["recipients"]}


@pytest.mark.timeout(180)
def test_a_server_that_allows_three_connections_teaches_the_limit_and_no_mail_fails(tmp_path: Path) -> None:
    server = LimitedServer(3)
    with running(server) as port, serving(tmp_path, inventory_for(port)) as node:
        send(node.port, "you@ours.example", 100)
        eventually(lambda: server.taken == 100, "all mails", 120)
        node.wait_empty()
        assert tries(node) == {("relayed", 0)}
        halved = [line["limit"] for line in events(node, "limit of open transactions")]
        assert halved
        assert min(int(str(limit)) for limit in halved) <= 3
        assert not list(events(node, "circuit opened"))


@pytest.mark.timeout(180)
def test_a_server_that_comes_and_goes_gets_every_mail_and_nobody_a_false_dsn(tmp_path: Path) -> None:
    assert flapping_drill(tmp_path, seconds=12, rate=10)["mails"] >= 100
