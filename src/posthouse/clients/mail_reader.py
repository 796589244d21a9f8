"""scan_ports.MailReader: kept mail is read by an examiner of the console's own.

What the quarantine has sealed on the disk is unsealed into memory, and never written to a disk in clear: short
content as it is, longer content into a file of memory, which has no name and ends with the last that refers to it.
"""

import asyncio
import os
import weakref
from collections.abc import Iterator, Sequence

from posthouse.core.examination import Edit, Examination, ExaminationLimits, Item
from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.examiner.frames import IN_BAND_OCTETS
from posthouse.ports import ContentSink
from posthouse.scan_ports import Examined, Examiner, ExaminerUnavailable, NewContent, Octets


class IsolatedReader:
    """Closes its examiner with itself."""

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner

    async def read(self, pieces: Iterator[bytes], limits: ExaminationLimits) -> Examined:
        unsealed = await asyncio.to_thread(_Unsealed, pieces)
        return _Read(await self._examiner.examine(unsealed.content, limits), unsealed)

    async def close(self) -> None:
        await self._examiner.close()


class _Unsealed:
    """A content in memory."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        short = b""
        for piece in pieces:
            short += piece
            if len(short) > IN_BAND_OCTETS:
                self.content = self._in_file(short, pieces)
                return
        self.content = Content(InlineOctets(short))

    def _in_file(self, beginning: bytes, pieces: Iterator[bytes]) -> Content:
        try:
            descriptor = os.memfd_create("mail", os.MFD_CLOEXEC)
        except OSError as error:
            raise ExaminerUnavailable(f"no memory file can be had here: {error.strerror}") from error
        weakref.finalize(self, os.close, descriptor)
        size = _write(descriptor, beginning)
        for piece in pieces:
            size += _write(descriptor, piece)
        # Whoever opens this path has a descriptor of their own of the same file.
        return Content(FileOctets(f"/proc/self/fd/{descriptor}", size))


def _write(descriptor: int, octets: bytes) -> int:
    left = memoryview(octets)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError as error:
        raise ExaminerUnavailable(f"no memory file can be written here: {error.strerror}") from error
    return len(octets)


class _Read:
    """scan_ports.Examined, with the content that it is of."""

    def __init__(self, examined: Examined, unsealed: _Unsealed) -> None:
        self._examined = examined
        self._unsealed: _Unsealed | None = unsealed

    @property
    def examination(self) -> Examination:
        return self._examined.examination

    def octets(self, item: Item) -> Octets:
        return self._examined.octets(item)

    async def edit(self, edits: Sequence[Edit], files: Sequence[Octets], sink: ContentSink) -> NewContent:
        return await self._examined.edit(edits, files, sink)

    def close(self) -> None:
        self._examined.close()
        self._unsealed = None
