"""TEST of an SMTP server profile against servers that are really like that: failing stage, and what to do."""

import asyncio
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from posthouse.clients import tested_addresses
from posthouse.clients.smtp_test import SmtpTester
from posthouse.core import ladder_advice
from posthouse.core.limits import Limits
from posthouse.core.profile_test import Inquiry, ProfileResult, ServerResult, StageResult, result_json
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.profile_test import ProfileTest
from support.servers import LOOPS, Peer, Script, closed_port, deaf_port, profile, run, scripted
from support.tls_servers import EXPIRED_ON, NAME, OTHER_NAME, ServerKind, TlsServer, client_digital_id, tls_server

K = ServerKind
REQUIRED: dict[str, object] = {"tls": "starttls-required"}
NAMED: dict[str, object] = {"tls_name": NAME, "tls_ca": "@ca"}
STRICT = {**REQUIRED, **NAMED}
LOGIN: dict[str, object] = {"username": "relay", "password": {"env": "TEST_RELAY_PASSWORD"}}
PASSWORD = "correct horse"
LOGINS = {"logins": {"relay": PASSWORD}}
ADDRESS = Inquiry("me@client.example", "bob@ours.example")
STARTTLS_LADDER = ["resolve", "connect", "greeting", "ehlo", "tls", "ehlo", "quit"]
CANARY = "canary-of-another-service"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TEST_RELAY_PASSWORD", PASSWORD)


async def try_out(
    *servers: str,
    folder: Path = Path(),
    inquiry: Inquiry | None = None,
    seconds: float = 10.0,
    listeners: Sequence[tuple[str, int]] = (),
    limits: Limits | None = None,
    **settings: Any,
) -> ProfileResult:
    tester = SmtpTester("mx1.example", limits or Limits(), lambda: client_digital_id(folder), listeners)
    test = ProfileTest({ServiceType.SMTP: tester}, "mx1.example", seconds)
    result = await test.run(profile(*servers, **settings), inquiry)
    assert PASSWORD not in str(result_json(result))
    return result


def ladder(result: ProfileResult) -> ServerResult:
    (server,) = result.servers
    return server


def names(server: ServerResult) -> list[str]:
    return [stage.name.value for stage in server.stages]


def last(result: ProfileResult) -> StageResult:
    """The stage that failed, the only one and the last."""
    server = ladder(result)
    assert [stage.ok for stage in server.stages] == [True] * (len(server.stages) - 1) + [False], server
    assert not result.ok
    return server.stages[-1]


def against(
    loop: str, server: TlsServer, settings: Mapping[str, object], folder: Path, inquiry: Inquiry | None = None
) -> ProfileResult:
    """`@ca` and `@pin` in `settings` are what the server has."""
    given: dict[str, Any] = {
        name: getattr(server, value[1:]) if isinstance(value, str) and value.startswith("@") else value
        for name, value in settings.items()
    }
    return run(loop, try_out(server.specification, folder=folder, inquiry=inquiry, **given))


def against_script(loop: str, *scripts: Script, inquiry: Inquiry | None = None, **settings: Any) -> ProfileResult:
    async def go() -> ProfileResult:
        async with scripted(*scripts) as next_hop:
            return await try_out(next_hop.server, inquiry=inquiry, **settings)

    return run(loop, go())


# --- servers with TLS --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """`stage` empty: the test succeeds. `advice`: words that it has to say."""

    settings: Mapping[str, object]
    kind: ServerKind
    stage: str
    fault: str
    advice: str
    implicit: bool = False
    server: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{'smtps' if self.implicit else 'smtp'}-{self.kind.name.lower()}-{self.stage}-{'-'.join(self.server)}"


