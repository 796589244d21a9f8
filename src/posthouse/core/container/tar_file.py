"""Opens tar archives: ustar, pax, GNU and the form without a magic number, damaged ones as far as headers are found.

Standards: POSIX.1-2017 pax, section "ustar Interchange Format"; the manual of GNU tar, "Basic Tar Format".
"""

import re
from dataclasses import dataclass

from posthouse.core.container.budget import Allowance, Contents, Exhausted, Fault, Member
from posthouse.core.container.zip_name import decoded

_BLOCK = 512
_OWN_NAME = 1024 * 1024
"""Octets of a long name or a pax header."""
_MOST_NAMES = 100
_PAX_RECORD = re.compile(rb"(\d{1,10}) ")
_OCTAL = re.compile(rb"[\x00 ]*([0-7]*)")
_LINKS = b"123456"
"""Links, devices, folders: they have no octets."""


@dataclass(slots=True)
class _Said:
    """What headers in front of a member's own say of it."""

    names: tuple[str, ...] = ()
    size: int | None = None
    sparse: bool = False


def looks_like_tar(octets: bytes) -> bool:
    """A header whose sum is right stands at the beginning."""
    return _checked(octets, 0)


def open_tar(octets: bytes, allowance: Allowance) -> Contents:
    """Its members, in their order; also those behind an end mark or a damaged place."""
    try:
        yield from _open(octets, allowance)
    except Exhausted as limit:
        yield Fault(str(limit))


def _open(octets: bytes, allowance: Allowance) -> Contents:
    at, said = 0, _Said()
    while at + _BLOCK <= len(octets):
        if not _checked(octets, at):
            if octets.count(b"\x00", at, at + _BLOCK) != _BLOCK:
                yield Fault("damaged")
                at = _next_header(octets, at + _BLOCK)
            else:
                at += _BLOCK
            continue
        kind = octets[at + 156 : at + 157]
        sizes = _sizes(octets[at + 124 : at + 136])
        own = max(sizes)
        size = own if said.size is None or kind in b"LKxgX" else said.size
        start = at + _BLOCK
        body = octets[start : start + (size if kind not in b"LKxgX" else min(size, _OWN_NAME))]
        at = start + -(-size // _BLOCK) * _BLOCK
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            if _read_ahead(kind, body, said):
                yield Fault("some readers take other names or sizes of its members")
            if len(said.names) > _MOST_NAMES:
                yield Fault("a member has too many names")
                said.names = said.names[-_MOST_NAMES:]
            if start + size > len(octets) or size > _OWN_NAME:
                yield Fault("it breaks off" if size <= _OWN_NAME else "a name is too long")
            continue
        allowance.take_entry()
        names = tuple(name for name in (*said.names, *_names(octets, start - _BLOCK)) if name)
        if kind in _LINKS:
            if size:
                # Some readers step over the octets of such a member, others read them as headers.
                yield Fault("a member without octets has a size")
            if kind != b"5":
                yield Member(names, b"")
        else:
            allowance.take(len(body))
            yield Member(names, body)
            if start + size > len(octets):
                yield Fault("it breaks off")
        if own not in (0, size) or len(sizes) > 1:
            yield Fault("its headers give different sizes of a member")
        if said.sparse or kind == b"S":
            yield Fault("a member has holes")
        said = _Said()


def _checked(octets: bytes, at: int) -> bool:
    """The sum of a header counts its own field as blanks; old programs took octets as signed."""
    block = octets[at : at + _BLOCK]
    if len(block) < _BLOCK or not block[0]:
        return False
    told = _octal(block[148:156])
    if not told:
        return False
    counted = block[:148] + b" " * 8 + block[156:]
    total = sum(counted)
    return total in told or total - 256 * sum(octet > 127 for octet in counted) in told


def _next_header(octets: bytes, at: int) -> int:
    while at + _BLOCK <= len(octets) and not _checked(octets, at):
        at += _BLOCK
    return at


def _octal(field: bytes) -> set[int]:
    """Readings of a number: digits after blanks; what stands before the first NUL, as Python reads numbers."""
    found = set()
    if (match := _OCTAL.match(field)) and match[1]:
        found.add(int(match[1], 8))
    try:
        found.add(int(field.partition(b"\x00")[0].strip() or b"0", 8))
    except ValueError:
        pass
    return {number for number in found if number >= 0}


def _sizes(field: bytes) -> set[int]:
    """Readings of a size: octal, or base 256 if the first bit is set."""
    if field[0] & 0x80:
        return {int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")}
    return _octal(field) or {0}


def _names(octets: bytes, header: int) -> tuple[str, ...]:
    name = octets[header : header + 100].partition(b"\x00")[0]
    readings = decoded(name)
    if octets.startswith(b"ustar\x00", header + 257):
        prefix = octets[header + 345 : header + 500].partition(b"\x00")[0]
        readings = [f"{folder}/{text}" for folder in decoded(prefix) for text in readings] if prefix else readings
    return tuple(dict.fromkeys(readings))


def _read_ahead(kind: bytes, body: bytes, said: _Said) -> bool:
    """Whether it names all that follow, which not all readers heed."""
    if kind == b"L":
        said.names += tuple(decoded(body.partition(b"\x00")[0]))
    elif kind in (b"x", b"X"):
        for key, value in _pax(body):
            if key in (b"path", b"GNU.sparse.name"):
                said.names += tuple(decoded(value))
            elif key == b"size" and value.isdigit() and len(value) < 20:
                said.size = int(value)
            said.sparse |= key.startswith(b"GNU.sparse.")
    return kind == b"g" and any(key in (b"path", b"size") for key, _ in _pax(body))


def _pax(body: bytes) -> list[tuple[bytes, bytes]]:
    records = []
    at = 0
    while match := _PAX_RECORD.match(body, at):
        end = at + int(match[1])
        key, equals, value = body[match.end() : end].partition(b"=")
        if end <= match.end() or not equals:
            break
        records.append((key, value.removesuffix(b"\n")))
        at = end
    return records
