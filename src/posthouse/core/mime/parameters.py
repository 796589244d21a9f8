"""Structured header fields of MIME: a value and its parameters.

Reads `text/plain; charset="utf-8"` as the standards say, and in the tolerant way of most readers where it is
malformed. Standards: RFC 2045 section 5.1, RFC 2231 sections 3 and 4.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parsed:
    """A structured value."""

    main: bytes
    """What stands before the first semicolon, lower case, without comments and blanks."""
    parameters: tuple[tuple[bytes, bytes], ...]
    """Names in lower case, as written (`filename*0*`); values unquoted."""
    odd: bool
    """It breaks the grammar: some readers may read it otherwise."""


_TOKEN = rb"[!#$&'*+.0-9A-Z^_`a-z{|}~-]++"
_GIVEN = (
    rb';[ \t]*+([!#$&\'*+.0-9A-Z^_`a-z{|}~-]++)=("[^"\\\x00-\x08\x0a-\x1f]*+"|[^\x00-\x20"\\;()<>,=\x7f]++)[ \t]*+'
)
_STRICT = re.compile(
    rb"(" + _TOKEN + rb"(?:/" + _TOKEN + rb")?+)[ \t]*+((?:" + _GIVEN.replace(b"(", b"(?:", 1) + rb")*+);?+[ \t]*+\Z"
)
_EACH = re.compile(_GIVEN)
_PIECE = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[;()]|[^";()]++', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def parse(text: bytes) -> Parsed:
    """The value of a field, unfolded. Never raises; linear."""
    strict = _STRICT.match(text)
    if strict:
        pairs = _EACH.findall(strict.group(2)) if strict.group(2) else []
        given = tuple((name.lower(), text[1:-1] if text[:1] == b'"' else text) for name, text in pairs)
        return Parsed(strict.group(1).lower(), given, len({name for name, _ in given}) != len(given))
    sections = split(text)
    parameters = []
    for section in sections[1:]:
        name, sign, given_value = section.partition(b"=")
        if sign:
            parameters.append((name.strip().lower(), unquoted(given_value.strip())))
    return Parsed(sections[0].strip().lower(), tuple(parameters), True)


def split(text: bytes) -> list[bytes]:
    """At each semicolon that is neither quoted nor in a comment; comments are left out."""
    sections: list[list[bytes]] = [[]]
    depth = 0
    for found in _PIECE.finditer(text):
        piece = found.group()
        if piece == b"(":
            depth += 1
        elif piece == b")" and depth:
            depth -= 1
        elif depth:
            continue
        elif piece == b";":
            sections.append([])
        else:
            sections[-1].append(piece)
    return [b"".join(section) for section in sections]


def unquoted(text: bytes) -> bytes:
    """Without the quotes around it and the backslashes of quoted pairs; a quote may be missing."""
    if text[:1] != b'"':
        return text
    closing = re.match(rb'"((?:[^"\\]++|\\.)*+)', text, re.DOTALL)
    return _ESCAPED.sub(rb"\1", closing.group(1)) if closing else text


def parameter(parsed: Parsed, name: bytes) -> bytes | None:
    """The first plain one; else what RFC 2231 makes of its parts; None where there is none."""
    for given, text in parsed.parameters:
        if given == name:
            return text
    return continued(parsed, name)


def continued(parsed: Parsed, name: bytes) -> bytes | None:
    """The extended parameter (RFC 2231): parts in their order, percent signs decoded, without the charset."""
    sections: dict[int, tuple[bytes, bool]] = {}
    for given, text in parsed.parameters:
        if not given.startswith(name + b"*"):
            continue
        rest = given[len(name) + 1 :]
        encoded = rest.endswith(b"*") or not rest
        digits = rest.rstrip(b"*")
        if digits and not (digits.isdigit() and len(digits) < 6):
            continue
        sections.setdefault(int(digits or b"0"), (text, encoded))
    if 0 not in sections:
        return None
    joined = []
    for number in range(len(sections)):
        if number not in sections:
            break
        text, encoded = sections[number]
        if encoded:
            if number == 0 and text.count(b"'") >= 2:
                text = text.split(b"'", 2)[2]
            text = percent_decoded(text)
        joined.append(text)
    return b"".join(joined)


_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def percent_decoded(text: bytes) -> bytes:
    return _PERCENT.sub(lambda found: bytes([int(found.group(1), 16)]), text) if b"%" in text else text
