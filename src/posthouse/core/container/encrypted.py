"""Whether octets are encrypted, as far as this can be seen without a key.

Zips tell it for each member (`zip_file`). Sources: technical note of RAR 5.0; 7zFormat.txt of the LZMA SDK; ISO
32000-1 section 7.6; MS-OFFCRYPTO 2.3; MS-DOC 2.5.2; MS-XLS 2.4.117. Standards: RFC 5652 section 3; RFC 9580 section
6.2.
"""

import re

from posthouse.core.container.seven_zip import seven_zip_encrypted

_PDF_ENCRYPT = re.compile(
    rb"/(?:E|#45)(?:n|#6e)(?:c|#63)(?:r|#72)(?:y|#79)(?:p|#70)(?:t|#74)(?![A-Za-z0-9#_])",
    re.IGNORECASE,
)
_PGP = re.compile(rb"(?m)^[ \t>]{0,16}-----BEGIN PGP MESSAGE(?:, PART [0-9/]{1,9})?-----[ \t]*\r?$")
_CMS = re.compile(
    rb"0(?:\x80|[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)"
    rb"\x06(?:\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07[\x03\x06]|\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17)",
    re.DOTALL,
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = tuple(name.encode("utf-16-le") for name in ("EncryptedPackage", "EncryptionInfo", "EncryptedSummary"))
_RAR_4, _RAR_5 = b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"
_RAR_BLOCKS = 2000
_SEARCHED = 64 * 1024
"""Octets of a text in which PGP armour is looked for."""


def encryption_of(octets: bytes) -> str:
    """As in `PartFacts.encrypted`; empty if nothing of it is seen."""
    if octets.startswith(_OLE):
        return "office" if _office(octets) else ""
    if octets.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "7z" if seven_zip_encrypted(octets) else ""
    if octets.startswith(b"Rar!"):
        return "rar" if _rar(octets) else ""
    if octets.startswith(b"0") and _CMS.match(octets):
        return "s/mime"
    if b"%PDF" in octets[:1024]:
        return "pdf" if _PDF_ENCRYPT.search(octets) else ""
    if b"-----BEGIN PGP MESSAGE" in octets[:_SEARCHED] and _PGP.search(octets[:_SEARCHED]):
        return "pgp"
    return ""


def _office(octets: bytes) -> bool:
    """Encrypted OOXML in an OLE file; Word 97 (fEncrypted) and Excel 97 (FilePass) whose stream stands first."""
    if any(name in octets for name in _OLE_STREAMS):
        return True
    stream = octets[512:1024]
    if stream.startswith(b"\xec\xa5"):
        return bool(stream[11:12] and stream[11] & 0x01)
    if stream.startswith((b"\x09\x08\x10\x00", b"\x09\x08\x08\x00")):
        after = 4 + int.from_bytes(stream[2:4], "little")
        return stream[after : after + 2] == b"\x2f\x00"
    return False


def _rar(octets: bytes) -> bool:
    if octets.startswith(_RAR_5):
        return _rar_5(octets)
    return octets.startswith(_RAR_4) and _rar_4(octets)


def _rar_4(octets: bytes) -> bool:
    """The first block after the marker is the archive's: bit 7, encrypted headers; in a file's block bit 2."""
    at = len(_RAR_4)
    for _ in range(_RAR_BLOCKS):
        if at + 7 > len(octets):
            break
        kind, flags = octets[at + 2], int.from_bytes(octets[at + 3 : at + 5], "little")
        size = int.from_bytes(octets[at + 5 : at + 7], "little")
        if (kind == 0x73 and flags & 0x0080) or (kind == 0x74 and flags & 0x0004):
            return True
        if flags & 0x8000 or kind == 0x74:
            size += int.from_bytes(octets[at + 7 : at + 11], "little")
        at += max(size, 7)
    return False


def _rar_5(octets: bytes) -> bool:
    """A header of type 4 is that of encrypted headers; in the extra area of a file, record 1 is its encryption."""
    at = len(_RAR_5)
    for _ in range(_RAR_BLOCKS):
        size, start = _vint(octets, at + 4)
        kind, after = _vint(octets, start)
        flags, after = _vint(octets, after)
        if start >= len(octets) or not size:
            break
        if kind == 4:
            return True
        extra = data = 0
        if flags & 0x01:
            extra, after = _vint(octets, after)
        if flags & 0x02:
            data, after = _vint(octets, after)
        end = start + size
        if kind in (2, 3) and extra and _has_record(octets, max(end - extra, start), end):
            return True
        at = end + data
    return False


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
