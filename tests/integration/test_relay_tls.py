"""TLS and AUTH towards next hops: mode by server, on servers that really are like that, on both event loops.

What every row shows besides its result: required never sends a mail or a login in clear text; a login never leaves
without TLS unless the profile says so; a downgrade is marked.
"""

import asyncio
import os
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, FileOctets
from posthouse.core.outcome import Result, ServerAnswer, Stage
from posthouse.core.way import Certificate
from support.servers import LOOPS, closed_port, profile, run, transaction
from support.tls_servers import (
    EXPIRED_ON,
    NAME,
    OTHER_NAME,
    ServerKind,
    TlsServer,
    client_digital_id,
    tls_server,
    trusted_ca,
    write_certificate,
)

K = ServerKind
REQUIRED: dict[str, object] = {"tls": "starttls-required"}
OPTIONAL: dict[str, object] = {"tls": "starttls-optional"}
NONE: dict[str, object] = {"tls": "none"}
NAMED: dict[str, object] = {"tls_name": NAME, "tls_ca": "@ca"}
LOGIN: dict[str, object] = {"username": "relay", "password": {"env": "TEST_RELAY_PASSWORD"}}
PASSWORD = "correct horse"
CUT = "the server closed the connection during the handshake"
OLD = "no common TLS version (the server may only speak TLS 1.1)"
NOT_OFFERED = "the server does not offer STARTTLS, and clear text is not allowed here"
REFUSED = "at STARTTLS: 454 4.7.0 TLS not available due to temporary reason"
INJECTED = "octets in clear text after the reply to STARTTLS"
EXPIRED = f"certificate expired on {EXPIRED_ON:%Y-%m-%d}"
UNKNOWN = "certificate issued by an unknown CA: Nobody's CA"
WRONG = f"the certificate is for {OTHER_NAME}, not {NAME}"
WANTED = "the server wants a client certificate"
NO_AUTH = "the server does not offer AUTH PLAIN or LOGIN, and mail is not sent without the login"
NO_CLEAR = "the login is not sent in clear text: use TLS, or set allow_plaintext_auth"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class Row:
    """`fault` empty: the mail is relayed, under TLS or in clear as `tls` says."""

    settings: Mapping[str, object]
    kind: ServerKind
    tls: bool = True
    fault: str = ""
    stage: Stage = Stage.TLS
    marks: tuple[str, ...] = ()
    implicit: bool = False
    server: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        mode = "smtps" if self.implicit else str(self.settings["tls"])
        extra = sorted(name for name in self.settings if name not in ("tls", "tls_ca"))
        return (
            f"{mode}-{self.kind.name.lower()}-{'-'.join(extra)}{'-' + '-'.join(self.server) if self.server else ''}"
        )


def fails(
    settings: Mapping[str, object], kind: ServerKind, fault: str, stage: Stage = Stage.TLS, **more: object
) -> Row:
    return Row(settings, kind, False, fault, stage, **more)  # type: ignore[arg-type]


def implicit(row: Row) -> Row:
    return Row({**NONE, **row.settings}, row.kind, row.tls, row.fault, row.stage, row.marks, True, row.server)


