"""Examiners for tests, whose children are `support.examiner_double`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from posthouse.clients.examiner import IsolatedExaminer
from posthouse.core.examination import ExaminationLimits
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, InlineOctets
from posthouse.ports import ReceivedContent
from posthouse.scan_ports import Octets

DOUBLE = (sys.executable, "-P", str(Path(__file__).with_name("examiner_double.py")))
LIMITS = ExaminationLimits()
SECONDS = 10
"""For an examination that is to succeed, on a machine that is busy."""


class Taken:
    """ports.ContentSink that keeps what it is given."""

    def __init__(self) -> None:
        self._taken: list[bytes] = []

    @property
    def octets(self) -> bytes:
        return b"".join(self._taken)

    @property
    def pieces(self) -> int:
        return len(self._taken)

    def write(self, octets: bytes) -> None:
        assert len(octets) <= 600 * 1024
        self._taken.append(octets)

    def close(self, *, size: int, header: bytes, normalised: int) -> ReceivedContent:
        return ReceivedContent(Content(InlineOctets(self.octets)), size, header, normalised)

    def release(self) -> None:
        self._taken = []


class Given:
    """scan_ports.Octets in memory."""

    def __init__(self, octets: bytes, told: int | None = None) -> None:
        self.size = len(octets) if told is None else told
        self._octets = octets

    def pieces(self) -> Iterator[bytes]:
        return iter([self._octets])


async def until(look: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Lets the event loop work until it holds. AssertionError naming `what` after `seconds`."""
    end = asyncio.get_running_loop().time() + seconds
    while not look():
        assert asyncio.get_running_loop().time() < end, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def examiners(
    command: Sequence[str] = DOUBLE,
    *,
    seconds: int = SECONDS,
    count: int = 1,
    mails: int = 500,
    octets: int = 1 << 29,
) -> AsyncIterator[IsolatedExaminer]:
    limits = replace(Limits(), examination_seconds=seconds, examinations=count, examination_octets=octets)
    examiner = IsolatedExaminer(limits, command, mails)
    try:
        yield examiner
    finally:
        await examiner.close()
        assert not examiner.pool.processes


def mail(subject: str, *parts: int, size: int = 0) -> Content:
    """Its parts are made by the child, of so many octets; `size`: of its text, at least."""
    lines = b"".join(b"Part: %d.bin %d\r\n" % (number, octets) for number, octets in enumerate(parts))
    text = b"0123456789abcde\r\n" * (size // 17 + 1)
    return Content(InlineOctets(b"Subject: " + subject.encode() + b"\r\n" + lines + b"\r\n" + text + b".\r\n"))


def whole(octets: Octets) -> bytes:
    read = list(octets.pieces())
    assert all(len(piece) <= 256 * 1024 for piece in read)
    return b"".join(read)


def living(pid: int) -> bool:
    """Not as a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
