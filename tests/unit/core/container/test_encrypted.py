"""What is encrypted, as far as this can be seen."""

import lzma

import pytest

from posthouse.core.container.encrypted import encryption_of

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
AES = b"\x06\xf1\x07\x01"
CMS = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07"


def seven_zip(header: bytes, body: bytes = b"") -> bytes:
    start = len(body).to_bytes(8, "little") + len(header).to_bytes(8, "little")
    return b"7z\xbc\xaf\x27\x1c\0\4" + bytes(4) + start + bytes(4) + body + header


def seven_zip_packed(header: bytes) -> bytes:
    """With a header that is packed by LZMA, as 7-Zip writes it."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16}]
    packed = lzma.compress(header, lzma.FORMAT_RAW, filters=filters)
    properties = b"\x5d" + (1 << 16).to_bytes(4, "little")
    return seven_zip(
        b"\x17\x06" + bytes((0, 1, 9, len(packed), 0, 7, 11, 1, 0, 1, 0x23)) + b"\x03\x01\x01\x05" + properties,
        packed,
    )


def rar_4(kind: int, flags: int) -> bytes:
    first = bytes(2) + bytes((0x73,)) + (flags if kind == 0x73 else 0).to_bytes(2, "little") + b"\x0d\0" + bytes(6)
    block = bytes(2) + bytes((0x74,)) + (flags if kind == 0x74 else 0).to_bytes(2, "little") + b"\x20\0" + bytes(25)
    return b"Rar!\x1a\x07\0" + first + block


def rar_5(*headers: bytes) -> bytes:
    return b"Rar!\x1a\x07\x01\0" + b"".join(bytes(4) + bytes((len(header),)) + header for header in headers)


def rar_4_file(flags: int, data: bytes) -> bytes:
    head = bytes(2) + b"\x74" + flags.to_bytes(2, "little") + b"\x20\0" + len(data).to_bytes(4, "little") + bytes(21)
    return head + data


MAIN = bytes((1, 0, 0))
FILE = bytes((2, 3, 4, 0)) + b"name" + bytes((3, 2, 0, 0))
FILE_ENCRYPTED = bytes((2, 3, 4, 0)) + b"name" + bytes((3, 1, 0, 0))


@pytest.mark.parametrize(
    ("octets", "how"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), "office"),
        (OLE + b"\xec\xa5\xc1\0" + bytes(7) + b"\x01" + bytes(99), "office"),
        (OLE + b"\xec\xa5\xc1\0" + bytes(7) + b"\xf0" + bytes(99), ""),
        (OLE + b"\x09\x08\x10\0" + bytes(16) + b"\x2f\0\x36\0", "office"),
        (OLE + b"\x09\x08\x10\0" + bytes(16) + b"\xe1\0\x02\0", ""),
        (seven_zip(b"\x01\x04" + AES), "7z"),
        (seven_zip(b"\x17\x06" + AES), "7z"),
        (seven_zip_packed(b"\x01\x04" + AES), "7z"),
        (seven_zip_packed(b"\x01\x04" + b"\x03\x01\x01"), ""),
        (seven_zip(b"", AES), ""),
        (rar_4(0x73, 0x0080), "rar"),
        (rar_4(0x74, 0x0004), "rar"),
        (rar_4(0x74, 0x0020), ""),
        (rar_4(0x74, 0) + rar_4_file(0, b"\x74" * 50) + rar_4_file(0x0004, b"x"), "rar"),
        (rar_5(MAIN, bytes((4, 0, 0, 0))), "rar"),
        (rar_5(MAIN, FILE_ENCRYPTED), "rar"),
        (rar_5(MAIN, FILE), ""),
        (b"%PDF-1.6\n1 0 obj\ntrailer <</Root 1 0 R /Encrypt 5 0 R>>", "pdf"),
        (b"%PDF-1.6\ntrailer <</#45ncr#79pt<<>>>>", "pdf"),
        (b"%PDF-1.6\n<</EncryptMetadata false>>", ""),
        (b"Hello\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nx", "pgp"),
        (b"-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nx", ""),
        (b"We speak of -----BEGIN PGP MESSAGE----- here.\r\n", ""),
        (b"0\x80" + CMS + b"\x03\xa0\x80", "s/mime"),
        (b"0\x82\x12\x34" + CMS + b"\x03\xa0", "s/mime"),
        (b"0\x82\x12\x34" + CMS + b"\x02\xa0", ""),
        (b"0\x82\x12\x34\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x17\xa0", "s/mime"),
        (b"plain text", ""),
        (b"", ""),
    ],
)
def test_encryption(octets: bytes, how: str) -> None:
    assert encryption_of(octets) == how


@pytest.mark.parametrize("make", [b"Rar!\x1a\x07\0", b"Rar!\x1a\x07\x01\0", b"7z\xbc\xaf\x27\x1c\0\4"])
@pytest.mark.parametrize("filler", [b"", b"\0" * 90, b"\xff" * 90, b"\x80" * 5000, b"\x01" * 5000])
def test_archives_that_break_off_are_not_encrypted(make: bytes, filler: bytes) -> None:
    assert encryption_of(make + filler) == ""
