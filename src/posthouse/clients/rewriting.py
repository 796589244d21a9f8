"""Writes an edited content into a sink, from the places that an examiner has told, and trusts none of it."""

import asyncio
from collections.abc import Sequence

from posthouse.clients.content_pieces import PIECE_OCTETS
from posthouse.clients.examined import MadeOctets, PlaceOctets
from posthouse.core.examination import Place
from posthouse.core.mail import Content
from posthouse.core.wire_check import NotWireForm, WireCheck
from posthouse.examiner.frames import OutOfForm
from posthouse.ports import ContentSink
from posthouse.scan_ports import NewContent

_TURN_OCTETS = 1024 * 1024
"""Written before others get their turn on the event loop."""
_FINAL_DOT = b".\r\n"


class _Writer:
    """Gathers small pieces: a sink keeps each that it is given."""

    def __init__(self, sink: ContentSink, header_octets: int) -> None:
        self._sink = sink
        self._check = WireCheck(header_octets)
        self._gathered = bytearray()

    def write(self, octets: bytes | memoryview) -> None:
        self._gathered += octets
        if len(self._gathered) >= PIECE_OCTETS:
            self._flush()

    def finish(self) -> NewContent:
        self._flush()
        self._sink.write(self._check.finish() + _FINAL_DOT)
        return NewContent(self._check.size, self._check.header)

    def _flush(self) -> None:
        octets, self._gathered = bytes(self._gathered), bytearray()
        if octets:
            self._check.pass_on(octets)
            self._sink.write(octets)


async def write_content(
    content: Content, made: MadeOctets, places: Sequence[Place], sink: ContentSink, header_octets: int
) -> NewContent:
    """The places one after the other, then the final dot. Raises OutOfForm if that is no wire form,
    ContentUnreadable, and OSError from the sink."""
    writer = _Writer(sink, header_octets)
    written = 0
    try:
        for place in places:
            for piece in PlaceOctets(content, made, place).pieces():
                writer.write(piece)
                written += len(piece)
                if written >= _TURN_OCTETS:
                    written = 0
                    await asyncio.sleep(0)
        return writer.finish()
    except NotWireForm as error:
        raise OutOfForm(f"a content that is not in wire form: {error}") from error
