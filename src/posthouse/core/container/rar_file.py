"""Names in RAR archives, and whether they are encrypted. Their members are not unpacked.

Sources: technical note of RAR 5.0; technote.txt of RAR 4.
"""

from collections.abc import Iterator

from posthouse.core.container.budget import Allowance, Contents, Exhausted, Fault, Member
from posthouse.core.container.zip_name import decoded

_RAR_4, _RAR_5 = b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"
_BLOCKS = 10_000
_ARCHIVE_4, _FILE_4 = 0x73, 0x74
_FILE_5, _SERVICE_5, _ENCRYPTION_5 = 2, 3, 4

Listed = Iterator[tuple[bytes, bool]]
"""The name of each file, and whether it is encrypted; no name and True if the names are encrypted too."""


def looks_like_rar(octets: bytes) -> bool:
    return octets.startswith((_RAR_4, _RAR_5))


def open_rar(octets: bytes, allowance: Allowance) -> Contents:
    """Its members without their octets."""
    try:
        for name, encrypted in rar_listed(octets):
            if name:
                allowance.take_entry()
                names = decoded(name.replace(b"\\", b"/"))
                yield Member(tuple(names), b"", "rar" if encrypted else "")
    except Exhausted as limit:
        yield Fault(str(limit))


def rar_listed(octets: bytes) -> Listed:
    """As far as headers can be read; nothing if the octets are no RAR archive."""
    if octets.startswith(_RAR_5):
        return _rar_5(octets)
    return _rar_4(octets) if octets.startswith(_RAR_4) else iter(())


def _rar_4(octets: bytes) -> Listed:
    """The first block after the marker is the archive's: bit 7, encrypted headers; in a file's block bit 2."""
    at = len(_RAR_4)
    for _ in range(_BLOCKS):
        if at + 7 > len(octets):
            return
        kind, flags = octets[at + 2], int.from_bytes(octets[at + 3 : at + 5], "little")
        size = int.from_bytes(octets[at + 5 : at + 7], "little")
        if kind == _ARCHIVE_4 and flags & 0x0080:
            yield b"", True
            return
        if kind == _FILE_4:
            name_at = at + (40 if flags & 0x0100 else 32)
            name = octets[name_at : name_at + int.from_bytes(octets[at + 26 : at + 28], "little")]
            # With bit 9 the name is given twice: in the charset of the system, and after a NUL in Unicode, packed.
            yield name.partition(b"\x00")[0], bool(flags & 0x0004)
        if flags & 0x8000 or kind == _FILE_4:
            size += int.from_bytes(octets[at + 7 : at + 11], "little")
        at += max(size, 7)


def _rar_5(octets: bytes) -> Listed:
    """A header of type 4 is that of encrypted headers; in the extra area of a file, record 1 is its encryption."""
    at = len(_RAR_5)
    for _ in range(_BLOCKS):
        size, start = _vint(octets, at + 4)
        kind, after = _vint(octets, start)
        flags, after = _vint(octets, after)
        if start >= len(octets) or not size:
            return
        if kind == _ENCRYPTION_5:
            yield b"", True
            return
        extra = data = 0
        if flags & 0x01:
            extra, after = _vint(octets, after)
        if flags & 0x02:
            data, after = _vint(octets, after)
        end = start + size
        if kind in (_FILE_5, _SERVICE_5):
            encrypted = bool(extra) and _has_record(octets, max(end - extra, start), end)
            name = _name_5(octets, after) if kind == _FILE_5 else b""
            if name or encrypted:
                yield name, encrypted
        at = end + data


def _name_5(octets: bytes, at: int) -> bytes:
    flags, at = _vint(octets, at)
    for _ in range(2):
        # Size and attributes.
        _, at = _vint(octets, at)
    at += (4 if flags & 0x02 else 0) + (4 if flags & 0x04 else 0)
    for _ in range(2):
        # Compression and system.
        _, at = _vint(octets, at)
    length, at = _vint(octets, at)
    return octets[at : at + min(length, 4096)]


def _has_record(octets: bytes, at: int, end: int) -> bool:
    for _ in range(64):
        if at >= min(end, len(octets)):
            break
        size, start = _vint(octets, at)
        kind, _ = _vint(octets, start)
        if kind == 1:
            return True
        at = start + max(size, 1)
    return False


def _vint(octets: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits an octet, the lowest first, and where it ends; past the end, 0."""
    value = 0
    for shift in range(0, 70, 7):
        octet = octets[at] if at < len(octets) else 0
        value |= (octet & 0x7F) << shift
        at += 1
        if not octet & 0x80:
            break
    return value, at
