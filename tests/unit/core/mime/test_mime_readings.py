"""Readings of a mail: nothing more than its parts where all is well, everything that somebody may see where not."""

import base64
import mmap
import time
from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from posthouse.core.examination import ExaminationLimits, ItemKind
from posthouse.core.mime.leaves import Leaf, Span
from posthouse.core.mime.readings import Mime, read

LIMITS = ExaminationLimits()
SECRET = b"PK\x03\x04 the secret payload, and then some more of it, to fill lines \x00\xff"
DIGITS = base64.encodebytes(SECRET).replace(b"\n", b"\r\n")


def shown(octets: bytes, leaf: Leaf) -> bytes:
    return octets[leaf.octets.start : leaf.octets.end] if isinstance(leaf.octets, Span) else leaf.octets


def holding(octets: bytes, secret: bytes = SECRET) -> list[Leaf]:
    return [leaf for leaf in read(octets, LIMITS).leaves if secret in shown(octets, leaf)]


def mail(
    *,
    type_: bytes = b'multipart/mixed; boundary="b1b1"',
    header: bytes = b"Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n",
    body: bytes = DIGITS,
    top: bytes = b"",
    start: bytes = b"--b1b1\r\n",
    end: bytes = b"--b1b1--\r\n",
) -> bytes:
    head = b"Subject: x\r\n" + top + b"Content-Type: " + type_ + b"\r\n\r\n"
    return head + b"--b1b1\r\n\r\ntext\r\n" + start + header + b"\r\n" + body + end


def test_a_well_formed_mail_gives_its_parts_and_nothing_else() -> None:
    octets = mail()
    found = read(octets, LIMITS)
    assert found.ambiguous == ()
    assert [(leaf.kind, leaf.path, leaf.part, leaf.names, leaf.types) for leaf in found.leaves] == [
        (ItemKind.PART, "1", "1", (), ("text/plain",)),
        (ItemKind.PART, "2", "2", ("a.zip",), ("application/zip",)),
    ]
    assert [shown(octets, leaf) for leaf in found.leaves] == [b"text", SECRET]
    assert isinstance(found.leaves[0].octets, Span)


def test_what_the_standard_library_writes_is_well_formed() -> None:
    message = EmailMessage()
    message["Subject"] = "läuft"
    message.set_content("läuft\n" * 5)
    message.add_alternative("<p>läuft</p>" * 20, subtype="html")
    message.add_attachment(SECRET, maintype="application", subtype="zip", filename="läuft und läuft.zip")
    inner = EmailMessage()
    inner.set_content("inner\n")
    message.add_attachment(inner)
    octets = message.as_bytes().replace(b"\n", b"\r\n")
    found = read(octets, LIMITS)
    assert found.ambiguous == ()
    assert {leaf.kind for leaf in found.leaves} == {ItemKind.PART}
    assert [leaf.part for leaf in found.leaves] == ["1.1", "1.2", "2", "3.1"]
    assert found.leaves[2].names == ("läuft und läuft.zip",)
    assert shown(octets, found.leaves[2]) == SECRET


@pytest.mark.parametrize("make", [bytes, bytearray])
def test_any_buffer_can_be_read(make: type[bytes] | type[bytearray]) -> None:
    octets = mail(end=b"")
    assert read(make(octets), LIMITS) == read(octets, LIMITS)
    with mmap.mmap(-1, len(octets)) as mapped:
        mapped[:] = octets
        assert read(mapped, LIMITS) == read(octets, LIMITS)


