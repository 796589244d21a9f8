"""What an examination tells of a mail."""

import gzip
from base64 import encodebytes

import pytest

from posthouse.core.examination import ExaminationLimits, ItemKind, PartFacts
from support.archives import central, local, tarred, with_directory, zipped
from support.examining import Examined

PROGRAM = b"MZ" + b"\x90" * 700
HEAD = b"From: A <a@b.example>\nTo: c@d.example\nSubject: =?utf-8?q?gr=C3=BCn?=\nMIME-Version: 1.0\n"


def mixed(*parts: bytes, kind: bytes = b"mixed") -> bytes:
    body = b"".join(b"--b\n" + part + b"\n" for part in parts)
    return HEAD + b"Content-Type: multipart/" + kind + b"; boundary=b\n\n" + body + b"--b--\n"


def attached(name: str, octets: bytes, kind: str = "application/octet-stream", more: str = "") -> bytes:
    fields = f'Content-Type: {kind}; name="{name}"\nContent-Transfer-Encoding: base64\n{more}\n'
    return fields.encode() + encodebytes(octets)


def fact(examined: Examined, path: str) -> PartFacts:
    return next(part for part in examined.examination.parts if part.path == path)


def test_a_plain_mail_is_shown_whole_and_as_its_text_in_place() -> None:
    examined = Examined(HEAD + b"\nhello\n")
    mail, part = examined.items
    assert (mail.kind, mail.part, examined.octets(mail)) == (ItemKind.MAIL, "", examined.wire[:-3])
    assert (part.kind, part.part, examined.octets(part)) == (ItemKind.PART, "1", b"hello\r\n")
    assert examined.made == b""
    assert examined.examination.ambiguous == ()
    assert examined.examination.header == (("From", "A <a@b.example>"), ("To", "c@d.example"), ("Subject", "grün"))
    assert not fact(examined, "1").attachment


def test_a_dot_at_the_start_of_a_line_is_shown_without_the_one_that_was_stuffed() -> None:
    examined = Examined(HEAD + b"\n.hello\n..\n")
    assert b"\r\n..hello" in examined.wire
    mail, part = examined.items
    assert examined.octets(mail).endswith(b"\r\n\r\n.hello\r\n..\r\n")
    assert examined.octets(part) == b".hello\r\n..\r\n"
    assert mail.place.made
    assert examined.made == examined.octets(mail)


def test_members_of_containers_are_shown_and_belong_to_their_part() -> None:
    archive = gzip.compress(tarred([("b/c.zip", zipped({"evil.exe": PROGRAM}))]))
    examined = Examined(mixed(b"\nhello", attached("x.tgz", archive)))
    program = next(item for item in examined.items if "evil.exe" in item.names)
    assert examined.octets(program) == PROGRAM
    assert (program.kind, program.part) == (ItemKind.MEMBER, "2")
    assert program.path == "2/x.tgz/x.tar/b/c.zip/evil.exe"
    assert program.types == ("application/x-dosexec",)
    assert sum(item.sha256 == program.sha256 for item in examined.items) == 1


def test_the_same_octets_are_shown_once_for_each_part_with_all_names() -> None:
    archive = zipped({"a.txt": PROGRAM, "b.exe": PROGRAM})
    examined = Examined(mixed(attached("one.zip", archive), attached("two.zip", archive)))
    programs = [item for item in examined.items if item.kind is ItemKind.MEMBER]
    assert [(item.part, item.names) for item in programs] == [("1", ("a.txt", "b.exe")), ("2", ("a.txt", "b.exe"))]


def test_no_name_is_lost_however_many_members_have_the_same_octets() -> None:
    archive = zipped({f"{number}.exe": PROGRAM for number in range(200)})
    examined = Examined(mixed(attached("a.zip", archive)))
    names = [name for item in examined.items if item.kind is ItemKind.MEMBER for name in item.names]
    assert set(names) >= {f"{number}.exe" for number in range(200)}
    assert len({item.place for item in examined.items if item.kind is ItemKind.MEMBER}) == 1
    assert max(len(item.names) for item in examined.items) <= 64


def test_a_mail_in_a_container_is_read() -> None:
    inner = mixed(attached("inner.zip", zipped({"evil.exe": PROGRAM}))).replace(b"\n", b"\r\n")
    examined = Examined(mixed(attached("mails.zip", zipped({"mail.eml": inner}))))
    program = next(item for item in examined.items if "evil.exe" in item.names)
    assert (program.part, examined.octets(program)) == ("1", PROGRAM)


@pytest.mark.parametrize("between", [False, True])
def test_mails_and_containers_in_one_another_have_a_limit(between: bool) -> None:
    octets = PROGRAM
    for _ in range(12):
        inner = zipped({"x": octets}) if between else octets
        octets = zipped({"m.eml": mixed(attached("a.zip", inner)).replace(b"\n", b"\r\n")})
    examined = Examined(mixed(attached("a.zip", octets)))
    assert any("too many containers in one another" in reason for reason in examined.examination.ambiguous)
    assert not any(examined.octets(item) == PROGRAM for item in examined.items)


def test_a_message_is_an_item_of_its_own() -> None:
    inner = b"Subject: inner\nContent-Type: text/plain\n\ninner\n"
    examined = Examined(mixed(b'Content-Type: message/rfc822; name="letter.eml"\n\n' + inner))
    message = next(item for item in examined.items if "letter.eml" in item.names)
    assert (message.kind, message.part) == (ItemKind.PART, "1")
    assert examined.octets(message).startswith(b"Subject: inner")
    assert fact(examined, "1").attachment
    assert not fact(examined, "1.1").attachment


PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
PAGE = b'Content-Type: text/html\n\n<p><img src="cid:One%40b"><img src="pic/two.png"></p>'


@pytest.mark.parametrize(
    ("part", "attachment", "inline"),
    [
        (attached("a.png", PNG, "image/png", "Content-ID: <one@B>\n"), False, True),
        (attached("a.png", PNG, "image/png", "Content-ID: <one@B>\nContent-Disposition: attachment\n"), False, True),
        (attached("a.png", PNG, "image/png", "Content-Location: pic/two.png\n"), False, True),
        (attached("a.png", PNG, "image/png", "Content-ID: <other@b>\n"), True, False),
        (attached("a.png", PROGRAM, "image/png", "Content-ID: <one@b>\n"), True, True),
        (attached("a.exe", PROGRAM, more="Content-ID: <one@b>\n"), True, True),
        (b"Content-Type: text/plain\n\ntext", False, False),
        (b"Content-Type: text/plain; name=a.txt\n\ntext", True, False),
        (b"Content-Type: text/plain\nContent-Disposition: attachment\n\ntext", True, False),
        (b"Content-Type: application/pdf\n\n%PDF-1.4", True, False),
        (PAGE, False, False),
    ],
)
def test_what_people_take_for_an_attachment(part: bytes, attachment: bool, inline: bool) -> None:
    facts = fact(Examined(mixed(PAGE, part, kind=b"related")), "2")
    assert (facts.attachment, facts.inline) == (attachment, inline)


def test_facts_of_a_part_are_those_of_its_decoded_octets() -> None:
    examined = Examined(mixed(b"\nhello", attached("a.txt", PROGRAM, "text/plain")))
    facts = fact(examined, "2")
    assert (facts.type, facts.types, facts.names) == ("text/plain", ("application/x-dosexec",), ("a.txt",))
    assert facts.size == len(PROGRAM)
    item = next(item for item in examined.items if item.part == "2")
    assert (facts.sha256, item.types) == (item.sha256, ("text/plain", "application/x-dosexec"))
    root = fact(examined, "")
    assert (root.type, root.size, root.sha256, root.attachment) == ("multipart/mixed", 0, "", False)


LOCKED = with_directory(local(b"s.exe", bytes(40), 28, flags=1), central(b"s.exe", 0, 40, 28, flags=1))


@pytest.mark.parametrize(
    ("part", "how"),
    [
        (attached("a.zip", LOCKED), "zip"),
        (attached("a.zip", zipped({"inner.zip": LOCKED})), "zip"),
        (attached("a.zip", zipped({"a.pdf": b"%PDF-1.4\n<</Encrypt 1 0 R>>"})), "pdf"),
        (attached("a.pdf", b"%PDF-1.4\n<</Encrypt 1 0 R>>"), "pdf"),
        (b"Content-Type: application/pgp-encrypted\n\nVersion: 1\n", "pgp"),
        (b"\n-----BEGIN PGP MESSAGE-----\n\nx", "pgp"),
        (attached("smime.p7m", b"x", "application/pkcs7-mime; smime-type=enveloped-data"), "s/mime"),
        (attached("smime.p7m", b"x", "application/pkcs7-mime; smime-type=signed-data"), ""),
        (attached("a.zip", zipped({"a": b"x"})), ""),
    ],
)
def test_encrypted_parts_say_so(part: bytes, how: str) -> None:
    examined = Examined(mixed(b"\nhello", part))
    assert fact(examined, "2").encrypted == how
    assert examined.examination.ambiguous == ()
    if part == attached("a.zip", LOCKED):
        assert "s.exe" in {name for item in examined.items for name in item.names}


def test_what_could_not_be_opened_whole_makes_the_mail_ambiguous() -> None:
    bomb = gzip.compress(bytes(4 << 20))
    examined = Examined(mixed(b"\nhello", attached("a\u202e.gz", bomb)))
    reasons = examined.examination.ambiguous
    assert len(reasons) == 1
    assert reasons[0].endswith("was not opened whole: unpacks to more than 200 times its size.")
    assert reasons[0].isprintable()


def test_there_are_no_more_items_than_the_limit_nor_more_made_octets() -> None:
    limits = ExaminationLimits(readings=10, made_octets=10_000)
    examined = Examined(
        mixed(attached("a.zip", zipped({str(number): b"%d" % number for number in range(50)}))), limits
    )
    assert len(examined.items) == 10
    assert examined.examination.ambiguous == ("There are more than 10 things to be shown to the scanner.",)
    examined = Examined(mixed(*(attached("a.bin", b"%d" % number * 3000) for number in range(5))), limits)
    assert len(examined.made) <= 10_000
    assert examined.examination.ambiguous
    archive = zipped({"a": bytes(5000)})
    examined = Examined(
        mixed(attached("a.zip", archive), attached("b.bin", b"b" * 3000), attached("c", b"c" * 3000)), limits
    )
    assert len(examined.made) <= 10_000
    assert examined.examination.ambiguous == (
        "Not all of the mail could be shown: more than 10000 octets decoded and unpacked.",
    )


def test_a_mail_that_is_empty_is_one_item_and_one_part() -> None:
    examined = Examined(b"")
    assert next(item.kind for item in examined.items) is ItemKind.MAIL
    assert examined.examination.parts[0].path == "1"
    assert examined.examination.ambiguous == ()
