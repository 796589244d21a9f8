"""ports.Spool where two things meet: one commit, one mail, one owner's name, a commit that says it failed."""

import asyncio
import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.core.mail import FileOctets, Mail, RecipientState, TrailEntry
from posthouse.ports import LeaseLost, Outcome, QueueCommand
from posthouse.storage import files
from support.flow import mail
from support.postgres import new_database
from support.storage import (
    LARGE,
    NOW,
    TWO,
    YOU,
    Place,
    accept,
    changed,
    die,
    large,
    lease_runs_out,
    octets,
    record,
    run,
)

ALL = 1 << 30


@pytest.fixture
def place(data_dir: str, database: str) -> Place:
    return Place(data_dir, database)


@pytest.fixture
def on_postgresql(postgres: str, tmp_path: Path) -> Place:
    return Place(str(tmp_path), new_database(postgres))


def two_hops(one: Mail) -> Mail:
    """The second recipient goes to another next hop and waits."""
    first, second = one.recipients
    return replace(one, recipients=(first, replace(second, profile="other", state=RecipientState.QUEUED)))


class Commits:
    """files.calls that counts commits; the one numbered `late` takes place and is reported as failed."""

    def __init__(self) -> None:
        self._real = files.calls
        self.made = 0
        self.late = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def commit(self, transaction: files.Transaction, /) -> None:
        self.made += 1
        self._real.commit(transaction)
        if self.made == self.late:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@contextmanager
def counted() -> Iterator[Commits]:
    before = files.calls
    files.calls = commits = Commits()  # type: ignore[assignment]
    try:
        yield commits
    finally:
        files.calls = before


@pytest.mark.parametrize("kind", ["inline", "file"])
def test_a_mail_let_go_and_taken_in_one_commit_stays_in_hand(place: Place, kind: str) -> None:
    async def main() -> Mail:
        spool = place.spool()
        one = two_hops(large(spool, YOU, TWO) if kind == "file" else mail(YOU, TWO))
        await accept(spool, one)
        let_go = asyncio.ensure_future(record(spool, Outcome(one, changed(one, RecipientState.RELAYED))))
        taking = asyncio.ensure_future(spool.take_due("other", NOW, 10, ALL))
        await let_go
        (rest,) = await taking
        assert octets(rest) == (octets(one) if kind == "inline" else LARGE)
        await record(spool, Outcome(rest, (replace(rest.recipients[0], state=RecipientState.RELAYED),)))
        await spool.close()
        return one

    one = run(main)
    assert place.states(one.id) == ["relayed", "relayed"]
    assert place.found(one.id)["contents"] == []


