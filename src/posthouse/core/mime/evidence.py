"""What a header may mean beside what it plainly says: encodings and types that some reader may find in it.

Standards: RFC 2045 section 6; RFC 2046 section 5.2 for what is never shown whole.
"""

import re

from posthouse.core.mime.declared import ENCODINGS
from posthouse.core.mime.decode import BASE64, QUOTED_PRINTABLE
from posthouse.core.mime.header import Buffer, value
from posthouse.core.mime.part import Part

IDENTITY = frozenset({"7bit", "8bit", "binary"})
UUENCODE = "uuencode"
UUENCODED = frozenset({UUENCODE, "x-uuencode", "uue", "x-uue"})
_WORDS = ((b"base64", BASE64), (b"quoted", QUOTED_PRINTABLE), (b"printable", QUOTED_PRINTABLE), (b"uue", UUENCODE))
_EVERY = (BASE64, QUOTED_PRINTABLE, UUENCODE)
_PLAINLY_NONE = re.compile(rb"(?:(?:7|8)bits?|8bitmime|binary|none|no|plain|text(?:plain|html)?|ascii|usascii|utf8|)")
"""Misspelt, but no reader takes it for an encoding that changes octets."""
_LOWER = bytes(range(256)).lower()
_SQUEEZED_OUT = bytes(
    sorted(set(range(256)) - set(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:"))
)
_TYPE_LINE = re.compile(rb"type[\s\x00]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.I)
_TYPE = re.compile(rb"[a-z0-9][a-z0-9!#$&^_.+-]*+/[a-z0-9!#$&^_.+*-]++")
_CHARSET = re.compile(rb"charset[*\d\s]{0,8}=[\s\"']{0,4}([A-Za-z0-9_.:-]{1,40})", re.I)
_MOST_CHARSETS = 4
_MOST_TYPES = 16
NEVER_WHOLE = {
    "message/partial": "A part of the mail is message/partial: a fragment cannot be scanned.",
    "message/external-body": "A part of the mail is message/external-body: its content is elsewhere.",
}
"""Types whose content is not in the mail."""


def encodings(octets: Buffer, part: Part) -> tuple[str, ...]:
    """Encodings that readers may take for that of the part, the usual one first; one where there is no doubt."""
    given = [value(octets, one) for one in part.fields if one.name == "content-transfer-encoding"]
    words = named(bytes(octets[part.start : part.body]))
    usual = part.encoding
    clean = len(given) == 1 and given[0].lower() == usual.encode("latin-1")
    if not given and not words:
        return (usual,)
    if clean and usual in ENCODINGS and words <= {usual}:
        return (usual,)
    if not words and all(_PLAINLY_NONE.fullmatch(one.translate(_LOWER, _SQUEEZED_OUT)) for one in given):
        return ("7bit",)
    return (
        usual,
        *(one for one in (*_EVERY, "7bit") if one != usual and (one not in _EVERY or one in words or not words)),
    )


def named(header: bytes) -> frozenset[str]:
    """Encodings (no identities) whose names are somewhere in a header, whatever stands between the letters."""
    squeezed = header.translate(_LOWER, _SQUEEZED_OUT)
    return frozenset(encoding for word, encoding in _WORDS if word in squeezed)


def types(octets: Buffer, part: Part) -> tuple[str, ...]:
    """Every type that the header may declare, the usual one first."""
    header = bytes(octets[part.start : part.body])
    return tuple(dict.fromkeys((part.type, *types_in(header))))[:_MOST_TYPES]


def charsets(octets: Buffer, part: Part) -> tuple[str, ...]:
    """Every charset that the header may declare, the usual one first."""
    found = {part.charset: None}
    for one in _CHARSET.finditer(bytes(octets[part.start : part.body])):
        found[one.group(1).decode("ascii").lower()] = None
    return tuple(found)[:_MOST_CHARSETS]


def types_in(header: bytes) -> tuple[str, ...]:
    """Types that stand in what looks like a Content-Type field."""
    found: dict[str, None] = {}
    for line in _TYPE_LINE.finditer(header):
        text = line.group(1).lower()
        # A well-formed value has its type before the first semicolon; parameters may look like types (report-type).
        for one in _TYPE.finditer(text.partition(b";")[0].strip() or text):
            found[one.group().decode("ascii")] = None
            if len(found) >= _MOST_TYPES:
                return tuple(found)
    return tuple(found)
