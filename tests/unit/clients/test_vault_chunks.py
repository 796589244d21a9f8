"""Chunks of an attachment: whole, in order, with their checksums, and never more than a piece in memory."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from posthouse.clients.vault_chunks import CHUNK_OCTETS, Chunk, chunks
from posthouse.ports import ContentUnreadable


@dataclass
class Parts:
    """scan_ports.Octets of these pieces; `begun` counts who reads them."""

    given: list[bytes]
    told: int | None = None
    begun: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(map(len, self.given)) if self.told is None else self.told

    def pieces(self) -> Iterator[bytes | memoryview]:
        self.begun.append(0)
        yield from self.given


def cut(octets: Parts, most: int = 10, md5: str = "") -> list[tuple[int, bytes, str]]:
    async def all_of_them() -> list[tuple[int, bytes, str]]:
        return [(each.offset, read(each), each.md5) async for each in chunks(octets, md5, most)]

    return asyncio.run(all_of_them())


def read(chunk: Chunk) -> bytes:
    octets = b"".join(chunk.pieces())
    assert len(octets) == chunk.size
    return octets


def digest(octets: bytes) -> str:
    return hashlib.md5(octets, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    "given", [[], [b""], [b"x"], [b"", b"0123456789", b""], [b"01234567890"], [b"01234", b"5678901", b"", b"2" * 28]]
)
def test_chunks_are_the_whole_in_order(given: list[bytes]) -> None:
    whole = b"".join(given)
    found = cut(Parts(given))
    assert [offset for offset, _, _ in found] == list(range(0, max(len(whole), 1), 10))
    assert b"".join(octets for _, octets, _ in found) == whole
    assert all(len(octets) == 10 for _, octets, _ in found[:-1])
    assert [md5 for _, _, md5 in found] == [digest(octets) for _, octets, _ in found]


def test_each_is_read_twice_however_many_chunks_there_are() -> None:
    octets = Parts([b"0123456"] * 50)
    assert len(cut(octets)) == 35
    assert len(octets.begun) == 2


def test_a_checksum_that_is_known_saves_a_reading_of_a_single_chunk() -> None:
    octets = Parts([b"0123456789"])
    assert cut(octets, md5="known") == [(0, b"0123456789", "known")]
    assert len(octets.begun) == 1
    assert [md5 for _, _, md5 in cut(Parts([b"01234567890"]), md5="known")] == [digest(b"0123456789"), digest(b"0")]


def test_a_chunk_can_be_read_again_before_the_next() -> None:
    async def again() -> list[bytes]:
        found = []
        async for chunk in chunks(Parts([b"0123456", b"789abcd", b"ef"]), most=5):
            pieces = chunk.pieces()
            next(pieces)  # a connection that was lost
            found += [read(chunk), read(chunk)]
        return found

    assert asyncio.run(again()) == [b"01234", b"01234", b"56789", b"56789", b"abcde", b"abcde", b"f", b"f"]


@pytest.mark.parametrize(("told", "md5"), [(0, ""), (9, ""), (11, ""), (13, ""), (13, "known")])
def test_octets_of_another_length_than_told(told: int, md5: str) -> None:
    """With a known checksum the vault sees that there are more."""
    with pytest.raises(ContentUnreadable):
        cut(Parts([b"0123456", b"78901"], told), most=100, md5=md5)


def test_no_chunk_is_held_in_memory() -> None:
    piece = bytes(256 * 1024)
    octets = Parts([piece] * (2 * CHUNK_OCTETS // len(piece) + 1))

    async def through() -> int:
        total = 0
        async for chunk in chunks(octets):
            for each in chunk.pieces():
                total += len(each)
        return total

    tracemalloc.start()
    try:
        assert asyncio.run(through()) == octets.size
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()
