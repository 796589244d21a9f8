"""`posthouse user` on the data dir, `posthouse audit` against a node."""

import io
import os
import pwd
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from posthouse.app.stores import open_shared
from support.command_line import CommandLine, command_line

PASSWORD = "four words nobody joins"
WHO = f"cli ({pwd.getpwuid(os.getuid()).pw_name})"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\nanother line\n")
    return str(file)


def _knows(cli: CommandLine, name: str, password: str) -> bool:
    store = open_shared(str(cli.folder), "sqlite")
    try:
        return store.accounts.verify_user(name, password) is not None
    finally:
        store.close()


def _audited(cli: CommandLine) -> list[tuple[object, object]]:
    store = open_shared(str(cli.folder), "sqlite")
    try:
        return [(row["by"], row["what"]) for row in store.inventory.audit(10, None)]
    finally:
        store.close()


def test_users_are_added_listed_and_removed_before_a_node_ever_ran(cli: CommandLine, secret: str) -> None:
    made = cli("user", "add", "Ann", "--role", "operator", "--password-file", secret, "--json")
    assert made.code == 0, made.err
    assert (made.json["name"], made.json["role"]) == ("Ann", "operator")
    assert cli("user", "add", "root", "--password-file", secret).out == "User root (administrator) is added.\n"
    assert _knows(cli, "ann", PASSWORD)
    assert [user["name"] for user in cli("user", "list", "--json").json["items"]] == ["Ann", "root"]
    assert PASSWORD not in made.out + cli("user", "list").out
    assert cli("user", "remove", "ANN", "--json").json == {"removed": "Ann"}
    last = cli("user", "remove", "root")
    assert (last.code, "Nobody can log in" in last.err) == (0, True)
    assert "no users" in cli("user", "list").out
    assert _audited(cli) == [(WHO, "user removed")] * 2 + [(WHO, "user added")] * 2


def test_faulty_users_are_told_all_that_is_wrong(cli: CommandLine, tmp_path: Path, secret: str) -> None:
    short = tmp_path / "short"
    short.write_text("short\n")
    ran = cli("user", "add", "a/b", "--role", "emperor", "--password-file", str(short))
    assert ran.code == 1
    for word in ("name = a/b", "role = emperor", "12 to 128 characters; this one has 5"):
        assert word in ran.err
    assert "short\n" not in ran.err
    assert cli("user", "add", "Ann", "--password-file", secret).code == 0
    assert "already" in cli("user", "add", "ANN", "--password-file", secret).err
    assert cli("user", "add", "bea", "--password-file", str(tmp_path / "nosuch")).code == 1
    short.write_bytes(b"\xff\xfe")
    assert "UTF-8" in cli("user", "add", "bea", "--password-file", str(short)).err
    for command in (["passwd", "nosuch", "--password-file", secret], ["remove", "nosuch"]):
        assert cli("user", *command).code == 1


def test_a_password_comes_from_a_pipe(cli: CommandLine, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    assert cli("user", "add", "ann", "--password-file", secret).code == 0
    for arguments in ([], ["--password-file", "-"]):
        new = f"other words {len(arguments)}"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{new}\r\n".encode())))
        ran = cli("user", "passwd", "ANN", *arguments)
        assert (ran.code, ran.out) == (0, "The password of ann is set.\n")
        assert _knows(cli, "ann", new)
    assert not _knows(cli, "ann", PASSWORD)
    assert _audited(cli)[0] == (WHO, "password set")


def test_at_a_terminal_the_password_is_asked_for_twice_and_unseen(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(text: str, **named: Any) -> str:
        asked.append(named)
        return PASSWORD

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(typer, "prompt", prompt)
    assert cli("user", "add", "ann").code == 0
    assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]
    assert _knows(cli, "ann", PASSWORD)


def test_a_password_is_no_argument(cli: CommandLine) -> None:
    assert cli("user", "add", "ann", PASSWORD).code == 2
    assert cli("user", "add", "ann", "--password", PASSWORD).code == 2


def test_keys_name_who_made_and_revoked_them(cli: CommandLine) -> None:
    key = cli("key", "create", "--role", "operator", "--name", "desk", "--json").json
    ran = cli("key", "revoke", key["id"])
    assert ran.out == f"Key {key['id']} (desk, operator) is revoked.\n"
    assert _audited(cli) == [(WHO, "key revoked"), (WHO, "key created")]


# --- audit -------------------------------------------------------------------------------------------


def test_audit_list_tells_when_who_what_and_the_changes_in_short(cli: CommandLine) -> None:
    with cli.node():
        assert cli("rule", "disable", "inbound").code == 0
        assert cli("rule", "move", "inbound", "1").code == 0
        ran = cli("audit", "list", "--what", "rule")
        found = cli("audit", "list", "--about", "enabled", "--by", "ADMIN", "--json").json["items"]
        whole = cli("audit", "show", str(found[0]["id"]))
    moved, disabled = [line for line in ran.out.splitlines() if "key administrator (k1)" in line]
    assert "rule moved" in moved
    assert "> rules: old, inbound -> inbound, old" in moved
    for word in ("2025-11-24 16:00:00Z", "rule changed", "~ rules[inbound].enabled: true -> false"):
        assert word in disabled
    assert [row["what"] for row in found] == ["rule changed"]
    assert "who       key administrator (k1)" in whole.out
    assert "~ rules[inbound].enabled: true -> false" in whole.out


def test_a_large_change_is_told_in_short(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    rule = '[[rules]]\nname = "r{}"\nmatch = {{ recipients = ["*@a.example"] }}\nrelay = {{ profile = "exchange" }}\n'
    file.write_text("".join(rule.format(number) for number in range(60)))
    with cli.node():
        assert cli("config", "apply", str(file)).code == 0
        ran, whole = cli("audit", "list", "--limit", "1"), cli("audit", "show", "2")
    assert "+ rules[r4]; and 55 more" in ran.out
    assert "+ rules[r59]" in whole.out


def test_a_secret_that_was_replaced_is_told_as_that(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    profile = '[[server_profiles]]\nname = "p"\ntype = "smtp"\nservers = ["10.0.0.9"]\ntls = "starttls-required"\n'
    with cli.node():
        for text in ("canary-one", "canary-two"):
            file.write_text(f'{profile}username = "u"\npassword = "{text}"\n')
            assert cli("config", "apply", str(file)).code == 0
        ran = cli("audit", "list", "--limit", "1")
    assert "~ server_profiles[p].password: replaced" in ran.out
    assert "canary" not in ran.out


def test_who_may_not_read_the_audit_log_is_told_so(cli: CommandLine) -> None:
    with cli.node("operator"):
        assert cli("audit", "list").code == 4
    with cli.node("auditor"):
        assert cli("audit", "list", "--since", "whenever").code == 1
        assert "No row matches." in cli("audit", "list", "--by", "nobody").out
        assert cli("audit", "show", "99").code == 1
