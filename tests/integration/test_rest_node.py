"""REST and CLI against a real node: what an operator does in a first hour."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.command_line import CommandLine, command_line
from support.processes import Node, inventory_for
from support.threaded_sink import sink
from support.waiting import eventually


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with sink() as address:
        started = Node(tmp_path_factory.mktemp("node"), inventory_for(int(address.rpartition(":")[2])))
        started.start()
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture
def cli(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    commands = command_line(tmp_path, monkeypatch, capsys)
    monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
    return commands


def _state(cli: CommandLine, mail_id: str, wanted: str) -> Any:
    def look() -> Any:
        mail = cli("mail", "show", mail_id, "--json").json
        return mail if mail.get("status") == wanted else None

    return eventually(look, f"{mail_id} is {wanted}")


def _attempted(cli: CommandLine, mail_id: str) -> None:
    def look() -> bool:
        return bool(cli("mail", "show", mail_id, "--json").json["attempts"])

    eventually(look, f"an attempt for {mail_id}")


def _send(cli: CommandLine, to: str) -> str:
    ran = cli("send", "--to", to, "--json")
    assert ran.code == 0, ran
    return str(ran.json["ids"][0]["id"])


def test_a_mail_is_found_by_its_id_and_its_trail_is_told(cli: CommandLine) -> None:
    mail_id = _send(cli, "a@ours.example")
    mail = _state(cli, mail_id, "relayed")
    assert mail["attempts"][0]["outcome"] == "relayed"
    listed = cli("mail", "list", "--to", "A@OURS", "--status", "relayed", "--json").json["items"]
    assert mail_id in [item["id"] for item in listed]
    told = cli("mail", "trace", mail_id).out
    for word in ("inbound: matched", 'rule "inbound", server profile "next"', "relayed in", f"queued as {mail_id}"):
        assert word in told


def test_mails_page_by_cursor_without_gap_or_repetition(node: Node, cli: CommandLine) -> None:
    assert cli("send", "-n", "7", "--sessions", "3", "--to", "page@ours.example").code == 0
    whole = [mail["id"] for mail in cli("mail", "list", "--to", "page@", "--json").json["items"]]
    assert len(whole) == 7
    paged: list[str] = []
    cursor = ""
    while True:
        page: Any = node.get(f"mails?to=page%40&limit=2&next={cursor}")
        paged += [mail["id"] for mail in page["items"]]
        cursor = page["next"]
        if not cursor:
            break
    assert paged == whole


def test_queued_mail_is_held_rerouted_released_and_deleted(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text(
        '[[server_profiles]]\nname = "dead"\ntype = "smtp"\nservers = ["127.0.0.1:1"]\n'
        '[[rules]]\nname = "dead"\nmatch = { recipients = ["*@dead.example"] }\nrelay = { profile = "dead" }\n'
    )
    assert "no rule" in cli("rule", "explain", "--to", "a@dead.example").out.lower()
    assert cli("send", "--to", "a@dead.example").code == 4, "no policy yet"
    assert cli("config", "apply", str(file)).code == 0
    assert cli("rule", "explain", "--to", "a@dead.example", "--json").json["items"][0]["servers"] == [
        "smtp://127.0.0.1:1"
    ]

    def accepted() -> str | None:
        ran = cli("send", "--to", "a@dead.example", "--json")
        return str(ran.json["ids"][0]["id"]) if ran.code == 0 else None

    first: str = eventually(accepted, "the new rule is in force without a restart")
    second = _send(cli, "b@dead.example")
    for mail_id in (first, second):
        _attempted(cli, mail_id)
    row = next(item for item in cli("queue", "list", "--json").json["items"] if item["profile"] == "dead")
    assert (row["queued"], row["held"]) == (2, 0)
    assert cli("queue", "hold", first, second, "--json").json["recipients"] == 2
    _state(cli, first, "held")
    assert cli("queue", "delete", second).code == 0
    _state(cli, second, "deleted")
    assert cli("queue", "reroute", first, "--to-profile", "next").code == 0
    assert cli("queue", "release", first).code in (0, 1), "a rerouted mail may be due already"
    mail = _state(cli, first, "relayed")
    kinds = [entry["kind"] for entry in mail["trail"]]
    assert {"received", "matched", "deferred", "held", "rerouted"} <= set(kinds)
    assert cli("queue", "retry", "nosuch").code == 1


def test_changes_are_in_the_audit_with_who_made_them(node: Node, cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"server_profiles": [{"name": "spare", "type": "smtp", "servers": ["127.0.0.1:2"]}]}))
    assert cli("config", "apply", str(file)).code == 0
    page: Any = node.get("audit")
    assert page["items"][0]["by"].startswith("key console.key (")
    assert "spare" in [profile["name"] for profile in cli("profile", "list", "--json").json["items"]]


def test_a_key_made_on_the_data_dir_works_at_once_within_its_role(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cli("key", "create", "--role", "helpdesk", "--json").json
    monkeypatch.setenv("POSTHOUSE_API_KEY", key["key"])
    assert cli("mail", "list").code == 0
    assert cli("queue", "list").code == 4
    assert cli("key", "revoke", key["id"]).code == 0
    assert cli("mail", "list").code == 4


def test_doctor_and_health_of_a_running_node(node: Node, cli: CommandLine) -> None:
    assert cli("health").code == 0
    found = cli("doctor", "--config", str(node.folder / "posthouse.toml"), "--data-dir", str(node.data_dir), "--json")
    checks = {check["check"]: check["status"] for check in found.json["checks"]}
    assert checks["node"] == checks["inventory"] == checks["profile next"] == "ok"


def test_the_key_file_is_for_its_owner_only(node: Node) -> None:
    assert os.stat(node.data_dir / "console.key").st_mode & 0o777 == 0o600


def test_a_profile_is_tested_on_the_wire_and_audited(cli: CommandLine, node: Node) -> None:
    ran = cli("profile", "test", "next", "--rcpt", "a@ours.example", "--json")
    assert ran.code == 0, ran
    (server,) = ran.json["servers"]
    assert [stage["name"] for stage in server["stages"]] == [
        "resolve",
        "connect",
        "greeting",
        "ehlo",
        "mail",
        "quit",
    ]
    key = (node.data_dir / "console.key").read_text().strip()
    address = json.loads((node.data_dir / "node.json").read_text())["console"]
    answer = httpx2.get(
        f"{address}/api/v1/audit?limit=1", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )
    (row,) = answer.json()["items"]
    assert row["what"] == "server profile tested"
    assert row["detail"]["ok"] is True


def test_a_profile_that_leads_back_to_this_node_is_told(cli: CommandLine, node: Node, tmp_path: Path) -> None:
    (smtp,) = json.loads((node.data_dir / "node.json").read_text())["smtp"]
    file = tmp_path / "loop.json"
    file.write_text(json.dumps({"name": "loop", "type": "smtp", "servers": [smtp]}))
    ran = cli("profile", "test", "--file", str(file))
    assert ran.code == 1
    assert "the server is a listener of this node: mail would loop" in ran.out


def test_profiles_of_all_types_are_kept_beside_those_that_relay(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "all types.toml"
    file.write_text(
        '[[server_profiles]]\nname = "core"\ntype = "metadefender-core"\nservers = ["http://127.0.0.1:1"]\n'
        'public_url = "https://core.example/"\npreference = "round-robin"\n'
        '[[server_profiles]]\nname = "vault"\ntype = "metadefender-vault"\nservers = ["http://127.0.0.1:1"]\n'
        'api_key = { file = "/run/credentials/vault" }\n'
        '[[server_profiles]]\nname = "clamav"\ntype = "clamav"\nservers = ["127.0.0.1:1", "/run/clamd.ctl"]\n'
        '[[server_profiles]]\nname = "seen"\ntype = "smtp"\nservers = ["smtp://127.0.0.1:1"]\n'
    )
    assert cli("config", "apply", str(file)).code == 0

    def in_force() -> bool:
        return bool(cli("profile", "show", "seen", "--json").json["state"][0]["circuit"])

    eventually(in_force, "the workers tell of the new profile")
    for name, servers in (("core", 1), ("vault", 1), ("clamav", 2)):
        shown = cli("profile", "show", name, "--json").json
        # Scan servers have circuits, a vault is asked only when there is something to store.
        circuit = None if name == "vault" else "closed"
        assert [state["circuit"] for state in shown["state"]] == [circuit] * servers
    assert cli("config", "diff", str(file), "--json").json["changes"] == []
    _state(cli, _send(cli, "beside@ours.example"), "relayed")


def test_the_ladder_of_a_test_comes_while_the_server_is_waited_for(node: Node) -> None:
    console, key = str(node.facts()["console"]), (node.data_dir / "console.key").read_text().strip()
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        body = {"name": "slow", "type": "smtp", "servers": [f"127.0.0.1:{listening.getsockname()[1]}"]}
        url = f"{console}/api/v1/server-profile-tests"
        with httpx2.stream("POST", url, json=body, headers=headers, timeout=20, trust_env=False) as answer:
            lines = answer.iter_lines()
            grown = [json.loads(next(lines)) for _ in range(2)]
            assert [stage["name"] for stage in grown[1]["stages"]] == ["resolve", "connect"]
            server, _ = listening.accept()
            with server:
                server.sendall(b"554 go away\r\n")
                *_, whole = [json.loads(line) for line in lines]
    assert whole["servers"][0]["stages"][-1]["detail"]["fault"].startswith("554")
