"""Decoders: one decoding of the well-formed, every one that readers know of the malformed."""

import base64
import binascii

import pytest

from posthouse.core.mime.charset import codec, decoded, recoded
from posthouse.core.mime.decode import BASE64, QUOTED_PRINTABLE, decodings
from posthouse.core.mime.embedded import MOST, embedded, uudecoded
from posthouse.core.mime.words import decoded_words_in

SECRET = b"PK\x03\x04 the secret payload, seventy octets long or so, with a \x00 and \xff in it"
LINES = base64.encodebytes(SECRET).replace(b"\n", b"\r\n")
DIGITS = LINES.replace(b"\r\n", b"")


def chunked(octets: bytes, size: int) -> list[bytes]:
    return [octets[at : at + size] for at in range(0, len(octets), size)]


@pytest.mark.parametrize(
    "body",
    [LINES, DIGITS, LINES + b"\r\n\r\n", b"\r\n" + LINES, b"\n".join(chunked(DIGITS, 6)), DIGITS.rstrip(b"=")],
)
def test_well_formed_base64_has_one_decoding(body: bytes) -> None:
    assert decodings(body, BASE64) == (SECRET,)


@pytest.mark.parametrize(
    "body",
    [
        b":".join(chunked(DIGITS, 4)),
        b"\x0b".join(chunked(DIGITS, 1)),
        b"\xe9".join(chunked(DIGITS, 4)),
        b" ".join(chunked(DIGITS, 3)),
        b"====\r\n" + LINES,
        b"QUJD\r\nQQ==\r\n" + LINES,
        b"".join(base64.b64encode(two) for two in chunked(SECRET, 2)),
        b"".join(base64.b64encode(two).replace(b"=", b"")[:2] + b"=" + base64.b64encode(two)[2:3]
                 for two in chunked(SECRET[: len(SECRET) // 2 * 2], 2)),
        b"This is text\r\n\r\n" + LINES,
        b"prose, with commas\r\n" + LINES,
        base64.urlsafe_b64encode(b"\xff\xef" + SECRET),
        b"".join(b"=%02X" % digit for digit in DIGITS),
        b"\r\n".join(base64.b64encode(five).rstrip(b"=") for five in chunked(SECRET, 5)) + b"\r\n!",
    ],
)  # fmt: skip
def test_base64_with_junk_is_decoded_in_every_way(body: bytes) -> None:
    made = decodings(body, BASE64)
    assert any(SECRET[: len(SECRET) // 2 * 2] in one for one in made)
    assert len(made) == len(set(made))


def test_at_most_so_many_decodings_as_asked_for() -> None:
    assert len(decodings(b"QQ==:QQ==-", BASE64)) > 2
    assert len(decodings(b"QQ==:QQ==-", BASE64, 2)) == 2


@pytest.mark.parametrize("body", [b"", b"=", b"====", b"A", b"A\r\n", b"-", b"\x00" * 9, b"=\n=\n"])
@pytest.mark.parametrize("encoding", [BASE64, QUOTED_PRINTABLE])
def test_there_is_always_a_decoding(body: bytes, encoding: str) -> None:
    assert decodings(body, encoding)


QP = b"".join(b"=%02X" % octet for octet in SECRET)


@pytest.mark.parametrize("body", [QP, b"=\r\n".join(chunked(QP, 3)), b"=\n".join(chunked(QP, 3)), QP.lower()])
def test_well_formed_quoted_printable_has_one_decoding(body: bytes) -> None:
    assert decodings(body, QUOTED_PRINTABLE) == (SECRET,)


@pytest.mark.parametrize(
    "body",
    [
        b"=\r".join(chunked(QP, 3)),
        b"= \t\r\n".join(chunked(QP, 3)),
        b"=ZZ".join(chunked(QP, 6)),
        b"=".join(chunked(QP, 3)),
        b"=\r\n".join(b"= " + three for three in chunked(QP, 3)),
        QP + b"=",
        b"".join(b"==a%02X" % octet for octet in SECRET),
    ],
)
def test_malformed_quoted_printable_is_decoded_in_every_way(body: bytes) -> None:
    assert any(SECRET in one for one in decodings(body, QUOTED_PRINTABLE))


def uuencoded(octets: bytes) -> bytes:
    return b"".join(binascii.b2a_uu(line).replace(b"\n", b"\r\n") for line in chunked(octets, 45))


@pytest.mark.parametrize(
    "text",
    [
        b"see below\r\nbegin 644 a b.zip\r\n" + uuencoded(SECRET) + b"`\r\nend\r\nmore\r\n",
        b"begin 644 a b.zip\n" + uuencoded(SECRET),
        b"BEGIN 0644 a b.zip \r\n" + uuencoded(SECRET).replace(b"\r\n", b"xx\r\n") + b"end",
        b"\r\n begin-base64 644 a b.zip\r\n" + LINES + b"====\r\n",
    ],
)
def test_uuencode_in_a_text(text: bytes) -> None:
    (found,) = embedded(text, 1000)
    assert (found.name, found.octets) == (b"a b.zip", SECRET)


def test_uuencode_without_its_first_line() -> None:
    assert uudecoded(uuencoded(SECRET)) == SECRET
    assert uudecoded(b"\x00\xff\n" + uuencoded(SECRET)).endswith(SECRET)


def yencoded(octets: bytes) -> bytes:
    made = bytearray()
    for octet in octets:
        shifted = (octet + 42) % 256
        made += bytes([shifted]) if shifted not in b"\x00\r\n=" else bytes([ord("="), (shifted + 64) % 256])
    return bytes(made)


def test_yenc_in_a_text() -> None:
    octets = bytes(range(256)) + SECRET
    coded = b"\r\n".join(chunked(yencoded(octets), 128))
    text = b"x\r\n=ybegin line=128 size=9 name=a.zip\r\n=ypart begin=1\r\n" + coded + b"\r\n=yend size=9\r\n"
    (found,) = embedded(text, 1000)
    assert (found.name, found.octets) == (b"a.zip", octets)


HQX = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
SIXES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def binhex(data: bytes, check: int) -> bytes:
    head = b"\x05a.zip\x00????????\x00\x00" + len(data).to_bytes(4, "big") + bytes(4) + b"\x00\x00"
    packed = (head + data + check.to_bytes(2, "big") + bytes(2)).replace(b"\x90", b"\x90\x00")
    packed = packed.replace(b"a" * 9, b"a\x90\x09")
    digits = base64.b64encode(packed + bytes(-len(packed) % 3)).translate(bytes.maketrans(SIXES, HQX))
    return b"(This file must be converted with BinHex 4.0)\r\n:" + b"\r\n".join(chunked(digits, 64)) + b":\r\n"


def test_binhex_in_a_text() -> None:
    data = SECRET + b"\x90" + b"a" * 9
    (found,) = embedded(binhex(data, binascii.crc_hqx(data, 0)), 1000)
    assert (found.name, found.octets, found.damaged) == (b"a.zip", data, False)
    assert [one.damaged for one in embedded(binhex(data, 7), 1000)] == [True]
    assert [one.damaged for one in embedded(b"BinHex 4.0)\r\n:abc:", 1000)] == [True]


def test_what_binhex_unpacks_to_is_bounded() -> None:
    packed = (b"a\x90\xff" * 3000).replace(b"", b"")
    digits = base64.b64encode(b"\x00" * 30 + packed).translate(bytes.maketrans(SIXES, HQX))
    (found,) = embedded(b"(converted with BinHex 4.0)\r\n:" + digits + b":", 10_000)
    assert len(found.octets) <= 10_000


def test_files_in_a_text_are_bounded() -> None:
    assert len(embedded(b"begin 644 a\r\n#0V%T\r\nend\r\n" * 1000, 1000)) == MOST


@pytest.mark.parametrize(
    ("octets", "charset", "wanted"),
    [
        ("läuft".encode("utf-16"), "utf-16", "läuft"),
        ("läuft".encode("utf-16-be"), "UTF-16", "läuft"),
        ("läuft".encode("utf-16-le"), "utf-16", "läuft"),
        ("läuft".encode("utf-16"), "us-ascii", "\ufeffläuft"),
        ("<läuft>".encode("utf-7"), "utf-7", "<läuft>"),
        ("MZ läuft".encode("cp037"), "cp037", "MZ läuft"),
        ("läuft".encode("latin-1"), "iso-8859-1", "läuft"),
    ],
)
def test_text_in_utf_8(octets: bytes, charset: str, wanted: str) -> None:
    made = recoded(octets, charset)
    assert made is not None
    assert made.decode().lstrip("\ufeff") == wanted.lstrip("\ufeff")


@pytest.mark.parametrize("charset", ["", "utf-8", "US-ASCII", "no-such", "base64", "hex", "zlib", "\x00", "x" * 99])
def test_what_is_no_other_charset_is_left(charset: str) -> None:
    assert recoded(b"text, quite long enough", charset) is None


def test_a_codec_that_is_no_charset_is_unknown() -> None:
    assert (codec("rot13"), codec("unicode_escape"), codec(" 'Latin1' ")) == ("", "", "iso8859-1")
    assert decoded(b"\xff", "utf-8") == "\ufffd"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("=?utf-8?B?bWFya2VyLmV4ZQ==?=", "marker.exe"),
        ("=?utf-8?b?bWFya2VyLmV4ZQ?=", "marker.exe"),
        ("=?iso-8859-1*de?Q?l=E4u_ft?= x", "läu ft x"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?no-such?q?a?=", "=?no-such?q?a?="),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
    ],
)
def test_encoded_words(text: str, wanted: str) -> None:
    assert decoded_words_in(text) == wanted
