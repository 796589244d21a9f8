"""What an examination gave, with its octets: those of the mail and those that the examiner made."""

import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence

from posthouse.clients.content_pieces import PIECE_OCTETS, pieces
from posthouse.core.examination import Edit, Examination, Item, Place
from posthouse.core.mail import Content
from posthouse.examiner.frames import OutOfForm
from posthouse.examiner.made import SEALS
from posthouse.ports import ContentSink, ContentUnreadable
from posthouse.scan_ports import NewContent, Octets

Editor = Callable[[Sequence[Edit], Sequence[Octets], ContentSink], Awaitable[NewContent]]


class MadeOctets:
    """Octets that an examiner made: in memory, or in a memory file of its making, sealed."""

    def __init__(self, size: int, octets: bytes | memoryview, descriptor: int = -1) -> None:
        self.size = size
        self._octets = octets
        self._descriptor = descriptor
        self._gone = False
        self.forgotten: Callable[[], None] = _nothing
        """Called once, with `close`."""

    @classmethod
    def of_descriptor(cls, descriptor: int, size: int) -> "MadeOctets":
        """Takes the descriptor over if all is well. Raises OutOfForm."""
        try:
            seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        except OSError as error:
            raise OutOfForm("with what is no memory file") from error
        if seals & SEALS != SEALS:
            raise OutOfForm("with a memory file that is not sealed")
        if os.fstat(descriptor).st_size != size:
            raise OutOfForm("with a memory file of another size")
        return cls(size, b"", descriptor)

    def read(self, start: int, end: int) -> bytes | memoryview:
        """At most `PIECE_OCTETS`. Raises ContentUnreadable."""
        if self._gone:
            raise ContentUnreadable("the examination is over")
        if self._descriptor < 0:
            return self._octets[start:end]
        try:
            return os.pread(self._descriptor, end - start, start)
        except OSError as error:
            raise ContentUnreadable(f"what was examined cannot be read: {error.strerror}") from error

    def close(self) -> None:
        if self._gone:
            return
        self._gone, self._octets = True, b""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.forgotten()

    def __del__(self) -> None:
        self.close()


def _nothing() -> None:
    pass


class PlaceOctets:
    """scan_ports.Octets: those of one place."""

    def __init__(self, content: Content, made: MadeOctets, place: Place) -> None:
        self._content = content
        self._made = made
        self._place = place

    @property
    def size(self) -> int:
        return self._place.size

    def pieces(self) -> Iterator[bytes | memoryview]:
        place = self._place
        if not place.made:
            yield from pieces(self._content, place.start, place.end)
            return
        for offset in range(place.start, place.end, PIECE_OCTETS):
            yield self._made.read(offset, min(offset + PIECE_OCTETS, place.end))


class ExaminedContent:
    """scan_ports.Examined."""

    def __init__(self, content: Content, examination: Examination, made: MadeOctets, editor: Editor) -> None:
        self._content = content
        self._examination = examination
        self._made = made
        self._editor = editor

    @property
    def examination(self) -> Examination:
        return self._examination

    def octets(self, item: Item) -> Octets:
        return PlaceOctets(self._content, self._made, item.place)

    async def edit(self, edits: Sequence[Edit], files: Sequence[Octets], sink: ContentSink) -> NewContent:
        return await self._editor(edits, files, sink)

    def close(self) -> None:
        self._made.close()
