"""Stored secrets on a real node: used at the next hop, found nowhere else, and a key that changes or is lost."""

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.core.inventory import load_toml
from support.backlog_drill import send
from support.command_line import CommandLine, command_line
from support.processes import Node, serving
from support.server_drill import events
from support.tls_servers import TlsServer, login_profile, tls_server
from support.waiting import eventually

PASSWORD = "canary-password-Kz81"
OTHER_PASSWORD = "canary-other-Qy27"
REFUSED_PASSWORD = "canary-refused-Wm93"
API_KEY = "canary-api-key-Vt54"
KEY_FILE = "secret.key"


CORE = f"""
[[server_profiles]]
name = "core"
type = "metadefender-core"
servers = ["http://127.0.0.1:1"]
api_key = "{API_KEY}"
"""


def document(text: str) -> dict[str, Any]:
    read, fault = load_toml(text)
    assert fault is None
    return read


def wrong_places(text: str) -> Iterator[Any]:
    """Documents with secrets where none may be, as somebody may write them by mistake."""
    (given,) = document(text)["server_profiles"]
    host = given["servers"][0]
    yield {"server_profiles": [{**given, "password": [OTHER_PASSWORD], "api_key": API_KEY}]}
    yield {"server_profiles": [{**given, "password": {"text": OTHER_PASSWORD}}]}
    yield {"server_profiles": [{**given, "passwort": OTHER_PASSWORD}]}
    yield {"server_profiles": [{**given, "password": OTHER_PASSWORD + "\n"}]}
    yield {"server_profiles": [{**given, "servers": [f"smtp://relay:{OTHER_PASSWORD}@{host}"]}]}
    yield {"server_profiles": [{**given, "servers": [f"relay:{OTHER_PASSWORD}@{host}"]}]}
    yield {"server_profiles": [{**given, "servers": [{"server": host, "password": OTHER_PASSWORD}]}]}
    yield {"server_profiles": {**given, "password": OTHER_PASSWORD, "api_key": API_KEY}}
    yield {"server_profiles": [{**given, "servers": ["127.0.0.1:1"], "password": {"set": True}}]}
    yield {"server_profiles": [{**given, "name": "core", "type": "metadefender-core", "api_key": [API_KEY]}]}


def canaries() -> dict[str, bytes]:
    """What may be found nowhere, plain and as it goes over the wire."""
    found: dict[str, bytes] = {}
    for text in (PASSWORD, OTHER_PASSWORD, REFUSED_PASSWORD, API_KEY):
        found[text] = text.encode()
        found[f"{text} in base64"] = b64encode(text.encode()).rstrip(b"=")[:-1]
        found[f"{text} as AUTH PLAIN"] = b64encode(b"\0relay\0" + text.encode()).rstrip(b"=")[:-1]
    return found


def look(node: Node, said: dict[str, str], keys: list[str]) -> None:
    """AssertionError naming what is found where: in the log, in any file of the data dir, in anything said."""
    places = {f"{name} said": text.encode() for name, text in said.items()}
    places["the log"] = node.log.read_bytes()
    for path in node.data_dir.rglob("*"):
        if path.is_file():
            places[str(path.relative_to(node.data_dir))] = path.read_bytes()
    wanted = canaries() | {f"key {number}": key.encode() for number, key in enumerate(keys)}
    found = [
        f"{what} in {where}"
        for where, octets in places.items()
        for what, canary in wanted.items()
        if canary in octets and not (where == KEY_FILE and what.startswith("key "))
    ]
    assert not found


def ask_everything(node: Node, cli: CommandLine, text: str) -> dict[str, str]:
    """All that REST and the command line say of profiles, mails, queue and audit, and of documents with faults."""
    said: dict[str, str] = {}
    paths = ["config", "server-profiles", "rules", "audit", "mails", "queue", "failed", "keys", "openapi.json"]
    names = ("good", "bad", "core")
    paths += [f"server-profiles/{name}{more}" for name in names for more in ("", "/state", "/advice")]
    mails: Any = node.get("mails?limit=200")["items"]
    paths += [f"mails/{mail['id']}" for mail in mails]
    for path in paths:
        said[f"GET {path}"] = str(node.get(path))
    for number, wrong in enumerate(wrong_places(text)):
        for path in ("config/diff", "config/apply"):
            status, answer = node.api("POST", path, wrong)
            assert status == 422, (wrong, answer)
            said[f"{path} {number}"] = str(answer)
    for path in ("config/diff", "config/apply?dry_run=true", "config/apply"):
        status, answer = node.api("POST", path, document(text))
        assert status == 200, answer
        said[f"POST {path}"] = str(answer)
    commands = [["config", "export"], ["profile", "list"], ["profile", "show", "good"], ["rule", "list"]]
    commands += [["profile", "show", "core"], ["profile", "test", "good"]]
    commands += [["mail", "list"], ["queue", "list"], ["key", "list"], ["doctor"]]
    commands += [[word, mail["id"]] for mail in mails for word in ("show", "trace")]
    for command in commands:
        words = ["mail", *command] if command[0] in ("show", "trace") else command
        for arguments in (words, [*words, "--json"]):
            ran = cli(*arguments)
            said[" ".join(arguments)] = ran.out + ran.err
    file = node.data_dir / f"backup-{len(list(node.data_dir.glob('backup-*')))}"
    assert cli("db", "backup", str(file)).code == 0
    said["backup"] = file.read_text()
    assert '"sealed' in said["backup"].replace("\\", "")
    return said


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    commands = command_line(tmp_path, monkeypatch, capsys)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return commands


