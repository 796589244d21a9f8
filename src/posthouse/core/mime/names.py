"""Every reading of the name of a part.

Name rules look at each of them, so one reading too many is better than one too few where the fields are malformed; a
well-formed part has exactly its name. Standards: RFC 2183 section 2.3, RFC 2231, RFC 2047 section 5.
"""

import re
from collections.abc import Iterable

from posthouse.core.examination import NAME_LENGTH
from posthouse.core.mime.charset import decoded
from posthouse.core.mime.parameters import Parsed, continued, parse
from posthouse.core.mime.spellings import spellings
from posthouse.core.mime.words import decoded_words_in

MOST = 64
"""Readings of one part's name that are kept."""
_CHARSET = re.compile(rb"(?i)\b(?:file)?name\*0?\*?\s*=\s*\"?([A-Za-z0-9_.:-]{1,40})'")
_ESCAPES = re.compile(r"%([0-9A-Fa-f]{2})")


def names(values: Iterable[tuple[bytes, Parsed]]) -> tuple[str, ...]:
    """Readings of `filename` and `name` in Content-Disposition and Content-Type fields (unfolded, and parsed), the
    one that people are shown first. Without control characters, cut at 255: of a longer one both ends are given."""
    found: dict[str, None] = {}
    given = list(values)
    for key in (b"filename", b"name"):
        for raw, parsed in given:
            if b"name" not in raw.lower() and b"(" not in raw:
                continue
            charset = _CHARSET.search(raw)
            for octets in spellings(raw, key, parsed):
                for text in _texts(octets, charset.group(1).decode("ascii") if charset else ""):
                    _add(found, text)
    if len(given) > 1 and any(b"*" in raw for raw, _ in given):
        both = parse(b"; ".join(raw for raw, _ in given))
        for key in (b"filename", b"name"):
            _add(found, "".join(_texts(continued(both, key) or b"", "")[:1]))
    return tuple(found)[:MOST]


def file_name(octets: bytes) -> tuple[str, ...]:
    """Readings of a name that stands alone."""
    found: dict[str, None] = {}
    for text in _texts(octets, ""):
        _add(found, text)
    return tuple(found)


def _texts(octets: bytes, charset: str) -> list[str]:
    """The characters of a name, usual ones first."""
    texts = []
    if charset:
        text = decoded(octets, charset)
        if text is not None:
            texts.append(text)
    try:
        texts.append(octets.decode("utf-8"))
    except UnicodeDecodeError:
        texts.append(octets.decode("latin-1"))
    if "=?" in texts[-1]:
        texts.insert(0, decoded_words_in(texts[-1]))
    return texts


def _add(found: dict[str, None], text: str) -> None:
    """The name, and what it is where others cut it or decode it once more."""
    shown = printable_name(text)
    readings = [shown]
    if "%" in text and _ESCAPES.search(text):
        readings.append(printable_name(_ESCAPES.sub(lambda one: chr(int(one.group(1), 16)), text)))
    if "\x00" in text:
        readings.append(printable_name(text.partition("\x00")[0]))
    bare = shown.strip("'\"` ").rstrip(". \u00a0'\"")
    if bare != shown:
        readings.append(bare)
    for reading in readings:
        if not reading.strip() or len(found) >= MOST:
            continue
        found[reading[:NAME_LENGTH]] = None
        if len(reading) > NAME_LENGTH:
            found[reading[-NAME_LENGTH:]] = None


def printable_name(text: str) -> str:
    """Without control characters and the like."""
    text = text[:65536]
    return text if text.isprintable() else "".join(one for one in text if one.isprintable())
