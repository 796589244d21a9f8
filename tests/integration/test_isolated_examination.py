"""The examiner as it is started: what `core` finds and edits comes through whole, from a process of its own."""

import asyncio
import base64
import hashlib
import io
import zipfile

import pytest

from posthouse.clients.examiner import IsolatedExaminer
from posthouse.core.examination import (
    AddField,
    AddNotice,
    AddPart,
    CannotEdit,
    Edit,
    ExaminationLimits,
    ItemKind,
    Position,
    RemovePart,
    ReplacePart,
)
from posthouse.core.examination_of import examine
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, InlineOctets
from posthouse.core.wire_form import plain_form, wire_form
from posthouse.scan_ports import Examined
from support.examiners import LIMITS, Given, Taken, whole
from support.servers import LOOPS, run


def zipped(name: str, octets: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, octets)
    return file.getvalue()


def attachment(name: str, octets: bytes) -> bytes:
    head = f'Content-Type: application/zip; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
    head += f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    return head.encode() + base64.encodebytes(octets).replace(b"\n", b"\r\n")


INSIDE = b"MZ inside of the archive"
ARCHIVE = zipped("a.exe", INSIDE)
PLAIN = b"\r\n".join(
    [
        b"From: a@client.example",
        b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=",
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/mixed; boundary="b"',
        b"",
        b"--b",
        b"Content-Type: text/plain; charset=us-ascii",
        b"",
        b".a line with a dot",
        b"--b",
        attachment("a.zip", ARCHIVE) + b"--b--",
        b"",
    ]
)
MAIL = Content(InlineOctets(wire_form(PLAIN)))


async def with_mail(content: Content = MAIL, limits: ExaminationLimits = LIMITS) -> tuple[IsolatedExaminer, Examined]:
    examiner = IsolatedExaminer(Limits())
    try:
        return examiner, await examiner.examine(content, limits)
    except BaseException:
        await examiner.close()
        raise


async def edited(content: Content, edits: tuple[Edit, ...], *files: bytes) -> bytes:
    examiner, examined = await with_mail(content)
    try:
        sink = Taken()
        told = await examined.edit(edits, [Given(file) for file in files], sink)
        assert told.size == len(plain_form(sink.octets))
        assert told.header == plain_form(sink.octets).partition(b"\r\n\r\n")[0] + b"\r\n"
        return sink.octets
    finally:
        await examiner.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_the_examination_is_that_of_core_and_its_octets_read_as_they_hash(loop: str) -> None:
    async def go() -> None:
        examiner, examined = await with_mail()
        try:
            octets = [whole(examined.octets(item)) for item in examined.examination.items]
            for item, read in zip(examined.examination.items, octets, strict=True):
                assert hashlib.sha256(read).hexdigest() == item.sha256
            assert octets[0] == PLAIN
            assert {PLAIN, ARCHIVE, INSIDE} <= set(octets)
            made = bytearray()

            def write(octets: bytes) -> int:
                made.extend(octets)
                return len(made) - len(octets)

            assert examined.examination == examine(wire_form(PLAIN), LIMITS, write)
            assert ItemKind.MEMBER in {item.kind for item in examined.examination.items}
            assert ("Subject", "grüße") in examined.examination.header
        finally:
            await examiner.close()

    run(loop, go())


def test_no_edits_give_the_same_octets() -> None:
    assert asyncio.run(edited(MAIL, ())) == wire_form(PLAIN)


def test_edits_change_what_they_say() -> None:
    edits = (
        AddField("X-Scan", "clean"),
        AddNotice(Position.HEAD, "A notice.\n", "<p>A notice.</p>"),
        ReplacePart("2", 0, "", ""),
        AddPart(1, "application/pdf", "large.pdf"),
    )
    sanitized, large = zipped("a.txt", b"text"), bytes(range(256)) * 3000
    plain = plain_form(asyncio.run(edited(MAIL, edits, sanitized, large)))
    assert plain.startswith(b"X-Scan: clean\r\n")
    assert b"A notice.\r\n" in plain
    assert b"\r\n.a line with a dot\r\n" in plain
    assert base64.encodebytes(sanitized).replace(b"\n", b"\r\n") in plain
    assert base64.encodebytes(large).replace(b"\n", b"\r\n") in plain
    assert base64.b64encode(ARCHIVE)[:50] not in plain


def test_a_removed_part_is_gone() -> None:
    plain = plain_form(asyncio.run(edited(MAIL, (RemovePart("2"),))))
    assert b"a.zip" not in plain
    assert b".a line with a dot" in plain


def test_what_cannot_be_edited_is_told() -> None:
    with pytest.raises(CannotEdit):
        asyncio.run(edited(MAIL, (RemovePart("9.9"),)))


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"no header", b"a: b\r\n\r\n", b"\xff\x00"])
def test_small_and_odd_mails_come_through(octets: bytes) -> None:
    content = Content(InlineOctets(wire_form(octets)))
    new = asyncio.run(edited(content, (AddField("X-A", "b"),)))
    assert new.startswith(b"X-A: b\r\n")
    assert plain_form(new).rstrip().endswith(octets.rstrip())


def test_limits_go_with_the_mail() -> None:
    async def go() -> None:
        examiner, examined = await with_mail(limits=ExaminationLimits(container_depth=0, parts=1))
        await examiner.close()
        assert examined.examination.ambiguous

    asyncio.run(go())
