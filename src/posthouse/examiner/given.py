"""Octets that come with a question: the content, and the files that edits name by number."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.examiner.frames import Frame
from posthouse.examiner.questions import Portion, Question

_PIECE_OCTETS = 256 * 1024
_READ_OCTETS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class GivenFile:
    """`core.mime.coded.OctetSource`: read when it is asked for, in pieces of at most 256 KiB."""

    source: memoryview | int
    """Octets, or a descriptor."""
    start: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        end = self.start + self.size
        for offset in range(self.start, end, _PIECE_OCTETS):
            length = min(_PIECE_OCTETS, end - offset)
            if isinstance(self.source, int):
                yield _read(self.source, offset, length)
            else:
                yield bytes(self.source[offset : offset + length])


class Given:
    """Of one question; to be used while the descriptors of its frame are open."""

    def __init__(self, question: Question, asked: Frame) -> None:
        self._question = question
        band = memoryview(asked.band)
        descriptors = iter(asked.descriptors)
        self._content: memoryview | int
        self._files: memoryview | int
        if question.content.in_band:
            self._content, band = band[: question.content.size], band[question.content.size :]
        else:
            self._content = next(descriptors)
        self._files = band if question.files.in_band else next(descriptors)

    def content(self) -> bytes:
        """Without the cuts."""
        if isinstance(self._content, int):
            return _kept(self._content, self._question.content)
        return bytes(self._content)

    def files(self) -> list[GivenFile]:
        files = []
        start = 0
        for size in self._question.file_sizes:
            files.append(GivenFile(self._files, start, size))
            start += size
        return files


def _kept(descriptor: int, portion: Portion) -> bytes:
    read = bytearray()
    position = 0
    for start, end in (*portion.cuts, (portion.size, portion.size)):
        for offset in range(position, start, _READ_OCTETS):
            read += _read(descriptor, offset, min(_READ_OCTETS, start - offset))
        position = end
    return bytes(read)


def _read(descriptor: int, offset: int, length: int) -> bytes:
    octets = os.pread(descriptor, length, offset)
    if len(octets) != length:
        raise EOFError("a file is shorter than it was")
    return octets
