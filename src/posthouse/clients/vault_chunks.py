"""An attachment cut into the chunks that a vault takes: read front to back, never whole in memory.

The checksum of a chunk goes before it, so each attachment is read twice, by two readers side by side: one is a chunk
ahead.
Standards: REST API of Vault (October 2019), "Upload file chunk".
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import Octets

CHUNK_OCTETS = 8 * 1024 * 1024
"""A vault takes at most 100 MB, and 5 MB at least where it keeps chunks in S3. Proxies often let 10 MB through, and
what is lost with a connection is sent again as a whole."""
_CHANGED = "an attachment is not as long as it was"


class _Reader:
    """Octets front to back in portions of any length."""

    def __init__(self, octets: Octets) -> None:
        self._pieces = octets.pieces()
        self._left = memoryview(b"")
        self.position = 0

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` octets. Raises ContentUnreadable, also if there are fewer."""
        end = self.position + count
        while self.position < end:
            while not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    raise ContentUnreadable(_CHANGED)
                self._left = memoryview(piece)
            taken, self._left = self._left[: end - self.position], self._left[end - self.position :]
            self.position += len(taken)
            yield taken

    def at_end(self) -> bool:
        """Nothing is left."""
        return not self._left and not any(len(piece) for piece in self._pieces)


class _Source:
    """An attachment that is sent chunk by chunk; a chunk whose connection was lost may be asked for again."""

    def __init__(self, octets: Octets) -> None:
        self._octets = octets
        self._reader = _Reader(octets)

    def read(self, start: int, count: int) -> Iterator[memoryview]:
        """From the beginning again only where what was read is asked for once more."""
        if self._reader.position > start:
            self._reader = _Reader(self._octets)
        reader = self._reader
        for _ in reader.take(start - reader.position):
            pass
        yield from reader.take(count)


@dataclass(frozen=True, slots=True)
class Chunk:
    """scan_ports.Octets of one chunk, to be sent before the next one is asked for."""

    offset: int
    size: int
    md5: str
    """Hexadecimal."""
    source: _Source

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Octets.pieces."""
        return self.source.read(self.offset, self.size)


async def chunks(octets: Octets, md5: str = "", most: int = CHUNK_OCTETS) -> AsyncIterator[Chunk]:
    """The chunks of an attachment, one of 0 octets if it is empty. `md5`: of the whole, if known.

    Raises ContentUnreadable, also where a chunk is read.
    """
    source = _Source(octets)
    if md5 and octets.size <= most:
        yield Chunk(0, octets.size, md5, source)
        return
    ahead = _Reader(octets)
    for offset in range(0, max(octets.size, 1), most):
        size = min(most, octets.size - offset)
        digest = hashlib.md5(usedforsecurity=False)
        for piece in ahead.take(size):
            digest.update(piece)
            await asyncio.sleep(0)  # others have their turn: a whole chunk takes some 15 ms
        if offset + size == octets.size and not ahead.at_end():
            raise ContentUnreadable(_CHANGED)
        yield Chunk(offset, size, digest.hexdigest(), source)
