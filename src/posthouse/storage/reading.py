"""Reading a content from where it lies, for sealing and for the console."""

import os
from collections.abc import Iterator

from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.ports import ContentUnreadable

PIECE_OCTETS = 256 * 1024


def pieces(content: Content) -> Iterator[bytes]:
    """Without what is cut from it. Raises ContentUnreadable."""
    position = 0
    for start, end in (*content.cuts, (content.source.size, content.source.size)):
        yield from _range(content.source, position, start)
        position = end


def _range(source: InlineOctets | FileOctets, start: int, end: int) -> Iterator[bytes]:
    match source:
        case InlineOctets(octets):
            for offset in range(start, end, PIECE_OCTETS):
                yield octets[offset : min(offset + PIECE_OCTETS, end)]
        case FileOctets(path):
            descriptor = open_file(path)
            try:
                yield from file_range(descriptor, start, end)
            finally:
                os.close(descriptor)


def open_file(path: str) -> int:
    """Raises ContentUnreadable."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ContentUnreadable(f"content cannot be read here: {error.strerror}") from error


def file_range(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """Raises ContentUnreadable."""
    for offset in range(start, end, PIECE_OCTETS):
        length = min(PIECE_OCTETS, end - offset)
        try:
            octets = os.pread(descriptor, length, offset)
        except OSError as error:
            raise ContentUnreadable(f"content cannot be read here: {error.strerror}") from error
        if len(octets) != length:
            raise ContentUnreadable("content cannot be read here: the file is too short")
        yield octets
