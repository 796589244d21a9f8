"""TLS and AUTH towards servers nobody here wrote: mode by server, with Postfix and aiosmtpd.

What every row shows besides its result: the mail arrived once and as the row says, over TLS or not, by the peer's own
words; what we wrote in clear text, as a tap before the server saw it, is no mail where TLS is required and never a
login; a downgrade is marked. One Postfix has all its kinds as services of their own; both peers run for the module.
"""

import base64
import contextlib
import os
import re
import smtplib
import ssl
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, InlineOctets
from posthouse.core.outcome import Result, ServerAnswer, Stage
from posthouse.core.way import Certificate
from support.dovecot_auth import dovecot_auth
from support.peers import free_port, postfix
from support.recording import Recorder, Taken, recording_sink
from support.servers import profile, run, transaction
from support.tls_servers import (
    EXPIRED_ON,
    NAME,
    OTHER_NAME,
    ServerKind,
    client_digital_id,
    clients_ca,
    issue,
    pin_of,
    trusted_ca,
)
from support.waiting import eventually
from support.wire_tap import WireTap, in_clear, wire_tap

# aiosmtpd does not know that it is reached by implicit TLS.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

K = ServerKind
PASSWORD, WRONG_PASSWORD = "correct horse", "battery staple"
REQUIRED: dict[str, object] = {"tls": "starttls-required"}
OPTIONAL: dict[str, object] = {"tls": "starttls-optional"}
NONE: dict[str, object] = {"tls": "none"}
NAMED: dict[str, object] = {"tls_name": NAME, "tls_ca": "@ca"}
STRICT = {**REQUIRED, **NAMED}
VERIFYING = {**OPTIONAL, **NAMED, "tls_verify": "verify"}
ANY = {"tls_verify": "none"}
PINNED = {"tls_verify": "pinned", "tls_pin": "@pin"}
LOGIN: dict[str, object] = {"username": "relay", "password": {"env": "TEST_RELAY_PASSWORD"}}
WRONG_LOGIN = {**LOGIN, "password": {"env": "TEST_WRONG_PASSWORD"}}
SHOWN = {"client_certificate": True}

UNTRUSTED = "certificate issued by an unknown CA: Trusted CA"
UNKNOWN = "certificate issued by an unknown CA: Nobody's CA"
WRONG_NAME = f"the certificate is for {OTHER_NAME}, not {NAME}"
EXPIRED = f"certificate expired on {EXPIRED_ON:%Y-%m-%d}"
SELF_SIGNED = "self-signed certificate"
OLD = "no common TLS version (the server may only speak TLS 1.1)"
WANTED = "421 4.7.1 postfix.test Error: No client certificate presented"
NOT_OFFERED = "the server does not offer STARTTLS, and clear text is not allowed here"
REFUSED = "at STARTTLS: 454 4.7.0 TLS not available due to local problem"
NO_TLS_THERE = "the server does not speak TLS here"
NO_AUTH = "the server does not offer AUTH PLAIN or LOGIN, and mail is not sent without the login"
NO_CLEAR = "the login is not sent in clear text: use TLS, or set allow_plaintext_auth"


@dataclass(frozen=True)
class Peer:
    """One server of a peer, with a tap before it."""

    tap: WireTap
    certificate: str
    recorder: Recorder


@dataclass(frozen=True)
class Row:
    """`fault` empty: the mail arrives, under TLS if `tls`."""

    server: str
    settings: Mapping[str, object]
    tls: bool = True
    fault: str = ""
    stage: Stage = Stage.TLS
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        extra = sorted(name for name in self.settings if name not in ("tls", "tls_ca"))
        return "-".join((self.server.replace(" ", "_"), str(self.settings.get("tls", "smtps")), *extra))


def clear(server: str, settings: Mapping[str, object], *marks: str) -> Row:
    return Row(server, settings, tls=False, marks=marks)


def fails(server: str, settings: Mapping[str, object], fault: str, stage: Stage = Stage.TLS) -> Row:
    return Row(server, settings, False, fault, stage)