STRICT = {**REQUIRED, **NAMED}
ROWS = [
    # required: verified TLS or nothing
    Row(STRICT, K.GOOD),
    fails(REQUIRED, K.GOOD, "certificate issued by an unknown CA: Trusted CA"),
    fails(STRICT, K.WRONG_NAME, WRONG),
    fails(STRICT, K.EXPIRED, EXPIRED),
    fails(STRICT, K.SELF_SIGNED, "self-signed certificate"),
    fails(STRICT, K.UNKNOWN_CA, UNKNOWN),
    fails(STRICT, K.TLS11_ONLY, OLD),
    fails(STRICT, K.NOT_OFFERED, NOT_OFFERED, Stage.STARTTLS),
    fails(STRICT, K.REFUSED_454, REFUSED, Stage.STARTTLS),
    fails(STRICT, K.HANDSHAKE_CUT, CUT),
    fails(STRICT, K.INJECTED, INJECTED, Stage.STARTTLS),
    fails(STRICT, K.WANTS_CERTIFICATE, WANTED),
    Row({**STRICT, "client_certificate": True}, K.WANTS_CERTIFICATE),
    Row(STRICT, K.CAPABILITIES_CHANGE),
    # required, but any certificate will do; or one certificate
    Row({**REQUIRED, "tls_verify": "none"}, K.WRONG_NAME),
    Row({**REQUIRED, "tls_verify": "none"}, K.EXPIRED),
    Row({**REQUIRED, "tls_verify": "none"}, K.SELF_SIGNED),
    fails({**REQUIRED, "tls_verify": "none"}, K.NOT_OFFERED, NOT_OFFERED, Stage.STARTTLS),
    fails({**REQUIRED, "tls_verify": "none"}, K.HANDSHAKE_CUT, CUT),
    Row({**REQUIRED, "tls_verify": "pinned", "tls_pin": "@pin"}, K.SELF_SIGNED),
    Row({**REQUIRED, "tls_verify": "pinned", "tls_pin": "@pin"}, K.EXPIRED),
    fails({**REQUIRED, "tls_verify": "pinned", "tls_pin": "0" * 64}, K.GOOD, "the certificate has the fingerprint"),
    fails({**STRICT, "tls_min": "1.3"}, K.TLS11_ONLY, "no common TLS version"),
    # optional: TLS where it can be had, clear text where not, marked where the server had offered it
    Row(OPTIONAL, K.GOOD),
    Row(OPTIONAL, K.WRONG_NAME),
    Row(OPTIONAL, K.EXPIRED),
    Row(OPTIONAL, K.SELF_SIGNED),
    Row(OPTIONAL, K.UNKNOWN_CA),
    Row(OPTIONAL, K.TLS11_ONLY, tls=False, marks=("downgraded",)),
    Row(OPTIONAL, K.NOT_OFFERED, tls=False),
    Row(OPTIONAL, K.REFUSED_454, tls=False, marks=("downgraded",)),
    Row(OPTIONAL, K.HANDSHAKE_CUT, tls=False, marks=("downgraded",)),
    Row(OPTIONAL, K.WANTS_CERTIFICATE, tls=False, marks=("downgraded",)),
    fails(OPTIONAL, K.INJECTED, INJECTED, Stage.STARTTLS),
    # optional, but with verification, a login or a client certificate there is no clear text
    fails({**OPTIONAL, **NAMED, "tls_verify": "verify"}, K.NOT_OFFERED, NOT_OFFERED, Stage.STARTTLS),
    fails({**OPTIONAL, **NAMED, "tls_verify": "verify"}, K.EXPIRED, EXPIRED),
    fails({**OPTIONAL, **NAMED, "tls_verify": "verify"}, K.REFUSED_454, REFUSED, Stage.STARTTLS),
    fails({**OPTIONAL, **LOGIN}, K.NOT_OFFERED, NOT_OFFERED, Stage.STARTTLS),
    fails({**OPTIONAL, **LOGIN}, K.HANDSHAKE_CUT, CUT),
    fails({**OPTIONAL, "client_certificate": True}, K.REFUSED_454, REFUSED, Stage.STARTTLS),
    # none: STARTTLS is not even asked for
    Row(NONE, K.GOOD, tls=False),
    Row(NONE, K.HANDSHAKE_CUT, tls=False),
    # implicit TLS
    *map(
        implicit,
        [
            Row(NAMED, K.GOOD),
            fails(NAMED, K.WRONG_NAME, WRONG),
            fails(NAMED, K.EXPIRED, EXPIRED),
            fails(NAMED, K.SELF_SIGNED, "self-signed certificate"),
            fails(NAMED, K.UNKNOWN_CA, UNKNOWN),
            fails(NAMED, K.TLS11_ONLY, OLD),
            fails(NAMED, K.HANDSHAKE_CUT, CUT),
            fails(NAMED, K.WANTS_CERTIFICATE, WANTED),
            fails({**OPTIONAL, **NAMED}, K.HANDSHAKE_CUT, CUT),
            Row({**NAMED, "client_certificate": True}, K.WANTS_CERTIFICATE),
            Row({"tls_verify": "none"}, K.SELF_SIGNED),
        ],
    ),
    # AUTH
    Row({**STRICT, **LOGIN}, K.GOOD, server={"logins": {"relay": PASSWORD}}),
    Row({**STRICT, **LOGIN}, K.GOOD, server={"logins": {"relay": PASSWORD}, "mechanisms": ("LOGIN",)}),
    implicit(Row({**NAMED, **LOGIN}, K.GOOD, server={"logins": {"relay": PASSWORD}})),
    fails(
        {**STRICT, **LOGIN},
        K.GOOD,
        "at AUTH: 535 5.7.8 wrong user name or password",
        Stage.AUTH,
        server={"logins": {"relay": "another"}},
    ),
    fails(
        {**STRICT, **LOGIN},
        K.GOOD,
        "at AUTH: 454 4.7.0 later",
        Stage.AUTH,
        server={"logins": {"relay": PASSWORD}, "auth_reply": b"454 4.7.0 later"},
    ),
    fails({**STRICT, **LOGIN}, K.GOOD, NO_AUTH, Stage.AUTH),
    fails({**STRICT, **LOGIN}, K.GOOD, NO_AUTH, Stage.AUTH, server={"auth_offered": True, "mechanisms": ("GSSAPI",)}),
    fails(
        {**NONE, **LOGIN}, K.GOOD, NO_CLEAR, Stage.AUTH, server={"logins": {"relay": PASSWORD}, "auth_in_clear": True}
    ),
    Row(
        {**NONE, **LOGIN, "allow_plaintext_auth": True},
        K.GOOD,
        tls=False,
        server={"logins": {"relay": PASSWORD}, "auth_in_clear": True},
    ),
]


