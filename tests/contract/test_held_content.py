"""Content that sinks hold in memory and the writer brings to files that are used again (SQLite)."""

import asyncio
import errno
import os
from asyncio import ensure_future as ensure
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.core.mail import Content, FileOctets, InlineOctets, RecipientState, TrailEntry
from posthouse.ports import ContentSink, LeaseLost, Outcome, QueueCommand
from posthouse.storage.content import HELD_OCTETS, INLINE_OCTETS, ROOM_OCTETS
from posthouse.storage.new_files import NewFiles
from posthouse.storage.reused_files import KEPT, ReusedFiles
from support.flow import mail
from support.storage import HELD, NOW, TWO, YOU, Place, accept, changed, die, held, octets, record, run
from support.storage_faults import Fault, faulty

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
        names = _files(place)
        await record(spool, Outcome(first, changed(first, RecipientState.RELAYED)))
        await record(spool, Outcome(second, changed(second, RecipientState.QUEUED, due_at=NOW)))
        third = held(spool, YOU, octets=shorter)
        await accept(spool, third)
        assert _files(place) == names
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


def outcomes(futures: Iterable["asyncio.Future[None]"]) -> Awaitable[list[BaseException | None]]:
    return asyncio.gather(*futures, return_exceptions=True)


@pytest.mark.parametrize("failing", ["the folder", "the second file"])
def test_names_are_synced_also_when_a_spoiled_batch_is_tried_again_mail_by_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    place = Place(str(tmp_path), "sqlite")
    folder = tmp_path / "content" / "000"
    real, opened = os.open, list[str]()

    def open_(path: str | Path, flags: int, mode: int = 0o777) -> int:
        where = Path(path)
        if where == folder or where.parent == folder:
            opened.append(str(where))
            if (where == folder) == (failing == "the folder") and len(opened) == (3 if where == folder else 2):
                raise OSError(errno.EMFILE, "Too many open files")
        return real(path, flags, mode)

    async def main() -> None:
        spool = place.spool()
        one, two = held(spool, YOU), held(spool, TWO)
        monkeypatch.setattr(os, "open", open_)
        with faulty(Fault.EIO, 0) as calls:
            assert await outcomes([ensure(accept(spool, one)), ensure(accept(spool, two))]) == [None, None]
        monkeypatch.undo()
        first_commit = calls.made.index("commit")
        assert calls.made.count("commit") == 2
        assert "fsync 000" in calls.made[:first_commit]
        await die(spool)

    run(main)


def test_content_accepted_and_deleted_in_one_commit_leaves_the_writer_at_work(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        spool = place.spool()
        for _ in range(KEPT):  # failed emails keep their content
            failed = held(spool, YOU, octets=HELD[-270_000:])
            await accept(spool, failed)
            await record(spool, Outcome(failed, changed(failed, RecipientState.FAILED)))
        queued = held(spool, YOU)
        queued = replace(queued, recipients=changed(queued, RecipientState.QUEUED, due_at=NOW))
        other = held(spool, TWO)
        together = [ensure(accept(spool, queued)), ensure(accept(spool, other))]
        deleting = ensure(spool.act(QueueCommand(1, "delete", "op"), NOW))
        assert await outcomes(together) == [None, None]
        assert (await deleting).recipients == 1
        await record(spool, Outcome(other, changed(other, RecipientState.RELAYED)))
        await accept(spool, held(spool, YOU))
        await spool.close()

    run(main)


def test_mails_that_stay_long_take_no_places_of_those_that_go(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        spool = place.spool()
        for _ in range(KEPT + 1):
            failed = held(spool, YOU, octets=HELD[-270_000:])
            await accept(spool, failed)
            await record(spool, Outcome(failed, changed(failed, RecipientState.FAILED)))
        before = set(_files(place))
        for _ in range(5):
            one = held(spool, YOU)
            await accept(spool, one)
            await record(spool, Outcome(one, changed(one, RecipientState.RELAYED)))
        assert len(set(_files(place)) - before) == 1
        await spool.close()

    run(main)


def test_few_free_files_are_kept(tmp_path: Path) -> None:
    reused = ReusedFiles(tmp_path)
    paths = [reused.take() for _ in range(2 * KEPT)]
    for path in paths:
        reused.write(path, b"x")
    for half in (paths[:KEPT], paths[KEPT:]):
        for path in half:
            reused.stored(path)
        freed = [reused.leave(path) for path in half]
        assert freed == [half == paths[:KEPT]] * KEPT
    assert reused.take() in paths[:KEPT]
    reused.close()


def test_an_outcome_with_a_long_dsn_that_fails_leaves_no_file_behind(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, one)
        dsn = replace(mail("s@outside.example"), own=True, contents=(Content(InlineOctets(HELD)),))
        outcome = Outcome(
            one, changed(one, RecipientState.FAILED), generated=((dsn, (TrailEntry(NOW, "generated"),)),)
        )
        for _ in range(2):
            with faulty(Fault.ENOSPC, 1), pytest.raises(OSError):
                await record(spool, outcome)
            assert _files(place) == []
        with faulty(Fault.LATE, 4) as calls, pytest.raises(OSError):
            await record(spool, outcome)
        assert calls.made == ["write", "fdatasync", "fsync 000", "commit"]
        with pytest.raises(LeaseLost):  # the commit did take place
            await record(spool, outcome)
        assert [path.read_bytes() for path in _files(place)] == [HELD]
        await die(spool)

    run(main)


def test_a_mail_whose_outcome_may_be_stored_is_not_taken_before_it_is(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        spool = place.spool()
        one = held(spool, YOU)
        await accept(spool, one)
        outcome = Outcome(one, changed(one, RecipientState.QUEUED, due_at=NOW))
        with faulty(Fault.LATE, 1), pytest.raises(OSError):
            await record(spool, outcome)
        assert place.states(one.id) == ["queued"], "the commit did take place"
        assert await spool.take_due("exchange", NOW, 10, ALL) == []
        with pytest.raises(LeaseLost):
            await record(spool, outcome)
        (again,) = await spool.take_due("exchange", NOW, 10, ALL)
        assert octets(again) == HELD
        await spool.close()

    run(main)


def test_trouble_after_a_commit_neither_ends_the_writer_nor_keeps_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(str(tmp_path), "sqlite")

    def close(_: NewFiles) -> None:
        raise RuntimeError("a bug")

    async def main() -> None:
        spool = place.spool()
        with monkeypatch.context() as patched:
            patched.setattr(NewFiles, "close", close)
            assert await outcomes([ensure(accept(spool, mail(YOU))), ensure(accept(spool, mail(TWO)))]) == [
                None,
                None,
            ]
        await accept(spool, mail(YOU))
        await spool.close()

    run(main)
