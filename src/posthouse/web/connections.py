"""Connections to the console: one without a request is closed, and one address has so many at a time.

Nobody has to log in to connect, and the console takes 500 connections.
"""

import asyncio
from ipaddress import ip_address

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""For the handshake of TLS; from its end, or the end of an answer, to the end of the next request's head."""
MOST_OF_ONE_ADDRESS = 50
"""Connections beyond loopback."""
_ANSWERING = (h11.SEND_RESPONSE, h11.SEND_BODY)


def is_loopback(address: str) -> bool:
    """Who is on this host could stop the node anyway."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


class ConsoleConnection(H11Protocol):
    """One connection. uvicorn closes one that is idle after an answer, but not one that has never asked, nor one that
    says an octet now and then."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        same = sum(
            isinstance(each, ConsoleConnection) and each.client is not None and each.client[0] == address
            for each in self.connections
        )
        if same > MOST_OF_ONE_ADDRESS and not is_loopback(address):
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.our_state in _ANSWERING:
            self._heard()
        elif self._waiting is None and not self.transport.is_closing():
            self._await_head()

    def _await_head(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _heard(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        if self.transport.get_write_buffer_size():  # it is still reading the last answer
            self.transport.close()
        else:
            self.transport.abort()
