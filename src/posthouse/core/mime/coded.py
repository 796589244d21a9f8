"""Octets that come into a mail, encoded: header fields and body of the part that carries them.

Texts go as they are or as quoted-printable, all else as base64; what is large is handed out piece by piece.
Standards: RFC 2045 section 6; RFC 2046 section 5.2.1 (no base64 for messages and multiparts).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from posthouse.core.examination import CannotEdit, Place
from posthouse.core.mime.text_body import TextBody, like_ascii
from posthouse.core.mime.written import base64_body, quoted_printable

PIECE_OCTETS = 256 * 1024
_LITERAL = 64 * 1024
"""Octets that stand among the pieces themselves; what is larger is made."""
_TEXT = 1024 * 1024
"""Octets of a text, at most, that is looked at as one."""
_LONGEST_LINE = 998
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
_COMPOSITE = ("multipart/", "message/")
_OPAQUE = "application/octet-stream"

Made = Callable[[Iterable[bytes]], Place]
"""Takes octets piece by piece behind what was made before, and tells where they are."""


class OctetSource(Protocol):
    """A file given beside the edits."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> Iterator[bytes | memoryview]: ...


@dataclass(frozen=True, slots=True)
class Coded:
    """A body."""

    encoding: str
    """Empty: as it is, 7bit."""
    body: Sequence[Place | bytes]
    text: TextBody | None = None
    """If it is text/plain or text/html, and not large."""


def media_type(declared: str) -> str:
    """`type/subtype`, lower case."""
    return declared.partition(";")[0].strip().lower()


def carried(declared: str) -> str:
    """The type that octets of type `declared` are given: those of a multipart or message go as octets."""
    return _OPAQUE if media_type(declared).startswith(_COMPOSITE) else declared


def coded(octets: int | bytes, declared: str, files: Sequence[OctetSource], made: Made) -> Coded:
    """Raises CannotEdit if there is no such file."""
    if isinstance(octets, int):
        if not 0 <= octets < len(files):
            raise CannotEdit(f"There is no file {octets} beside the edits.")
        source = files[octets]
        if not media_type(declared).startswith("text/") or source.size > _TEXT:
            return Coded("base64", [made(base64_body(source.pieces()))])
        octets = b"".join(source.pieces())
    charset = _CHARSET.search(declared)
    name = charset.group(1).lower() if charset else "us-ascii"
    if media_type(declared).startswith("text/") and len(octets) <= _TEXT and like_ascii(name):
        return _text(octets, declared, name, made)
    return Coded("base64", handed_out(b"".join(base64_body(cut(octets))), made))


def cut(octets: bytes) -> Iterator[memoryview]:
    """In pieces of at most 256 KiB."""
    view = memoryview(octets)
    return (view[start : start + PIECE_OCTETS] for start in range(0, len(octets), PIECE_OCTETS))


def handed_out(octets: bytes, made: Made) -> list[Place | bytes]:
    """Octets none of whose lines begins with a dot: as they are, or made if they are many."""
    if len(octets) <= _LITERAL:
        return [octets]
    large = octets.rstrip(b"\r\n")
    return [made((large,)), octets[len(large) :]]


def _text(octets: bytes, declared: str, charset: str, made: Made) -> Coded:
    """Lines end in CRLF. As it is if no line is too long, looks like a delimiter, or has more than ASCII."""
    octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    encoding, body = "", octets
    if not octets.isascii() or b"\0" in octets or len(octets) > _LITERAL or _hazardous(octets):
        encoding, body = "quoted-printable", quoted_printable(octets)
    kind = media_type(declared)
    text = None
    if kind in ("text/plain", "text/html"):
        text = TextBody(body, kind == "text/html", charset, encoding or "7bit")
    return Coded(encoding, handed_out(body, made), text)


def _hazardous(octets: bytes) -> bool:
    return any(len(line) > _LONGEST_LINE or line.startswith(b"--") for line in octets.split(b"\r\n"))
