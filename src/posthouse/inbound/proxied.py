"""Connections on a listener that takes PROXY headers: the header comes before everything, TLS included.

asyncio accepts (and survives EMFILE); its transport is given up before it has read anything, on a copy of its
descriptor the header is read to its last octet and no further, and the socket is handed back to the loop. So the
TLS layer finds the client's hello unread. One task per connection, on such listeners only.
Standard: haproxy.org, "The PROXY protocol" (see `core/proxy_protocol`).
"""

import asyncio
import os
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, cast

from posthouse.core.proxy_protocol import V2_MAX, ProxyError, ProxyHeader, parse_proxy
from posthouse.inbound.session import Client, Session, client_of
from posthouse.settings import ListenerTls
from posthouse.telemetry import logger

if TYPE_CHECKING:
    from posthouse.inbound.listener import Listener

log = logger("inbound")


class ProxiedConnection(asyncio.Protocol):
    """Lives from accept to the copy of the descriptor."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        client = client_of(transport)
        try:
            copy = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError as error:
            log.warning("connection dropped", peer=client.address, why=str(error))
        else:
            self._listener.keep(self._listener.loop.create_task(_adopt(self._listener, copy, client)))
        cast(asyncio.Transport, transport).abort()


async def _adopt(listener: "Listener", connection: socket.socket, client: Client) -> None:
    """Reads the header where one is due, then begins the session."""
    limits = listener.limits
    try:
        connection.setblocking(False)
        if listener.expects_proxy(client.address):
            async with asyncio.timeout(limits.command_seconds):
                header = await _read_header(listener.loop, connection)
            if header.address:
                client = Client(header.address, header.port, client.address)
        implicit = listener.settings.tls is ListenerTls.IMPLICIT
        await listener.loop.connect_accepted_socket(
            partial(Session, listener, client),
            connection,
            ssl=listener.tls_context if implicit else None,
            ssl_handshake_timeout=limits.tls_handshake_seconds if implicit else None,
        )
    except (ProxyError, OSError, ssl.SSLError) as error:
        log.warning("connection dropped", peer=client.address, why=str(error))
        connection.close()
    except asyncio.CancelledError:
        connection.close()
        raise


async def _read_header(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> ProxyHeader:
    """Raises ProxyError, also at the end of the stream; every octet looked at in vain is part of the header."""
    taken = b""
    while True:
        seen = await _peek(loop, connection)
        if not seen:
            raise ProxyError("closed before the PROXY header was whole")
        header = parse_proxy(taken + seen)
        if header is not None:
            connection.recv(header.octets - len(taken))
            return header
        taken += connection.recv(len(seen))


async def _peek(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    readable = asyncio.Event()
    while True:
        try:
            return connection.recv(V2_MAX, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            readable.clear()
            loop.add_reader(connection.fileno(), readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(connection.fileno())
