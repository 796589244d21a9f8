"""Mail is examined and edited in a process of its own; what comes back reads as what was sent."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.clients.made_room import MadeRoom
from posthouse.core.examination import AddField, AddNotice, AddPart, CannotEdit, Edit, Position, RemovePart
from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import ExaminerUnavailable
from support.examiners import LIMITS, Given, Taken, examiners, mail, open_descriptors, whole
from support.servers import LOOPS, run

MIB = 1024 * 1024
EDITS: tuple[Edit, ...] = (AddField("X-Note", "ä"), AddPart(0, "", ""), AddNotice(Position.END, "ends\r\n", ""))


def octets_of(content: Content) -> bytes:
    assert isinstance(content.source, InlineOctets)
    return content.source.octets


def in_file(folder: Path, content: Content) -> Content:
    (folder / "content").write_bytes(octets_of(content))
    return Content(FileOctets(str(folder / "content"), content.source.size), content.cuts)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "content",
    [mail("a"), mail("a", 5, 6, 0), mail("a", 200_000, 100_000, 700_000), mail("a", 10, size=MIB)],
    ids=["no part", "made in band", "made in a memory file", "mail in a memory file"],
)
def test_items_read_as_they_hash(loop: str, content: Content) -> None:
    async def go() -> None:
        async with examiners() as examiner:
            examined = await examiner.examine(content, LIMITS)
            for item in examined.examination.items:
                octets = examined.octets(item)
                read = whole(octets)
                assert len(read) == octets.size
                assert hashlib.sha256(read).hexdigest() == item.sha256
            assert whole(examined.octets(examined.examination.items[0])) == octets_of(content)[:-3]
            assert examined.examination.header == (("Subject", "a"),)
            assert len(examined.examination.items) == octets_of(content).count(b"Part: ") + 1
            examined.close()
            examined.close()

    run(loop, asyncio.sleep(0))  # libuv keeps two descriptors from its first loop on
    before = open_descriptors()
    run(loop, go())
    assert open_descriptors() == before


@pytest.mark.parametrize("size", [100, MIB], ids=["in band", "by descriptor"])
@pytest.mark.parametrize("filed", [False, True])
def test_what_a_version_cuts_is_not_examined_and_places_count_without_it(
    tmp_path: Path, size: int, filed: bool
) -> None:
    octets = b"X-Spoofed: 1\r\nSubject: a\r\nX-Spoofed: 2\r\n" + octets_of(mail("", 50, size=size))
    second = octets.index(b"X-Spoofed: 2")
    content = Content(InlineOctets(octets), ((0, 14), (second, second + 14)))
    if filed:
        content = in_file(tmp_path, content)
    kept = octets.replace(b"X-Spoofed: 1\r\n", b"").replace(b"X-Spoofed: 2\r\n", b"")

    async def go() -> None:
        async with examiners() as examiner:
            examined = await examiner.examine(content, LIMITS)
            for item in examined.examination.items:
                assert hashlib.sha256(whole(examined.octets(item))).hexdigest() == item.sha256
            assert whole(examined.octets(examined.examination.items[0])) == kept[:-3]
            sink = Taken()
            await examined.edit(EDITS[2:], (), sink)
            assert sink.octets == kept[:-3] + b"ends\r\n.\r\n"

    asyncio.run(go())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_mail_of_50_mib_in_a_file(loop: str, tmp_path: Path) -> None:
    content = in_file(tmp_path, mail("a", 3 * MIB, size=50 * MIB))

    async def go() -> None:
        async with examiners(seconds=60) as examiner:
            examined = await examiner.examine(content, LIMITS)
            for item in examined.examination.items:
                assert hashlib.sha256(whole(examined.octets(item))).hexdigest() == item.sha256
            sink = Taken()
            told = await examined.edit(EDITS, [Given(b"f" * MIB)], sink)
            assert sink.pieces <= 220
            assert told.size == len(sink.octets) - 3

    run(loop, go())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [0, 10, 100_000, 300_000, 2 * MIB])
def test_edits_give_a_whole_content_and_its_measures(loop: str, size: int) -> None:
    content = mail("a")
    file = b"line\r\n" * (size // 6)

    async def go() -> None:
        async with examiners() as examiner:
            examined = await examiner.examine(content, LIMITS)
            examined.close()
            sink = Taken()
            told = await examined.edit(EDITS, [Given(file)], sink)
            added = "X-Note: ä\r\n".encode()
            assert sink.octets == added + octets_of(content)[:-3] + file + b"ends\r\n.\r\n"
            assert told.size == len(sink.octets) - 3
            assert told.header == added + b"Subject: a\r\n"

    run(loop, go())


def test_an_edit_that_cannot_be_is_no_fault_of_the_examiner() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            examined = await examiner.examine(mail("a"), LIMITS)
            processes = examiner.pool.processes
            with pytest.raises(CannotEdit, match=r"^there is no part 7$"):
                await examined.edit([RemovePart("7")], (), Taken())
            assert processes <= examiner.pool.processes

    asyncio.run(go())


def test_octets_in_edits_beyond_a_frame_cannot_be_edited_in() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            examined = await examiner.examine(mail("a"), LIMITS)
            with pytest.raises(CannotEdit):
                await examined.edit([AddPart(bytes(13 * MIB), "", "")], (), Taken())

    asyncio.run(go())


@pytest.mark.parametrize("size", [10, MIB])
def test_a_file_that_is_not_as_long_as_it_says_is_unreadable(size: int) -> None:
    async def go() -> None:
        async with examiners() as examiner:
            examined = await examiner.examine(mail("a"), LIMITS)
            with pytest.raises(ContentUnreadable):
                await examined.edit(EDITS, [Given(bytes(size), size + 1)], Taken())

    asyncio.run(go())


def test_octets_that_were_made_are_gone_with_the_examination() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            for size in (10, MIB):
                examined = await examiner.examine(mail("a", size), LIMITS)
                octets = examined.octets(examined.examination.items[1])
                examined.close()
                with pytest.raises(ContentUnreadable):
                    whole(octets)

    asyncio.run(go())


def test_a_forgotten_examination_keeps_no_descriptor() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            await examiner.examine(mail("a"), LIMITS)
            before = open_descriptors()
            await examiner.examine(mail("a", MIB), LIMITS)
            assert open_descriptors() <= before + 2  # the spare's socket and process may have come meanwhile

    asyncio.run(go())


def test_content_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    async def go() -> None:
        async with examiners() as examiner:
            for size in (10, MIB):
                with pytest.raises(ContentUnreadable):
                    await examiner.examine(Content(FileOctets(str(tmp_path / "none"), size)), LIMITS)

    asyncio.run(go())


def test_sealed_content_is_not_examined_as_if_it_were_a_mail() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            with pytest.raises(ContentUnreadable):
                await examiner.examine(replace(mail("a"), sealed=True), LIMITS)

    asyncio.run(go())


def test_mails_that_hold_much_keep_others_waiting() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            examiner._room = MadeRoom(1000)
            examiner._wait_seconds = 0.05
            first = await examiner.examine(mail("a", 600), LIMITS)
            second = await examiner.examine(mail("a", 500), LIMITS)
            with pytest.raises(ExaminerUnavailable, match="holds all memory"):
                await examiner.examine(mail("a"), LIMITS)
            await first.edit(EDITS[:1], (), Taken())  # what is under way goes on
            examiner._wait_seconds = 10
            waiting = asyncio.create_task(examiner.examine(mail("a"), LIMITS))
            await asyncio.wait([waiting], timeout=0.01)
            assert not waiting.done()
            second.close()
            second.close()
            (await waiting).close()
            third = await examiner.examine(mail("a", 500), LIMITS)
            del third  # as good as closed
            await examiner.examine(mail("a"), LIMITS)
            first.close()

    asyncio.run(go())


def test_content_that_shrank_is_unreadable(tmp_path: Path) -> None:
    content = in_file(tmp_path, mail("a", size=MIB))
    (tmp_path / "content").write_bytes(b"short")

    async def go() -> None:
        async with examiners() as examiner:
            with pytest.raises(ContentUnreadable, match="too short"):
                await examiner.examine(content, LIMITS)

    asyncio.run(go())


def test_odd_texts_are_cut_and_cleaned() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            first = (await examiner.examine(mail("odd-names"), LIMITS)).examination.items[0]
            assert first.names == ("a\ufffd\ufffdb\ufffd\ufffd", "n" * 255)

    asyncio.run(go())


def test_a_closed_examiner_is_unavailable() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            await examiner.examine(mail("a"), LIMITS)
            await examiner.close()
            await examiner.close()
            with pytest.raises(ExaminerUnavailable):
                await examiner.examine(mail("a"), LIMITS)

    asyncio.run(go())
