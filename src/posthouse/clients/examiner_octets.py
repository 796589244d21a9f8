"""Octets on their way to an examiner: a content, and files that go into one. Short ones go in band, long ones as a
file."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from posthouse.clients.content_pieces import content_octets, pieces
from posthouse.clients.examiner_process import close_all
from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.examiner.frames import IN_BAND_OCTETS
from posthouse.examiner.questions import Portion
from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import ExaminerUnavailable, Octets


@dataclass(frozen=True, slots=True)
class Sent:
    """A context manager: its descriptor is closed with its end."""

    portion: Portion
    band: bytes = b""
    descriptors: tuple[int, ...] = ()

    def __enter__(self) -> "Sent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        close_all(self.descriptors)


def content_sent(content: Content) -> Sent:
    """Without its cuts, or a descriptor and the cuts. Raises ContentUnreadable, ExaminerUnavailable."""
    if content.sealed:
        raise ContentUnreadable("content is sealed")
    size = content_octets(content)
    if size <= IN_BAND_OCTETS:
        return Sent(Portion(True, size), b"".join(pieces(content)))
    match content.source:
        case InlineOctets():
            return _memory_file(size, pieces(content))
        case FileOctets(path, whole):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise ContentUnreadable(f"content cannot be read here: {error.strerror}") from error
            sent = Sent(Portion(False, whole, content.cuts), descriptors=(descriptor,))
            if os.fstat(descriptor).st_size < whole:
                with sent:
                    raise ContentUnreadable("content cannot be read here: the file is too short")
            return sent


async def files_sent(files: Sequence[Octets]) -> Sent:
    """All together; long ones are copied in a thread. Raises as `content_sent`."""
    size = sum(file.size for file in files)
    if size <= IN_BAND_OCTETS:
        return Sent(Portion(True, size), b"".join(_exactly(size, files)))
    copying = asyncio.ensure_future(asyncio.to_thread(_memory_file, size, _exactly(size, files)))
    try:
        return await asyncio.shield(copying)
    except asyncio.CancelledError:
        copying.add_done_callback(_abandon)
        raise


def _abandon(copied: "asyncio.Future[Sent]") -> None:
    if not copied.cancelled() and copied.exception() is None:
        close_all(copied.result().descriptors)


def _exactly(size: int, files: Iterable[Octets]) -> Iterator[bytes | memoryview]:
    left = size
    for file in files:
        for piece in file.pieces():
            left -= len(piece)
            yield piece
    if left:
        raise ContentUnreadable("a file is not as long as it was")


def _memory_file(size: int, octets: Iterable[bytes | memoryview]) -> Sent:
    try:
        descriptor = os.memfd_create("mail", os.MFD_CLOEXEC)
    except OSError as error:
        raise ExaminerUnavailable(f"no memory file can be had here: {error.strerror}") from error
    try:
        for piece in octets:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
    except OSError as error:
        os.close(descriptor)
        raise ExaminerUnavailable(f"no memory file can be written here: {error.strerror}") from error
    except BaseException:
        os.close(descriptor)
        raise
    return Sent(Portion(False, size), descriptors=(descriptor,))