def relay_one(
    loop: str, server: TlsServer, settings: Mapping[str, object], folder: Path, mails: int = 1
) -> list[ServerAnswer]:
    """So many mails one after the other; `@ca` and `@pin` are what the server has."""
    given: dict[str, Any] = {
        name: getattr(server, value[1:]) if isinstance(value, str) and value.startswith("@") else value
        for name, value in settings.items()
    }
    by = profile(server.specification, **given)

    async def go() -> list[ServerAnswer]:
        relay = SmtpRelay("mx1.example", Limits(), digital_id=lambda: client_digital_id(folder))
        answers = [
            await relay.send(by, server.specification, transaction("b@ours.example"), lambda: True)
            for _ in range(mails)
        ]
        relay.close()
        await relay.closed(10)
        return answers

    return run(loop, go())


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TEST_RELAY_PASSWORD", PASSWORD)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_a_mode_makes_of_a_server(loop: str, row: Row, tmp_path: Path) -> None:
    with tls_server(row.kind, implicit=row.implicit, **row.server) as server:  # type: ignore[arg-type]
        (answer,) = relay_one(loop, server, row.settings, tmp_path)
    (result,) = answer.recipients
    if row.fault:
        assert answer.fault.startswith(row.fault)
        assert (result.result, result.stage) == (Result.SERVER_FAULT, row.stage)
        assert server.mails == []
    else:
        assert (answer.fault, result.result) == ("", Result.RELAYED)
        assert [mail.tls for mail in server.mails] == [row.tls]
        assert server.mails[0].username == (str(row.settings.get("username", "")))
    assert answer.marks == row.marks
    assert not any(session.too_early for session in server.sessions)
    strict = row.implicit or row.settings["tls"] == "starttls-required"
    if strict:
        said = {line.split(" ")[0] for session in server.sessions for line in session.in_clear}
        assert said <= {"EHLO", "STARTTLS", "QUIT"}
    if not row.settings.get("allow_plaintext_auth"):
        assert all(login.tls for login in server.logins)
    assert PASSWORD not in str(answer)
    if answer.fault and row.stage is Stage.AUTH and server.logins:
        assert "C: AUTH PLAIN ***" in answer.transcript


def test_capabilities_are_read_anew_after_tls(loop: str, tmp_path: Path) -> None:
    with tls_server(K.CAPABILITIES_CHANGE) as server:
        (answer,) = relay_one(loop, server, STRICT, tmp_path)
    assert answer.dsn_offered
    assert server.session.ehlo_repeated


