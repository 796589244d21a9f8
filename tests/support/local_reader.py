"""Reads kept mail in this process, as the console's examiner does in one of its own."""

import asyncio
from collections.abc import Iterator, Sequence

from posthouse.core.examination import Edit, Examination, ExaminationLimits, Item
from posthouse.core.mail import Content, InlineOctets
from posthouse.ports import ContentSink
from posthouse.scan_ports import Examined, NewContent, Octets
from support.scan_flow import LocalExaminer


class LocalReader:
    """scan_ports.MailReader in this process; `waits_for` holds each reading up, `fails` ends it."""

    def __init__(self) -> None:
        self.waits_for: asyncio.Event | None = None
        self.fails: Exception | None = None
        self.begun = 0
        self.under_way = asyncio.Semaphore(0)
        """Released at each beginning."""
        self.closed = 0

    async def read(self, pieces: Iterator[bytes], limits: ExaminationLimits) -> Examined:
        self.begun += 1
        self.under_way.release()
        if self.waits_for is not None:
            await self.waits_for.wait()
        if self.fails is not None:
            raise self.fails
        examined = await LocalExaminer().examine(Content(InlineOctets(b"".join(pieces))), limits)
        return _Counted(examined, self)

    async def close(self) -> None:
        return None


class _Counted:
    """scan_ports.Examined that tells when it is closed."""

    def __init__(self, examined: Examined, reader: LocalReader) -> None:
        self._examined, self._reader = examined, reader

    @property
    def examination(self) -> Examination:
        return self._examined.examination

    def octets(self, item: Item) -> Octets:
        return self._examined.octets(item)

    async def edit(self, edits: Sequence[Edit], files: Sequence[Octets], sink: ContentSink) -> NewContent:
        raise AssertionError("the console edits nothing")

    def close(self) -> None:
        self._reader.closed += 1
        self._examined.close()