CTE = b"Content-Transfer-Encoding"
HIDDEN = {
    "two encodings": mail(header=CTE + b": 7bit\r\n" + CTE + b": base64\r\n"),
    "two encodings, the other way": mail(header=CTE + b": base64\r\n" + CTE + b": 7bit\r\n"),
    "two encodings in one field": mail(header=CTE + b": 7bit, base64\r\n"),
    "a misspelt encoding": mail(header=CTE + b": base645\r\n"),
    "an unknown encoding": mail(header=CTE + b": x-foo\r\n"),
    "an encoding in an encoded word": mail(header=CTE + b": =?utf-8?b?YmFzZTY0?=\r\n"),
    "blanks in the encoding": mail(header=CTE + b": ba se64\r\n"),
    "a fold in the encoding": mail(header=CTE + b": ba\r\n se64\r\n"),
    "NUL in the encoding": mail(header=CTE + b": ba\x00se64\r\n"),
    "NUL before the field": mail(header=b"\x00" + CTE + b": base64\r\n"),
    "VT before the field": mail(header=b"\x0b" + CTE + b": base64\r\n"),
    "the field in a folded line": mail(header=b"X: y\r\n\t" + CTE + b": base64\r\n"),
    "the field in the first line, after a blank": mail(header=b" " + CTE + b": base64\r\n"),
    "blank before the colon": mail(header=CTE + b"\t: base64\r\n"),
    "no field in the header": mail(header=b"no field\r\n" + CTE + b": base64\r\n"),
    "a colon alone": mail(header=b":\r\n" + CTE + b": base64\r\n"),
    "an empty line before the header": mail(header=b"\r\n" + CTE + b": base64\r\n"),
    "white space in place of the empty line": mail(header=CTE + b": base64\r\n "),
    "bare CR between fields": mail(header=b"X: y\r" + CTE + b": base64\r\n"),
    "two types": mail(top=b"Content-Type: text/plain\r\n"),
    "two types in one field": mail(type_=b"text/plain, multipart/mixed; boundary=b1b1"),
    "a type without a slash": mail(type_=b"multipart; boundary=b1b1"),
    "another type with a boundary": mail(type_=b"text/plain; boundary=b1b1"),
    "no boundary": mail(type_=b"multipart/mixed"),
    "no semicolon": mail(type_=b"multipart/mixed boundary=b1b1"),
    "two boundaries": mail(type_=b"multipart/mixed; boundary=b2; boundary=b1b1"),
    "plain beside starred": mail(type_=b"multipart/mixed; boundary=b2; boundary*0=b1; boundary*1=b1"),
    "half a quote": mail(type_=b'multipart/mixed; boundary="b1b1'),
    "the other half": mail(type_=b'multipart/mixed; boundary=b1b1"'),
    "NUL in the boundary": mail(type_=b'multipart/mixed; boundary="b1b1\x00"'),
    "an encoded word": mail(type_=b'multipart/mixed; boundary="=?utf-8?q?b1b1?="'),
    "a longer boundary": mail(type_=b"multipart/mixed; boundary=b1b1XXX"),
    "a shorter boundary": mail(type_=b"multipart/mixed; boundary=b1"),
    "a delimiter after a blank": mail(start=b" --b1b1\r\n"),
    "a delimiter after a bare CR": mail(start=b"x\r--b1b1\r\n"),
    "a delimiter that goes on": mail(start=b"--b1b1 more\r\n"),
    "a part after the last delimiter": mail(start=b"--b1b1--\r\n--b1b1\r\n"),
    "a part in the preamble": mail(
        type_=b"multipart/mixed; boundary=b2", start=b"--x\r\n", end=b"--b2\r\n\r\n--b2--"
    ),
    "a header in the preamble": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + CTE + b": base64\r\n\r\n"
    + DIGITS + b"--b\r\n\r\nx\r\n--b--\r\n",
    "a header after the end": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
    + CTE + b": base64\r\n\r\n" + DIGITS,
    "an inner multipart without a boundary": mail(
        header=b"Content-Type: multipart/mixed\r\n",
        body=b"--b2\r\n" + CTE + b": base64\r\n\r\n" + DIGITS + b"--b2--\r\n",
    ),
    "an inner multipart with the same boundary": mail(
        header=b"Content-Type: multipart/mixed; boundary=b1b1\r\n",
        body=b"--b1b1--\r\n--b1b1\r\n" + CTE + b": base64\r\n\r\n" + DIGITS,
    ),
    "a multipart in base64": mail(
        header=b"Content-Type: multipart/mixed; boundary=b2\r\n" + CTE + b": base64\r\n",
        body=base64.encodebytes(b"--b2\r\n" + CTE + b": base64\r\n\r\n" + DIGITS + b"--b2--\r\n"),
    ),
    "a mail in base64": mail(
        header=b"Content-Type: message/rfc822\r\n" + CTE + b": base64\r\n",
        body=base64.encodebytes(CTE + b": base64\r\n\r\n" + DIGITS),
    ),
    "a mail that is called something else": mail(
        header=b"Content-Type: application/octet-stream\r\n" + CTE + b": base64\r\n",
        body=base64.encodebytes(b"From: a\r\nMIME-Version: 1.0\r\n" + CTE + b": base64\r\n\r\n" + DIGITS),
    ),
    "a file that is named as a mail": mail(
        header=b"Content-Type: application/octet-stream; name=a.eml\r\n",
        body=CTE + b": base64\r\n\r\n" + DIGITS,
    ),
    "uuencode": mail(header=CTE + b": x-uuencode\r\n", body=b"begin 644 a\r\n" + b"#4$L#\r\n" + b"`\r\nend\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("octets", HIDDEN.values(), ids=HIDDEN.keys())
def test_what_is_hidden_is_shown_and_the_mail_is_not_ambiguous(octets: bytes) -> None:
    secret = SECRET if b"begin 644" not in octets else b"PK\x03"
    assert holding(octets, secret)
    assert read(octets, LIMITS).ambiguous == ()


def test_a_reading_tells_whose_it_is() -> None:
    (leaf,) = holding(HIDDEN["two encodings"])
    assert (leaf.kind, leaf.path, leaf.part) == (ItemKind.READING, "2?", "2")
    (leaf,) = holding(HIDDEN["a mail in base64"])
    assert (leaf.kind, leaf.path, leaf.part) == (ItemKind.READING, "2/1", "2")
    (leaf, *_) = holding(HIDDEN["no boundary"])
    assert (leaf.kind, leaf.part) == (ItemKind.READING, "1")


def test_names_and_types_of_every_reading_come_together() -> None:
    hidden = b'\x0bContent-Disposition: attachment; filename="b.exe"\r\n'
    octets = mail(
        header=b"Content-Type: image/png; name=a.png\r\nContent-Type: text/html\r\n" + hidden, body=b"secret\r\n"
    )
    leaves = [leaf for leaf in read(octets, LIMITS).leaves if shown(octets, leaf) == b"secret"]
    assert {name for leaf in leaves for name in leaf.names} >= {"a.png", "b.exe"}
    assert {type_ for leaf in leaves for type_ in leaf.types} == {"image/png", "text/html"}
    assert leaves[0].kind is ItemKind.PART
    assert leaves[0].names[0] == "a.png"


def test_a_file_in_a_text_has_its_name() -> None:
    octets = mail(header=b"", body=b"see\r\nbegin 644 a.exe\r\n#4$L#\r\n`\r\nend\r\n")
    (leaf,) = [leaf for leaf in read(octets, LIMITS).leaves if leaf.kind is ItemKind.READING]
    assert (leaf.names, leaf.octets, leaf.part) == (("a.exe",), b"PK\x03", "2")


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "cp037", "iso-8859-1"])
def test_text_is_shown_in_utf_8_too(charset: str) -> None:
    text = "<läuft>" * 9
    body = base64.encodebytes(text.encode(charset))
    header = f"Content-Type: text/html; charset={charset}\r\nContent-Transfer-Encoding: base64\r\n".encode()
    found = read(mail(header=header, body=body), LIMITS)
    assert [leaf.octets for leaf in found.leaves if leaf.kind is ItemKind.TEXT] == [text.encode()]
    assert [leaf.kind for leaf in found.leaves].count(ItemKind.READING) == 0


