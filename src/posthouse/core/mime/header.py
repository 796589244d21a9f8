"""The header of a part: where its fields are, as spans of octets.

`Manner` tells how a reader reads what the standards leave open or forbid; `USUAL` is what most readers do.
Standards: RFC 5322 sections 2.2, 2.2.3, 4.2; RFC 2045 section 3.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap

from posthouse.core.mime.part import Field

Buffer = bytes | bytearray | mmap
"""Octets of a mail: what can be searched, and sliced to bytes."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a reader reads what is odd; each switch away from its default is a reading of its own."""

    last: bool = False
    """Of a repeated field the last one holds, not the first."""
    boundary: int = 0
    """Which of the readings of a multipart's boundary: its number, the last one where there are fewer."""
    prefix: bool = False
    """A delimiter line may go on after the boundary, stand after white space, or be cut."""
    blank: bool = False
    """A line of white space ends the header; one that is no field does not; a header may begin after empty lines."""
    unfolded: bool = False
    """A line after white space is a field of its own, if it looks like one."""
    squeezed: bool = False
    """Control characters and blanks in names and values are not seen."""
    strict: bool = False
    """A line that is not quite a field, such as one with a blank before the colon, ends the header."""
    declared: bool = True
    """False: the declared type is not believed where there is a boundary."""
    after: bool = False
    """A multipart goes on after its last delimiter."""
    outer: bool = False
    """Of two open multiparts with the same boundary, a delimiter is that of the outer one."""


USUAL = Manner()


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a part."""

    fields: tuple[Field, ...]
    body: int
    """First octet of the body."""
    odd: bool
    """Some readers may read it otherwise."""
    cut: bool
    """It goes on beyond the bound; its rest is taken for body."""


MOST_FIELDS = 10_000
"""Of one header."""
_FIELD = re.compile(rb"([^:\n]{0,998}+):[^\n]*+(?:\n[ \t][^\n]*+)*+\n?+")
_SINGLE = re.compile(rb"[ \t]*+([^:\n]{0,998}+):[^\n]*+\n?+")
_LINE = re.compile(rb"[^\n]*+\n?+")
_NAME = re.compile(rb"[!-9;-~]+")
_LOOKS = re.compile(rb"[ \t\x00-\x1f]*+[A-Za-z][A-Za-z0-9-]*+[ \t\x00]*+:")
_MIME_FIELD = re.compile(rb"[\x00-\x20]*+(?:content-|mime-version)[a-z-]*+[ \t\x00]*+:", re.I)
_HIDDEN = re.compile(
    rb"\n[ \t]++content-(?:type[ \t]*+:[ \t]*+[\"a-z]++/"
    rb"|transfer-encoding[ \t]*+:[ \t]*+(?:base64|quoted|uu|x-|[78]bit|bin)"
    rb"|disposition[ \t]*+:[ \t]*+(?:attach|inline))",
    re.I,
)
"""A field in a folded line; not the list of fields of a DKIM signature."""
_ODD_OCTETS = re.compile(rb"\r(?!\n)|(?<!\r)\n|[\x00\x0b\x0c]")
_JUNK = bytes(range(0x21)) + b"\x7f"


def read_header(
    octets: Buffer, start: int, end: int, most: int, stop: Callable[[bytes], bool] | None, manner: Manner = USUAL
) -> Header:
    """The header that begins at `start`; `stop` tells whether a line that begins with `--` ends it, as the delimiter
    of a multipart around it does. At most `most` octets and `MOST_FIELDS` fields are read; never raises.

    A line of mbox files (`From a@b.example Mon Jan ...`) at the head of the mail is passed over."""
    fields: list[Field] = []
    at = start
    limit = min(end, start + most)
    odd = cut = False
    if at == 0 and octets[:5] == b"From ":
        at = _after_line(octets, at, limit)
    while at < end:
        if at >= limit or len(fields) >= MOST_FIELDS:
            cut = True
            break
        first = octets[at : at + 2]
        if first == b"\r\n" or first[:1] == b"\n":
            after = at + (2 if first == b"\r\n" else 1)
            if manner.blank and not fields and _LOOKS.match(octets, after, limit):
                at = after
                continue
            at = after
            break
        if first == b"--" and stop is not None and stop(_line(octets, at, limit)):
            break
        blank = first[:1] in (b" ", b"\t")
        if blank and manner.blank and not _line(octets, at, limit).strip():
            at = _after_line(octets, at, limit)
            break
        if blank and not (manner.unfolded and _LOOKS.match(octets, at, limit)):
            odd = True
            at = _after_line(octets, at, limit)
            continue
        found = (_SINGLE if manner.unfolded or manner.blank else _FIELD).match(octets, at, limit)
        name = _name(found.group(1), manner) if found else ""
        if manner.strict and found and not _NAME.fullmatch(found.group(1)):
            if found.group(1):
                break
            at = found.end()
            continue
        if not found or not name:
            odd = True
            after = _after_line(octets, at, limit)
            if manner.blank and (fields or looks_like_header(octets, after)):
                at = after
                continue
            break
        after = found.end()
        if manner.unfolded or manner.blank:
            after = _folded(octets, after, limit, manner)
        fields.append(Field(name, at, found.end(1) + 1, after))
        if not _NAME.fullmatch(found.group(1)):
            odd = True
        at = after
    if not odd:
        odd = (_ODD_OCTETS.search(octets, start, at) or _HIDDEN.search(octets, start, at)) is not None
    return Header(tuple(fields), at, odd, cut)


def looks_like_header(octets: Buffer, at: int) -> bool:
    """Whether a field of MIME stands there, after empty lines perhaps."""
    return _MIME_FIELD.match(octets, at) is not None


def value(octets: Buffer, field: Field) -> bytes:
    """What stands after the colon, unfolded: without line ends, blanks kept; without blanks at its ends."""
    text = bytes(octets[field.value : field.end])
    if text.count(b"\n") > 1 or not text.endswith(b"\n"):
        text = text.replace(b"\r\n", b"").replace(b"\n", b"")
    return text.strip(b" \t\r\n")


def _name(octets: bytes, manner: Manner) -> str:
    """Lower case; empty if it is none."""
    name = octets.rstrip(b" \t")
    if manner.squeezed:
        name = name.translate(None, _JUNK)
    elif b" " in name or b"\t" in name:
        return ""
    return name.decode("latin-1").lower()


def _folded(octets: Buffer, at: int, limit: int, manner: Manner) -> int:
    """The end of the field whose first line ends at `at`."""
    while at < limit and octets[at : at + 1] in (b" ", b"\t"):
        if manner.unfolded and _LOOKS.match(octets, at, limit):
            break
        if manner.blank and not _line(octets, at, limit).strip():
            break
        at = _after_line(octets, at, limit)
    return at


def _line(octets: Buffer, at: int, limit: int) -> bytes:
    return bytes(octets[at : _after_line(octets, at, limit)])


def _after_line(octets: Buffer, at: int, limit: int) -> int:
    found = octets.find(b"\n", at, limit)
    return limit if found < 0 else found + 1
