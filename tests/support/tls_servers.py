"""SMTP servers with TLS as it is met in the world: good, badly certified, half broken, hostile.

    with tls_server(ServerKind.EXPIRED) as server:
        ...  # server.port, server.ca, server.pin, server.sessions

Each runs in threads of its own, so tests may block or be asynchronous. Requests are recorded before they are
answered; how sessions ended is known after the block, when no thread is left.
"""

import base64
import binascii
import contextlib
import functools
import hashlib
import re
import socket
import ssl
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import trustme

from posthouse.tls import ensure_digital_id

NAME = "mail.example"
OTHER_NAME = "other.example"
NAMES = (NAME, "127.0.0.1")
_SECONDS = 20.0
"""A test that hangs longer than this is broken."""


class ServerKind(StrEnum):
    """What is special about a server; in everything else it is GOOD."""

    GOOD = "good"
    WRONG_NAME = "wrong name"
    """A trusted certificate for `OTHER_NAME`."""
    EXPIRED = "expired"
    """A trusted certificate that ended on `EXPIRED_ON`."""
    SELF_SIGNED = "self-signed"
    """A digital ID as posthouse makes it, for the first of the names."""
    UNKNOWN_CA = "unknown CA"
    """Issued by a CA that is not in `TlsServer.ca`."""
    TLS11_ONLY = "TLS 1.1 only"
    NOT_OFFERED = "not offered"
    """EHLO without STARTTLS, and 502 to it."""
    REFUSED_454 = "refused 454"
    """Offers STARTTLS and answers 454 to it."""
    HANDSHAKE_CUT = "handshake cut"
    """Closes after the ClientHello."""
    INJECTED = "injected"
    """Sends a second reply in one packet with the 220 to STARTTLS, then does its handshake."""
    WANTS_CERTIFICATE = "wants certificate"
    """No handshake without a client certificate of a CA it knows."""
    CAPABILITIES_CHANGE = "capabilities change"
    """PIPELINING and SIZE 10 in clear; `EXTENSIONS_UNDER_TLS` under TLS."""


STARTTLS_ONLY = frozenset(
    {ServerKind.NOT_OFFERED, ServerKind.REFUSED_454, ServerKind.INJECTED, ServerKind.CAPABILITIES_CHANGE}
)
"""Kinds that make no sense with implicit TLS."""
EXPIRED_ON = datetime(2024, 2, 29, 12)
EXTENSIONS = ("PIPELINING", "SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES")
EXTENSIONS_IN_CLEAR = ("PIPELINING", "SIZE 10")
EXTENSIONS_UNDER_TLS = ("SIZE 20971520", "8BITMIME", "SMTPUTF8", "DSN")
"""Of CAPABILITIES_CHANGE."""
INJECTION = b"220 go\r\n250 injected\r\n"


@dataclass(frozen=True, slots=True)
class Command:
    """One line from the client, without CRLF; lines that answer a 334 are commands too."""

    text: str
    tls: bool


@dataclass(frozen=True, slots=True)
class Login:
    """One AUTH to its end."""

    mechanism: str
    username: str
    password: str
    tls: bool
    reply: str


@dataclass(frozen=True, slots=True)
class TakenMail:
    """A mail that was answered with 250."""

    reverse_path: str
    forward_paths: tuple[str, ...]
    content: bytes
    """Octets as they were before dot-stuffing."""
    tls: bool
    username: str
    """Of the login; empty without one."""


@dataclass
class Session:
    """What one connection did."""

    commands: list[Command] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)
    mails: list[TakenMail] = field(default_factory=list)
    sni: str | None = None
    """Server name that the client asked for."""
    tls_version: str = ""
    """Such as `TLSv1.3`; empty while there is no TLS."""
    client_subject: str = ""
    """Common name of the client certificate, or whatever else its subject has; empty without one."""
    handshake_fault: str = ""
    too_early: bytes = b""
    """What came in clear behind STARTTLS before the 220: a client that does this is broken."""

    @property
    def tls(self) -> bool:
        return bool(self.tls_version)

    @property
    def in_clear(self) -> list[str]:
        return [command.text for command in self.commands if not command.tls]

    @property
    def under_tls(self) -> list[str]:
        return [command.text for command in self.commands if command.tls]

    @property
    def ehlo_repeated(self) -> bool:
        """EHLO was the first command under TLS."""
        return any(self.under_tls[:1]) and self.under_tls[0].upper().startswith("EHLO ")


