"""Probes on real sockets: what they say to a server, and what they make of its answers."""

from typing import Any

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.limits import Limits
from posthouse.core.profile import ServerProfile
from support.servers import LOOPS, Peer, Script, closed_port, deaf_port, profile, run, scripted
from support.tls_servers import NAME, ServerKind, tls_server


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def probe(loop: str, by: ServerProfile, *, whole: bool = False, login: bool = True) -> str:
    async def go() -> str:
        relay = SmtpRelay("mx1.example", Limits(connect_seconds=1, greeting_seconds=1))
        found = await relay.probe(by, by.server_texts[0], whole=whole, login=login)
        relay.close()
        await relay.closed(10)
        assert found.blame
        return found.fault

    return run(loop, go())


def probe_script(loop: str, script: Script) -> str:
    async def go() -> str:
        async with scripted(script) as next_hop:
            relay = SmtpRelay("mx1.example", Limits(greeting_seconds=1))
            return (await relay.probe(profile(next_hop.server), next_hop.server, whole=False, login=True)).fault

    return run(loop, go())


def test_a_probe_of_an_endpoint_greets_and_quits_properly(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("QUIT")
        assert await peer.end() == b""

    assert probe_script(loop, script) == ""


@pytest.mark.parametrize("greeting", ["554 no service", "421 4.3.2 too busy"])
def test_a_greeting_that_refuses_fails_the_probe_with_its_words(loop: str, greeting: str) -> None:
    async def script(peer: Peer) -> None:
        peer.say(greeting)
        await peer.end()

    assert probe_script(loop, script) == greeting


def test_a_server_that_says_nothing_fails_the_probe_in_time(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.end()

    assert probe_script(loop, script) == "no greeting within 1 s"


def test_a_password_that_cannot_be_read_is_not_the_servers_fault(loop: str) -> None:
    by = profile(
        "smtp://127.0.0.1:25", username="us", password={"env": "NOT_SET_ANYWHERE"}, allow_plaintext_auth=True
    )
    found = run(loop, SmtpRelay("mx1.example", Limits()).probe(by, by.server_texts[0], whole=False, login=True))
    assert not found.blame
    assert "NOT_SET_ANYWHERE" in found.fault


def test_a_refused_and_an_unanswered_connection_fail_the_probe(loop: str) -> None:
    with closed_port() as port:
        assert probe(loop, profile(f"smtp://127.0.0.1:{port}")) == "connection refused"
    with deaf_port() as port:
        assert probe(loop, profile(f"smtp://127.0.0.1:{port}")) == "no answer to connect within 1 s"


def test_a_probe_of_an_identity_goes_through_tls_and_auth(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_RELAY_PASSWORD", "secret")
    settings: dict[str, Any] = {"tls": "starttls-required", "tls_name": NAME}
    settings |= {"username": "relay", "password": {"env": "TEST_RELAY_PASSWORD"}}
    with tls_server(ServerKind.GOOD, logins={"relay": "secret"}) as server:
        by = profile(server.specification, tls_ca=server.ca, **settings)
        assert probe(loop, by, whole=True) == ""
        assert probe(loop, by, whole=True, login=False) == ""
        assert probe(loop, by) == ""
    assert [[login.username for login in session.logins] for session in server.sessions] == [["relay"], [], []]
    assert [session.tls for session in server.sessions] == [True, True, False]
    assert server.mails == []
    with tls_server(ServerKind.EXPIRED) as server:
        by = profile(server.specification, tls_ca=server.ca, **settings)
        assert probe(loop, by, whole=True) == "certificate expired on 2024-02-29"
        assert probe(loop, by) == ""


def test_an_endpoint_with_implicit_tls_is_greeted_whatever_its_certificate(loop: str) -> None:
    with tls_server(ServerKind.EXPIRED, implicit=True) as server:
        by = profile(server.specification, tls_name=NAME, tls_ca=server.ca)
        assert probe(loop, by) == ""
        assert probe(loop, by, whole=True) == "certificate expired on 2024-02-29"
