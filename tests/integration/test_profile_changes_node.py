"""Server profiles changed on a real node: in force at once, tested before, and those of files in the background."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.backlog_drill import send
from support.command_line import CommandLine, command_line
from support.processes import Node, inventory_for, serving
from support.server_drill import events
from support.servers import closed_port
from support.threaded_sink import sink
from support.tls_servers import ServerKind, login_profile, tls_server
from support.waiting import eventually

CONFIG = 'hostname = "mx.test"\ntest_profiles = true\n'
IN_FORCE_SECONDS = 1.0


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def mark(node: Node, name: str) -> dict[str, Any]:
    found: Any = node.get(f"server-profiles/{name}")["tested"]
    assert isinstance(found, dict)
    return found


def mark_of_test(node: Node, name: str) -> dict[str, Any]:
    """Its mark once the background test is over."""
    return eventually(
        lambda: found if (found := mark(node, name))["state"] in ("passed", "failed") else None, f"the test of {name}"
    )


def who_tested(node: Node, name: str) -> list[str]:
    """Who has tested it, as the audit log says."""
    rows: Any = node.get("audit?limit=200")["items"]
    return [
        row["by"]
        for row in rows
        if row["what"] == "server profile tested" and row["detail"]["server_profile"] == name
    ]


def servers_of_mails(node: Node) -> list[str]:
    """Where each mail was relayed to, oldest first."""
    mails: Any = node.get("mails?limit=200")["items"]
    whole: list[Any] = [node.get(f"mails/{one['id']}") for one in reversed(mails)]
    return [attempt["server"] for one in whole for attempt in one["attempts"] if attempt["outcome"] == "relayed"]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


@pytest.mark.timeout(120)
def test_a_change_is_tested_then_in_force_within_a_second(
    tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        sink() as one,
        sink() as two,
        sink() as three,
        closed_port() as dead,
        serving(tmp_path / "node", inventory_for(port_of(one)), config=CONFIG) as node,
    ):
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        send(node.port, "a@ours.example", 1)
        node.wait_empty()
        assert cli("profile", "edit", "next", "--servers", two, "--preference", "round-robin").code == 0
        saved = time.time()
        assert mark(node, "next")["state"] == "passed"
        event = eventually(lambda: list(events(node, "inventory in force")), "the change in the worker")[-1]
        assert datetime.fromisoformat(str(event["at"])).timestamp() - saved < IN_FORCE_SECONDS
        send(node.port, "a@ours.example", 1)
        node.wait_empty()
        assert servers_of_mails(node) == [f"smtp://{one}", f"smtp://{two}"]
        refused = cli("profile", "edit", "next", "--servers", f"127.0.0.1:{dead}")
        assert (refused.code, "connection refused" in refused.out) == (1, True)
        assert node.get("server-profiles/next")["servers"] == [f"smtp://{two}"]
        forced = cli("profile", "add", "later", "--servers", f"127.0.0.1:{dead}", "--force", "--reason", "on Monday")
        assert forced.code == 0
        assert (mark(node, "later")["state"], mark(node, "later")["reason"]) == ("untested", "on Monday")
        assert cli("profile", "add", "spare", "--servers", three).code == 0
        assert who_tested(node, "spare") != []
        assert who_tested(node, "later") == [], "nobody tests unasked what was forced"
        assert cli("profile", "edit", "next", "--name", "onward").code == 0
        send(node.port, "a@ours.example", 1)
        node.wait_empty()
        assert servers_of_mails(node)[-1] == f"smtp://{two}"
        assert cli("profile", "remove", "onward").code == 1
        assert cli("profile", "remove", "spare").code == 0


@pytest.mark.timeout(120)
def test_mail_that_waits_goes_with_a_renamed_profile(
    tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sink() as one, closed_port() as dead, serving(tmp_path / "node", inventory_for(dead)) as node:
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        send(node.port, "a@ours.example", 5)
        assert node.queued() == 5
        assert cli("profile", "edit", "next", "--name", "onward").code == 0
        send(node.port, "a@ours.example", 5)

        def waiting() -> dict[str, int]:
            rows: Any = node.get("queue")["items"]
            return {row["profile"]: row["queued"] for row in rows}

        eventually(lambda: waiting() == {"onward": 10}, "all mail under the new name")
        assert cli("profile", "edit", "onward", "--servers", one).code == 0
        node.wait_empty()
        assert servers_of_mails(node) == [f"smtp://{one}"] * 10
        assert node.get("failed")["items"] == []


@pytest.mark.timeout(120)
def test_profiles_of_files_are_tested_once_and_not_again_after_a_restart(tmp_path: Path) -> None:
    with sink() as one, closed_port() as dead:
        inventory = inventory_for(port_of(one)) + _profile("dead", dead)
        with serving(tmp_path, inventory, config=CONFIG) as node:
            assert mark_of_test(node, "next")["state"] == "passed"
            failed = mark_of_test(node, "dead")
            assert (failed["state"], failed["failed"][0]["stage"]) == ("failed", "connect")
            assert failed["by"].startswith("node ")
            before: Any = node.get("server-profiles")["items"]
            assert node.stop() == 0
            # What is new in the file is tested after all that might be tested again.
            node.inventory = inventory + _profile("new", port_of(one))
            node.start()
            assert mark_of_test(node, "new")["state"] == "passed"
            assert [len(who_tested(node, name)) for name in ("next", "dead", "new")] == [1, 1, 1]
            assert mark(node, "dead") == failed
            after: Any = node.get("server-profiles")["items"]
            assert [profile for profile in after if profile["name"] != "new"] == before
            assert "server profile failed its test" in node.log.read_text("utf-8")
            state: Any = node.get("server-profiles/dead/state")["servers"]
            assert all(server["circuit"] in (None, "closed") for server in state), "a test opens no circuit"


@pytest.mark.timeout(120)
def test_a_login_that_is_refused_in_the_background_is_tried_once(tmp_path: Path) -> None:
    with tls_server(ServerKind.GOOD, logins={"relay": "correct horse"}) as server, sink() as one:
        inventory = login_profile("locked", server, '{ env = "TEST_WRONG" }')
        environment = {"TEST_WRONG": "battery staple"}
        with serving(tmp_path, inventory, config=CONFIG, environment=environment) as node:
            found = mark_of_test(node, "locked")
            assert (found["state"], found["failed"][0]["stage"]) == ("failed", "auth")
            node.stop()
            node.inventory = inventory + _profile("new", port_of(one))
            node.start()
            mark_of_test(node, "new")
            assert [login.password for login in server.logins] == ["battery staple"]


def _profile(name: str, port: int) -> str:
    return f'[[server_profiles]]\nname = "{name}"\ntype = "smtp"\nservers = ["127.0.0.1:{port}"]\n'


@pytest.mark.timeout(120)
def test_the_certificate_that_a_test_saw_is_pinned_and_mail_goes(
    tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tls_server(ServerKind.SELF_SIGNED) as server:
        inventory = inventory_for(server.port).replace('type = "smtp"', 'type = "smtp"\ntls = "starttls-required"')
        with serving(tmp_path / "node", inventory) as node:
            monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
            assert cli("profile", "test", "next").code == 1
            assert mark(node, "next")["failed"][0]["fault"] == "self-signed certificate"
            pinned = cli("profile", "test", "next", "--pin", "--yes")
            assert (pinned.code, server.pin in pinned.out) == (0, True), pinned
            assert node.get("server-profiles/next")["tls_pin"] == server.pin
            assert mark(node, "next")["state"] == "passed"
            eventually(lambda: list(events(node, "inventory in force")), "the pin in the worker")
            send(node.port, "a@ours.example", 1)
            node.wait_empty()
            assert [mail.tls for mail in server.mails] == [True]
