"""Compressed streams, unpacked in bounded steps; and the files that are nothing else: gzip, bzip2, xz.

Standards: RFC 1951, RFC 1952; the .xz file format 1.2.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from posthouse.core.container.budget import Allowance, Contents, Exhausted, Fault, Member

_FIRST, _IN, _OUT = 2048, 64 * 1024, 256 * 1024
"""Octets of one step: what is not used of a step's input is copied, so it is short, the first one above all."""
_LZMA_MEMORY = 128 * 1024 * 1024
_GZIP_EXTRA, _GZIP_NAME = 0x04, 0x08


class Decompressor(Protocol):
    """Of one stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes:
        """After the end of the stream, of what was given."""

    def decompress(self, data: bytes | memoryview, /, max_length: int = ...) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out of a stream, as far as it could be read."""

    octets: bytes
    end: int
    """After the last octet that belongs to the stream."""
    why: str = ""
    """Why it is not whole; empty if it is."""


class _Deflated:
    """zlib's decompressor, which gives back what it did not use, with the interface of the others."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes | memoryview, /, max_length: int = -1) -> bytes:
        left = self._inner.unconsumed_tail
        return self._inner.decompress(left + bytes(data) if left else data, max_length)


def deflate() -> Decompressor:
    return _Deflated(-zlib.MAX_WBITS)


def gzip_member() -> Decompressor:
    return _Deflated(16 + zlib.MAX_WBITS)


def bzip2() -> Decompressor:
    return bz2.BZ2Decompressor()


def xz() -> Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)


def zip_lzma(octets: bytes, at: int) -> Decompressor:
    """LZMA in a zip: version, length of the properties, properties (APPNOTE 5.8.8). Raises ValueError."""
    properties, dictionary = octets[at + 4], int.from_bytes(octets[at + 5 : at + 9], "little")
    if int.from_bytes(octets[at + 2 : at + 4], "little") != 5 or properties >= 225 or dictionary > _LZMA_MEMORY:
        raise ValueError("its properties are none of LZMA")
    lc, lp, pb = properties % 9, properties // 9 % 5, properties // 45
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": max(dictionary, 4096), "lc": lc, "lp": lp, "pb": pb}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma1])


def unpack(octets: memoryview, start: int, new: Callable[[], Decompressor], allowance: Allowance) -> Unpacked:
    """One stream that begins at `start`. Octets that came before a fault or a limit are given all the same."""
    out = bytearray()
    at, step = start, _FIRST
    try:
        stream = new()
        while not stream.eof and at < len(octets):
            piece = octets[at : at + step]
            at, step = at + len(piece), min(step * 2, _IN)
            allowance.take_input(len(piece))
            _drain(stream, piece, out, allowance)
        allowance.take_input(-len(stream.unused_data))
    except Exhausted as limit:
        return Unpacked(bytes(out), at, str(limit))
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, IndexError):
        return Unpacked(bytes(out), at, "damaged")
    if not stream.eof:
        return Unpacked(bytes(out), at, "it breaks off")
    return Unpacked(bytes(out), at - len(stream.unused_data))


def _drain(stream: Decompressor, piece: memoryview, out: bytearray, allowance: Allowance) -> None:
    given: bytes | memoryview = piece
    while True:
        made = stream.decompress(given, _OUT)
        allowance.take(len(made))
        out += made
        if stream.eof or len(made) < _OUT:
            return
        given = b""


def streams(
    octets: bytes, new: Callable[[], Decompressor], magic: bytes, names: tuple[str, ...], allowance: Allowance
) -> Contents:
    """A file of streams, one after the other: all of them in one, as most tools unpack it, and the first alone, as
    some do. Zeros between and anything after them is no stream (RFC 1952 section 2.2)."""
    view = memoryview(octets)
    whole = bytearray()
    first = b""
    count = at = 0
    while octets.startswith(magic, at):
        try:
            allowance.take_entry()
        except Exhausted as limit:
            yield Fault(str(limit))
            break
        part = unpack(view, at, new, allowance)
        whole += part.octets
        count += 1
        first = part.octets if count == 1 else first
        if part.why:
            yield Fault(part.why)
            break
        at = _after_zeros(octets, part.end)
    yield Member(names, bytes(whole))
    if count > 1:
        yield Member(names, first)


def _after_zeros(octets: bytes, at: int) -> int:
    if octets[at : at + 1] != b"\x00":
        return at
    rest = octets[at : at + 1024 * 1024]
    return at + len(rest) - len(rest.lstrip(b"\x00"))


def gzip_names(octets: bytes) -> tuple[str, ...]:
    """The name in the first header: ISO 8859-1 by the standard, UTF-8 in fact (RFC 1952 section 2.3)."""
    flags = octets[3] if len(octets) > 10 else 0
    at = 10
    if flags & _GZIP_EXTRA:
        at += 2 + int.from_bytes(octets[10:12], "little")
    end = octets.find(b"\x00", at, at + 4096)
    if not flags & _GZIP_NAME or end <= at:
        return ()
    name = octets[at:end]
    readings = [name.decode("latin-1")]
    if not name.isascii():
        try:
            readings.insert(0, name.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    return tuple(readings)