ROWS = [
    Row(STRICT, K.WRONG_NAME, "tls", f"for {OTHER_NAME}, not {NAME}", f'tls_name = "{OTHER_NAME}"'),
    Row(STRICT, K.EXPIRED, "tls", f"expired on {EXPIRED_ON:%Y-%m-%d}", "Renew the server's certificate"),
    Row(STRICT, K.SELF_SIGNED, "tls", "self-signed certificate", 'tls_pin = "@pin"'),
    Row(STRICT, K.UNKNOWN_CA, "tls", "unknown CA: Nobody's CA", "as tls_ca (Nobody's CA"),
    Row(STRICT, K.TLS11_ONLY, "tls", "no common TLS version", "Switch on TLS 1.2 or 1.3"),
    Row(STRICT, K.NOT_OFFERED, "tls", "does not offer STARTTLS", "Switch on STARTTLS at the server"),
    Row(STRICT, K.REFUSED_454, "tls", "at STARTTLS: 454", "certificate or key cannot be read"),
    Row(STRICT, K.HANDSHAKE_CUT, "tls", "closed the connection during", "server's log why its handshake"),
    Row(STRICT, K.INJECTED, "tls", "octets in clear text after", "Send no mail there"),
    Row({"tls": "starttls-optional"}, K.INJECTED, "tls", "octets in clear text after", "Send no mail"),
    Row(STRICT, K.WANTS_CERTIFICATE, "tls", "wants a client certificate", "Set client_certificate = true"),
    Row(NAMED, K.WANTS_CERTIFICATE, "tls", "wants a client certificate", "client_certificate = true", implicit=True),
    Row(NAMED, K.WRONG_NAME, "tls", f"for {OTHER_NAME}", "tls_name", implicit=True),
    Row(NAMED, K.EXPIRED, "tls", "expired", "Renew", implicit=True),
    Row(
        {**REQUIRED, "tls_verify": "pinned", "tls_pin": "0" * 64},
        K.GOOD,
        "tls",
        "has the fingerprint",
        'tls_pin = "@pin"',
    ),
    Row(
        {**STRICT, **LOGIN},
        K.GOOD,
        "auth",
        "at AUTH: 535",
        "Check user name (relay)",
        server={"logins": {"relay": "x"}},
    ),
    Row({**STRICT, **LOGIN}, K.GOOD, "auth", "does not offer AUTH", "Switch on AUTH PLAIN or LOGIN"),
    Row(LOGIN, K.GOOD, "auth", "not sent in clear text", "Credentials are sent under TLS only", server=LOGINS),
    Row(
        {**STRICT, **LOGIN},
        K.GOOD,
        "auth",
        "at AUTH: 454",
        "Test again later",
        server={**LOGINS, "auth_reply": b"454 4.7.0 no"},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_fault_of_tls_or_login_is_told_at_its_stage_with_what_to_do(loop: str, row: Row, tmp_path: Path) -> None:
    with tls_server(row.kind, implicit=row.implicit, **row.server) as server:  # type: ignore[arg-type]
        result = against(loop, server, row.settings, tmp_path)
        pin = server.pin
    stage = last(result)
    assert stage.name == row.stage
    assert names(ladder(result)).count("tls") <= 1
    assert row.fault in stage.fault
    assert row.advice.replace("@pin", pin) in stage.advice
    assert "?" not in stage.advice
    assert server.mails == []
    assert not any(login.tls is False for login in server.logins)


@pytest.mark.parametrize("kind", [K.WRONG_NAME, K.EXPIRED, K.SELF_SIGNED, K.UNKNOWN_CA])
def test_a_certificate_that_is_refused_is_shown_so_that_it_can_be_pinned(
    loop: str, kind: ServerKind, tmp_path: Path
) -> None:
    with tls_server(kind) as server:
        detail = last(against(loop, server, STRICT, tmp_path)).detail
        assert detail["sha256"] == server.pin
        pinned = {**REQUIRED, "tls_verify": "pinned", "tls_pin": str(detail["sha256"])}
        assert against(loop, server, pinned, tmp_path).ok
    assert detail["certificate"] == "refused"
    assert (int(str(detail["days_left"])) < 0) == (kind is K.EXPIRED)


def test_a_good_server_shows_the_whole_ladder_with_its_facts(loop: str, tmp_path: Path) -> None:
    with tls_server(K.GOOD, **LOGINS) as server:  # type: ignore[arg-type]
        result = against(loop, server, {**STRICT, **LOGIN}, tmp_path, ADDRESS)
        pin, commands = server.pin, [command.text for command in server.session.commands]
    assert result.ok
    stages = {stage.name.value: stage for stage in ladder(result).stages}
    assert names(ladder(result)) == [*STARTTLS_LADDER[:-1], "auth", "mail", "quit"]
    tls = dict(stages["tls"].detail)
    assert tls.pop("names") == f"{NAME}, 127.0.0.1"
    assert "Trusted CA" in str(tls.pop("issuer"))
    assert int(str(tls.pop("days_left"))) > 30
    assert (tls.pop("valid_from"), tls.pop("valid_until")) == ("2000-01-01", "3000-01-01")
    assert tls == {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "certificate": "verified",
        "sha256": pin,
    }
    assert stages["tls"].transcript[0] == "C: STARTTLS"
    assert stages["auth"].detail == {"username": "relay"}
    assert stages["auth"].transcript[0] == "C: AUTH PLAIN ***"
    assert commands[-4:] == [
        "MAIL FROM:<me@client.example>",
        "RCPT TO:<bob@ours.example>",
        "RSET",
        "QUIT",
    ]
    assert server.mails == []
    assert all(stage.advice == "" for stage in stages.values())
    assert all(0 <= stage.seconds < 10 for stage in stages.values())


def test_implicit_tls_comes_before_the_greeting(loop: str, tmp_path: Path) -> None:
    with tls_server(K.GOOD, implicit=True) as server:
        result = against(loop, server, NAMED, tmp_path)
    assert result.ok
    assert names(ladder(result)) == ["resolve", "connect", "tls", "greeting", "ehlo", "quit"]


def test_a_client_certificate_that_the_server_knows_opens_the_session(loop: str, tmp_path: Path) -> None:
    with tls_server(K.WANTS_CERTIFICATE) as server:
        assert against(loop, server, {**STRICT, "client_certificate": True}, tmp_path).ok


@pytest.mark.parametrize("kind", [K.HANDSHAKE_CUT, K.REFUSED_454])
def test_optional_tls_that_fails_is_shown_as_delivery_goes_on(loop: str, kind: ServerKind, tmp_path: Path) -> None:
    with tls_server(kind) as server:
        result = against(loop, server, {"tls": "starttls-optional"}, tmp_path)
    assert result.ok
    tls = next(stage for stage in ladder(result).stages if stage.name == "tls")
    assert tls.detail["downgraded"] is True
    assert "fault" not in tls.detail
    assert "clear text" in tls.advice
    assert names(ladder(result))[-1] == "quit"


async def hung_handshake(peer: Peer) -> None:
    """Says go to STARTTLS, and nothing more."""
    await peer.greet("STARTTLS")
    await peer.expect("STARTTLS")
    peer.say("220 go")
    while await peer.end():
        pass


async def too_busy_for_tls(peer: Peer) -> None:
    """421 is the end of the session, not a handshake that failed."""
    await peer.greet("STARTTLS")
    await peer.expect("STARTTLS")
    peer.say("421 4.3.2 too busy")
    await peer.end()


async def talkative(peer: Peer) -> None:
    """More than one reply to STARTTLS, as somebody between might send them."""
    await peer.greet("STARTTLS")
    await peer.expect("STARTTLS")
    peer.say("220 go", "250-x", "250 AUTH PLAIN")
    await peer.end()


@pytest.mark.parametrize(
    ("script", "fault", "advice"),
    [
        (too_busy_for_tls, "at STARTTLS: 421 4.3.2 too busy", "TLS"),
        (talkative, "octets in clear text after the reply to STARTTLS", "Send no mail there: somebody between"),
    ],
)
def test_optional_tls_does_not_go_on_in_clear_text_where_delivery_does_not(
    loop: str, script: Script, fault: str, advice: str
) -> None:
    """One connection only; `test_relay_tls` has what delivery does."""
    stage = last(against_script(loop, script, tls="starttls-optional"))
    assert (stage.name, stage.fault) == ("tls", fault)
    assert advice in stage.advice
    assert "downgraded" not in stage.detail


def test_a_handshake_that_hangs_until_the_test_ends_is_a_fault_of_tls(loop: str) -> None:
    """Optional or required: there is no time left to try the connection in clear text."""
    for tls in ("starttls-optional", "starttls-required"):
        result = against_script(loop, hung_handshake, seconds=0.5, tls=tls)
        stage = last(result)
        assert names(ladder(result)) == ["resolve", "connect", "greeting", "ehlo", "tls"]
        assert (stage.name, stage.fault) == ("tls", "no TLS within the 0.5 s of the test")
        assert "does not go on with TLS" in stage.advice


def test_a_handshake_that_hangs_shorter_than_the_test_is_a_downgrade(loop: str) -> None:
    async def clear(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.expect("QUIT")

    limits = Limits(tls_handshake_seconds=1)
    result = against_script(loop, hung_handshake, clear, tls="starttls-optional", limits=limits)
    assert result.ok
    tls = ladder(result).stages[4]
    assert tls.detail["downgraded"] is True
    # Two timers of the same length: either may be first.
    assert re.fullmatch("no TLS within 1 s|.* took longer than 1 seconds", str(tls.detail["downgraded_by"]))
    assert "fault" not in tls.detail
    assert "clear text" in tls.advice
    assert names(ladder(result))[5:] == ["connect", "greeting", "ehlo", "quit"]


def test_optional_tls_that_is_not_offered_is_told_to_go_in_clear(loop: str, tmp_path: Path) -> None:
    with tls_server(K.NOT_OFFERED) as server:
        optional = against(loop, server, {"tls": "starttls-optional"}, tmp_path)
        none = against(loop, server, {"tls": "none"}, tmp_path)
    assert names(ladder(optional)) == ["resolve", "connect", "greeting", "ehlo", "quit"]
    assert "clear text" in ladder(optional).stages[3].advice
    assert ladder(none).stages[3].advice == ""


def test_a_certificate_that_nobody_asks_for_is_offered_for_pinning(loop: str, tmp_path: Path) -> None:
    with tls_server(K.SELF_SIGNED) as server:
        result = against(loop, server, {**REQUIRED, "tls_verify": "none"}, tmp_path)
        pin = server.pin
    tls = ladder(result).stages[4]
    assert result.ok
    assert tls.detail["certificate"] == "unverified"
    assert f'tls_pin = "{pin}"' in tls.advice


def test_tls_at_a_server_that_speaks_none(loop: str) -> None:
    async def script(peer: Peer) -> None:
        peer.say("220 plain ESMTP")
        await peer.end()

    async def go() -> ProfileResult:
        async with scripted(script) as next_hop:
            return await try_out(next_hop.server.replace("smtp:", "smtps:"))

    stage = last(run(loop, go()))
    assert (stage.name, stage.fault) == ("tls", "the server does not speak TLS here")
    assert "Write smtp://127.0.0.1" in stage.advice


# --- before TLS --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "fault", "advice"),
    [
        ("554 5.7.1 not you", "554 5.7.1 not you", "Allow this node's address"),
        ("421 4.3.2 too busy", "421 4.3.2 too busy", "Test again later"),
        (f"HTTP/1.1 400 Bad Request {CANARY}", "it speaks HTTP", "a web server answers"),
        (f"+OK {CANARY} ready", "the server did not greet as SMTP", "is no SMTP server"),
        (f"200 {CANARY} news", "the server did not greet as SMTP", "is no SMTP server"),
        (f"220-first\r\n{CANARY}", "the server did not greet as SMTP", "is no SMTP server"),
        ("\x15\x03\x01\x00\x02\x02\x50", "it speaks TLS", "Write smtps://127.0.0.1"),
    ],
)
def test_a_greeting_that_is_none(loop: str, said: str, fault: str, advice: str) -> None:
    async def script(peer: Peer) -> None:
        peer.say(said)
        await peer.end()

    result = against_script(loop, script)
    stage = last(result)
    assert stage.name == "greeting"
    assert fault in stage.fault
    assert advice in stage.advice
    assert CANARY not in str(result_json(result))


def test_a_554_greeting_is_answered_with_quit(loop: str) -> None:
    async def script(peer: Peer) -> None:
        peer.say("554 no")
        await peer.expect("QUIT")

    assert last(against_script(loop, script)).name == "greeting"


def test_a_server_that_closes_at_once(loop: str) -> None:
    async def script(peer: Peer) -> None:
        peer.close()

    stage = last(against_script(loop, script))
    assert (stage.name, stage.fault) == ("greeting", "connection lost before the greeting")
    assert "does not allow this node's address" in stage.advice


def test_a_greeting_later_than_the_test_lasts(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.end()  # a server that greets later than anybody waits

    stage = last(against_script(loop, script, seconds=0.3))
    assert (stage.name, stage.fault) == ("greeting", "no greeting within the 0.3 s of the test")
    assert "slow in looking up" in stage.advice
    assert stage.seconds >= 0.2


def test_a_late_greeting_is_waited_for_and_spoken_of(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_advice, "SLOW_SECONDS", 0.0)  # every greeting is late then

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect("QUIT")

    result = against_script(loop, script)
    assert result.ok
    assert "s to greet, often DNS look-ups" in ladder(result).stages[2].advice


def test_credentials_go_in_clear_where_the_profile_allows_it(loop: str, tmp_path: Path) -> None:
    with tls_server(K.GOOD, auth_in_clear=True, **LOGINS) as server:  # type: ignore[arg-type]
        result = against(loop, server, {**LOGIN, "allow_plaintext_auth": True}, tmp_path)
    assert result.ok
    assert names(ladder(result)) == ["resolve", "connect", "greeting", "ehlo", "auth", "quit"]


@contextmanager
def web_server() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def test_a_web_server_that_waits_for_a_request(loop: str) -> None:
    with web_server() as port:
        stage = last(run(loop, try_out(f"smtp://127.0.0.1:{port}", seconds=0.3)))
    assert stage.name == "greeting"
    assert "web server" in stage.advice


def test_a_refused_connection(loop: str) -> None:
    with closed_port() as port:
        stage = last(run(loop, try_out(f"smtp://127.0.0.1:{port}")))
    assert (stage.name, stage.fault) == ("connect", "connection refused")
    assert "listens on this address" in stage.advice


def test_a_black_hole(loop: str) -> None:
    with deaf_port() as port:
        stage = last(run(loop, try_out(f"smtp://127.0.0.1:{port}", seconds=0.3)))
    assert (stage.name, stage.fault) == ("connect", "no answer to connect within 0.3 s")
    assert f"Allow TCP port {port}" in stage.advice


def test_an_unknown_name(loop: str) -> None:
    stage = last(run(loop, try_out("smtp://no-such-host.invalid:25")))
    assert stage.name == "resolve"
    assert stage.fault in ("name not found", "name cannot be resolved at present")  # without a network
    assert "DNS" in stage.advice


def test_a_resolver_that_hangs_holds_up_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is for all, not for each: neither the servers nor the stages have it one after the other."""
    answered = threading.Event()
    asked = threading.Barrier(3)

    def hung(*_: object, **__: object) -> list[object]:
        asked.wait(20)
        answered.wait(20)
        return []

    async def go() -> tuple[ProfileResult, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            result = await try_out("smtp://one.example", "smtp://two.example", "smtp://three.example", seconds=0.5)
            return result, loop.time() - began
        finally:
            answered.set()

    monkeypatch.setattr(socket, "getaddrinfo", hung)
    result, took = run("asyncio", go())
    assert 0.5 <= took < 1.4
    for server in result.servers:
        (stage,) = server.stages
        assert (stage.name, stage.fault) == ("resolve", "name not resolved in time")
        assert "DNS servers of this node" in stage.advice


@pytest.mark.parametrize("listener", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_listener_of_ours_is_not_connected_to(loop: str, listener: str) -> None:
    with closed_port() as port:
        stage = last(run(loop, try_out(f"smtp://127.0.0.1:{port}", listeners=[(listener, port)])))
    assert stage.name == "resolve"
    assert stage.fault == "the server is a listener of this node: mail would loop"
    assert "Name the next hop instead" in stage.advice


@pytest.mark.parametrize("address", ["169.254.169.254", "[fe80::1]"])
def test_link_local_addresses_are_not_connected_to(loop: str, address: str) -> None:
    stage = last(run(loop, try_out(f"smtp://{address}:25")))
    assert (stage.name, stage.fault) == ("resolve", "link-local addresses are not tested")
    assert "routable address" in stage.advice


@pytest.fixture
def name_stands_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Addresses that every name has."""

    def stand_for(*addresses: str) -> None:
        async def resolve(host: str, port: int, seconds: float) -> list[str]:
            return list(addresses)

        monkeypatch.setattr(tested_addresses, "resolve", resolve)

    return stand_for


def test_every_address_of_a_name_is_tried_but_link_local_ones(
    loop: str, name_stands_for: Callable[..., None]
) -> None:
    name_stands_for("169.254.1.1", "127.0.0.2", "127.0.0.1")

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect("QUIT")

    async def go() -> ProfileResult:
        async with scripted(script) as next_hop:
            return await try_out(f"smtp://mail.example:{next_hop.port}")

    result = run(loop, go())
    assert result.ok
    assert ladder(result).stages[1].detail == {"address": "127.0.0.1", "tried": ["127.0.0.2: connection refused"]}


def test_one_address_that_is_a_listener_of_ours_is_enough(loop: str, name_stands_for: Callable[..., None]) -> None:
    name_stands_for("169.254.1.1", "192.0.2.1", "127.0.0.1")
    stage = last(run(loop, try_out("smtp://mail.example:25", listeners=[("127.0.0.1", 25)])))
    assert (stage.name, stage.fault) == ("resolve", "the server is a listener of this node: mail would loop")


# --- later stages ------------------------------------------------------------------------------------


def test_ehlo_and_helo_refused(loop: str) -> None:
    async def script(peer: Peer) -> None:
        peer.say("220 next ESMTP")
        await peer.expect("EHLO ")
        peer.say("550 5.7.1 who are you")
        await peer.expect("HELO ")
        peer.say("550 5.7.1 who are you")
        await peer.expect("QUIT")

    stage = last(against_script(loop, script))
    assert (stage.name, stage.fault) == ("ehlo", "at EHLO: 550 5.7.1 who are you")
    assert "mx1.example" in stage.advice


@pytest.mark.parametrize(
    ("replies", "fault", "advice"),
    [
        (["550 5.1.8 no such sender"], "at MAIL: 550 5.1.8 no such sender", "me@client.example is refused"),
        (["530 5.7.0 must issue STARTTLS"], "at MAIL: 530", "starttls-required"),
        (["250 ok", "550 5.1.1 unknown"], "at RCPT: 550 5.1.1 unknown", "Check that bob@ours.example exists"),
        (["250 ok", "450 4.2.0 greylisted"], "at RCPT: 450 4.2.0 greylisted", "greylisting"),
    ],
)
def test_an_address_that_is_not_taken(loop: str, replies: list[str], fault: str, advice: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for verb, said in zip(("MAIL FROM:<me@", "RCPT TO:<bob@"), replies, strict=False):
            await peer.expect(verb)
            peer.say(said)
        await peer.expect("QUIT")

    stage = last(against_script(loop, script, inquiry=ADDRESS))
    assert stage.name == "mail"
    assert stage.fault.startswith(fault)
    assert advice in stage.advice


def test_a_server_that_closes_instead_of_answering_quit_is_good(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect("QUIT")
        peer.close()

    result = against_script(loop, script)
    assert result.ok
    assert names(ladder(result)) == ["resolve", "connect", "greeting", "ehlo", "quit"]


def test_the_dialogue_is_bounded(loop: str) -> None:
    async def script(peer: Peer) -> None:
        peer.say("220 next ESMTP")
        await peer.expect("EHLO ")
        peer.say(*[f"250-X{number} {'x' * 150}" for number in range(300)], "250 END")
        await peer.expect("QUIT")

    ehlo = ladder(against_script(loop, script)).stages[3]
    assert len(ehlo.transcript) == 200
    assert len(str(ehlo.detail)) < 12_000


@pytest.mark.parametrize(
    ("settings", "stage", "fault", "advice"),
    [
        ({**REQUIRED, "tls_ca": "/no/such/file"}, "tls", "/no/such/file cannot be read", "on this node"),
        (
            {**REQUIRED, "username": "u", "password": {"env": "TEST_NO_SUCH_VARIABLE"}},
            "auth",
            "TEST_NO_SUCH_VARIABLE is not set",
            "the variable has to be set",
        ),
    ],
)
def test_faults_of_this_node_blame_this_node(
    loop: str, settings: dict[str, object], stage: str, fault: str, advice: str, tmp_path: Path
) -> None:
    with tls_server(K.GOOD) as server:
        found = last(against(loop, server, settings, tmp_path))
    assert found.name == stage
    assert fault in found.fault
    assert advice in found.advice


def test_all_servers_are_tested_at_once_and_one_that_fails_fails_the_profile(loop: str) -> None:
    """Neither server goes on before both have been connected to."""

    async def go() -> ProfileResult:
        both = asyncio.Barrier(2)

        async def good(peer: Peer) -> None:
            await both.wait()
            await peer.greet()
            await peer.expect("QUIT")

        async def bad(peer: Peer) -> None:
            await both.wait()
            peer.say("554 no")

        async with scripted(good) as one, scripted(bad) as two:
            return await try_out(one.server, two.server)

    result = run(loop, go())
    assert [server.ok for server in result.servers] == [True, False]
    assert not result.ok