POSTFIX = [
    Row("good", STRICT),
    Row("good", VERIFYING),
    Row("good", OPTIONAL),
    Row("good", {**REQUIRED, **PINNED}),
    Row("good", {**STRICT, "tls_min": "1.3"}),
    fails("good", REQUIRED, UNTRUSTED),
    clear("good", NONE),
    fails("wrong name", STRICT, WRONG_NAME),
    fails("wrong name", VERIFYING, WRONG_NAME),
    Row("wrong name", {**REQUIRED, **ANY}),
    Row("wrong name", OPTIONAL),
    fails("expired", STRICT, EXPIRED),
    fails("expired", VERIFYING, EXPIRED),
    Row("expired", {**REQUIRED, **PINNED}),
    Row("expired", OPTIONAL),
    fails("self-signed", STRICT, SELF_SIGNED),
    Row("self-signed", {**REQUIRED, **PINNED}),
    fails("self-signed", {**REQUIRED, **PINNED, "tls_pin": "0" * 64}, "the certificate has the fingerprint"),
    Row("self-signed", OPTIONAL),
    fails("unknown CA", STRICT, UNKNOWN),
    Row("unknown CA", OPTIONAL),
    fails("TLS 1.1 only", STRICT, OLD),
    fails("TLS 1.1 only", {**OPTIONAL, **LOGIN}, OLD),
    clear("TLS 1.1 only", OPTIONAL, "downgraded"),
    clear("not offered", NONE),
    clear("not offered", OPTIONAL),
    fails("not offered", STRICT, NOT_OFFERED, Stage.STARTTLS),
    fails("not offered", VERIFYING, NOT_OFFERED, Stage.STARTTLS),
    fails("not offered", {**OPTIONAL, **LOGIN}, NOT_OFFERED, Stage.STARTTLS),
    clear("refused 454", OPTIONAL, "downgraded"),
    clear("refused 454", NONE),
    fails("refused 454", STRICT, REFUSED, Stage.STARTTLS),
    fails("refused 454", VERIFYING, REFUSED, Stage.STARTTLS),
    fails("refused 454", {**OPTIONAL, **LOGIN}, REFUSED, Stage.STARTTLS),
    fails("wants certificate", STRICT, f"at EHLO: {WANTED}", Stage.EHLO),
    fails("wants certificate", OPTIONAL, f"at EHLO: {WANTED}", Stage.EHLO),
    Row("wants certificate", {**STRICT, **SHOWN}),
    Row("wants certificate", {**OPTIONAL, **SHOWN}),
    fails("wants certificate", NONE, "at MAIL: 530 5.7.0 Must issue a STARTTLS command first", Stage.MAIL),
    Row("smtps good", NAMED),
    fails("smtps good", {}, UNTRUSTED),
    Row("smtps good", {**OPTIONAL, **NAMED}),
    Row("smtps self-signed", ANY),
    Row("smtps self-signed", PINNED),
    fails("smtps self-signed", NAMED, SELF_SIGNED),
    fails("smtps wants certificate", NAMED, f"at greeting: {WANTED}", Stage.GREETING),
    Row("smtps wants certificate", {**NAMED, **SHOWN}),
    fails("smtps not there", NAMED, NO_TLS_THERE),
    Row("AUTH PLAIN", {**STRICT, **LOGIN}),
    Row("AUTH LOGIN", {**STRICT, **LOGIN}),
    Row("AUTH PLAIN", {**OPTIONAL, **LOGIN}),
    fails("AUTH PLAIN", {**STRICT, **WRONG_LOGIN}, "at AUTH: 535 5.7.8 Error: authentication failed", Stage.AUTH),
    fails("AUTH LOGIN", {**STRICT, **WRONG_LOGIN}, "at AUTH: 535 5.7.8 Error: authentication failed", Stage.AUTH),
    fails("AUTH PLAIN", {**NONE, **LOGIN}, NO_CLEAR, Stage.AUTH),
    fails("AUTH PLAIN", {**NONE, **LOGIN, "allow_plaintext_auth": True}, NO_AUTH, Stage.AUTH),
    fails("good", {**STRICT, **LOGIN}, NO_AUTH, Stage.AUTH),
    Row("smtps AUTH", {**NAMED, **LOGIN}),
    clear("AUTH in clear", {**NONE, **LOGIN, "allow_plaintext_auth": True}),
    fails("AUTH in clear", {**NONE, **LOGIN}, NO_CLEAR, Stage.AUTH),
]
WITHOUT_LOGIN = "at MAIL: 530 5.7.0 Authentication required"
AIOSMTPD = [
    Row("good", STRICT),
    Row("good", VERIFYING),
    Row("good", OPTIONAL),
    clear("good", NONE),
    fails("good", REQUIRED, UNTRUSTED),
    fails("unknown CA", STRICT, UNKNOWN),
    fails("unknown CA", VERIFYING, UNKNOWN),
    Row("unknown CA", OPTIONAL),
    Row("unknown CA", {**REQUIRED, **PINNED}),
    Row("TLS required", STRICT),
    Row("TLS required", OPTIONAL),
    fails("TLS required", NONE, "at MAIL: 530 Must issue a STARTTLS command first", Stage.MAIL),
    clear("not offered", OPTIONAL),
    clear("not offered", NONE),
    fails("not offered", STRICT, NOT_OFFERED, Stage.STARTTLS),
    fails("not offered", {**OPTIONAL, **LOGIN}, NOT_OFFERED, Stage.STARTTLS),
    Row("smtps good", NAMED),
    Row("smtps good", ANY),
    fails("smtps good", {}, UNTRUSTED),
    fails("smtps not there", NAMED, NO_TLS_THERE),
    Row("smtps AUTH", {**NAMED, **LOGIN}),
    fails("smtps AUTH", {**NAMED, **WRONG_LOGIN}, "at AUTH: 535 5.7.8 Authentication", Stage.AUTH),
    fails("smtps AUTH", NAMED, WITHOUT_LOGIN, Stage.MAIL),
    Row("AUTH PLAIN", {**STRICT, **LOGIN}),
    Row("AUTH LOGIN", {**STRICT, **LOGIN}),
    Row("AUTH PLAIN", {**OPTIONAL, **LOGIN}),
    fails("AUTH PLAIN", {**STRICT, **WRONG_LOGIN}, "at AUTH: 535 5.7.8 Authentication", Stage.AUTH),
    fails("AUTH LOGIN", {**STRICT, **WRONG_LOGIN}, "at AUTH: 535 5.7.8 Authentication", Stage.AUTH),
    fails("AUTH PLAIN", STRICT, WITHOUT_LOGIN, Stage.MAIL),
    fails("AUTH PLAIN", {**NONE, **LOGIN}, NO_CLEAR, Stage.AUTH),
    fails("AUTH PLAIN", {**NONE, **LOGIN, "allow_plaintext_auth": True}, NO_AUTH, Stage.AUTH),
]


