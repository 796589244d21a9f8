"""Whether octets are encrypted, as far as this can be seen without a key.

Zips tell it for each member (`zip_file`), RAR archives too (`rar_file`). Sources: ISO 32000-1 section 7.6;
MS-OFFCRYPTO 2.3; MS-DOC 2.5.2; MS-XLS 2.4.117. Standards: RFC 5652 section 3; RFC 9580 section 6.2.
"""

import re

from posthouse.core.container.rar_file import rar_listed
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
_SEARCHED = 64 * 1024
"""Octets of a text in which PGP armour is looked for."""


def encryption_of(octets: bytes) -> str:
    """As in `PartFacts.encrypted`; empty if nothing of it is seen."""
    if octets.startswith(_OLE):
        return "office" if _office(octets) else ""
    if octets.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "7z" if seven_zip_encrypted(octets) else ""
    if octets.startswith(b"Rar!"):
        return "rar" if any(encrypted for _, encrypted in rar_listed(octets)) else ""
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
