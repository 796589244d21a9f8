"""Content encrypted for the quarantine: AES-256-GCM in chunks, so that any length streams in bounded memory.

Header: 4 octets of format, 16 of salt, 7 of nonce prefix; then the chunks, each of 64 KiB of content (the last one
is shorter, or empty if all is) and its tag. The key of one content comes from the quarantine key by HKDF-SHA256 (RFC
5869 section 2) with the salt; the nonce of a chunk is the prefix, its number and whether it is the last, after the
construction STREAM (Hoang, Reyhanitabar, Rogaway, Vizar, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", 2015): so a chunk that is missing, changed, moved or of another content is found, and an end that
is cut off too.
"""

import os
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from posthouse.ports import ContentUnreadable

CHUNK = 64 * 1024
KEY_OCTETS = 32
_FORMAT = b"PHQ\x01"
_SALT, _PREFIX, _TAG = 16, 7, 16
_HEADER = len(_FORMAT) + _SALT + _PREFIX
_PURPOSE = b"posthouse quarantine content"


def sealed(key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of `pieces`, encrypted; `key`: the quarantine key."""
    salt, prefix = os.urandom(_SALT), os.urandom(_PREFIX)
    header = _FORMAT + salt + prefix
    cipher = _cipher(key, salt)
    yield header
    number = 0
    chunks = _of_size(pieces, CHUNK)
    chunk = next(chunks, b"")
    for following in chunks:
        yield cipher.encrypt(_nonce(prefix, number, last=False), chunk, header)
        number, chunk = number + 1, following
    yield cipher.encrypt(_nonce(prefix, number, last=True), chunk, header)


def unsealed(key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The other way, chunk by chunk as each is found genuine. Raises ContentUnreadable, at the end too: what has come
    until then is not whole."""
    octets = _Octets(iter(pieces))
    header = octets.take(_HEADER)
    if len(header) < _HEADER or not header.startswith(_FORMAT):
        raise ContentUnreadable("what is in quarantine is no sealed content")
    salt, prefix = header[len(_FORMAT) : -_PREFIX], header[-_PREFIX:]
    cipher = _cipher(key, salt)
    number = 0
    chunk = octets.take(CHUNK + _TAG)
    while True:
        following = octets.take(CHUNK + _TAG)
        try:
            yield cipher.decrypt(_nonce(prefix, number, last=not following), chunk, header)
        except InvalidTag:
            raise ContentUnreadable("what is in quarantine is damaged, or sealed with another key") from None
        if not following:
            return
        number, chunk = number + 1, following


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_OCTETS, salt, _PURPOSE).derive(key))


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


class _Octets:
    """Pieces of any length, taken by the octet."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = bytearray()

    def take(self, octets: int) -> bytes:
        """Fewer at the end only."""
        while len(self._left) < octets:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._left += piece
        taken = bytes(self._left[:octets])
        del self._left[:octets]
        return taken


def _of_size(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    octets = _Octets(iter(pieces))
    while taken := octets.take(size):
        yield taken