# --- The peers -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates")
    trusted_ca().cert_pem.write_to_path(made / "ca.pem")
    clients_ca().cert_pem.write_to_path(made / "clients.pem")
    return made


def issued(folder: Path, kind: ServerKind) -> tuple[str, str]:
    """Files of one certificate for each kind."""
    own = folder / kind.name.lower()
    if kind is ServerKind.SELF_SIGNED or not own.exists():
        own.mkdir(exist_ok=True)
        return issue(kind, own)
    certificates, keys = sorted(own.glob("*.crt")), sorted(own.glob("*.key"))
    return str(certificates[0]), str(keys[0])


def services(folder: Path, auth_port: int) -> dict[str, tuple[ServerKind, dict[str, str]]]:
    """Postfix's kinds: the certificate and the parameters of each smtpd."""
    may, wrapped = {"smtpd_tls_security_level": "may"}, {"smtpd_tls_wrappermode": "yes"}
    asks = {
        "smtpd_tls_security_level": "encrypt",
        "smtpd_tls_req_ccert": "yes",
        "smtpd_tls_CAfile": str(folder / "clients.pem"),
    }
    auth = {
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": f"inet:127.0.0.1:{auth_port}",
        "smtpd_relay_restrictions": "permit_sasl_authenticated,reject",
    }
    under_tls = {**may, **auth, "smtpd_tls_auth_only": "yes"}
    old = {"smtpd_tls_protocols": "TLSv1.1", "tls_medium_cipherlist": "DEFAULT:@SECLEVEL=0"}
    return {
        "good": (K.GOOD, may),
        "wrong name": (K.WRONG_NAME, may),
        "expired": (K.EXPIRED, may),
        "self-signed": (K.SELF_SIGNED, may),
        "unknown CA": (K.UNKNOWN_CA, may),
        "TLS 1.1 only": (K.GOOD, {**may, **old}),
        "not offered": (K.GOOD, {"smtpd_tls_security_level": "none"}),
        "refused 454": (K.GOOD, {**may, "smtpd_tls_cert_file": str(folder / "none.pem")}),
        "wants certificate": (K.GOOD, asks),
        "smtps good": (K.GOOD, wrapped),
        "smtps self-signed": (K.SELF_SIGNED, wrapped),
        "smtps wants certificate": (K.GOOD, {**asks, **wrapped}),
        "smtps not there": (K.GOOD, may),
        "smtps AUTH": (K.GOOD, {**under_tls, **wrapped}),
        "AUTH PLAIN": (K.GOOD, {**under_tls, "smtpd_sasl_mechanism_filter": "plain"}),
        "AUTH LOGIN": (K.GOOD, {**under_tls, "smtpd_sasl_mechanism_filter": "login"}),
        "AUTH in clear": (K.GOOD, {**auth, "smtpd_tls_security_level": "none"}),
    }