def test_one_void_outcome_leaves_the_others_of_its_commit_alone(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        mails = [mail(YOU) for _ in range(5)]
        await asyncio.gather(*(accept(spool, one) for one in mails))
        last = [Outcome(one, changed(one, RecipientState.RELAYED)) for one in mails]
        with counted() as commits:
            told = await asyncio.gather(
                *(record(spool, outcome) for outcome in (*last, last[0])), return_exceptions=True
            )
        assert [type(answer) for answer in told] == [*[type(None)] * 5, LeaseLost]
        assert commits.made == 1
        await spool.close()

    run(main)


def test_a_process_that_comes_back_under_the_same_name_gets_its_mail_back(place: Place) -> None:
    async def main() -> None:
        first = place.spool("node/0/boot")
        one = mail(YOU)
        await accept(first, one)
        await die(first)
        second = place.spool("node/0/boot")
        assert await second.take_back(NOW) == 1
        assert [m.id for m in await second.take_due("exchange", NOW, 10, ALL)] == [one.id]
        assert await second.take_back(NOW) == 0
        await second.close()

    run(main)


def test_a_dsn_survives_a_commit_that_took_place_though_it_was_reported_as_failed(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one, dsn = mail(YOU), mail("sender@outside.example", own=True, reverse_path="")
        await accept(spool, one)
        outcome = Outcome(
            one, changed(one, RecipientState.FAILED), generated=((dsn, (TrailEntry(NOW, "generated"),)),)
        )
        with counted() as commits:
            commits.late = 1
            with pytest.raises(OSError):
                await record(spool, outcome)
            with pytest.raises(LeaseLost):
                await record(spool, outcome)
        await accept(spool, mail(YOU))
        await spool.take_back(NOW)
        assert [m.id for m in await spool.take_due("exchange", NOW, 10, ALL)] == [dsn.id]
        await spool.close()

    run(main)


def test_an_own_mail_whose_first_commit_took_place_unseen_is_stored_once(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one, dsn = mail(YOU, TWO), mail("sender@outside.example", own=True, reverse_path="")
        await accept(spool, one)
        outcome = Outcome(
            one, changed(one, RecipientState.FAILED), generated=((dsn, (TrailEntry(NOW, "generated"),)),)
        )
        with counted() as commits:
            commits.late = 1
            with pytest.raises(OSError):
                await record(spool, outcome)
        await record(spool, outcome)
        await record(spool, Outcome(dsn, changed(dsn, RecipientState.RELAYED)))
        assert place.trail(dsn.id) == ["generated"]
        await spool.close()

    run(main)


def test_mail_taken_by_a_commit_reported_as_failed_comes_back(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, replace(one, recipients=changed(one, RecipientState.QUEUED)))
        with counted() as commits:
            commits.late = 1
            with pytest.raises(OSError):
                await spool.take_due("exchange", NOW, 10, ALL)
        assert await spool.take_back(NOW) == 1
        assert [m.id for m in await spool.take_due("exchange", NOW, 10, ALL)] == [one.id]
        await spool.close()

    run(main)


def test_a_disk_that_refuses_is_asked_once_for_a_batch(place: Place) -> None:
    class Refusing(Commits):
        def commit(self, transaction: files.Transaction, /) -> None:
            self.made += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def main() -> None:
        spool = place.spool()
        before, files.calls = files.calls, Refusing()  # type: ignore[assignment]
        try:
            told = await asyncio.gather(*(accept(spool, mail(YOU)) for _ in range(20)), return_exceptions=True)
            assert [getattr(answer, "errno", None) for answer in told] == [errno.ENOSPC] * 20
            assert files.calls.made == 1  # type: ignore[attr-defined]
        finally:
            files.calls = before
        await accept(spool, mail(YOU))
        await spool.close()

    run(main)


def test_one_bad_mail_does_not_spoil_the_others_of_its_commit(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        known = mail(YOU)
        await accept(spool, known)
        mails = [mail(YOU), known, mail(YOU)]
        told = await asyncio.gather(*(accept(spool, one) for one in mails), return_exceptions=True)
        assert [isinstance(answer, Exception) for answer in told] == [False, True, False]
        await record(spool, Outcome(known, changed(known, RecipientState.RELAYED)))
        await spool.close()

    run(main)


def test_a_command_on_a_long_queue_lets_new_mail_in_between(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        waiting = [mail(YOU) for _ in range(1200)]
        queued = [replace(one, recipients=changed(one, RecipientState.QUEUED, due_at=NOW + 60)) for one in waiting]
        await asyncio.gather(*(accept(spool, one) for one in queued))
        with counted() as commits:
            acted = await spool.act(QueueCommand(1, "hold", "op", profile="exchange"), NOW)
        assert acted.recipients == 1200
        assert set(acted.mails) == {one.id for one in waiting}
        assert commits.made == 3
        await spool.close()

    run(main)


def test_rerouting_does_not_end_a_hold(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, replace(one, recipients=changed(one, RecipientState.HELD)))
        acted = await spool.act(QueueCommand(1, "reroute", "op", target="other"), NOW)
        assert acted.recipients == 1
        assert await spool.next_due() == {}
        await spool.act(QueueCommand(2, "release", "op"), NOW)
        assert await spool.next_due() == {"other": NOW}
        await spool.close()

    run(main)


def test_a_worker_whose_lease_ran_out_finishes_nothing_until_it_knows_what_it_lost(on_postgresql: Place) -> None:
    place = on_postgresql

    async def main() -> None:
        first = place.spool("alpha/0/a")
        second = place.spool("beta/0/b", str(Path(place.data_dir) / "two"))
        one = mail(YOU)
        await accept(first, one)
        assert first.lease_fresh()
        assert await second.take_back(NOW) == 0
        lease_runs_out(place.database, "alpha/0/a")
        assert await second.take_back(NOW) == 1
        assert not await first.renew()
        assert not await first.renew(), "its mail is still in memory"
        assert not first.lease_fresh()
        with pytest.raises(LeaseLost):
            await record(first, Outcome(one, changed(one, RecipientState.RELAYED)))
        assert await first.renew()
        assert first.lease_fresh()
        await first.close()
        await second.close()

    run(main)


def test_a_lease_that_ran_out_unnoticed_is_good_again(on_postgresql: Place) -> None:
    place = on_postgresql

    async def main() -> None:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, one)
        lease_runs_out(place.database, "node/0/boot")
        assert await spool.renew()
        assert spool.lease_fresh()
        await record(spool, Outcome(one, changed(one, RecipientState.RELAYED)))
        await spool.close()

    run(main)


def test_leases_go_by_the_clock_of_the_database(on_postgresql: Place) -> None:
    async def main() -> None:
        first = on_postgresql.spool("alpha/0/a")
        await accept(first, mail(YOU))
        on_postgresql.clock.at = NOW + 3600  # another node's clock is wrong by an hour
        second = on_postgresql.spool("beta/0/b", str(Path(on_postgresql.data_dir) / "two"))
        assert await second.take_back(on_postgresql.clock.at) == 0
        await first.close()
        await second.close()

    run(main)


def test_taking_a_further_part_leaves_the_file_of_the_first_alone(on_postgresql: Place) -> None:
    async def main() -> None:
        spool = on_postgresql.spool()
        one = two_hops(large(spool, YOU, TWO))
        queued = replace(one.recipients[0], state=RecipientState.QUEUED)
        await accept(spool, replace(one, recipients=(queued, one.recipients[1])))
        (first,) = await spool.take_due("exchange", NOW, 10, ALL)
        source = first.contents[0].source
        assert isinstance(source, FileOctets)
        inode = os.stat(source.path).st_ino
        (second,) = await spool.take_due("other", NOW, 10, ALL)
        assert octets(second) == LARGE
        again = second.contents[0].source
        assert isinstance(again, FileOctets)
        assert again.path == source.path
        assert os.stat(source.path).st_ino == inode
        for part in (first, second):
            await record(spool, Outcome(part, (replace(part.recipients[0], state=RecipientState.RELAYED),)))
        assert os.listdir(Path(source.path).parent) == []
        await spool.close()

    run(main)


def test_a_data_dir_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "mail #1? 100%"
    place = Place(str(folder), "sqlite")

    async def main() -> Mail:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, one)
        await spool.close()
        return one

    one = run(main)
    assert (folder / "mail-000.db").exists()
    assert place.states(one.id) == ["queued"]


def test_files_are_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        spool = Place("data", "sqlite").spool()
        source = large(spool, YOU).contents[0].source
        assert isinstance(source, FileOctets)
        assert os.path.isabs(source.path)
        await spool.close()

    run(main)


def test_a_database_that_another_process_writes_to_holds_up_neither_loop_nor_mail(tmp_path: Path) -> None:
    async def main() -> None:
        place = Place(str(tmp_path), "sqlite")
        spool = place.spool()
        await accept(spool, mail(YOU))
        other = sqlite3.connect(tmp_path / "mail-000.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(accept(spool, mail(YOU)))
        for _ in range(1000):  # a loop that waited for the lock would not come round
            await asyncio.sleep(0)
        assert not waiting.done()
        other.execute("ROLLBACK")
        other.close()
        await waiting
        await spool.close()

    run(main)