@dataclass
class TlsServer:
    """A server at work."""

    kind: ServerKind
    implicit: bool
    port: int
    ca: str
    """File (PEM) of the CA that issued every certificate but those of SELF_SIGNED and UNKNOWN_CA."""
    certificate: str
    """File (PEM) of its own certificate."""
    pin: str
    """SHA-256 of its certificate, as `tls_pin` takes it."""
    sessions: list[Session] = field(default_factory=list)
    """In the order of connecting."""

    @property
    def specification(self) -> str:
        """Its canonical server specification."""
        return f"{'smtps' if self.implicit else 'smtp'}://127.0.0.1:{self.port}"

    @property
    def session(self) -> Session:
        """Of the only connection."""
        (only,) = self.sessions
        return only

    @property
    def mails(self) -> list[TakenMail]:
        return [mail for session in self.sessions for mail in session.mails]

    @property
    def logins(self) -> list[Login]:
        return [login for session in self.sessions for login in session.logins]


@functools.cache
def trusted_ca() -> trustme.CA:
    return trustme.CA(organization_name="Trusted CA")


@functools.cache
def _unknown_ca() -> trustme.CA:
    return trustme.CA(organization_name="Nobody's CA")


@functools.cache
def clients_ca() -> trustme.CA:
    return trustme.CA(organization_name="Clients' CA")


