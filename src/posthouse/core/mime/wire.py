"""Between content in wire form, as it is stored, and the plain octets that the part tree speaks of.

`unstuffed` takes the dots out and remembers where they stood; `Assembly` puts new content together from spans of the
plain octets, which become places in the wire form and are copied without being looked at, from literal octets, which
are stuffed, and from places in what the examiner made.
Standards: RFC 5321 section 4.5.2.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.core.examination import Place

_DOT = re.compile(rb"\r\n\.")
_FINAL = b".\r\n"


@dataclass(frozen=True, slots=True)
class Plain:
    """Content without dot-stuffing and without the final dot."""

    octets: bytes
    dots: Sequence[int] = ()
    """Where a dot was taken out: offsets in `octets` of what stood behind it, ascending."""

    def wire(self, offset: int) -> int:
        """Offset in the wire form; of the start of a line that of its stuffed dot."""
        return offset + bisect_left(self.dots, offset)

    def stuffed_at(self, offset: int) -> bool:
        """A dot was taken out just before this octet."""
        at = bisect_left(self.dots, offset)
        return at < len(self.dots) and self.dots[at] == offset

    def starts_line(self, offset: int) -> bool:
        return offset == 0 or self.octets[max(0, offset - 2) : offset] == b"\r\n"


def unstuffed(wire: bytes) -> Plain:
    """Plain octets of a wire form, with its final dot or without. Nothing is copied if there is no dot to take."""
    if wire == _FINAL:
        return Plain(b"")
    if wire.endswith(b"\r\n" + _FINAL):
        wire = wire[: -len(_FINAL)]
    leading = wire.startswith(b".")
    if not leading and b"\r\n." not in wire:
        return Plain(wire)
    dots = array("Q", (0,) if leading else ())
    taken = len(dots)
    for found in _DOT.finditer(wire):
        dots.append(found.start() + 2 - taken)
        taken += 1
    plain = wire.replace(b"\r\n.", b"\r\n")
    return Plain(plain[1:] if leading else plain, dots)


class Assembly:
    """New content, put together from front to back; neighbouring pieces of the source become one."""

    __slots__ = ("_at_line_start", "_literal", "_pieces", "_plain")

    def __init__(self, plain: Plain) -> None:
        self._plain = plain
        self._pieces: list[Place | bytes] = []
        self._literal = bytearray()
        self._at_line_start = True

    def span(self, start: int, end: int) -> None:
        """Octets of the source, offsets in the plain octets."""
        if start >= end:
            return
        plain = self._plain
        first = plain.wire(start)
        if self._at_line_start and not plain.stuffed_at(start):
            if plain.octets[start : start + 1] == b".":
                self._literal += b"."
        elif not self._at_line_start and plain.stuffed_at(start):
            first += 1
        self._flush()
        last = plain.wire(end)
        before = self._pieces[-1] if self._pieces else None
        if isinstance(before, Place) and not before.made and before.end == first:
            self._pieces[-1] = Place(False, before.start, last)
        else:
            self._pieces.append(Place(False, first, last))
        self._ends_with(plain.octets[max(start, end - 2) : end])

    def literal(self, octets: bytes) -> None:
        """Plain octets without bare CR or LF."""
        if not octets:
            return
        if self._at_line_start and octets.startswith(b"."):
            self._literal += b"."
        self._literal += octets.replace(b"\r\n.", b"\r\n..")
        self._ends_with(octets[-2:])

    def made(self, place: Place) -> None:
        """Made octets none of whose lines begins with a dot, and that do not end in CRLF."""
        if place.size:
            self._flush()
            self._pieces.append(place)
            self._at_line_start = False

    def line_start(self) -> None:
        """CRLF, unless a line begins here already."""
        if not self._at_line_start:
            self.literal(b"\r\n")

    def pieces(self) -> tuple[Place | bytes, ...]:
        """All of it, in wire form, ending in CRLF, without the final dot."""
        self.line_start()
        self._flush()
        return tuple(self._pieces)

    def _flush(self) -> None:
        if self._literal:
            self._pieces.append(bytes(self._literal))
            self._literal.clear()

    def _ends_with(self, end: bytes) -> None:
        """`end`: the last two octets, or fewer, of what was put; a CR and its LF are never put apart."""
        self._at_line_start = end == b"\r\n"
