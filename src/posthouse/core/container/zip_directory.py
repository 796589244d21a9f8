"""Where a zip says that its members are: every local header and every entry of every central directory.

Readers disagree on which of these count: some go by the central directory at the end, some from local header to local
header. Octets in front of a zip shift its offsets for some and not for others. So all are found, and what belongs to
the same local header is put together. Source: PKWARE APPNOTE 6.3.10 sections 4.3, 4.4, 4.5.
"""

import struct
from dataclasses import dataclass

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_LOCAL = struct.Struct("<4s2xHH4x4xIIHH")
_CENTRAL = struct.Struct("<4s4xHH4x4xIIHHH8xI")
_END = struct.Struct("<12xII2x")
_NEWEST = 100
"""Version needed to extract: a larger number stands in no zip."""
_WHOLE = 0xFFFFFFFF
"""The number stands in the zip64 field."""
_METHODS = frozenset((*range(21), *range(92, 100)))


@dataclass(frozen=True, slots=True)
class Entry:
    """What one header says of a member."""

    local: int
    """Offset of its local header, as written if `central`."""
    flags: int
    method: int
    packed: int
    """Octets; 0 in a local header may mean that a data descriptor follows."""
    unpacked: int
    name: bytes
    extra: bytes
    end: int
    """After this header."""


def local_at(octets: bytes, at: int) -> Entry | None:
    """The local header at `at` if there is one that can be true."""
    if not octets.startswith(LOCAL, at) or at + _LOCAL.size > len(octets):
        return None
    _, flags, method, packed, unpacked, name_length, extra_length = _LOCAL.unpack_from(octets, at)
    name_at = at + _LOCAL.size
    end = name_at + name_length + extra_length
    version = int.from_bytes(octets[at + 4 : at + 5], "little")
    if end > len(octets) or version > _NEWEST or method not in _METHODS:
        return None
    name, extra = octets[name_at : name_at + name_length], octets[name_at + name_length : end]
    unpacked, packed = _zip64(extra, unpacked, packed)
    return Entry(at, flags, method, packed, unpacked, name, extra, end)


def central_at(octets: bytes, at: int) -> Entry | None:
    """The entry of a central directory at `at`; its `end` is behind its comment."""
    if not octets.startswith(CENTRAL, at) or at + _CENTRAL.size > len(octets):
        return None
    _, flags, method, packed, unpacked, name_length, extra_length, comment_length, local = _CENTRAL.unpack_from(
        octets, at
    )
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_length
    end = extra_at + extra_length + comment_length
    if end > len(octets):
        return None
    extra = octets[extra_at : extra_at + extra_length]
    unpacked, packed, local = _zip64(extra, unpacked, packed, local)
    return Entry(local, flags, method, packed, unpacked, octets[name_at:extra_at], extra, end)


def _zip64(extra: bytes, *numbers: int) -> tuple[int, ...]:
    """The numbers, those that are 0xFFFFFFFF from the zip64 field, in their order (4.5.3)."""
    if _WHOLE not in numbers:
        return numbers
    body = extra_fields(extra).get(0x0001, b"")
    read = []
    for number in numbers:
        if number == _WHOLE and len(body) >= 8:
            number, body = int.from_bytes(body[:8], "little"), body[8:]
        read.append(number)
    return tuple(read)


def extra_fields(extra: bytes) -> dict[int, bytes]:
    """By header id; the first of each."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        fields.setdefault(kind, extra[at + 4 : at + 4 + length])
        at += 4 + length
    return fields


def directory(octets: bytes, end: int, most: int) -> tuple[list[Entry], int]:
    """The entries of the directory that the end record at `end` names, `most` of them, and how far all offsets are
    shifted.

    The directory stands straight in front of its end record by most readers, where the record says by others.
    """
    if end + _END.size > len(octets):
        return [], 0
    size, start = _END.unpack_from(octets, end)
    candidates = [end - size, start]
    if octets.startswith(b"PK\x06\x07", end - 20):
        record = int.from_bytes(octets[end - 12 : end - 4], "little")
        if octets.startswith(b"PK\x06\x06", record):
            size, start = struct.unpack_from("<QQ", octets, record + 40) if record + 56 <= len(octets) else (0, 0)
            candidates = [record - size, start, *candidates]
    for candidate in candidates:
        if 0 <= candidate < len(octets) and octets.startswith(CENTRAL, candidate):
            return _walk(octets, candidate, most), max(candidate - start, 0)
    return [], 0


def _walk(octets: bytes, at: int, most: int) -> list[Entry]:
    entries: list[Entry] = []
    while len(entries) < most and (entry := central_at(octets, at)):
        entries.append(entry)
        at = entry.end
    return entries
