"""Whether a 7z archive is encrypted: its header tells the methods; mostly it is packed itself.

Source: 7zFormat.txt of the LZMA SDK.
"""

import lzma
from collections.abc import Iterator

_SIGNATURE_HEADER = 32
_AES = b"\x06\xf1\x07\x01"
_LZMA = b"\x03\x01\x01"
_ENCODED_HEADER = 0x17
_MOST = 8 * 1024 * 1024
"""Octets of a header."""
_DICTIONARY = 64 * 1024 * 1024
_NESTED = 4


def seven_zip_encrypted(octets: bytes) -> bool:
    """The methods of its streams, or of its header, name AES."""
    at = _SIGNATURE_HEADER + int.from_bytes(octets[12:20], "little")
    header = octets[at : at + min(int.from_bytes(octets[20:28], "little"), _MOST)]
    for _ in range(_NESTED):
        if _AES in header:
            return True
        if not header or header[0] != _ENCODED_HEADER:
            return False
        header = _unpacked(octets, header)
    return False


def _unpacked(octets: bytes, header: bytes) -> bytes:
    """The header that `header` says is packed by LZMA; empty if it is not or cannot be read."""
    numbers = _numbers(header, 1)
    try:
        if next(numbers) != 0x06:
            return b""
        packed_at = _SIGNATURE_HEADER + next(numbers)
        if next(numbers) != 1 or next(numbers) != 0x09:
            return b""
        size = next(numbers)
    except StopIteration:
        return b""
    method = header.find(_LZMA)
    properties = header[method + 4 : method + 9]
    if method < 0 or len(properties) < 5 or header[method + 3] != 5 or properties[0] >= 225:
        return b""
    lc, lp, pb = properties[0] % 9, properties[0] // 9 % 5, properties[0] // 45
    dictionary = min(max(int.from_bytes(properties[1:], "little"), 4096), _DICTIONARY)
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb}
    try:
        stream = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma1])
        return stream.decompress(octets[packed_at : packed_at + min(size, _MOST)], _MOST)
    except (lzma.LZMAError, ValueError):
        return b""


def _numbers(header: bytes, at: int) -> Iterator[int]:
    """Numbers of 7z: as many octets follow the first as it has leading ones."""
    while at < len(header):
        first, extra, mask = header[at], 0, 0x80
        while mask and first & mask:
            extra, mask = extra + 1, mask >> 1
        low = int.from_bytes(header[at + 1 : at + 1 + extra], "little")
        high = (first & (mask - 1)) << (8 * extra) if mask else 0
        at += 1 + extra
        yield high + low