def test_a_kept_connection_stays_under_tls_and_logged_in(loop: str, tmp_path: Path) -> None:
    with tls_server(K.GOOD, logins={"relay": PASSWORD}, auth_required=True) as server:
        answers = relay_one(loop, server, {**STRICT, **LOGIN, "pool": {"enabled": True}}, tmp_path, mails=3)
    assert [a.fault for a in answers] == ["", "", ""]
    assert [mail.username for mail in server.session.mails] == ["relay"] * 3
    assert len(server.logins) == 1


def way(answer: ServerAnswer, server: TlsServer) -> tuple[str, Certificate, str]:
    """What the answer tells of the connection, its ends checked."""
    assert answer.way is not None
    assert answer.way.remote == f"127.0.0.1:{server.port}"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", answer.way.local)
    return answer.way.tls, answer.way.certificate, answer.way.login


TLS_13 = "TLSv1.3 TLS_AES_256_GCM_SHA384"


def test_the_way_of_a_mail_tells_tls_login_and_which_mail_on_its_connection_it_was(loop: str, tmp_path: Path) -> None:
    with tls_server(K.GOOD, logins={"relay": PASSWORD}) as server:
        answers = relay_one(loop, server, {**STRICT, **LOGIN, "pool": {"enabled": True}}, tmp_path, mails=2)
        alone = relay_one(loop, server, {**STRICT, **LOGIN}, tmp_path, mails=2)
    assert [a.mail_number for a in answers] == [1, 2]
    assert answers[0].way is answers[1].way  # made once for the connection
    assert way(answers[1], server) == (TLS_13, Certificate.VERIFIED, "relay")
    assert [a.mail_number for a in alone] == [1, 1]
    assert alone[0].way != alone[1].way  # another port of ours


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        (K.SELF_SIGNED, {**REQUIRED, "tls_verify": "pinned", "tls_pin": "@pin"}, (TLS_13, Certificate.PINNED, "")),
        (K.SELF_SIGNED, OPTIONAL, (TLS_13, Certificate.UNVERIFIED, "")),
        (K.GOOD, NONE, ("none", Certificate.NONE, "")),
        (K.NOT_OFFERED, OPTIONAL, ("none", Certificate.NONE, "")),
        (K.HANDSHAKE_CUT, OPTIONAL, ("none", Certificate.NONE, "")),
        (K.EXPIRED, STRICT, ("none", Certificate.NONE, "")),
        # The login was refused: the way says that there is none.
        (K.GOOD, {**STRICT, **LOGIN}, (TLS_13, Certificate.VERIFIED, "")),
    ],
)
def test_the_way_says_what_came_of_the_settings(
    loop: str, kind: ServerKind, settings: dict[str, object], told: tuple[str, Certificate, str], tmp_path: Path
) -> None:
    with tls_server(kind, logins={"relay": "another"}) as server:
        (answer,) = relay_one(loop, server, settings, tmp_path)
    assert way(answer, server) == told
    assert answer.marks == (("downgraded",) if kind is K.HANDSHAKE_CUT else ())


@pytest.mark.parametrize("implicit", [True, False])
def test_tls_12_where_the_greeting_may_come_with_the_end_of_the_handshake(
    loop: str, implicit: bool, tmp_path: Path
) -> None:
    with tls_server(K.GOOD, implicit=implicit, tls_max=ssl.TLSVersion.TLSv1_2) as server:
        for _ in range(5):
            (answer,) = relay_one(loop, server, {**(NONE if implicit else REQUIRED), **NAMED}, tmp_path)
            assert answer.fault == ""
    assert way(answer, server)[0].startswith("TLSv1.2 ECDHE-")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"421 4.3.2 not now\r\n", "at greeting: 421 4.3.2 not now"),
        (b"", "connection lost before the greeting"),
    ],
)
def test_a_server_that_closes_with_the_end_of_the_handshake_is_heard(
    loop: str, said: bytes, fault: str, tmp_path: Path
) -> None:
    certificate, key = write_certificate(trusted_ca().issue_cert(NAME), tmp_path, "server")
    trusted_ca().cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def serve(listener: socket.socket) -> None:
        for _ in range(5):
            with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        by = profile(f"smtps://127.0.0.1:{listener.getsockname()[1]}", tls_name=NAME, tls_ca=str(tmp_path / "ca.pem"))

        async def go() -> list[ServerAnswer]:
            relay = SmtpRelay("mx1.example", Limits())
            async with asyncio.timeout(20):
                return [await relay.send(by, by.server_texts[0], transaction(), lambda: True) for _ in range(5)]

        answers = run(loop, go())
        thread.join(20)
    assert [a.fault for a in answers] == [fault] * 5


