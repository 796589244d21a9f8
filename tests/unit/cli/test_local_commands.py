"""Commands that need no node: version, uri, send, sink, the data dir's keys, usage errors."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import posthouse
from support.command_line import CommandLine, command_line
from support.threaded_sink import sink


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


def test_version_is_the_one_of_the_package(cli: CommandLine) -> None:
    assert cli("version", "--json").json["version"] == posthouse.__version__
    assert posthouse.__version__ in cli("version").out
    project = (Path(posthouse.__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    assert f'version = "{posthouse.__version__}"' in project


def test_the_module_runs_as_a_program_and_hands_its_exit_code_on() -> None:
    done = subprocess.run([sys.executable, "-m", "posthouse", "nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nosuch" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_none_of_the_heavy_imports() -> None:
    code = (
        "import sys; from posthouse.cli.main import run; run(['--help']);"
        "heavy = {'sqlalchemy', 'fastapi', 'httpx2', 'uvicorn', 'tomlkit', 're2'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["10.0.0.1"], "smtp://10.0.0.1:25"),
        (["[2001:db8::1]:2525"], "smtp://[2001:db8::1]:2525"),
        (["http://core.example"], "http://core.example:8008"),
        (["http://vault.example", "--type", "metadefender-vault"], "http://vault.example:8010/vault_rest"),
        (["clamd:///run/clamd.ctl"], "clamd:///run/clamd.ctl"),
    ],
)
def test_uri_check_tells_the_canonical_form(cli: CommandLine, arguments: list[str], shown: str) -> None:
    ran = cli("uri", "check", *arguments)
    assert (ran.code, ran.out) == (0, shown + "\n")


def test_uri_check_tells_every_faulty_part_and_hides_passwords(cli: CommandLine) -> None:
    ran = cli("uri", "check", "smtp://user:hunter2@host:99999/path?q#f")
    assert ran.code == 1
    assert "hunter2" not in ran.err
    for part in ("user info", "port", "path", "query", "fragment"):
        assert part in ran.err
    assert cli("uri", "check", "x", "--type", "icap").code == 2


def test_uri_check_gives_advice(cli: CommandLine) -> None:
    ran = cli("uri", "check", "smtp://mail.example:465", "--json")
    assert "smtps" in ran.json["advice"]
    assert "smtps" in cli("uri", "check", "smtp://mail.example:465").err


def test_send_counts_and_tells_the_ids(cli: CommandLine) -> None:
    with sink() as address:
        ran = cli("send", "--smtp", address, "-n", "3", "--sessions", "2", "--json")
        text = cli("send", "--smtp", address)
    assert ran.code == 0
    assert (ran.json["accepted"], ran.json["refused"], len(ran.json["ids"])) == (3, {}, 3)
    assert "1 accepted" in text.out


def test_send_ends_with_4_when_policy_refuses_and_with_1_for_other_refusals(cli: CommandLine) -> None:
    with sink("RCPT=550 5.7.1 No policy for recipient") as address:
        ran = cli("send", "--smtp", address)
    assert ran.code == 4
    assert "1 refused: 550 5.7.1 No policy for recipient" in ran.out
    with sink("RCPT=452 4.2.2 full") as address:
        assert cli("send", "--smtp", address).code == 1


def test_send_ends_with_3_when_nobody_listens(cli: CommandLine) -> None:
    assert cli("send", "--smtp", "127.0.0.1:1").code == 3


def test_send_takes_files_as_they_are(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "a.eml"
    file.write_bytes(b"Message-ID: <file@example>\n\nbody\n")
    with sink() as address:
        ran = cli("send", str(file), "--smtp", address, "--json")
        assert cli("send", str(tmp_path / "nosuch.eml"), "--smtp", address).code == 1
    assert ran.json["ids"][0]["message_id"] == "<file@example>"


def test_faulty_addresses_and_sink_rules_are_usage_errors(cli: CommandLine) -> None:
    assert cli("send", "--smtp", "nowhere").code == 2
    assert cli("sink", "--listen", "127.0.0.1:x").code == 2
    assert cli("sink", "--rule", "nonsense").code == 2
    assert cli("send", "--count", "0").code == 2


def test_serve_hands_flags_on_and_returns_the_exit_code(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def serve(config: str | None, inventory: str | None, flags: Mapping[str, str], prune: bool) -> int:
        calls.append((config, inventory, dict(flags), prune))
        return 1

    monkeypatch.setattr("posthouse.app.serve.serve", serve)
    arguments = ["--config", "c.toml", "--inventory", "i.toml", "--smtp", "127.0.0.1:0", "--workers", "2", "--prune"]
    assert cli("serve", *arguments).code == 1
    assert calls == [("c.toml", "i.toml", {"smtp": "127.0.0.1:0", "workers": "2"}, True)]


def test_keys_are_made_listed_and_revoked_on_the_data_dir(cli: CommandLine) -> None:
    made = cli("key", "create", "--role", "operator", "--name", "desk", "--json")
    assert made.code == 0
    assert made.json["key"].startswith("ph_")
    plain = cli("key", "create", "--role", "auditor")
    assert plain.out.strip().startswith("ph_")
    assert plain.out.count("\n") == 1
    listed = cli("key", "list", "--json").json["items"]
    assert {(key["name"], key["role"]) for key in listed} == {("desk", "operator"), ("auditor key", "auditor")}
    assert made.json["key"] not in cli("key", "list").out
    assert cli("key", "revoke", made.json["id"]).code == 0
    assert cli("key", "revoke", made.json["id"]).code == 1
    assert cli("key", "create", "--role", "emperor").code == 2


def test_a_data_dir_that_cannot_be_used_is_told_in_a_line(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (cli.folder).mkdir()
    (cli.folder / "shared.db").write_bytes(b"no database at all" * 100)
    for arguments in (["--data-dir", str(tmp_path / "file" / "x")], []):
        ran = cli("key", "list", *arguments)
        assert ran.code == 1
        assert "cannot be" in ran.err
        assert "Traceback" not in ran.err
    assert cli("key", "list", "--database", "postgresql://127.0.0.1:1/x?connect_timeout=1").code == 1