@pytest.fixture(scope="module")
def postfix_servers(folder: Path) -> Iterator[dict[str, Peer]]:
    """One Postfix, a port for each kind; what it takes arrives at the recorder."""
    with contextlib.ExitStack() as stack:
        _, auth_port = stack.enter_context(dovecot_auth({"relay": PASSWORD}))
        recorder = stack.enter_context(recording_sink(Recorder()))
        lines, made = [], {}
        for name, (kind, parameters) in services(folder, auth_port).items():
            certificate, key = issued(folder, kind)
            files = {"smtpd_tls_cert_file": certificate, "smtpd_tls_key_file": key}
            options = " ".join(f"-o {each}={value}" for each, value in {**files, **parameters}.items())
            port = free_port()
            lines.append(f"127.0.0.1:{port} inet n - n - - smtpd {options}")
            made[name] = Peer(stack.enter_context(wire_tap(port)), certificate, recorder)
        tls = "smtp_tls_security_level =\nsmtpd_tls_security_level =\nsmtpd_tls_received_header = yes"
        stack.enter_context(postfix(recorder.port, tls=tls, services=lines))
        yield made


def authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: LoginPassword
) -> AuthResult:
    right = (given.login, given.password) == (b"relay", PASSWORD.encode())
    return AuthResult(success=right, handled=False, auth_data=given)


@pytest.fixture(scope="module")
def aiosmtpd_servers(folder: Path) -> Iterator[dict[str, Peer]]:
    """One server, a thread each, for every kind."""

    def context(kind: ServerKind) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*issued(folder, kind))
        return made

    good = context(K.GOOD)
    auth = {"authenticator": authenticate, "auth_required": True}
    kinds: dict[str, tuple[ServerKind, dict[str, Any]]] = {
        "good": (K.GOOD, {"tls_context": good}),
        "unknown CA": (K.UNKNOWN_CA, {"tls_context": context(K.UNKNOWN_CA)}),
        "TLS required": (K.GOOD, {"tls_context": good, "require_starttls": True}),
        "not offered": (K.GOOD, {}),
        "smtps good": (K.GOOD, {"implicit": good}),
        "smtps not there": (K.GOOD, {"tls_context": good}),
        "smtps AUTH": (K.GOOD, {"implicit": good, **auth, "auth_require_tls": False}),
        "AUTH PLAIN": (K.GOOD, {"tls_context": good, **auth, "auth_exclude_mechanism": ["LOGIN"]}),
        "AUTH LOGIN": (K.GOOD, {"tls_context": good, **auth, "auth_exclude_mechanism": ["PLAIN"]}),
    }
    with contextlib.ExitStack() as stack:
        made = {}
        for name, (kind, options) in kinds.items():
            recorder = stack.enter_context(recording_sink(Recorder(), **options))
            made[name] = Peer(stack.enter_context(wire_tap(recorder.port)), issued(folder, kind)[0], recorder)
        yield made


# --- The table -------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TEST_RELAY_PASSWORD", PASSWORD)
    monkeypatch.setitem(os.environ, "TEST_WRONG_PASSWORD", WRONG_PASSWORD)


@dataclass
class Sent:
    """What one mail came to."""

    answer: ServerAnswer
    marker: str
    """In its subject."""
    written: list[bytes] = field(default_factory=list)
    """By us, on each connection, as on the wire."""

    def arrived(self, peer: Peer) -> list[Taken]:
        return [taken for taken in peer.recorder.taken if self.marker.encode() in taken.content]


