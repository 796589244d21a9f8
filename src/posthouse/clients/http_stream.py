"""One connection to a server that speaks HTTP: opened and secured as its profile says, then octets for httpcore2.

Its first octets are looked at before anybody else sees them: nothing of a server that does not speak HTTP goes on.
Standards: design 2.8, 2.11; RFC 9110.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from typing import cast

import httpcore2

from posthouse.client_tls import (
    CertificateRefused,
    TlsPolicy,
    TlsSettingsError,
    certificate_facts,
    check_pin,
    client_context,
    policy_of,
    server_name,
    tls_sentence,
)
from posthouse.clients.connecting import NoConnection, no_answer
from posthouse.clients.way import DigitalId, shown_id
from posthouse.core.http_ladder import BEGINNING, BROKEN, LOST, LOST_IN_CLEAR, TOO_LONG, stranger
from posthouse.core.profile import ServerProfile, TlsVerify
from posthouse.core.way import Certificate
from posthouse.tls import describe

_UNREAD = 16 * 1024
"""Octets that wait to be read before the server has to wait."""
_AT_ONCE = 2 * 1024
"""Octets that are looked at before others have their turn: they may be a hundred answers of one line each."""
_FILE_AT_ONCE = 16 * 1024
"""The same within a body that is expected to be long."""
_MOST_OCTETS = 512 * 1024
"""Of one answer with all that is around its body: heads, answers before the answer (1xx), chunks' frames."""
_INTERIM = (b"HTTP/1.1 1", b"HTTP/1.0 1")
"""How an answer begins after which another one comes (1xx)."""
_INTERIM_OCTETS = len(_INTERIM[0])
_CHECKED = {
    TlsVerify.VERIFY: Certificate.VERIFIED,
    TlsVerify.PINNED: Certificate.PINNED,
    TlsVerify.NONE: Certificate.UNVERIFIED,
}


class NoAnswer(Exception):
    """The server gave no answer, or none over HTTP; the text is one sentence."""


class TooSlow(NoAnswer):
    """The time was up before the answer, or before its end."""


class StaleConnection(NoAnswer):
    """A kept connection had been closed by the server before the request came: nothing was answered over it."""


class TlsFailed(Exception):
    """The text is one sentence; `facts` are those of the certificate, as far as it was shown."""

    def __init__(self, why: str, facts: dict[str, object] | None = None) -> None:
        super().__init__(why)
        self.facts = facts or {}


@dataclass(frozen=True, slots=True)
class HttpWay:
    """How one server is reached."""

    base: str
    """Canonical specification: what every path is put after."""
    host: str
    port: int
    policy: TlsPolicy | None = None
    """None: scheme http."""
    name: str = ""
    """What its certificate is for."""


def http_way_to(profile: ServerProfile, server: str, digital_id: DigitalId) -> HttpWay:
    """Raises TlsSettingsError: a fault of this node, not of the server."""
    to = profile.servers[profile.server_texts.index(server)]
    base = server.rstrip("/")
    if to.scheme != "https":
        return HttpWay(base, to.host, to.port)
    policy = policy_of(profile, shown_id(profile, digital_id), implicit=True)
    return HttpWay(base, to.host, to.port, policy, server_name(profile.tls_name, to.host))


