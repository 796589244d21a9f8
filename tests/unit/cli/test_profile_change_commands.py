"""`posthouse profile add|edit|order|remove` and `test --pin`: what they send, show, and how they end."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from posthouse.cli.remote import Remote
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import Inquiry, StageName, StageResult, Told, failed, unheard
from support.command_line import CommandLine, Ran, command_line
from support.rest import ScriptedTester

FORCED = ("--force", "--reason", "the server comes on Monday")
PINS = {"smtp://10.0.0.1:25": "a1" * 32, "smtp://10.0.0.2:2525": "b2" * 32}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    commands = command_line(tmp_path, monkeypatch, capsys)
    commands.rest.tester.refusing.add("smtp://10.0.0.66:25")
    return commands


def stored(cli: CommandLine, name: str) -> dict[str, Any]:
    (found,) = [p.document for p in cli.rest.inventory.load().profiles if p.document["name"] == name]
    return dict(found)


def on(cli: CommandLine, *arguments: str) -> Ran:
    with cli.node():
        return cli("profile", *arguments)


# --- add and edit ------------------------------------------------------------------------------------


def test_add_takes_every_property_from_flags(cli: CommandLine) -> None:
    given = (
        "--servers 10.0.0.9 --servers smtps://mail.example --preference round-robin --tls starttls-required "
        "--tls-name mx.example --tls-min 1.3 --username relay --password-env RELAY --client-certificate --pool "
        "--pool-connections 5"
    )
    ran = on(cli, "add", "New", *given.split())
    assert ran.code == 0, ran
    assert ran.out.startswith("Server profile New is added: passed ")
    document = stored(cli, "New")
    wanted = {
        "type": "smtp",
        "servers": ["smtp://10.0.0.9:25", "smtps://mail.example:465"],
        "preference": "round-robin",
        "tls": "starttls-required",
        "tls_name": "mx.example",
        "tls_min": "1.3",
        "username": "relay",
        "password": {"env": "RELAY"},
        "client_certificate": True,
    }
    assert {name: document[name] for name in wanted} == wanted
    assert (document["pool"]["enabled"], document["pool"]["connections"]) == (True, 5)


def test_a_password_is_asked_for_and_never_an_argument(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def prompt(text: str, *, hide_input: bool, err: bool) -> str:
        asked.append((text, hide_input))
        return "canary-p"

    monkeypatch.setattr(typer, "prompt", prompt)
    login = ("--tls", "starttls-required", "--username", "u", "--password-prompt")
    ran = on(cli, "add", "new", "--servers", "10.0.0.9", *login)
    assert ran.code == 0, ran
    assert asked == [("Password", True)]
    assert list(cli.rest.inventory.texts.values()) == ["canary-p"]
    assert "canary-p" not in ran.out + ran.err
    twice = on(cli, "edit", "new", "--password-prompt", "--password-env", "P")
    assert twice.code == 2


def test_add_takes_a_profile_from_a_file_and_flags_come_on_top(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    file.write_text(
        '[[server_profiles]]\nname = "one"\ntype = "smtp"\nservers = ["10.0.0.8"]\npool = { connections = 7 }\n'
        '[[server_profiles]]\nname = "two"\ntype = "smtp"\nservers = ["10.0.0.9"]\n'
    )
    assert on(cli, "add", "--file", str(file)).code == 2
    ran = on(cli, "add", "ONE", "--file", str(file), "--preference", "random-start", "--pool", "--json")
    assert (ran.code, ran.json["name"], ran.json["preference"]) == (0, "one", "random-start")
    assert (ran.json["pool"]["enabled"], ran.json["pool"]["connections"]) == (True, 7)


def test_a_failed_test_shows_the_ladder_and_how_to_force(cli: CommandLine) -> None:
    ran = on(cli, "add", "new", "--servers", "10.0.0.66")
    assert ran.code == 1
    assert "connection refused" in ran.out
    assert "new: failed, 0 of 1 servers can be used" in ran.out
    assert "nothing is saved" in ran.err
    assert "--force --reason TEXT" in ran.err
    as_json = on(cli, "add", "new", "--servers", "10.0.0.66", "--json")
    assert (as_json.code, as_json.json["test"]["ok"]) == (1, False)
    assert [error["field"] for error in as_json.json["errors"]] == ["servers[0]"]


def test_force_needs_a_reason_and_the_list_tells_it(cli: CommandLine) -> None:
    add = ("add", "new", "--servers", "10.0.0.66")
    assert on(cli, *add, "--force").code == 2
    assert on(cli, *add, "--reason", "x").code == 2
    ran = on(cli, *add, *FORCED)
    assert (ran.code, cli.rest.tester.tested) == (0, [])
    assert "UNTESTED: forced" in ran.out
    for shown in (on(cli, "list"), on(cli, "show", "new")):
        told = " ".join(shown.out.split())
        assert "UNTESTED: forced" in told
        assert "key administrator (k1): the server comes on Monday" in told
    assert on(cli, "show", "new", "--json").json["tested"]["reason"] == "the server comes on Monday"


def test_a_failed_background_test_is_shown_with_server_and_stage(cli: CommandLine) -> None:
    cli.rest.tester.refusing.add("smtp://10.0.0.1:25")
    with cli.node():
        cli("profile", "test", "exchange")
        told = " ".join(cli("profile", "show", "exchange").out.split())
    assert "FAILED" in told
    assert "smtp://10.0.0.1:25 at connect: connection refused" in told


def test_faults_of_the_values_are_told_and_nothing_is_saved(cli: CommandLine) -> None:
    ran = on(cli, "add", "new", "--servers", "http://x", "--tls", "tls")
    assert ran.code == 1
    for word in ("servers[0]", "starttls-required"):
        assert word in ran.err
    assert on(cli, "add", "exchange", "--servers", "10.0.0.9").code == 1


def test_edit_changes_what_is_given_and_keeps_the_rest(cli: CommandLine) -> None:
    before = stored(cli, "exchange")
    ran = on(cli, "edit", "exchange", "--preference", "round-robin", "--pool-expiry", "60")
    assert ran.code == 0, ran
    after = stored(cli, "exchange")
    assert after == {**before, "preference": "round-robin", "pool": {**before["pool"], "expiry_seconds": 60}}
    assert "as it was already" in on(cli, "edit", "exchange", "--preference", "round-robin").out
    login = ("--username", "u", "--password-env", "P", "--tls", "starttls-required")
    assert on(cli, "edit", "exchange", *login).code == 0
    assert on(cli, "edit", "exchange", "--username", "", "--tls", "").code == 0
    assert stored(cli, "exchange") == after


def test_edit_renames_and_rules_follow(cli: CommandLine) -> None:
    ran = on(cli, "edit", "exchange", "--name", "Next hop")
    assert ran.code == 0, ran
    assert "Next hop is changed" in ran.out
    assert cli.rest.inventory.load().rules[1]["relay"] == {"profile": "Next hop"}


def test_edit_overwrites_no_change_that_came_after_it_has_read(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Remote.tagged

    def overtaken(self: Remote, path: str) -> tuple[dict[str, object], str]:
        found = read(self, path)
        self.call("PUT", path, body={**found[0], "preference": "random-start"}, if_match=found[1])
        return found

    monkeypatch.setattr(Remote, "tagged", overtaken)
    ran = on(cli, "edit", "exchange", "--tls", "starttls-required")
    assert (ran.code, stored(cli, "exchange")["tls"]) == (1, "none")
    assert stored(cli, "exchange")["preference"] == "random-start"
    assert "changed since it was read" in ran.err


def test_only_administrators_change_profiles(cli: CommandLine) -> None:
    with cli.node("operator"):
        assert cli("profile", "add", "new", "--servers", "10.0.0.9").code == 4
        assert cli("profile", "remove", "exchange").code == 4


# --- order and remove --------------------------------------------------------------------------------


def test_order_and_remove(cli: CommandLine) -> None:
    ran = on(cli, "order", "exchange", "10.0.0.2:2525", "10.0.0.1")
    assert (ran.code, ran.out) == (0, "Server profile exchange: smtp://10.0.0.2:2525 > smtp://10.0.0.1:25.\n")
    assert on(cli, "order", "exchange", "10.0.0.1").code == 1
    used = on(cli, "remove", "exchange")
    assert (used.code, "rules[inbound].relay.profile" in used.err) == (1, True)
    on(cli, "add", "new", "--servers", "10.0.0.9")
    assert on(cli, "remove", "new").out == "Server profile new is removed.\n"
    assert on(cli, "remove", "new").code == 1


# --- pin ---------------------------------------------------------------------------------------------


class Certificates(ScriptedTester):
    """Servers with self-signed certificates: well once those are pinned. `silent` ones do not come as far as TLS."""

    silent: frozenset[str] = frozenset()

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        self.tested.append((profile, server, inquiry))
        if server in self.silent:
            return (failed(StageName.CONNECT, 0.1, "connection refused"),)
        facts = {
            "certificate": "refused",
            "names": "mx.example",
            "issuer": "mx.example",
            "valid_from": "2026-01-02",
            "valid_until": "2027-01-02",
            "days_left": 40,
            "sha256": PINS[server],
        }
        if PINS[server] in profile.tls_pin.split():
            return (StageResult(StageName.TLS, True, 0.1, facts),)
        return (failed(StageName.TLS, 0.1, "self-signed certificate", facts),)


@pytest.fixture
def pinning(cli: CommandLine) -> CommandLine:
    cli.rest.tester = Certificates()
    assert on(cli, "edit", "exchange", "--tls", "starttls-required", *FORCED).code == 0
    return cli


def test_pin_shows_each_certificate_and_saves_all_pins(pinning: CommandLine) -> None:
    ran = on(pinning, "test", "exchange", "--pin", "--yes")
    assert ran.code == 0, ran
    for word in (*PINS, *PINS.values(), "mx.example", "2026-01-02", "2027-01-02"):
        assert word in ran.out
    document = stored(pinning, "exchange")
    assert (document["tls_verify"], document["tls_pin"]) == ("pinned", " ".join(PINS.values()))
    assert "is pinned: passed" in ran.out
    as_json = on(pinning, "test", "exchange", "--pin", "--yes", "--json")
    assert as_json.json["tls_pin"] == " ".join(PINS.values())


def test_nothing_is_pinned_unless_somebody_agrees(pinning: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(pinning, "test", "exchange", "--pin").code == 2
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    answers = [False, True]
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: answers.pop(0))
    refused = on(pinning, "test", "exchange", "--pin")
    assert (refused.code, "tls_pin" in stored(pinning, "exchange")) == (4, False)
    assert on(pinning, "test", "exchange", "--pin").code == 0
    assert "tls_pin" in stored(pinning, "exchange")


def test_nothing_is_pinned_while_a_server_has_shown_no_certificate(pinning: CommandLine) -> None:
    pinning.rest.tester.silent = frozenset({"smtp://10.0.0.2:2525"})  # type: ignore[attr-defined]
    ran = on(pinning, "test", "exchange", "--pin", "--yes")
    assert ran.code == 1
    assert "No certificate was seen of smtp://10.0.0.2:2525" in ran.err
    assert "tls_pin" not in stored(pinning, "exchange")


def test_without_tls_there_is_nothing_to_pin(cli: CommandLine, tmp_path: Path) -> None:
    ran = on(cli, "test", "exchange", "--pin", "--yes")
    assert (ran.code, "nothing to pin" in ran.err) == (1, True)
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"name": "x", "type": "smtp", "servers": ["10.0.0.1"]}))
    assert on(cli, "test", "--file", str(file), "--pin").code == 2


def test_a_secret_that_has_to_be_entered_again_with_a_pin_is_told_with_the_command(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pin says who gets the password: whoever changes it must know the password."""
    cli.rest.tester = Certificates()
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: "canary-p")
    login = ("--tls", "starttls-required", "--username", "u", "--password-prompt")
    assert on(cli, "edit", "exchange", *login, *FORCED).code == 0
    ran = on(cli, "test", "exchange", "--pin", "--yes")
    pins = " ".join(PINS.values())
    assert (ran.code, "tls_pin" in stored(cli, "exchange")) == (1, False)
    told = " ".join(ran.err.split())
    assert f'profile edit "exchange" --tls-verify pinned --tls-pin "{pins}" --password-prompt' in told
    assert on(cli, "edit", "exchange", "--tls-verify", "pinned", "--tls-pin", pins, "--password-prompt").code == 0
    assert stored(cli, "exchange")["tls_pin"] == pins
