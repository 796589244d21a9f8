"""Every reading of one parameter: what one reader or another takes for its value.

Readers differ in repeated parameters, in the parts of RFC 2231 (order, gaps, charset, percent signs, plain beside
starred), in quotes, comments, blanks and encoded words (RFC 2047 section 5 forbids them here, many decode them).
"""

import re
from collections.abc import Iterable, Iterator

from posthouse.core.mime.parameters import Parsed, continued, parse, percent_decoded, unquoted
from posthouse.core.mime.words import decoded_words_in

MOST = 48
"""Readings of one value that are kept."""
_HITS = 6
_LONG = 4096
_SECTIONS = 500
_QUOTED = re.compile(rb'"([^"]*+)"')
_AFTER = {
    name: re.compile(rb"(?i)" + name + rb"[\x00-\x20]*+(?:\*\d*+\*?+)?+[\x00-\x20]*+=[ \t]?+")
    for name in (b"boundary", b"filename")
} | {b"name": re.compile(rb"(?i)(?<!file)name[\x00-\x20]*+(?:\*\d*+\*?+)?+[\x00-\x20]*+=[ \t]?+")}
_BREAKS = (re.compile(rb";"), re.compile(rb"[\s;]"), re.compile(rb'[\s;"\x00(,]'), re.compile(rb"[\r\x00]"))


def spellings(raw: bytes, name: bytes, parsed: Parsed | None = None) -> tuple[bytes, ...]:
    """Readings of parameter `name` (`boundary`, `name`, `filename`) of an unfolded value, the usual one
    first; one at most where the value is well-formed, empty where there is none."""
    parsed = parsed or parse(raw)
    plain = [text for given, text in parsed.parameters if given == name]
    parts = sum(1 for given, _ in parsed.parameters if given.startswith(name + b"*"))
    extended = continued(parsed, name) if parts else None
    if not parsed.odd and len(_AFTER[name].findall(raw)) == len(plain) + parts:
        if not parts and len(plain) < 2:
            return tuple(plain)
        if not plain and extended is not None and _tidy(parsed, name):
            return (extended,)
    found = dict.fromkeys(plain[:1])
    if extended is not None:
        found[extended] = None
    found.update(dict.fromkeys(reversed(plain[-_HITS:])))
    found.update(dict.fromkeys(plain[:_HITS]))
    for reading in _joined(parsed, name) if parts else ():
        found[reading] = None
    for reading in _naive(raw, name):
        if len(found) >= MOST:
            break
        found[reading] = None
    return tuple(reading for reading in found if reading)[:MOST]


def _tidy(parsed: Parsed, name: bytes) -> bool:
    """Its parts stand in their order, from 0 or alone, without a gap."""
    at = 0
    encoded = False
    for given, text in parsed.parameters:
        if given.startswith(name + b"*"):
            number = given[len(name) + 1 :].rstrip(b"*")
            if at == 0:
                encoded = given.endswith(b"*")
            if (number or b"0") != b"%d" % at or (given.endswith(b"*") and not encoded):
                return False
            if at == 0 and encoded and text.count(b"'") < 2:
                return False
            if b"%" in text and not given.endswith(b"*"):
                return False
            at += 1
    return True


def _joined(parsed: Parsed, name: bytes) -> Iterator[bytes]:
    """The parts of a starred parameter, put together in each of several ways."""
    written = [
        (number, text, given.endswith(b"*"))
        for given, text in parsed.parameters
        if given.startswith(name + b"*") and (number := _number(given[len(name) + 1 :])) is not None
    ][:_SECTIONS]
    first: dict[int, tuple[bytes, bool]] = {}
    last: dict[int, tuple[bytes, bool]] = {}
    for number, text, encoded in written:
        first.setdefault(number, (text, encoded))
        last[number] = (text, encoded)
    orders: list[list[tuple[bytes, bool]]] = [
        [first[number] for number in sorted(first)],
        [last[number] for number in sorted(last)],
        [first[number] for number in first],
        [last[number] for number in last],
        [(text, encoded) for _, text, encoded in written],
    ]
    for order in orders:
        for decoding in (None, True, False):
            bare = [percent_decoded(text) if (encoded if decoding is None else decoding) else text
                    for text, encoded in order]  # fmt: skip
            yield b"".join(bare)
            yield b"".join(text.split(b"'", 2)[-1] if text.count(b"'") >= 2 else text for text in bare)
    if written:
        yield written[0][1]
        yield written[-1][1]


def _number(digits: bytes) -> int | None:
    digits = digits.rstrip(b"*")
    if not digits:
        return 0
    return int(digits) if digits.isdigit() and len(digits) < 6 else None


def _naive(raw: bytes, name: bytes) -> Iterator[bytes]:
    """What readers find that look for the name and the sign alone."""
    hits = [found.end() for found in _AFTER[name].finditer(raw)]
    for at in dict.fromkeys(hits[:_HITS] + hits[-_HITS:]):
        rest = raw[at : at + _LONG]
        yield from _with_words(_cuts(rest))


def _cuts(rest: bytes) -> Iterator[bytes]:
    quoted = rest.lstrip()
    if quoted[:1] == b'"':
        yield unquoted(quoted)
        yield quoted[1:].partition(b'"')[0]
    for pattern in _BREAKS:
        text = pattern.split(rest, maxsplit=1)[0]
        yield text
        yield text.strip(b' \t\r\n"')
        yield text.lstrip().replace(b"\\", b"").strip(b'"')
    inside = _QUOTED.search(rest)
    if inside:
        yield inside.group(1)
        yield inside.group(1).rstrip(b"\\")
    yield rest.replace(b'"', b"")


def _with_words(readings: Iterable[bytes]) -> Iterator[bytes]:
    for reading in readings:
        yield reading
        if b"=?" in reading:
            yield decoded_words_in(reading.decode("utf-8", "replace")).encode("utf-8", "replace")