def relayed(node: Node, server: TlsServer, count: int) -> None:
    """One more mail to `good`, which is the `count`-th there."""
    send(node.port, "you@good.example", 1)
    eventually(lambda: len(server.mails) >= count, f"mail {count} at the server")


def locked_out(node: Node) -> bool:
    """The newest mail was not sent, for its login was refused before."""
    mails: Any = node.get("mails?limit=1")["items"]
    return "the login was refused there" in str(node.get(f"mails/{mails[0]['id']}"))


@pytest.mark.timeout(180)
def test_a_stored_password_logs_in_and_is_found_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    # A server that repeats the password in the reply that refuses it.
    repeats = f"535 5.7.8 no such user with {REFUSED_PASSWORD}\r\n".encode()
    with (
        tls_server(logins={"relay": PASSWORD}, auth_required=True) as good,
        tls_server(logins={"relay": "x"}, auth_reply=repeats) as bad,
        serving(
            tmp_path,
            login_profile("good", good, f'"{PASSWORD}"') + login_profile("bad", bad, f'"{REFUSED_PASSWORD}"') + CORE,
        ) as node,
    ):
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        keys = [(node.data_dir / KEY_FILE).read_text().strip()]
        relayed(node, good, 1)
        send(node.port, "you@bad.example", 1)
        eventually(lambda: bad.logins, "the login that is refused")
        text = login_profile("good", good, f'"{PASSWORD}"')
        said = ask_everything(node, cli, text)
        assert "535 5.7.8" in "".join(said.values())
        assert "C: AUTH PLAIN ***" in "".join(said.values())
        assert "good: ok, 1 of 1 servers can be used" in said["profile test good"]
        look(node, said, keys)
        # An edit, a rotation and a second one while the node runs.
        good_again = login_profile("good", good, f'"{OTHER_PASSWORD}"')
        assert node.api("POST", "config/apply", document(good_again))[0] == 200
        assert node.api("POST", "config/apply", document(text))[0] == 200
        revision: Any = node.get("config")
        for _ in range(2):
            ran = cli("secret", "rotate", "--json")
            assert (ran.code, ran.json["secrets"]) == (0, 3), ran
            said["secret rotate"] = said.get("secret rotate", "") + ran.out + ran.err
            keys.append((node.data_dir / KEY_FILE).read_text().strip())
            relayed(node, good, len(keys))
        assert node.get("config") == revision
        assert {login.password for login in good.logins} == {PASSWORD}
        assert {login.password for login in bad.logins} == {REFUSED_PASSWORD}
        in_force: Any = node.api("POST", "config/apply", document(text))[1]["revision"]
        eventually(
            lambda: any(event["revision"] == in_force for event in events(node, "inventory in force")),
            "the new tokens in force",
        )
        send(node.port, "you@bad.example", 1)
        eventually(lambda: locked_out(node), "the second mail, passed over")
        assert len(bad.logins) == 1, "a rotation is no edit: the login stays alone"
        assert not list(events(node, "stored secret cannot be read"))
        look(node, ask_everything(node, cli, text) | said, keys)
        assert node.stop() == 0
        look(node, said, keys)
        assert len(set(keys)) == 3


@pytest.mark.timeout(180)
def test_a_lost_key_stops_logins_of_stored_passwords_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    with tls_server(logins={"relay": PASSWORD}, auth_required=True) as server:
        text = login_profile("good", server, f'"{PASSWORD}"') + login_profile(
            "by-env", server, '{ env = "TEST_PASSWORD" }'
        )
        environment = {"TEST_PASSWORD": PASSWORD}
        with serving(tmp_path, text, environment=environment) as node:
            monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
            relayed(node, server, 1)
            node.stop()
            key_file = node.data_dir / KEY_FILE
            key = key_file.read_text()
            key_file.unlink()
            node.inventory = text.replace(f'password = "{PASSWORD}"\n', "")
            node.start()
            told = next(events(node, "stored secret cannot be read"))
            assert (told["profile"], str(key_file) in str(told["error"])) == ("good", True)
            send(node.port, "you@good.example", 1)
            send(node.port, "you@by-env.example", 1)
            eventually(lambda: len(server.mails) >= 2, "the mail whose login needs no key")
            mails: Any = node.get("mails")["items"]
            (waits,) = [mail for mail in mails if mail["recipients"][0]["address"] == "you@good.example"][:1]

            def attempts() -> Any:
                return node.get(f"mails/{waits['id']}")["attempts"]

            attempt = eventually(attempts, "its attempt")[0]
            assert "there is no key for stored secrets: looked for in" in attempt["summary"]
            assert not list(events(node, "circuit opened"))
            assert len(server.logins) == len(server.mails), "nobody came without the password"
            assert not key_file.exists()
            key_file.write_text(key)
            key_file.chmod(0o600)
            assert cli("queue", "retry", "--all").code == 0
            eventually(lambda: len(server.mails) >= 3, "the mail that waited, without a restart")
            assert {login.password for login in server.logins} == {PASSWORD}


def test_a_start_warns_of_a_key_file_that_is_not_in_use(tmp_path: Path) -> None:
    with serving(tmp_path, CORE) as node:
        key_file = node.data_dir / KEY_FILE
        node.stop()
        assert not list(events(node, "key file is not in use"))
        node.environment = {"POSTHOUSE_SECRET_KEY": key_file.read_text()}
        node.start()
        assert [told["file"] for told in events(node, "key file is not in use")] == [str(key_file)]
        assert not list(events(node, "stored secret cannot be read"))
