"""`posthouse db`: backup, restore and check as an administrator calls them."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import inspect

from posthouse.app.console_key import leave_console_key
from posthouse.cli.stores import operator
from posthouse.storage.database import open_postgresql, open_sqlite
from posthouse.storage.open import open_shared
from support.command_line import CommandLine, command_line


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return command_line(tmp_path, monkeypatch, capsys)


def filled(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    shared = open_shared(str(folder), "sqlite")
    profile = {"name": "exchange", "type": "smtp", "servers": ["smtp://h:25"]}
    shared.inventory.replace([profile], [], expected_revision=0, by="op", now=1.0)
    shared.close()


def names(folder: Path) -> list[object]:
    shared = open_shared(str(folder), "sqlite")
    found = [profile.document["name"] for profile in shared.inventory.load().profiles]
    shared.close()
    return found


def test_a_backup_goes_to_a_new_data_dir(cli: CommandLine, tmp_path: Path) -> None:
    filled(cli.folder)
    file = str(tmp_path / "backup")
    assert cli("db", "backup", file, "--json").json["rows"]["server_profile"] == 1
    ran = cli("db", "restore", file, "--yes", "--data-dir", str(tmp_path / "new"))
    assert (ran.code, "1 rows of server_profile" in ran.out) == (0, True)
    assert names(tmp_path / "new") == ["exchange"]


def test_a_restore_tells_who_did_it_and_which_keys_are_others(cli: CommandLine, tmp_path: Path) -> None:
    filled(cli.folder)
    ops = cli("key", "create", "--name", "ops", "--role", "operator", "--json").json
    cli("db", "backup", str(tmp_path / "with"))
    filled(tmp_path / "empty")
    cli("db", "backup", str(tmp_path / "without"), "--data-dir", str(tmp_path / "empty"))
    ran = cli("db", "restore", str(tmp_path / "without"), "--yes")
    assert f"Gone: key {ops['id']} (ops, operator)." in ran.out
    ran = cli("db", "restore", str(tmp_path / "with"), "--yes", "--json")
    assert ran.json["keys_back"] == [{"id": ops["id"], "name": "ops", "role": "operator"}]
    shared = open_shared(str(cli.folder), "sqlite")
    row = shared.inventory.audit(1, None)[0]
    assert (row["what"], row["by"]) == ("backup restored", operator())
    shared.close()


def test_the_key_of_the_node_works_after_a_restore(cli: CommandLine, tmp_path: Path) -> None:
    filled(cli.folder)
    cli("db", "backup", str(tmp_path / "b"))
    shared = open_shared(str(cli.folder), "sqlite")
    leave_console_key(cli.folder, shared.accounts, by="serve")
    assert cli("db", "restore", str(tmp_path / "b"), "--yes").code == 0
    key = shared.accounts.authenticate((cli.folder / "console.key").read_text().strip())
    shared.close()
    assert key is not None
    assert key.role == "administrator"
    cli("db", "restore", str(tmp_path / "b"), "--yes", "--data-dir", str(tmp_path / "new"))
    assert not (tmp_path / "new" / "console.key").exists()


def test_a_restore_asks_first(cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(cli.folder)
    file = str(tmp_path / "backup")
    cli("db", "backup", file)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    assert cli("db", "restore", file, "--data-dir", str(tmp_path / "new")).code == 4
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("command", [["backup", "b"], ["check"]])
def test_a_data_dir_without_database_is_told_and_left_as_it_is(cli: CommandLine, command: list[str]) -> None:
    cli.folder.mkdir(exist_ok=True)
    ran = cli("db", *command)
    assert (ran.code, "There is no database in" in ran.err) == (1, True)
    assert not (cli.folder / "shared.db").exists()


@pytest.mark.parametrize("command", [["db", "backup", "b"], ["db", "check"], ["doctor"]])
def test_a_look_at_an_empty_database_finds_a_fault_and_makes_no_tables(
    cli: CommandLine, database: str, tmp_path: Path, command: list[str]
) -> None:
    cli.folder.mkdir(exist_ok=True)
    file = cli.folder / "shared.db"
    if database == "sqlite":
        file.touch()
    config = tmp_path / "posthouse.toml"
    config.write_text(f'database = "{database}"\n')
    ran = cli(*command, *(["--config", str(config)] if command == ["doctor"] else ["--database", database]))
    assert (ran.code, "it has no tables of posthouse" in ran.err + ran.out) == (1, True)
    opened = open_sqlite(file) if database == "sqlite" else open_postgresql(database)
    assert inspect(opened.engine).get_table_names() == []
    opened.close()


def test_a_file_that_is_no_backup(cli: CommandLine, tmp_path: Path) -> None:
    filled(cli.folder)
    (tmp_path / "b").write_text("mail")
    ran = cli("db", "restore", str(tmp_path / "b"), "--yes")
    assert (ran.code, "Nothing was changed" in ran.err, "this is no backup" in ran.err) == (1, True, True)
    ran = cli("db", "restore", str(tmp_path / "absent"), "--yes")
    assert (ran.code, "cannot be read" in ran.err) == (1, True)
    assert names(cli.folder) == ["exchange"]


def test_a_damaged_database_is_found(cli: CommandLine) -> None:
    filled(cli.folder)
    assert (cli("db", "check").code, cli("db", "check", "--json").json) == (0, {"ok": True, "faults": []})
    # A table whose rows an index does not know.
    with sqlite3.connect(cli.folder / "mail-000.db") as mails:
        mails.execute("CREATE TABLE content (mail_id TEXT, file TEXT)")
        mails.execute("CREATE INDEX i ON content (mail_id)")
        mails.execute("INSERT INTO content VALUES ('a', NULL)")
        mails.execute("PRAGMA writable_schema = ON")
        mails.execute("UPDATE sqlite_schema SET rootpage = 99 WHERE name = 'i'")
    mails.close()
    ran = cli("db", "check", "--json")
    assert ran.code == 1
    assert ran.json["faults"][0].startswith("mail-000.db: ")


def test_mail_whose_content_is_missing_is_told(cli: CommandLine) -> None:
    filled(cli.folder)
    with sqlite3.connect(cli.folder / "mail-000.db") as mails:
        mails.execute("CREATE TABLE content (mail_id TEXT, file TEXT)")
        mails.execute("INSERT INTO content VALUES ('01a', 'there'), ('01b', 'gone'), ('01c', NULL)")
    mails.close()
    (cli.folder / "content" / "000").mkdir(parents=True)
    (cli.folder / "content" / "000" / "there").touch()
    ran = cli("db", "check", "--json")
    sentence = "mail-000.db: the content of mail 01b is missing: content file gone"
    assert (ran.code, ran.json["faults"]) == (1, [sentence])
