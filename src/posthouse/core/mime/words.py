"""Encoded words in header fields, decoded as people read them.

Standards: RFC 2047 sections 2, 4 and 6.2.
"""

import binascii
import re

from posthouse.core.mime.charset import decoded

_WORD = re.compile(r"=\?([^?\s]{1,80}+)\?([BbQq])\?([^?\r\n]*+)\?=")
_BETWEEN = re.compile(r"(\?=)[ \t\r\n]++(?==\?)")


def decoded_words_in(text: str) -> str:
    """`text` with every encoded word decoded; one that cannot be is left as it is. Linear, never raises."""
    if "=?" not in text:
        return text
    return _WORD.sub(_word, _BETWEEN.sub(r"\1", text))


def _word(found: re.Match[str]) -> str:
    charset, encoding, body = found.groups()
    octets = body.encode("utf-8", "surrogateescape")
    raw = binascii.a2b_qp(octets, header=True) if encoding in "Qq" else _base64(octets)
    text = decoded(raw, charset.partition("*")[0])
    return found.group() if text is None else text


def _base64(octets: bytes) -> bytes:
    digits = octets.translate(None, b"= \t").translate(None, _NO_DIGITS)
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


_NO_DIGITS = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