def test_without_a_connection_there_is_no_way(loop: str) -> None:
    with closed_port() as port:
        by = profile(f"smtp://127.0.0.1:{port}")

        async def go() -> ServerAnswer:
            return await SmtpRelay("mx1.example", Limits()).send(by, by.server_texts[0], transaction(), lambda: True)

        answer = run(loop, go())
    assert (answer.way, answer.mail_number) == (None, 0)


def test_a_downgraded_connection_that_is_kept_marks_every_mail(loop: str, tmp_path: Path) -> None:
    with tls_server(K.REFUSED_454) as server:
        answers = relay_one(loop, server, {**OPTIONAL, "pool": {"enabled": True}}, tmp_path, mails=2)
    assert [a.marks for a in answers] == [("downgraded",)] * 2
    assert len(server.sessions) == 1


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ({"env": "TEST_NO_SUCH_VARIABLE"}, "the password's variable TEST_NO_SUCH_VARIABLE is not set"),
        ({"file": "/no/such/file"}, "the password's file /no/such/file cannot be read: No such file or directory"),
    ],
)
def test_a_secret_that_cannot_be_had_is_no_fault_of_the_server(
    loop: str, tmp_path: Path, secret: dict[str, str], fault: str
) -> None:
    with tls_server(K.GOOD) as server:
        (answer,) = relay_one(loop, server, {**STRICT, "username": "u", "password": secret}, tmp_path)
    assert answer.fault == ""
    assert answer.recipients[0].result is Result.SERVER_FAULT
    assert answer.recipients[0].reply.startswith(fault)
    assert server.sessions == []


def test_a_password_is_read_anew_for_each_connection(loop: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    for word in ("first", "second"):
        file.write_text(f"{word}\n")
        with tls_server(K.GOOD, logins={"u": word}) as server:
            settings = {**STRICT, "username": "u", "password": {"file": str(file)}}
            (answer,) = relay_one(loop, server, settings, tmp_path)
        assert answer.fault == ""


def test_a_reply_that_repeats_the_password_does_not_show_it(loop: str, tmp_path: Path) -> None:
    said = f"535 5.7.8 {PASSWORD} is wrong".encode()
    with tls_server(K.GOOD, logins={"relay": PASSWORD}, auth_reply=said) as server:
        (answer,) = relay_one(loop, server, {**STRICT, **LOGIN}, tmp_path)
    assert answer.fault == "at AUTH: 535 5.7.8 *** is wrong"
    assert PASSWORD not in str(answer)


def test_a_file_of_content_goes_whole_through_tls(loop: str, tmp_path: Path) -> None:
    wire = (b"." * 2 + b"x" * 70 + b"\r\n") * 40_000 + b".\r\n"
    path = tmp_path / "content"
    path.write_bytes(wire)
    content = Content(FileOctets(str(path), len(wire)))
    with tls_server(K.GOOD) as server:
        by = profile(server.specification, tls="starttls-required", tls_name=NAME, tls_ca=server.ca)

        async def go() -> ServerAnswer:
            relay = SmtpRelay("mx1.example", Limits())
            answer = await relay.send(by, server.specification, transaction(content=content), lambda: True)
            relay.close()
            await relay.closed(10)
            return answer

        answer = run(loop, go())
    assert answer.fault == ""
    assert server.mails[0].content.endswith((b"." + b"x" * 70 + b"\r\n") * 40_000)
