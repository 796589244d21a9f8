"""`posthouse secret rotate`, and secrets in what other commands say."""

from pathlib import Path

import pytest

from posthouse.core.fields import Secret
from posthouse.storage.open import open_shared
from posthouse.storage.secrets import KEY_FILE, VARIABLE
from support.command_line import CommandLine, command_line

CANARY = "canary-in-a-coal-mine"
PROFILE: dict[str, object] = {"name": "x", "type": "smtp", "servers": ["smtp://h:25"], "username": "u"}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    (tmp_path / "data").mkdir()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return command_line(tmp_path, monkeypatch, capsys)


def store_one(folder: Path) -> None:
    shared = open_shared(str(folder), "sqlite")
    document = {**PROFILE, "password": {"set": True}}
    secrets = {"x": {"password": Secret("text", CANARY)}}
    shared.inventory.replace([document], [], expected_revision=0, by="op", now=1.0, secrets=secrets)
    shared.close()


def test_rotate_tells_how_many_secrets_and_where_the_key_is(cli: CommandLine) -> None:
    store_one(cli.folder)
    before = (cli.folder / KEY_FILE).read_text()
    ran = cli("secret", "rotate", "--json")
    assert ran.code == 0, ran
    assert ran.json == {"secrets": 1, "key": str(cli.folder / KEY_FILE), "old_keys_to_remove": 0}
    after = (cli.folder / KEY_FILE).read_text()
    assert after != before
    plain = cli("secret", "rotate", "--data-dir", str(cli.folder))
    assert plain.out.startswith("1 stored secrets are encrypted")
    for key in (before, after, (cli.folder / KEY_FILE).read_text()):
        assert key.strip() not in ran.out + ran.err + plain.out + plain.err


def test_rotate_refuses_what_it_cannot_do_and_says_what_to_do(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_one(cli.folder)
    key = (cli.folder / KEY_FILE).read_text().strip()
    monkeypatch.setenv(VARIABLE, key)
    ran = cli("secret", "rotate", "--json")
    assert (ran.code, VARIABLE in ran.out + ran.err, key in ran.out + ran.err) == (1, True, False)
    assert "Put a new key before it" in ran.out + ran.err
    monkeypatch.delenv(VARIABLE)
    (cli.folder / KEY_FILE).chmod(0o644)
    ran = cli("secret", "rotate")
    assert (ran.code, f"chmod 600 {cli.folder / KEY_FILE}" in "".join(ran.err.split("\n"))) == (1, True)
    (cli.folder / KEY_FILE).unlink()
    ran = cli("secret", "rotate")
    assert (ran.code, VARIABLE in ran.err) == (1, True)
    assert not (cli.folder / KEY_FILE).exists()


def test_rotate_in_a_database_without_secrets_keeps_the_key(cli: CommandLine) -> None:
    store_one(cli.folder)
    before = (cli.folder / KEY_FILE).read_bytes()
    (cli.folder / "shared.db").unlink()
    ran = cli("secret", "rotate")
    assert ran.code == 1
    assert "Nothing was changed: no secret is stored in this database." in ran.err
    assert "--database" in ran.err
    assert (cli.folder / KEY_FILE).read_bytes() == before


def test_doctor_tells_whether_stored_secrets_can_be_read(cli: CommandLine) -> None:
    store_one(cli.folder)

    def told() -> list[tuple[str, str]]:
        checks = cli("doctor", "--json").json["checks"]
        return [
            (check["status"], check["detail"] + check["remedy"]) for check in checks if check["check"] == "secrets"
        ]

    assert told() == [("ok", "1 stored secrets can be read.")]
    (cli.folder / KEY_FILE).chmod(0o640)
    ((status, detail),) = told()
    assert (status, f"chmod 600 {cli.folder / KEY_FILE}" in detail) == ("warn", True)
    (cli.folder / KEY_FILE).unlink()
    ((status, detail),) = told()
    assert (status, VARIABLE in detail, CANARY in detail) == ("warn", True, False)


def test_no_command_shows_a_stored_secret(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "inventory.toml"
    text = f'[[server_profiles]]\nname = "x"\ntype = "smtp"\nservers = ["h"]\nusername = "u"\npassword = "{CANARY}"\n'
    file.write_text(text)
    with cli.node():
        said = [
            cli("config", "diff", str(file)),
            cli("config", "apply", str(file)),
            cli("config", "apply", str(file)),
        ]
        assert [ran.code for ran in said] == [0, 0, 0]
        assert "No differences" in said[-1].out
        file.write_text(text.replace(CANARY, CANARY + "2"))
        said.append(cli("config", "diff", str(file)))
        assert "~ server_profiles[x].password: replaced\n" in said[-1].out
        said.append(cli("config", "apply", str(file), "--json"))
        said += [cli("profile", "list", "--json"), cli("config", "export"), cli("config", "export", "--json")]
        assert "set = true" in said[-2].out
        said += [cli("profile", "show", "x"), cli("profile", "show", "x", "--json")]
        file.write_text(text.replace("servers", "server"))
        said.append(cli("config", "apply", str(file), "--json"))
        file.write_text(text + '"')
        said.append(cli("config", "apply", str(file)))
        assert [ran.code for ran in said[-2:]] == [1, 1]
    assert CANARY not in "".join(ran.out + ran.err for ran in said)
