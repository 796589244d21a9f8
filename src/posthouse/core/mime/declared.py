"""What the header of a part declares: type, charset, encoding, disposition, names, boundary.

Standards: RFC 2045 sections 5 and 6, RFC 2046 section 5.1, RFC 2183.
"""

import re
from dataclasses import dataclass, replace

from posthouse.core.mime.header import Buffer, Header, Manner, value
from posthouse.core.mime.names import names
from posthouse.core.mime.parameters import Parsed, parameter, parse
from posthouse.core.mime.spellings import spellings

ENCODINGS = frozenset({"7bit", "8bit", "binary", "base64", "quoted-printable"})
LONGEST = 65_536
"""Octets of a structured value that are read."""
MOST = 16
"""Fields of one name that are read: the first ones, and the last one."""
_OURS = frozenset({"content-type", "content-transfer-encoding", "content-disposition", "content-id"})
_TYPE = re.compile(rb"[a-z0-9][a-z0-9!#$&^_.+-]*+/[a-z0-9!#$&^_.+*-]++")
_ENCODING = re.compile(rb"[a-z0-9_-]++")
_COMMENT = re.compile(rb"\([^()]*+\)")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a header says of its part, in one manner."""

    type: str
    charset: str
    encoding: str
    disposition: str
    names: tuple[str, ...]
    content_id: str
    boundaries: tuple[bytes, ...]
    """Readings of the boundary, the usual one first."""
    odd: bool
    """A field is repeated, malformed or unknown: some readers may read it otherwise."""
    cut: bool
    """A field is longer than `LONGEST`, or repeated more than `MOST` times: the rest was not read."""


def declared(octets: Buffer, header: Header, manner: Manner, default: str = "text/plain") -> Declared:
    """`default`: the type of a part that declares none."""
    given: dict[str, list[bytes]] = {}
    odd = header.odd
    cut = False
    for field in header.fields:
        if field.name in _OURS:
            values = given.setdefault(field.name, [])
            long = field.end - field.value > LONGEST
            cut = cut or long or len(values) >= MOST
            del values[MOST - 1 :]
            values.append(value(octets, replace(field, end=field.value + LONGEST) if long else field))
        elif field.name.startswith("content-t") or field.name.startswith("content_"):
            odd = True
    at = -1 if manner.last else 0
    types = given.get("content-type")
    dispositions = given.get("content-disposition")
    parsed: list[tuple[bytes, Parsed]] = []
    type_, charset, boundaries, disposition = default, "us-ascii", tuple[bytes, ...](), ""
    if types:
        odd = odd or len(types) > 1
        raw = _plain(types[at], manner)
        mine = parse(raw)
        type_ = _type(mine.main)
        odd = odd or mine.odd or type_.encode("latin-1") != mine.main
        charset = (parameter(mine, b"charset") or b"us-ascii").decode("latin-1").lower()
        boundaries = tuple(dict.fromkeys(one.rstrip() for one in spellings(raw, b"boundary", mine) if one.strip()))
        parsed = [(raw, mine), *((other, parse(other)) for other in types if other is not raw)]
        if len(types) > 1:
            more = (spellings(other, b"boundary", other_parsed) for other, other_parsed in parsed[1:])
            boundaries = tuple(dict.fromkeys([*boundaries, *(one for found in more for one in found)]))
        odd = odd or len(boundaries) > 1
    if dispositions:
        first = parse(dispositions[at])
        odd = odd or len(dispositions) > 1 or first.odd
        disposition = first.main.decode("latin-1").split()[0] if first.main.split() else ""
        parsed = [(raw, parse(raw)) for raw in dispositions] + parsed
    encodings = given.get("content-transfer-encoding", [])
    encoding = _encoding(_plain(encodings[at], manner)) if encodings else "7bit"
    odd = odd or len(encodings) > 1 or (bool(encodings) and encodings[0].lower() != encoding.encode("latin-1"))
    return Declared(
        type=type_,
        charset=charset[:80],
        encoding=encoding,
        disposition=disposition[:80],
        names=names(parsed) if parsed else (),
        content_id=given["content-id"][0].decode("latin-1").strip(" <>")[:255] if "content-id" in given else "",
        boundaries=boundaries,
        odd=odd or encoding not in ENCODINGS,
        cut=cut,
    )


def _plain(text: bytes, manner: Manner) -> bytes:
    return text.translate(None, bytes(range(0x20)) + b"\x7f") if manner.squeezed else text


def _type(main: bytes) -> str:
    """`text/plain` where it is none."""
    found = _TYPE.match(main)
    return found.group().decode("ascii") if found else "text/plain"


def _encoding(raw: bytes) -> str:
    """Its first word, without comments."""
    found = _ENCODING.search(_COMMENT.sub(b" ", raw.lower()) if b"(" in raw else raw.lower())
    return found.group().decode("ascii")[:80] if found else "7bit"
