"""One session of clamd (IDSESSION): many items over one connection, several under way, each reply with a number.

asyncio callbacks read while a coroutine writes: clamd may answer, and close, in the middle of what it is shown.
Standards: clamd(8), commands IDSESSION, INSTREAM.
"""

import asyncio
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from posthouse.core.clamd_reply import GARBAGE, ServerFault, last_words, numbered, scan_reply
from posthouse.core.scan import Failure, Found
from posthouse.scan_ports import Asked

UNDER_WAY = 8
"""Items that clamd has been given and has not answered, at most: it keeps each in a file until it is scanned."""
_REPLY_OCTETS = 4096
_LAST_OCTETS = 64 * 1024
_WRITE_OCTETS = 256 * 1024
"""Of what we have written, so much waits here for clamd to read it, and one piece more."""
_JOINED_OCTETS = 64 * 1024
"""A piece up to this size is copied, so that it goes in one write with what is around it."""
LOST = ServerFault(Failure.UNREACHABLE, "connection lost before the reply")

Answered = Callable[[Asked, Found], None]


class ClamdSession(asyncio.Protocol):
    """From connect to close; `show` once at a time, again while `fit`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._tcp: socket.socket | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._answered: Answered | None = None
        self._open: dict[int, Asked] = {}
        """By number, what has no answer yet."""
        self._sending = 0
        """Number of the item of which clamd has not got the end; 0: none."""
        self._number = 0
        self._unread = b""
        self._full = False
        self.fit = True
        """It may be shown more."""
        self.heard = False
        """clamd has answered something in the present `show`."""
        self.fault: ServerFault | None = None
        """Why it is not fit; None also where clamd has closed as it does after an error of one item."""
        self.idle_since = 0.0

    # --- for the scanner ---------------------------------------------------------------------------------

    async def show(self, waiting: deque[Asked], answered: Answered) -> None:
        """Shows clamd what waits until nothing does, or until it is not `fit`: what has no answer waits again then.

        Raises ContentUnreadable; then, or cancelled, the session is closed.
        """
        self._answered, self.heard = answered, False
        try:
            while self.fit and (waiting or self._open):
                if waiting and len(self._open) < UNDER_WAY and not self._full:
                    await self._send(waiting.popleft())
                else:
                    await self._changed()
        except BaseException:
            self.abort()
            raise
        finally:
            waiting.extendleft(reversed(self._open.values()))
            self._open.clear()
            self._answered = None

    def take(self) -> bool:
        """It is to be used again; False if clamd has closed it or said something meanwhile, read by us or not."""
        if not self.fit or self._transport is None or self._transport.is_closing():
            return False
        unread = select.poll()
        unread.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not unread.poll(0)

    def abort(self) -> None:
        """Closes at once."""
        self.fit = False
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # --- asyncio -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        transport.set_write_buffer_limits(high=_WRITE_OCTETS)
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family != socket.AF_UNIX:
            self._tcp = connected
        transport.write(b"zIDSESSION\0")

    def data_received(self, data: bytes) -> None:
        self._read(data)
        if self._tcp is not None and self._open:
            # clamd holds its next reply back until this one is acknowledged, for which the system would take 40 ms.
            with suppress(OSError):
                self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.fit and self._transport is not None:
            # A write has failed since clamd has closed; what it had said before may still be there to be read.
            self._read(_rest(self._transport))
        self._transport = self._tcp = None
        if self.fit:
            self._end(last_words(self._unread) or LOST)
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    # --- steps -------------------------------------------------------------------------------------------

    async def _send(self, asked: Asked) -> None:
        self._number += 1
        number = self._number
        self._open[number], self._sending = asked, number
        held = b"zINSTREAM\0"
        """Goes with what follows: a small item is one write."""
        first = True
        for piece in asked.octets.pieces():
            if not first:
                self._write(held)
                held = b""
                await asyncio.sleep(0)  # for others, and for what clamd may have said
                while self._full and self.fit:
                    await self._changed()
                if not self.fit:
                    return
            first = False
            if not (size := len(piece)):
                continue  # a length of 0 is the end
            held += size.to_bytes(4, "big")
            if size <= _JOINED_OCTETS:
                held += piece
            else:
                self._write(held)
                self._write(piece)
                held = b""
        self._sending = 0
        self._write(held + bytes(4))

    def _write(self, octets: bytes | memoryview) -> None:
        if self._transport is not None and octets:
            self._transport.write(octets)

    async def _changed(self) -> None:
        """Until something was said, written or lost."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _read(self, data: bytes) -> None:
        *replies, self._unread = (self._unread + data).split(b"\0")
        for reply in replies:
            if not self.fit:
                return
            self._hear(reply)
        if self.fit and len(self._unread) > _REPLY_OCTETS:
            self._end(GARBAGE)

    def _hear(self, reply: bytes) -> None:
        said = numbered(reply.decode("utf-8", "replace"))
        if said is None or said[0] not in self._open or self._answered is None or len(reply) > _REPLY_OCTETS:
            self._end(last_words(reply) or GARBAGE)
            return
        number, text = said
        found = scan_reply(text)
        in_command = not text.startswith("stream: ")
        if isinstance(found, ServerFault):
            self._end(found)
        elif number == self._sending and not in_command:
            self._end(GARBAGE)  # a verdict on what it has not seen whole
        else:
            self.heard = True
            self._answered(self._open.pop(number), found)
            if in_command:
                self._end(None)  # clamd closes after an error of a command, whatever else it was shown

    def _end(self, fault: ServerFault | None) -> None:
        self.fault = fault
        self.abort()


def _rest(transport: asyncio.Transport) -> bytes:
    """What has come and nobody read, of a connection that broke."""
    try:
        return os.read(transport.get_extra_info("socket").fileno(), _LAST_OCTETS)
    except (OSError, ValueError):
        return b""
