"""Between a client and a server nobody here wrote: passes octets on and keeps what the client wrote."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from support.limited_server import running

_OCTETS = 65536
_RECORD = b"\x16\x03"
"""How a TLS record of a handshake begins."""


@dataclass
class WireTap:
    """`written` has one entry for each connection, in the order of connecting: octets as on the wire."""

    server_port: int
    port: int = 0
    written: list[bytearray] = field(default_factory=list)
    _tasks: list["asyncio.Task[None] | None"] = field(default_factory=list)
    """The event loop itself would let go of one that only waits."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.current_task())
        kept = bytearray()
        self.written.append(kept)
        onward, back = await asyncio.open_connection("127.0.0.1", self.server_port)

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray) -> None:
            try:
                while octets := await source.read(_OCTETS):
                    kept += octets
                    target.write(octets)
                    await target.drain()
                target.write_eof()
            except OSError:
                for each in (writer, back):
                    each.close()

        try:
            await asyncio.gather(pass_on(reader, back, kept), pass_on(onward, writer, bytearray()))
        finally:
            for each in (writer, back):
                each.close()


def in_clear(written: bytes) -> bytes:
    """What a client wrote before its first TLS record."""
    start = written.find(_RECORD)
    return written if start < 0 else written[:start]


@contextmanager
def wire_tap(server_port: int) -> Iterator[WireTap]:
    """In a thread of this process."""
    tap = WireTap(server_port)
    with running(tap) as tap.port:
        yield tap
