"""Files inside a text: uuencode, yEnc and BinHex, which many readers decode wherever they stand.

Standards: RFC 1741 (BinHex 4.0); uuencode as POSIX has it; yEnc 1.3.
"""

import re
from binascii import Error, a2b_uu, crc_hqx
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.core.mime.decode import base64_digits

MOST = 100
"""Files of one text."""
_BEGIN = re.compile(rb"^[ \t]*+begin(-base64)?+[ \t]++[0-7]{1,6}[ \t]++([^\r\n]*+)\r?\n", re.M | re.I)
_END = re.compile(rb"^[ \t]*+(?:end|====)[ \t]*+\r?$", re.M)
_YBEGIN = re.compile(rb"^=ybegin[ ]([^\r\n]*+)\r?\n(?:=ypart[^\n]*+\n)?+", re.M)
_YEND = re.compile(rb"^=yend", re.M)
_YNAME = re.compile(rb"name=([^\r\n]*+)")
_MINUS = bytes((octet - 42) % 256 for octet in range(256))
_ESCAPED = bytes((octet - 64 - 42) % 256 for octet in range(256))
_HQX = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_TO_BASE64 = bytes.maketrans(_HQX, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_NOT_HQX = bytes(sorted(set(range(256)) - set(_HQX)))
_BINHEX = re.compile(rb"BinHex 4\.0\)[^:]{0,200}+:([^:]++)", re.I)
_RUN = re.compile(rb"(.?)\x90(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A file in a text."""

    name: bytes
    octets: bytes
    damaged: bool = False
    """Its checksum is wrong: readers may make something else of it."""


def embedded(text: bytes, most_octets: int) -> tuple[Embedded, ...]:
    """The files in `text`, at most `MOST`; what BinHex unpacks to is cut at `most_octets`. Linear, never raises."""
    found: list[Embedded] = []
    if b"begin" in text or b"BEGIN" in text:
        found.extend(_uuencoded(text))
    if b"=ybegin " in text:
        found.extend(_yenc(text))
    if b"inHex" in text:
        found.extend(_binhex(text, most_octets))
    return tuple(found[:MOST])


def uudecoded(lines: bytes) -> bytes:
    """Lines of uuencode without `begin` and `end`; what is none is passed over."""
    made = []
    for line in lines.split(b"\n"):
        line = line.rstrip(b"\r")
        if not line:
            continue
        try:
            made.append(a2b_uu(line))
        except Error:
            most = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                made.append(a2b_uu(line[:most]))
            except Error:
                continue
    return b"".join(made)


def _uuencoded(text: bytes) -> Iterator[Embedded]:
    at = 0
    for _ in range(MOST):
        begin = _BEGIN.search(text, at)
        if not begin:
            return
        end = _END.search(text, begin.end())
        at = end.end() if end else len(text)
        lines = text[begin.end() : end.start() if end else len(text)]
        if begin.group(1):
            yield Embedded(begin.group(2).strip(), base64_digits(lines))
        else:
            yield Embedded(begin.group(2).strip(), uudecoded(lines))


def _yenc(text: bytes) -> Iterator[Embedded]:
    at = 0
    for _ in range(MOST):
        begin = _YBEGIN.search(text, at)
        if not begin:
            return
        end = _YEND.search(text, begin.end())
        at = end.end() if end else len(text)
        first, *rest = text[begin.end() : end.start() if end else len(text)].translate(None, b"\r\n").split(b"=")
        made = [first.translate(_MINUS)]
        made.extend(piece[:1].translate(_ESCAPED) + piece[1:].translate(_MINUS) for piece in rest)
        name = _YNAME.search(begin.group(1))
        yield Embedded(name.group(1).strip() if name else b"", b"".join(made))


def _binhex(text: bytes, most: int) -> Iterator[Embedded]:
    for found, _ in zip(_BINHEX.finditer(text), range(MOST), strict=False):
        digits = found.group(1).translate(None, _NOT_HQX).translate(_TO_BASE64)
        packed = base64_digits(digits)
        runs = sum(packed[at.start(2)] for at in _RUN.finditer(packed))
        if len(packed) + runs > most:
            packed = packed[: max(1, most // 256)]
        octets = _RUN.sub(_run, packed)
        length = octets[0] + 1 if octets else 0
        head = octets[length + 11 : length + 15]
        if len(head) < 4:
            yield Embedded(b"", octets, damaged=True)
            continue
        size = int.from_bytes(head, "big")
        start = length + 21
        data = octets[start : start + size]
        check = int.from_bytes(octets[start + size : start + size + 2], "big")
        yield Embedded(octets[1:length], data or octets, len(data) < size or crc_hqx(data, 0) != check)


def _run(found: re.Match[bytes]) -> bytes:
    """A run: the octet, 0x90, and how often; 0x90 0 is 0x90 itself."""
    octet, count = found.group(1), found.group(2)[0]
    return octet + b"\x90" if count == 0 else octet * count