def send(loop: str, peer: Peer, row: Row, folder: Path) -> Sent:
    """One mail, as the settings say."""
    known = {"@ca": str(folder / "ca.pem"), "@pin": pin_of(peer.certificate)}
    settings: dict[str, Any] = {
        name: known.get(value, value) if isinstance(value, str) else value for name, value in row.settings.items()
    }
    scheme = "smtps" if row.server.startswith("smtps") else "smtp"
    by = profile(f"{scheme}://127.0.0.1:{peer.tap.port}", **settings)
    marker = uuid.uuid4().hex
    content = Content(InlineOctets(f"Subject: {marker}\r\n\r\nx\r\n.\r\n".encode()))
    before = len(peer.tap.written)

    async def go() -> ServerAnswer:
        relay = SmtpRelay("mx1.example", Limits(), digital_id=lambda: client_digital_id(folder))
        answer = await relay.send(by, by.server_texts[0], transaction(content=content), lambda: True)
        relay.close()
        await relay.closed(10)
        return answer

    answer = run(loop, go())
    return Sent(answer, marker, [bytes(each) for each in peer.tap.written[before:]])


def check(row: Row, peer: Peer, sent: Sent) -> None:
    """What holds for every row, whoever the peer is."""
    answer = sent.answer
    (result,) = answer.recipients
    if row.fault:
        assert answer.fault.startswith(row.fault)
        assert (result.result, result.stage) == (Result.SERVER_FAULT, row.stage)
        assert not answer.mail_accepted
        assert sent.arrived(peer) == []
    else:
        assert (answer.fault, result.result) == ("", Result.RELAYED)
        assert answer.way is not None
        assert (answer.way.certificate is not Certificate.NONE) == row.tls
        assert answer.way.login == row.settings.get("username", "")
    assert answer.marks == row.marks
    assert sent.written
    strict = row.server.startswith("smtps") or row.settings["tls"] == "starttls-required"
    for octets in sent.written:
        plain = in_clear(octets)
        if strict:
            assert re.fullmatch(rb"(EHLO mx1\.example\r\n(STARTTLS\r\n)?(QUIT\r\n)?)?", plain), plain
        if row.tls or strict:
            assert sent.marker.encode() not in octets
        if not row.settings.get("allow_plaintext_auth"):
            for secret in (PASSWORD, WRONG_PASSWORD):
                for told in (secret, f"\0relay\0{secret}"):
                    assert told.encode() not in octets
                    assert base64.b64encode(told.encode()) not in octets
    assert PASSWORD not in str(answer)
    assert WRONG_PASSWORD not in str(answer)


@pytest.mark.parametrize("row", POSTFIX, ids=str)
def test_postfix(row: Row, postfix_servers: dict[str, Peer], folder: Path) -> None:
    peer = postfix_servers[row.server]
    sent = send("uvloop", peer, row, folder)
    check(row, peer, sent)
    if row.fault:
        return
    (taken,) = eventually(lambda: sent.arrived(peer), "the mail out of Postfix")
    # Its own field stands first; "No client certificate requested" or the subject of ours may follow.
    own = taken.content.partition(b"\r\nReceived: from client\r\n")[0].decode()
    told = re.search(r"\(using (TLSv1\.[23]) with cipher (\S+)", own)
    assert (told is not None) == row.tls, own
    if told is not None and sent.answer.way is not None:
        assert sent.answer.way.tls == f"{told[1]} {told[2]}"
    assert ("(verified OK)" in own) == bool(row.settings.get("client_certificate")), own


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("row", AIOSMTPD, ids=str)
def test_aiosmtpd(row: Row, loop: str, aiosmtpd_servers: dict[str, Peer], folder: Path) -> None:
    peer = aiosmtpd_servers[row.server]
    sent = send(loop, peer, row, folder)
    check(row, peer, sent)
    if row.fault:
        return
    (taken,) = sent.arrived(peer)
    assert (taken.tls, taken.username) == ("TLSv1.3" if row.tls else "", row.settings.get("username", ""))


def test_the_postfix_of_tls_11_does_speak_it(postfix_servers: dict[str, Peer]) -> None:
    """Else its rows would show any failed handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with smtplib.SMTP("127.0.0.1", postfix_servers["TLS 1.1 only"].tap.server_port, timeout=20) as client:
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.version() == "TLSv1.1"


def test_the_table_is_as_large_as_it_says() -> None:
    assert len({(row.server, str(row)) for row in POSTFIX}) >= 40
    assert len({(row.server, str(row)) for row in AIOSMTPD}) >= 20
