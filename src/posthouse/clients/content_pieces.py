"""Content in wire form as pieces to write: nothing is copied whole, octet ranges cut from a version are left out."""

import os
from collections.abc import Generator, Iterator

from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.ports import ContentUnreadable

PIECE_OCTETS = 256 * 1024
"""Of one piece, at most."""


def content_octets(content: Content) -> int:
    """Octets in wire form without the cuts."""
    return content.source.size - sum(end - start for start, end in content.cuts)


def pieces(content: Content, first: int = 0, last: int | None = None) -> Generator[bytes | memoryview, None, None]:
    """The content, piece by piece, or its octets from `first` up to `last`, counted without the cuts. A file is
    opened at the first piece and closed at the last, or with the iterator.

    Raises ContentUnreadable.
    """
    kept = _kept(content) if last is None and not first else _window(content, first, last)
    match content.source:
        case InlineOctets(octets):
            view = memoryview(octets)
            for start, end in kept:
                for offset in range(start, end, PIECE_OCTETS):
                    yield view[offset : min(offset + PIECE_OCTETS, end)]
        case FileOctets(path):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise ContentUnreadable(f"content cannot be read here: {error.strerror}") from error
            try:
                for start, end in kept:
                    for offset in range(start, end, PIECE_OCTETS):
                        yield _read(descriptor, offset, min(PIECE_OCTETS, end - offset))
            finally:
                os.close(descriptor)


def _read(descriptor: int, offset: int, length: int) -> bytes:
    try:
        octets = os.pread(descriptor, length, offset)
    except OSError as error:
        raise ContentUnreadable(f"content cannot be read here: {error.strerror}") from error
    if len(octets) != length:
        raise ContentUnreadable("content cannot be read here: the file is too short")
    return octets


def _kept(content: Content) -> Iterator[tuple[int, int]]:
    """Half-open ranges of the source that are not cut; none is empty."""
    position = 0
    for start, end in (*content.cuts, (content.source.size, content.source.size)):
        if position < start:
            yield position, start
        position = end


def _window(content: Content, first: int, last: int | None) -> Iterator[tuple[int, int]]:
    """What lies in the window, of the kept ranges."""
    left = content_octets(content) if last is None else last
    skipped = first
    for start, end in _kept(content):
        begin = start + min(skipped, end - start)
        stop = min(end, start + left)
        skipped -= begin - start
        left -= end - start
        if begin < stop:
            yield begin, stop
        if left <= 0:
            return
