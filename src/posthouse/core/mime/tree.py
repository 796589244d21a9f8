"""The part tree of a mail: one pass over its octets, no recursion, spans instead of copies.

`tree` is the canonical reading, what most mail readers see; `grow` gives the tree in any `Manner`, with what it left
out. Bare LF ends a line too; a multipart may lack its last delimiter, a header its empty line.
Standards: RFC 2046 sections 5.1 and 5.2.1; RFC 2045 section 5.2.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from posthouse.core.examination import ExaminationLimits
from posthouse.core.mime.declared import Declared, declared
from posthouse.core.mime.header import USUAL, Buffer, Header, Manner, looks_like_header, read_header
from posthouse.core.mime.part import Part

MESSAGES = frozenset({"message/rfc822", "message/global", "message/news", "message/x-rfc822"})
"""Types whose body is a mail."""
_ENCODED = frozenset({"base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", "uue", "x-yenc", "yenc"})
MOST_LINES = 50_000
"""Lines that begin with two hyphens: more are not looked at."""
_SHORTEST = 4
"""Characters that a cut delimiter line must have of its boundary at least."""
_HYPHENS = re.compile(rb"\n[ \t\x00\x0b\x0c]*+--")
_BLANK_HYPHENS = re.compile(rb"\n[ \t\x00\x0b\x0c]++--([^\n]*+)")
_MOST_SEEN = 50
"""Boundaries that are looked for after white space; a mail with more, and such a line, is odd anyway."""
_JUNK = bytes(range(0x21)) + b"\x7f"


@dataclass(frozen=True, slots=True)
class Grown:
    """A tree, and what is not in it."""

    root: Part
    odd: bool
    """Some readers may see other parts."""
    beyond: tuple[str, ...]
    """Bounds that were met, each in one sentence: not all could be shown."""
    boundaries: int
    """Readings of a boundary, of the part that has the most; 1 where there is no doubt."""


@dataclass(slots=True)
class _Open:
    """A part whose end is not known yet."""

    path: str
    start: int
    header: Header
    said: Declared
    boundary: bytes = b""
    parts: list[Part] = field(default_factory=list)
    closed: bool = False

    def close(self, end: int) -> Part:
        body = self.header.body
        said = self.said
        return Part(
            path=self.path,
            start=self.start,
            body=body,
            end=max(body, end, self.parts[-1].end if self.parts else 0),
            fields=self.header.fields,
            type=said.type,
            charset=said.charset,
            encoding=said.encoding,
            disposition=said.disposition,
            names=said.names,
            content_id=said.content_id,
            boundary=self.boundary,
            parts=tuple(self.parts),
        )


def tree(octets: Buffer, limits: ExaminationLimits) -> Part:
    """The mail as most readers see it. `octets`: the content without dot-stuffing. Never raises; linear.

    The root of a multipart has the path "", its parts `1`, `2`; any other root `1`; what is inside a part `2.1`, so
    the message of a message/rfc822 part `2` is `2.1`, and the parts of that `2.1.1`. A message/rfc822 in base64 is
    a leaf. Beyond a bound everything is one leaf.
    """
    return grow(octets, limits).root


def grow(octets: Buffer, limits: ExaminationLimits, manner: Manner = USUAL) -> Grown:
    """The mail as readers of that manner see it."""
    return _Tree(octets, limits, manner).grow()


class _Tree:
    """The parts that are open, the outermost first, and which boundary belongs to which of them."""

    def __init__(self, octets: Buffer, limits: ExaminationLimits, manner: Manner) -> None:
        self._octets = octets
        self._end = len(octets)
        self._limits = limits
        self._manner = manner
        self._open: list[_Open] = []
        self._levels: dict[bytes, list[int]] = {}
        self._parts = 0
        self._odd = False
        self._boundaries = 1
        self._seen: dict[bytes, None] = {}
        self._beyond: dict[str, None] = {}

    def grow(self) -> Grown:
        at = self._begin(0, "1", "text/plain")
        if self._levels:
            for start, newline, after, level, closing in self._delimiters(at):
                if not closing and self._parts >= self._limits.parts:
                    self._beyond[f"There are more than {self._limits.parts} parts."] = None
                    break
                while len(self._open) - 1 > level:
                    self._finish(start - newline)
                top = self._open[level]
                if closing:
                    top.closed = True
                    if not self._manner.after:
                        self._forget(level)
                    continue
                default = "message/rfc822" if top.said.type == "multipart/digest" else "text/plain"
                path = f"{top.path}.{len(top.parts) + 1}" if top.path else str(len(top.parts) + 1)
                self._resume = self._begin(after, path, default)
        while len(self._open) > 1:
            self._finish(self._end)
        if self._manner == USUAL and self._seen and not self._odd:
            self._look_for_blanks()
        root = self._open.pop()
        self._odd = self._odd or bool(root.boundary and not (root.closed and root.parts))
        return Grown(root.close(self._end), self._odd, tuple(self._beyond), self._boundaries)

    def _begin(self, start: int, path: str, default: str) -> int:
        """Opens the part that begins at `start`, and the message in it; the first octet of the innermost body."""
        while True:
            self._parts += 1
            stop = self._stops if self._levels else None
            header = read_header(self._octets, start, self._end, self._limits.header_octets, stop, self._manner)
            if header.cut:
                self._beyond["The header of a part is too long."] = None
            said = declared(self._octets, header, self._manner, default)
            if said.cut:
                self._beyond["A field of a part is too long, or repeated too often."] = None
            if said.odd or said.type.startswith("multipart/") != bool(said.boundaries):
                self._odd = True
            if not header.fields and looks_like_header(self._octets, header.body):
                self._odd = True
            self._boundaries = max(self._boundaries, len(said.boundaries))
            top = _Open(path, start, header, said)
            self._open.append(top)
            multipart = said.type.startswith("multipart/") or not self._manner.declared
            message = said.type in MESSAGES and said.encoding not in _ENCODED
            if not (multipart and said.boundaries) and not message:
                return header.body
            if len(self._open) > self._limits.part_depth or self._parts >= self._limits.parts:
                self._beyond["Parts are nested too deep, or too many."] = None
                return header.body
            if multipart and said.boundaries:
                top.boundary = said.boundaries[min(self._manner.boundary, len(said.boundaries) - 1)]
                level = len(self._open) - 1
                self._seen[top.boundary] = None
                levels = self._levels.setdefault(top.boundary, [])
                self._odd = self._odd or bool(levels)
                levels.append(level)
                if level == 0:
                    top.path = ""
            if not message:
                return header.body
            start, path, default = header.body, f"{path}.1", "text/plain"

    def _finish(self, end: int) -> None:
        """Closes the innermost part."""
        top = self._open[-1]
        if top.boundary:
            self._odd = self._odd or not (top.closed and top.parts)
            self._forget(len(self._open) - 1)
        self._open.pop()
        self._open[-1].parts.append(top.close(end))

    def _forget(self, level: int) -> None:
        boundary = self._open[level].boundary
        levels = self._levels.get(boundary, [])
        if level in levels:
            levels.remove(level)
            if not levels:
                del self._levels[boundary]

    def _delimiters(self, at: int) -> Iterator[tuple[int, int, int, int, bool]]:
        """Each delimiter line: its start, octets of the line end before it, its end, whose it is, whether it is the
        last one. The consumer opens parts meanwhile; lines inside their headers are passed over."""
        octets = self._octets
        self._resume = at
        for _ in range(MOST_LINES):
            start = self._next(self._resume) if self._levels else -1
            if start < 0:
                return
            newline = octets.find(b"\n", start)
            after = self._end if newline < 0 else newline + 1
            self._resume = after
            matched = self._match(bytes(octets[start:after]))
            if matched is None:
                continue
            level, closing = matched
            before = bytes(octets[max(0, start - 2) : start])
            yield start, 2 if before == b"\r\n" else 1 if before else 0, after, level, closing
        self._beyond["Too many lines begin with two hyphens."] = None

    def _next(self, at: int) -> int:
        """Start of the next line that may be a delimiter, from `at` on; -1 if there is none."""
        if at == 0 and self._octets[:2] == b"--":
            return 0
        if self._manner.prefix:
            line = _HYPHENS.search(self._octets, max(0, at - 1))
            return line.start() + 1 if line else -1
        found = self._octets.find(b"\n--", max(0, at - 1))
        return found + 1 if found >= 0 else -1

    def _look_for_blanks(self) -> None:
        """A delimiter line after white space makes the mail odd."""
        boundaries = [boundary.translate(None, _JUNK) for boundary in self._seen][:_MOST_SEEN]
        for line in _BLANK_HYPHENS.finditer(self._octets):
            text = line.group(1).translate(None, _JUNK)
            if len(self._seen) > _MOST_SEEN or any(text.startswith(boundary) for boundary in boundaries):
                self._odd = True
                return

    def _stops(self, line: bytes) -> bool:
        return self._match(line) is not None

    def _match(self, line: bytes) -> tuple[int, bool] | None:
        """Whose delimiter this line is, and whether it is the last one."""
        text = line[2:].rstrip()
        levels = self._levels.get(text)
        if levels:
            return levels[0 if self._manner.outer else -1], False
        if text.endswith(b"--"):
            levels = self._levels.get(text[:-2].rstrip())
            if levels:
                return levels[0 if self._manner.outer else -1], True
        return self._nearly(line) if self._manner.prefix or not self._odd else None

    def _nearly(self, line: bytes) -> tuple[int, bool] | None:
        """The same for a line that only looks like a delimiter; None in any manner but `prefix`."""
        text = line.translate(None, _JUNK)[2:]
        for boundary in reversed(self._levels):
            mine = boundary.translate(None, _JUNK)
            same = text.startswith(mine) or (len(text) >= _SHORTEST and mine.startswith(text))
            if same or (text.endswith(b"--") and len(text) > _SHORTEST + 1 and mine.startswith(text[:-2])):
                self._odd = True
                if self._manner.prefix:
                    return self._levels[boundary][-1], text[len(mine) :].startswith(b"--")
        return None