async def open_socket(port: int, address: str, seconds: float) -> socket.socket:
    """Connected to one address. Raises NoConnection."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(opened, (address, port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException as error:
        opened.close()
        if isinstance(error, TimeoutError):
            raise no_answer(seconds) from error
        if isinstance(error, OSError):
            raise NoConnection.refused(error) from error
        raise
    return opened


async def open_stream(way: HttpWay, opened: socket.socket, seconds: float) -> "HttpStream":
    """Over an open socket, which it takes; with https the handshake is done and the pin right. Raises TlsFailed."""
    loop = asyncio.get_running_loop()
    policy = way.policy
    if policy is None:
        _, stream = await loop.create_connection(lambda: HttpStream("1.2"), sock=opened)
        return stream
    try:
        context = client_context(policy)
    except TlsSettingsError as error:
        opened.close()
        raise TlsFailed(str(error)) from error
    try:
        async with asyncio.timeout(seconds):
            transport, stream = await loop.create_connection(
                lambda: HttpStream(policy.minimum),
                sock=opened,
                ssl=context,
                server_hostname=way.name,
                # Not what ends it in a TEST, whose time is shorter; it must not be 0.
                ssl_handshake_timeout=seconds + 1,
            )
    except (OSError, EOFError, ValueError) as error:  # TimeoutError and SSLError are OSErrors
        raise TlsFailed(tls_sentence(error, policy.minimum), _shown(error)) from error
    shown = cast(ssl.SSLObject, transport.get_extra_info("ssl_object"))
    version, _, cipher = describe(shown).partition(" ")
    certificate = shown.getpeercert(binary_form=True)
    facts = certificate_facts(certificate) if certificate else {}
    if fault := check_pin(policy, shown):
        transport.abort()
        raise TlsFailed(fault, {"certificate": "refused", **facts})
    stream.certificate = certificate or b""
    stream.tls = {"version": version, "cipher": cipher, "certificate": _CHECKED[policy.verify].value, **facts}
    return stream


def _shown(error: Exception) -> dict[str, object]:
    if isinstance(error, CertificateRefused) and error.certificate:
        return {"certificate": "refused", **certificate_facts(error.certificate)}
    return {}


@dataclass(eq=False, repr=False)  # what is unread must not come into a log with it
class HttpStream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """Octets to and from the server. Reading raises NoAnswer at the first octet that is not HTTP's."""

    minimum: str
    """TLS version of the policy, for sentences."""
    tls: dict[str, object] = field(default_factory=dict)
    """Facts of the handshake; empty for http."""
    certificate: bytes = b""
    """The server's (DER); empty for http."""
    _transport: asyncio.Transport | None = None
    _unread: bytearray = field(default_factory=bytearray)
    _taken: int = 0
    """Octets of the answer to the request written last."""
    _most: int = _MOST_OCTETS
    """Of them, at most."""
    _at_once: int = _AT_ONCE
    _known: bool = False
    """It has begun to speak HTTP."""
    _ended: bool = False
    _fault: Exception | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _flows: asyncio.Event = field(default_factory=asyncio.Event)

    # --- asyncio -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._flows.set()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > _UNREAD and self._transport is not None:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        self._ended = True
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._ended = True
        self._fault = exc
        self._news.set()
        self._flows.set()

    def pause_writing(self) -> None:
        self._flows.clear()

    def resume_writing(self) -> None:
        self._flows.set()
        self._news.set()

    # --- httpcore2 ---------------------------------------------------------------------------------------

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore2's
        await asyncio.sleep(0)  # a server whose octets are always there would keep everybody else waiting
        try:
            async with asyncio.timeout(timeout):
                while not self._ended and (not self._unread or (not self._known and len(self._unread) < BEGINNING)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise httpcore2.ReadTimeout(str(error)) from error
        if not self._known:
            self._look()
        taken = bytes(self._unread[: min(max_bytes, self._at_once)])
        del self._unread[: len(taken)]
        if not taken and not self._taken:
            raise StaleConnection(LOST) from self._fault  # an earlier answer has come over it, for it is known
        self._taken += len(taken)
        if self._taken > self._most:
            raise NoAnswer(TOO_LONG)
        if self._transport is not None and not self._ended and len(self._unread) <= _UNREAD:
            self._transport.resume_reading()
        if not taken and self._fault is not None:
            raise NoAnswer(BROKEN) from self._fault
        return taken

    def expect(self, octets: int) -> None:
        """The body of the answer under way may be so long."""
        self._most, self._at_once = 2 * octets + _MOST_OCTETS, _FILE_AT_ONCE

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore2's
        if self._transport is None:
            raise httpcore2.WriteError(LOST)  # its answer may have come before
        self._taken, self._most, self._at_once = 0, _MOST_OCTETS, _AT_ONCE
        self._transport.write(buffer)
        try:
            async with asyncio.timeout(timeout):
                while not self._flows.is_set():
                    self._news.clear()
                    if self._ended or self._answers():
                        # It has answered before it has the whole request and may read no more of it: httpcore2 reads
                        # the answer after this, and the connection is not kept.
                        raise httpcore2.WriteError(LOST)
                    await self._news.wait()
        except TimeoutError as error:
            raise httpcore2.WriteTimeout(str(error)) from error

    async def aclose(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore2's
    ) -> httpcore2.AsyncNetworkStream:
        """TLS is on since `open_stream`, where the scheme asks for it."""
        return self

    def get_extra_info(self, info: str) -> object:
        """`is_readable`: while it is kept idle, that it can be used no more."""
        return (bool(self._unread) or self._ended) if info == "is_readable" else None

    def _answers(self) -> bool:
        """What is unread is the beginning of an answer."""
        return len(self._unread) >= _INTERIM_OCTETS and not self._unread.startswith(_INTERIM)

    def _look(self) -> None:
        """At the first octets of the server."""
        if not self._unread:
            if isinstance(self._fault, ssl.SSLError):
                # In TLS 1.3 a client certificate is refused after what the client takes for the end of the handshake.
                raise TlsFailed(tls_sentence(self._fault, self.minimum), self.tls) from self._fault
            raise NoAnswer(LOST if self.tls else LOST_IN_CLEAR)
        if why := stranger(bytes(self._unread[:BEGINNING])):
            self._unread.clear()
            raise NoAnswer(why)
        self._known = True
