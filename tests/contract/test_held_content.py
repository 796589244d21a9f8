"""Content that sinks hold in memory and the writer brings to files that are used again (SQLite)."""

import os
from pathlib import Path

from posthouse.core.mail import FileOctets, InlineOctets, RecipientState
from posthouse.ports import ContentSink, Outcome
from posthouse.storage.content import HELD_OCTETS, INLINE_OCTETS, ROOM_OCTETS
from posthouse.storage.reused_files import KEPT
from support.storage import HELD, NOW, YOU, Place, accept, changed, die, held, octets, record, run

ALL = 1 << 30


def _files(place: Place) -> list[Path]:
    return sorted((Path(place.data_dir) / "content" / "000").iterdir())


def test_held_content_goes_to_a_file_that_later_mail_uses_again(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")
    shorter = HELD[len(HELD) // 3 :]

    async def main() -> None:
        spool = place.spool()
        first, second = held(spool, YOU), held(spool, YOU)
        for one in (first, second):
            await accept(spool, one)
        assert [path.read_bytes() for path in _files(place)] == [HELD, HELD]
        inodes = {path.stat().st_ino for path in _files(place)}
        await record(spool, Outcome(first, changed(first, RecipientState.RELAYED)))
        await record(spool, Outcome(second, changed(second, RecipientState.QUEUED, due_at=NOW)))
        third = held(spool, YOU, octets=shorter)
        await accept(spool, third)
        assert {path.stat().st_ino for path in _files(place)} == inodes
        await record(spool, Outcome(third, changed(third, RecipientState.QUEUED, due_at=NOW)))
        taken = {one.id: octets(one) for one in await spool.take_due("exchange", NOW, 10, ALL)}
        assert taken == {second.id: HELD, third.id: shorter}
        await die(spool)

    async def after_the_crash() -> None:
        spool = place.spool("node/0/boot2")
        await spool.take_back(NOW)
        assert sorted(map(octets, await spool.take_due("exchange", NOW, 10, ALL))) == sorted([HELD, shorter])
        await spool.close()

    run(main)
    run(after_the_crash)


def test_files_to_be_used_again_do_not_outlive_the_process(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        spool = place.spool()
        one, kept = held(spool, YOU), held(spool, YOU)
        for each in (one, kept):
            await accept(spool, each)
        await record(spool, Outcome(one, changed(one, RecipientState.RELAYED)))
        assert len(_files(place)) == 2
        await spool.close()
        assert [path.read_bytes() for path in _files(place)] == [HELD]

    run(main)


def test_a_long_queue_of_held_contents_keeps_few_files_open(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        spool = place.spool()
        before = len(os.listdir("/proc/self/fd"))
        mails = [held(spool, YOU, octets=HELD[-270_000:]) for _ in range(2 * KEPT)]
        for one in mails:
            await accept(spool, one)
        assert len(os.listdir("/proc/self/fd")) <= before + KEPT
        for one in mails:
            await record(spool, Outcome(one, changed(one, RecipientState.RELAYED)))
        assert len(os.listdir("/proc/self/fd")) <= before + KEPT
        assert len(_files(place)) <= KEPT
        await spool.close()
        assert _files(place) == []

    run(main)


def test_sinks_hold_what_there_is_room_for_and_stream_the_rest(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    def kind(sink: ContentSink) -> type[InlineOctets | FileOctets]:
        return type(sink.close(size=0, header=b"", normalised=0).content.source)

    async def main() -> None:
        spool = place.spool()
        fit = ROOM_OCTETS // HELD_OCTETS
        sinks = [spool.open_content() for _ in range(fit + 2)]
        for sink in sinks[:-1]:
            sink.write(bytes(HELD_OCTETS))
        sinks[-1].write(bytes(INLINE_OCTETS))  # takes nothing of the room
        kinds = [kind(sink) for sink in sinks]
        assert kinds == [InlineOctets] * fit + [FileOctets, InlineOctets]
        for sink in sinks[:2]:
            sink.release()
            sink.release()  # once more gives back nothing
        again = [spool.open_content() for _ in range(3)]
        for sink in again:
            sink.write(bytes(HELD_OCTETS - 1))
        again[0].write(b"12")  # too long by one: streamed, and its room is free
        assert [kind(sink) for sink in again] == [FileOctets, InlineOctets, FileOctets]
        for sink in (*sinks, *again):
            sink.release()
        assert _files(place) == []
        await spool.close()

    run(main)