def write_certificate(issued: trustme.LeafCert, folder: Path, name: str) -> tuple[str, str]:
    """Its files, certificate and key, as a digital ID."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return str(certificate), str(key)


def client_digital_id(folder: Path, name: str = "node.example", *, known: bool = True) -> tuple[str, str]:
    """A digital ID whose CA servers WANTS_CERTIFICATE know, or do not."""
    ca = clients_ca() if known else _unknown_ca()
    return write_certificate(ca.issue_cert(name, common_name=name), folder, name)


@contextmanager
def tls_server(
    kind: ServerKind = ServerKind.GOOD,
    *,
    implicit: bool = False,
    names: Sequence[str] = NAMES,
    extensions: Sequence[str] = EXTENSIONS,
    logins: Mapping[str, str] | None = None,
    auth_offered: bool | None = None,
    auth_in_clear: bool = False,
    auth_required: bool = False,
    auth_reply: bytes = b"",
    mechanisms: Sequence[str] = ("PLAIN", "LOGIN"),
    tls_max: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    client_ca: str = "",
    gate: threading.Event | None = None,
) -> Iterator[TlsServer]:
    """Listens on 127.0.0.1; at the end of the block every connection is cut and every thread has ended.

    `names`: names and addresses in the certificate, WRONG_NAME excepted. `logins`: passwords by user name, looked up
    at each AUTH. It is announced under TLS if there are any, or as `auth_offered` says, and without TLS only if
    `auth_in_clear`.
    `auth_required`: 530 to MAIL without a login. `auth_reply`: answers every finished AUTH instead of the look-up.
    `client_ca`: file (PEM) of CAs, or self-signed certificates, that WANTS_CERTIFICATE trusts beside its own.
    `gate`: a finished AUTH is recorded at once and answered when it is set.
    """
    if implicit and kind in STARTTLS_ONLY:
        raise ValueError(f"{kind} makes no sense with implicit TLS")
    settings = _Settings(
        kind=kind,
        implicit=implicit,
        extensions=tuple(extensions),
        logins=logins or {},
        auth_offered=bool(logins) if auth_offered is None else auth_offered,
        auth_in_clear=auth_in_clear,
        auth_required=auth_required,
        auth_reply=auth_reply.decode().rstrip("\r\n"),
        mechanisms=tuple(mechanisms),
        gate=gate,
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="posthouse-tls-")))
        ca = folder / "ca.pem"
        trusted_ca().cert_pem.write_to_path(ca)
        certificate, key = issue(kind, folder, names)
        context = _context(kind, certificate, key, tls_max, client_ca)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        server = TlsServer(kind, implicit, port, str(ca), certificate, pin_of(certificate))
        running = _Running(server, settings, context, listener)
        running.start()
        try:
            yield server
        finally:
            running.stop()


def issue(kind: ServerKind, folder: Path, names: Sequence[str] = NAMES) -> tuple[str, str]:
    """Files of a certificate and key for a server of that kind."""
    match kind:
        case ServerKind.SELF_SIGNED:
            return ensure_digital_id(str(folder), names[0])
        case ServerKind.UNKNOWN_CA:
            issued = _unknown_ca().issue_cert(*names)
        case ServerKind.WRONG_NAME:
            issued = trusted_ca().issue_cert(OTHER_NAME)
        case ServerKind.EXPIRED:
            since = EXPIRED_ON - timedelta(days=90)
            issued = trusted_ca().issue_cert(*names, not_before=since, not_after=EXPIRED_ON)
        case _:
            issued = trusted_ca().issue_cert(*names)
    return write_certificate(issued, folder, "server")


def pin_of(certificate: str) -> str:
    """What `tls_pin` takes for a file (PEM)."""
    first, end, _ = Path(certificate).read_text("ascii").partition("-----END CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first + end)).hexdigest()


def _context(kind: ServerKind, certificate: str, key: str, tls_max: ssl.TLSVersion, client_ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.maximum_version = tls_max
    context.sni_callback = _note_sni
    if kind is ServerKind.TLS11_ONLY:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        # TLS 1.1 signs with SHA-1, which OpenSSL 3 allows at level 0 only.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    if kind is ServerKind.WANTS_CERTIFICATE:
        context.verify_mode = ssl.CERT_REQUIRED
        clients_ca().configure_trust(context)
        if client_ca:
            context.load_verify_locations(client_ca)
    return context


_handshaking = threading.local()
"""Its `session` is the one whose handshake this thread does."""


def _note_sni(connection: object, name: str | None, context: ssl.SSLContext) -> None:
    _handshaking.session.sni = name


# --- At work ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Settings:
    kind: ServerKind
    implicit: bool
    extensions: tuple[str, ...]
    logins: Mapping[str, str]
    auth_offered: bool
    auth_in_clear: bool
    auth_required: bool
    auth_reply: str
    mechanisms: tuple[str, ...]
    gate: threading.Event | None


class _Running:
    """The threads of a server: one that accepts, and one for each connection."""

    def __init__(
        self, server: TlsServer, settings: _Settings, context: ssl.SSLContext, listener: socket.socket
    ) -> None:
        self._server, self._settings, self._context, self._listener = server, settings, context, listener
        self._lock = threading.Lock()
        self._stopping = False
        self._connections: list[tuple[_Connection, threading.Thread]] = []
        self._faults: list[Exception] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> None:
        self._accepting.start()

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
        # Wakes the thread that accepts: to close the listener would not everywhere.
        socket.create_connection(self._listener.getsockname(), _SECONDS).close()
        self._accepting.join(_SECONDS)
        for connection, thread in self._connections:
            connection.cut()
            thread.join(_SECONDS)
            connection.release()
            assert not thread.is_alive(), "a thread of the TLS server did not end"
        assert not self._faults, self._faults

    def _accept(self) -> None:
        while True:
            accepted, _ = self._listener.accept()
            with self._lock:
                if self._stopping:
                    accepted.close()
                    return
                session = Session()
                self._server.sessions.append(session)
                connection = _Connection(accepted, session, self._settings, self._context)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._connections.append((connection, thread))
                thread.start()

    def _serve(self, connection: "_Connection") -> None:
        try:
            connection.serve()
        except Exception as error:  # a fault of this server: it fails the test at the end of the block
            self._faults.append(error)
        finally:
            connection.close()


class _Ended(Exception):
    """The connection is over."""


class _Connection:
    """One connection: reads commands, answers them, records both."""

    def __init__(
        self, accepted: socket.socket, session: Session, settings: _Settings, context: ssl.SSLContext
    ) -> None:
        accepted.settimeout(_SECONDS)
        # Replies to pipelined commands are small writes: none waits for the acknowledgement of the one before.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = accepted
        # For ending the connection from outside, whichever object holds it at that time.
        self._handle = accepted.dup()
        self._session, self._settings, self._context = session, settings, context
        self._unread = b""
        self._tls = False
        self._greeted = False
        self._username = ""
        self._reverse_path: str | None = None
        self._forward_paths: list[str] = []

    def serve(self) -> None:
        try:
            if self._settings.implicit:
                self._handshake()
            self._say(f"220 {NAME} ESMTP")
            while True:
                self._answer(self._line())
        except (_Ended, OSError):
            pass

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
        self.cut()

    def release(self) -> None:
        self._handle.close()

    def _say(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def _more(self) -> None:
        octets = self._socket.recv(65536)
        if not octets:
            raise _Ended
        self._unread += octets

    def _until(self, end: bytes) -> bytes:
        while end not in self._unread:
            self._more()
        found, _, self._unread = self._unread.partition(end)
        return found

    def _line(self) -> str:
        text = self._until(b"\r\n").decode("utf-8", "replace")
        self._session.commands.append(Command(text, self._tls))
        return text

    def _answer(self, text: str) -> None:
        verb, _, rest = text.partition(" ")
        match verb.upper():
            case "EHLO" | "HELO":
                self._greeted = True
                self._reset()
                lines = [NAME, *(self._extensions() if verb.upper() == "EHLO" else ())]
                self._say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")
            case "STARTTLS":
                self._starttls()
            case "QUIT":
                self._quit()
            case "NOOP":
                self._say("250 2.0.0 ok")
            case "RSET":
                self._reset()
                self._say("250 2.0.0 ok")
            case "AUTH" | "MAIL" | "RCPT" | "DATA" if not self._greeted:
                self._say("503 5.5.1 EHLO first")
            case "AUTH":
                self._auth(*rest.partition(" ")[::2])
            case "MAIL":
                self._mail(rest)
            case "RCPT":
                if self._reverse_path is None:
                    self._say("503 5.5.1 MAIL first")
                else:
                    self._forward_paths.append(_path(rest))
                    self._say("250 2.1.5 ok")
            case "DATA":
                self._data()
            case _:
                self._say("502 5.5.1 not implemented")

    def _extensions(self) -> Iterator[str]:
        settings = self._settings
        if settings.kind is ServerKind.CAPABILITIES_CHANGE:
            yield from EXTENSIONS_UNDER_TLS if self._tls else EXTENSIONS_IN_CLEAR
        else:
            yield from settings.extensions
        if not self._tls and settings.kind is not ServerKind.NOT_OFFERED:
            yield "STARTTLS"
        if self._auth_offered():
            yield " ".join(("AUTH", *settings.mechanisms))

    def _auth_offered(self) -> bool:
        return self._settings.auth_offered and (self._tls or self._settings.auth_in_clear)

    def _reset(self) -> None:
        self._reverse_path = None
        self._forward_paths = []

    def _quit(self) -> None:
        self._say("221 2.0.0 bye")
        if isinstance(self._socket, ssl.SSLSocket):
            # Says that TLS ends, and does not wait until the client says so, too.
            self._socket.settimeout(0)
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()
        raise _Ended

    # --- TLS

    def _starttls(self) -> None:
        if self._tls:
            self._say("503 5.5.1 TLS is on")
        elif self._settings.kind is ServerKind.NOT_OFFERED:
            self._say("502 5.5.1 not implemented")
        elif self._settings.kind is ServerKind.REFUSED_454:
            self._say("454 4.7.0 TLS not available due to temporary reason")
        else:
            self._session.too_early, self._unread = self._unread, b""
            if self._settings.kind is ServerKind.INJECTED:
                self._socket.sendall(INJECTION)
            else:
                self._say("220 2.0.0 go")
            self._handshake()

    def _handshake(self) -> None:
        if self._settings.kind is ServerKind.HANDSHAKE_CUT:
            self._read_client_hello()
            self._session.handshake_fault = "cut"
            raise _Ended
        _handshaking.session = self._session
        wrapped = self._context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = wrapped
        try:
            wrapped.do_handshake()
        except OSError as error:
            self._session.handshake_fault = str(error)
            self._drain()
            raise _Ended from error
        self._session.tls_version = wrapped.version() or ""
        self._session.client_subject = _subject(wrapped)
        self._tls = True
        self._greeted = False
        self._username = ""
        self._reset()

    def _read_client_hello(self) -> None:
        """All of it: unread octets would turn the end of the connection into a reset."""
        while len(self._unread) < 5 or len(self._unread) < 5 + int.from_bytes(self._unread[3:5], "big"):
            self._more()

    def _drain(self) -> None:
        """Reads on until the client closes: a reset might overtake the alert that says what was wrong."""
        self._socket = socket.socket(fileno=self._socket.detach())
        self._socket.settimeout(_SECONDS)
        self._socket.shutdown(socket.SHUT_WR)
        while self._socket.recv(65536):
            pass

    # --- Logins

    def _auth(self, mechanism: str, initial: str) -> None:
        mechanism = mechanism.upper()
        if not self._settings.auth_offered:
            return self._say("502 5.5.1 not implemented")
        if not self._auth_offered():
            return self._say("530 5.7.0 must issue STARTTLS first")
        if self._username:
            return self._say("503 5.5.1 logged in already")
        if mechanism not in self._settings.mechanisms:
            return self._say("504 5.5.4 unknown mechanism")
        try:
            if mechanism == "PLAIN":
                _, username, password = self._response(initial, "").split("\0")
            else:
                username = self._response(initial, "Username:")
                password = self._response("", "Password:")
        except (ValueError, binascii.Error):
            return self._say("501 5.5.2 not understood")
        reply = self._settings.auth_reply
        if not reply:
            right = self._settings.logins.get(username) == password
            reply = "235 2.7.0 logged in" if right else "535 5.7.8 wrong user name or password"
        if reply.startswith("2"):
            self._username = username
        self._session.logins.append(Login(mechanism, username, password, self._tls, reply))
        if self._settings.gate is not None:
            self._settings.gate.wait(_SECONDS)
        self._say(reply)

    def _response(self, initial: str, challenge: str) -> str:
        if not initial:
            self._say(f"334 {base64.b64encode(challenge.encode()).decode()}")
            initial = self._line()
        return base64.b64decode("" if initial == "=" else initial, validate=True).decode()

    # --- Mails

    def _mail(self, rest: str) -> None:
        size = re.search(r"(?i) SIZE=(\d+)", rest)
        most = next((int(each[5:]) for each in self._extensions() if each.startswith("SIZE ")), 0)
        if self._settings.auth_required and not self._username:
            self._say("530 5.7.0 authentication required")
        elif self._reverse_path is not None:
            self._say("503 5.5.1 MAIL was given")
        elif size and most and int(size[1]) > most:
            self._say("552 5.3.4 too large")
        else:
            self._reverse_path = _path(rest)
            self._say("250 2.1.0 ok")

    def _data(self) -> None:
        if self._reverse_path is None or not self._forward_paths:
            return self._say("503 5.5.1 RCPT first")
        self._say("354 go ahead")
        # The CRLF before the content lets its first line be like the others.
        self._unread = b"\r\n" + self._unread
        content = (self._until(b"\r\n.\r\n") + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]
        mail = TakenMail(self._reverse_path, tuple(self._forward_paths), content, self._tls, self._username)
        self._session.mails.append(mail)
        self._reset()
        self._say("250 2.0.0 taken")


def _path(rest: str) -> str:
    """What stands between the first `<` and the next `>`."""
    return rest.partition("<")[2].partition(">")[0]


def _subject(connection: ssl.SSLSocket) -> str:
    shown = connection.getpeercert() or {}
    names = {name: value for part in cast(Any, shown).get("subject", ()) for name, value in part}
    return names.get("commonName") or ", ".join(names.values())


def login_profile(name: str, server: TlsServer, password: str, more: str = "") -> str:
    """A profile that logs in as `relay`, and the rule for its domain, in TOML, as `password` and `more` are."""
    return f"""
[[server_profiles]]
name = "{name}"
type = "smtp"
servers = ["127.0.0.1:{server.port}"]
tls = "starttls-required"
tls_name = "{NAME}"
tls_ca = "{server.ca}"
username = "relay"
password = {password}
{more}
[[rules]]
name = "to {name}"
match = {{ recipients = ["*@{name}.example"] }}
relay = {{ profile = "{name}" }}
"""