def test_a_text_in_another_charset_than_the_first_one_that_is_named() -> None:
    header = b"Content-Type: text/html; charset=utf-8; charset=utf-7\r\n"
    found = read(mail(header=header, body=b"+ADw-b+AD4-\r\n"), LIMITS)
    assert b"<b>" in [leaf.octets for leaf in found.leaves if leaf.kind is ItemKind.TEXT]


@pytest.mark.parametrize(
    "octets",
    [
        mail(header=b"Content-Type: message/partial; id=x; number=1\r\n"),
        mail(header=b"Content-Type: text/plain\r\nContent-Type: message/external-body; access-type=URL\r\n"),
        mail(type_=b"message/partial; id=x", start=b"", end=b""),
        mail(header=b"", body=b"(This file must be converted with BinHex 4.0)\r\n:!!!abcabcabc:\r\n"),
        b"Content-Type: message/rfc822\r\n\r\n" * 60,
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 1001,
        b"X: y\r\n" * 10_001 + b"\r\n",
        b"X: " + b"y" * 1024 * 1024 + b"\r\n\r\n",
        b"Content-Type: text/plain; x=" + b"y" * 70_000 + b"\r\n\r\n",
        b"Content-Type: text/plain\r\n" * 17 + b"\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + b"--\r\n" * 50_001 + b"--b--\r\n",
    ],
    ids=range(11),
)
def test_what_cannot_be_shown_whole_is_ambiguous(octets: bytes) -> None:
    assert len(read(octets, LIMITS).ambiguous) == 1


