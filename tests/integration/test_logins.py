"""Logins on a real node: a wrong password is tried once, costs others nothing, and no mail goes without its login."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from posthouse.core.inventory import load_toml
from support.backlog_drill import send
from support.command_line import command_line
from support.processes import Node, serving
from support.server_drill import events
from support.tls_servers import ServerKind, TlsServer, login_profile, tls_server
from support.waiting import eventually

RIGHT, WRONG = "correct horse", "battery staple"
ENVIRONMENT = {"TEST_RIGHT": RIGHT, "TEST_WRONG": WRONG}
CONFIG = """hostname = "mx.test"
own_mail = { profile = "right", from = "postmaster@right.example", postmaster = "admin@right.example" }
"""


def inventory(server: TlsServer, wrong: str = "TEST_WRONG", more: str = "") -> str:
    """Two profiles with one server and one user name; `wrong` is the variable of the second one's password."""
    return "".join(
        login_profile(name, server, f'{{ env = "{variable}" }}', more)
        for name, variable in (("right", "TEST_RIGHT"), ("wrong", wrong))
    )


def mails(node: Node) -> list[dict[str, Any]]:
    found = node.get("mails?limit=200")["items"]
    assert isinstance(found, list)
    return found


def recipients(node: Node, domain: str) -> list[dict[str, Any]]:
    return [r for one in mails(node) for r in one["recipients"] if r["address"].endswith(f"@{domain}.example")]


def attempts(node: Node, domain: str) -> list[dict[str, Any]]:
    """Of the mails to `domain`, oldest first."""
    found: list[dict[str, Any]] = []
    for one in reversed(mails(node)):
        if one["recipients"][0]["address"].endswith(f"@{domain}.example"):
            whole = node.get(f"mails/{one['id']}")["attempts"]
            assert isinstance(whole, list)
            found += whole
    return found


def passwords(server: TlsServer, password: str) -> int:
    """How often it was tried."""
    return sum(login.password == password for login in server.logins)


@pytest.mark.timeout(120)
def test_a_wrong_password_is_tried_once_and_delays_no_mail_of_another_profile(tmp_path: Path) -> None:
    gate = threading.Event()  # no AUTH is answered before all mails are due
    with (
        tls_server(logins={"relay": RIGHT}, auth_required=True, gate=gate) as server,
        serving(tmp_path, inventory(server), config=CONFIG, environment=ENVIRONMENT) as node,
    ):
        for domain in ("wrong", "right"):
            send(node.port, f"you@{domain}.example", 20)
        eventually(lambda: len(server.logins) == 2, "both logins under way")
        gate.set()
        eventually(lambda: len(server.mails) == 20, "all mails with the right password", 10)
        eventually(lambda: any(r["tries"] for r in recipients(node, "wrong")), "the refused login")
        waiting = recipients(node, "wrong")
        assert sorted((r["state"], r["tries"]) for r in waiting) == [("queued", 0)] * 19 + [("queued", 1)]
        (refused,) = attempts(node, "wrong")
        assert refused["summary"] == "at AUTH: 535 5.7.8 wrong user name or password"
        assert (refused["way"]["login"], refused["way"]["certificate"]) == ("", "verified")
        assert "C: AUTH PLAIN ***" in refused["transcript"]
        assert passwords(server, WRONG) == 1
        assert not list(events(node, "circuit opened"))
        assert node.get("failed")["items"] == []
        assert len(mails(node)) == 40  # no DSN for anybody
        document, fault = load_toml(inventory(server, "TEST_RIGHT"))
        assert fault is None
        assert node.api("POST", "config/apply", document)[0] == 200
        eventually(lambda: len(server.mails) >= 39, "the mails that waited for the login", 10)
        node.wait_empty()  # the mail that the refusal met is woken by the edit, within 10 s
        assert len(server.mails) == 40
        assert passwords(server, WRONG) == 1
        assert {mail.username for mail in server.mails} == {"relay"}
        assert all(login.tls for login in server.logins)
        assert WRONG not in node.log.read_text("utf-8")


@pytest.fixture(params=["454", "not offered", "no STARTTLS"])
def useless(request: pytest.FixtureRequest) -> Iterator[tuple[TlsServer, str, Mapping[str, str]]]:
    """A server where the login cannot be used, what the attempt says, and its way."""
    secure = {"tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "certificate": "verified"}
    clear = {"tls": "none", "certificate": "none"}
    match request.param:
        case "454":
            with tls_server(logins={"relay": RIGHT}, auth_reply=b"454 4.7.0 later") as server:
                yield server, "at AUTH: 454 4.7.0 later", secure
        case "not offered":
            with tls_server() as server:
                said = "the server does not offer AUTH PLAIN or LOGIN, and mail is not sent without the login"
                yield server, said, secure
        case _:
            with tls_server(ServerKind.NOT_OFFERED, logins={"relay": RIGHT}, auth_in_clear=True) as server:
                said = "the server does not offer STARTTLS, and clear text is not allowed here"
                yield server, said, clear


@pytest.mark.timeout(120)
def test_mail_is_never_sent_without_the_login(
    useless: tuple[TlsServer, str, Mapping[str, str]], tmp_path: Path
) -> None:
    server, said, way = useless
    with serving(tmp_path, inventory(server), config=CONFIG, environment=ENVIRONMENT) as node:
        send(node.port, "you@right.example", 5)
        opened = eventually(lambda: list(events(node, "circuit opened")), "the circuit of the identity")
        assert [event["server"] for event in opened] == [f"smtp://127.0.0.1:{server.port} as right"]
        eventually(lambda: sum(r["tries"] for r in recipients(node, "right")) == 3, "three faults")
        assert {(a["outcome"], a["summary"]) for a in attempts(node, "right")} == {("server-fault", said)}
        for attempt in attempts(node, "right"):
            assert {name: attempt["way"][name] for name in way} == way
            assert attempt["way"]["login"] == ""
        assert len(mails(node)) == 5  # no DSN
        assert len(server.logins) <= 3
    assert not [c.text for session in server.sessions for c in session.commands if c.text.startswith("MAIL")]
    assert not server.mails
    assert all(login.tls for login in server.logins)


@pytest.mark.timeout(120)
def test_the_trail_tells_how_each_mail_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "pool = { enabled = true }"
    with (
        tls_server(logins={"relay": RIGHT}) as server,
        serving(tmp_path, inventory(server, more=more), config=CONFIG, environment=ENVIRONMENT) as node,
    ):
        for count in (1, 2):
            send(node.port, "you@right.example", 1)
            node.wait_empty()
            assert len(server.mails) == count
        first, second = attempts(node, "right")
        assert [first["mail_number"], second["mail_number"]] == [1, 2]
        assert first["way"] == second["way"]
        told = {"tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "certificate": "verified", "login": "relay"}
        assert first["way"] == {**told, "local": first["way"]["local"], "remote": f"127.0.0.1:{server.port}"}
        assert first["way"]["local"].startswith("127.0.0.1:")
        cli = command_line(tmp_path, monkeypatch, capsys)
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        trace = cli("mail", "trace", str(mails(node)[0]["id"])).out
        assert (
            f"way: {first['way']['local']} to 127.0.0.1:{server.port}, TLSv1.3 TLS_AES_256_GCM_SHA384, "
            "certificate verified, logged in as relay, mail 2 on a kept connection"
        ) in trace
