"""Content-transfer-encodings, decoded as readers do it: where they differ over the malformed, each way is a reading.

A well-formed body has one decoding. Linear, never raises. Standards: RFC 2045 sections 6.7 and 6.8.
"""

import re
from binascii import Error, a2b_base64, a2b_qp
from collections.abc import Iterable, Iterator
from itertools import islice

_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_DIGITS = bytes(sorted(set(range(256)) - set(_DIGITS)))
_NO_DIGITS_OR_PAD = bytes(sorted(set(range(256)) - set(_DIGITS + b"=")))
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_PADDING = re.compile(rb"=[=\s]*+")
_MISPLACED = re.compile(rb"([^=]{2})=([^=])")
"""A padding that stands before the last digit of its four."""
_EMPTY_LINE = re.compile(rb"\n[ \t]*+\r?\n")
_BAD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n)")
_SOFT = re.compile(rb"=[ \t]*+(?:\r\n|\r|\n|\Z)")
_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")
_ESCAPE_OR_JUNK = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[^\s=]{0,2})")
_ESCAPE_OR_SIGN = re.compile(rb"=([0-9A-Fa-f]{2})?")
_SIGN_AND_BLANKS = re.compile(rb"=[ \t]*+(?:\r\n|\r|\n)|=[ \t]++")
_SIGN_AND_LETTER = re.compile(rb"=[^0-9A-F=\r\n]")
_TRAILING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n)")

BASE64, QUOTED_PRINTABLE = "base64", "quoted-printable"
LINES = 20_000
"""Of base64 with junk: lines that are decoded one by one."""


def decodings(body: bytes, encoding: str, most: int = 16) -> tuple[bytes, ...]:
    """Every plausible decoding of a body in base64 or quoted-printable, the usual one first; from 1 to `most`."""
    if encoding == BASE64:
        return _base64(body, most)
    if encoding == QUOTED_PRINTABLE:
        return _quoted_printable(body, most)
    return (body,)


def _base64(body: bytes, most: int) -> tuple[bytes, ...]:
    rest = body.translate(None, _DIGITS + b"\r\n")
    text = body.strip() if body[:1].isspace() or body[-1:].isspace() else body
    if rest in (b"", b"=", b"==") and text.endswith(rest) and b"\n\r\n" not in text and b"\n\n" not in text:
        try:
            return (a2b_base64(body),)
        except Error:
            return (_padded(body.translate(None, _NO_DIGITS)),)
    return distinct(islice(_base64_ways(body), most))


def _base64_ways(body: bytes) -> Iterator[bytes]:
    digits = body.translate(None, _NO_DIGITS)
    try:
        yield a2b_base64(body)
    except Error:
        yield _padded(digits)
    if b"=" in body:
        kept = body.translate(None, _NO_DIGITS_OR_PAD)
        yield b"".join(_padded(chunk) for chunk in _PADDING.split(kept))
        moved = _MISPLACED.sub(rb"\1\2=", kept)
        if moved != kept:
            yield b"".join(_padded(chunk) for chunk in _PADDING.split(moved))
        if b"=" in kept.strip(b"="):
            yield _padded(_PADDING.split(kept.lstrip(b"="), maxsplit=1)[0])
    yield _padded(digits)
    if b"-" in body or b"_" in body:
        yield _padded(body.translate(_URL_SAFE).translate(None, _NO_DIGITS))
    if _ESCAPE.search(body):
        yield _padded(_ESCAPE.sub(_octet, _SOFT.sub(b"", body)).translate(None, _NO_DIGITS))
    blank = _EMPTY_LINE.search(body)
    if blank:
        yield _padded(body[blank.end() :].translate(None, _NO_DIGITS))
    whole = [line for line in body.split(b"\n", LINES) if not line.strip().translate(None, _DIGITS + b"=")]
    yield _padded(b"".join(whole).translate(None, _NO_DIGITS))
    yield b"".join(_padded(line.translate(None, _NO_DIGITS)) for line in body.split(b"\n", LINES))


def _padded(digits: bytes) -> bytes:
    """Digits alone; a single one that is left over is dropped."""
    left = len(digits) % 4
    if left == 1:
        digits, left = digits[:-1], 0
    return a2b_base64(digits + b"=" * (-left % 4))


def _quoted_printable(body: bytes, most: int) -> tuple[bytes, ...]:
    if not _BAD_ESCAPE.search(body) and b"\r" not in body.replace(b"\r\n", b""):
        return (a2b_qp(body),)
    return distinct(islice(_quoted_printable_ways(body), most))


def _quoted_printable_ways(body: bytes) -> Iterator[bytes]:
    yield a2b_qp(body)
    soft = _SOFT.sub(b"", body)
    yield _ESCAPE.sub(_octet, soft)
    yield _ESCAPE.sub(_octet, _SOFT.sub(b"", _TRAILING.sub(b"", body)))
    yield _ESCAPE_OR_JUNK.sub(lambda found: _octet(found) if found.group(1) else b"", soft)
    yield _ESCAPE_OR_SIGN.sub(lambda found: _octet(found) if found.group(1) else b"", soft)
    yield _ESCAPE.sub(_octet, _SIGN_AND_BLANKS.sub(b"", body))
    yield _ESCAPE.sub(_octet, _SIGN_AND_LETTER.sub(b"", soft))


def base64_digits(text: bytes) -> bytes:
    """What the digits of base64 in `text` make, whatever stands between them."""
    return _padded(text.translate(None, _NO_DIGITS))


def _octet(found: re.Match[bytes]) -> bytes:
    return bytes((int(found.group(1), 16),))


def distinct(readings: Iterable[bytes]) -> tuple[bytes, ...]:
    """Each once, in their order; empty ones only if there is nothing else."""
    found = dict.fromkeys(readings)
    return tuple(one for one in found if one) or (b"",)