def test_mails_in_encoded_mails_are_bounded() -> None:
    octets = b"Subject: x\r\n\r\ntext"
    for _ in range(8):
        head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        octets = head + base64.encodebytes(octets)
    assert read(octets, LIMITS).ambiguous == ()
    assert read(octets, ExaminationLimits(part_depth=5)).ambiguous == ("Mails are nested too deep.",)


def test_readings_and_octets_made_are_bounded() -> None:
    octets = mail(header=CTE + b": x-foo\r\n", body=b"QQ==:QQ==-" * 10)
    assert read(octets, ExaminationLimits(readings=3)).ambiguous == ("There are more than 3 readings.",)
    assert len(read(octets, ExaminationLimits(readings=3)).leaves) == 3
    found = read(octets, ExaminationLimits(made_octets=50))
    assert found.ambiguous == ("Decoded, the parts have more than 50 octets.",)


MIB = 1024 * 1024


def hostile() -> Iterator[bytes]:
    """256 KiB each of what would take minutes if anything in it were quadratic."""
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    for piece in (
        *(
            b"\r",
            b"\n",
            b" ",
            b"\x00",
            b"--",
            b"--\n",
            b"A: b\n",
            b"\n--b\n",
            b"\n --b\n",
            b"begin 644 a\n",
            b"=ybegin ",
        ),
        *(
            b"\n--b\nContent-Type: multipart/mixed; boundary=b\n\n",
            b"Content-Type: message/rfc822\n\n",
            b"(BinHex 4.0):",
        ),
        b"\n--b\nContent-Transfer-Encoding: ba se64\n\nQUJD\n",
        *(b"\n--x", b"\n\t--x", b"\r--x"),
    ):
        yield head + piece * (MIB // 4 // len(piece))
        yield b"Subject: x\r\n\r\n" + piece * (MIB // 4 // len(piece))
    for piece in (b"(", b'"', b'"\\', b";boundary=b", b";boundary*0=b", b"=?utf-8?B?"):
        yield b"Content-Type: multipart/mixed; x=" + piece * (MIB // 4 // len(piece)) + b"\r\n\r\n"
    for encoding, piece in ((b"base64", b"QU=I\n"), (b"base64", b"Q Q:"), (b"quoted-printable", b"= "),
                            (b"quoted-printable", b" "), (b"quoted-printable", b"=\r=Z")):  # fmt: skip
        yield b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + piece * (MIB // 4 // len(piece))
    octets = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi"
    while len(octets) < MIB // 4:
        encoded = base64.encodebytes(octets)
        octets = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64 quoted-printable\nA: b\x00\n\n"
        octets += encoded + b"QQ==QQ==QU" + encoded[:2000]
    yield octets


HOSTILE = tuple(hostile())


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_mail_takes_no_quadratic_time(number: int) -> None:
    started = time.process_time()
    found = read(HOSTILE[number], LIMITS)
    assert time.process_time() - started < 20
    assert isinstance(found, Mime)
