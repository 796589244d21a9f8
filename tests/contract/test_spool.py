"""ports.Spool, the same on SQLite and PostgreSQL."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from posthouse.core.mail import Content, Deferral, Mail, RecipientState, TrailEntry
from posthouse.core.way import Certificate, WayFacts
from posthouse.ports import Age, LeaseLost, Outcome, QueueCommand
from posthouse.storage.spool import MailSpool
from support.flow import mail
from support.storage import (
    ATTEMPT,
    LARGE,
    NOW,
    TWO,
    YOU,
    Place,
    accept,
    changed,
    die,
    held,
    large,
    lease_runs_out,
    octets,
    record,
    run,
)


@pytest.fixture
def place(data_dir: str, database: str) -> Place:
    return Place(data_dir, database)


@pytest.mark.parametrize("kind", ["inline", "held", "file"])
def test_mail_of_a_worker_that_died_comes_back_whole_and_due_now(place: Place, kind: str) -> None:
    async def first() -> Mail:
        spool = place.spool()
        one = large(spool, YOU) if kind == "file" else held(spool, YOU) if kind == "held" else mail(YOU)
        await accept(spool, one)
        await die(spool)
        return one

    async def second(one: Mail) -> None:
        place.clock.at = NOW + 5
        spool = place.spool("node/0/boot2")
        assert await spool.take_back(place.clock.at) == 1
        assert await spool.next_due() == {"exchange": place.clock.at}
        (again,) = await spool.take_due("exchange", place.clock.at, 10, 1 << 30)
        assert again.id == one.id
        assert again.trace_field == one.trace_field
        assert again.session == one.session
        assert octets(again) == (LARGE if kind == "file" else octets(one))
        assert again.recipients[0].state is RecipientState.ACTIVE
        await spool.close()

    one = run(first)
    run(lambda: second(one))
    assert "taken-over" in place.trail(one.id)


@pytest.mark.parametrize("kind", ["inline", "file"])
def test_the_last_final_result_deletes_the_content_unless_one_failed(place: Place, kind: str) -> None:
    async def main() -> None:
        spool = place.spool()
        for failing in (False, True):
            one = large(spool, YOU, TWO) if kind == "file" else mail(YOU, TWO)
            await accept(spool, one)
            await record(spool, Outcome(one, changed(one, RecipientState.RELAYED), (ATTEMPT,)))
            state = RecipientState.FAILED if failing else RecipientState.RELAYED
            await record(spool, Outcome(one, changed(one, state, 1), (ATTEMPT,)))
            found = place.found(one.id)
            assert found["open"] in (False, 0)
            assert len(found["attempts"]) == 2  # type: ignore[arg-type]
            assert len(found["contents"]) == (1 if failing else 0)  # type: ignore[arg-type]
        files = sum(len(names) for _, _, names in os.walk(Path(place.data_dir) / "content"))
        assert files == (1 if kind == "file" and place.database == "sqlite" else 0)
        place.clock.at = NOW + 100
        assert await spool.purge(place.clock.at, 200) == 0
        assert await spool.purge(place.clock.at, 50) == 1
        assert sum(len(names) for _, _, names in os.walk(Path(place.data_dir) / "content")) == 0
        await spool.close()

    run(main)


def test_a_dsn_is_stored_in_the_commit_of_the_outcome_that_calls_for_it(place: Place) -> None:
    async def main() -> tuple[Mail, Mail]:
        spool = place.spool()
        one, dsn = mail(YOU), replace(mail("sender@outside.example"), own=True, reverse_path="")
        await accept(spool, one)
        failed = changed(one, RecipientState.FAILED)
        await record(spool, Outcome(one, failed, (), (), ((dsn, (TrailEntry(NOW, "generated", {}),)),)))
        await record(spool, Outcome(dsn, changed(dsn, RecipientState.RELAYED)))
        await spool.close()
        return one, dsn

    one, dsn = run(main)
    assert place.states(one.id) == ["failed"]
    assert place.states(dsn.id) == ["relayed"]


def test_an_outcome_without_the_lease_is_void(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, one)
        await record(spool, Outcome(one, changed(one, RecipientState.QUEUED, due_at=NOW + 60)))
        with pytest.raises(LeaseLost):
            await record(spool, Outcome(one, changed(one, RecipientState.RELAYED)))
        assert place.states(one.id) == ["queued"]
        await spool.close()

    run(main)


def test_due_mail_is_taken_oldest_first_within_its_bounds_and_by_next_hop(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        mails = [mail(YOU) for _ in range(5)]
        for age, one in enumerate(mails):
            waiting = replace(one.recipients[0], state=RecipientState.QUEUED, due_at=NOW - age)
            await accept(spool, replace(one, recipients=(waiting,)))
        later = mail(YOU)
        await accept(spool, replace(later, recipients=changed(later, RecipientState.QUEUED, due_at=NOW + 60)))
        other = mail(TWO)
        await accept(spool, replace(other, recipients=changed(other, RecipientState.QUEUED, profile="other")))
        assert await spool.next_due() == {"exchange": NOW - 4, "other": NOW}
        taken = await spool.take_due("exchange", NOW, 2, 1 << 30)
        assert [m.id for m in taken] == [mails[4].id, mails[3].id]
        one_by_octets = await spool.take_due("exchange", NOW, 10, 1)
        assert [m.id for m in one_by_octets] == [mails[2].id]
        rest = await spool.take_due("exchange", NOW, 10, 1 << 30)
        assert [m.id for m in rest] == [mails[1].id, mails[0].id]
        assert await spool.take_due("exchange", NOW, 10, 1 << 30) == []
        await spool.close()

    run(main)


def test_of_a_paused_next_hop_only_mail_is_taken_that_senders_are_to_hear_of(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        young, old, told, ancient = (
            mail(YOU),
            mail(YOU, at=NOW - 20_000),
            mail(YOU, at=NOW - 20_000),
            mail(YOU, at=1.0),
        )
        for one, knows in ((young, False), (old, False), (told, True), (ancient, True)):
            waiting = tuple(
                replace(r, state=RecipientState.QUEUED, due_at=NOW, delay_told=knows) for r in one.recipients
            )
            await accept(spool, replace(one, recipients=waiting))
        taken = await spool.take_due(
            "exchange", NOW, 10, 1 << 30, Age(untold_before=NOW - 14_400, before=NOW - 432_000)
        )
        assert {one.id for one in taken} == {old.id, ancient.id}
        await spool.close()

    run(main)


def test_a_deferred_recipient_does_not_end_the_mail_of_the_others(place: Place) -> None:
    async def main() -> Mail:
        spool = place.spool()
        one = mail(YOU, TWO)
        await accept(spool, one)
        both = changed(one, RecipientState.RELAYED) + changed(one, RecipientState.QUEUED, 1, due_at=NOW + 60, tries=1)
        await record(spool, Outcome(one, both, (ATTEMPT,)))
        place.clock.at = NOW + 60
        (again,) = await spool.take_due("exchange", NOW + 60, 10, 1 << 30)
        assert [(r.address, r.tries) for r in again.recipients] == [(TWO, 1)]
        await record(spool, Outcome(again, (replace(again.recipients[0], state=RecipientState.RELAYED),), (ATTEMPT,)))
        await spool.close()
        return one

    one = run(main)
    assert place.states(one.id) == ["relayed", "relayed"]
    found = place.found(one.id)
    assert found["contents"] == []
    assert [attempt["n"] for attempt in found["attempts"]] == [0, 1]  # type: ignore[attr-defined]


def test_an_attempt_tells_its_way_or_that_there_was_no_connection(place: Place) -> None:
    way = WayFacts(
        "[2001:db8::1]:41234",
        "[2001:db8::2]:25",
        "TLSv1.3 TLS_AES_256_GCM_SHA384",
        Certificate.PINNED,
        "re\0l\ud800é",
    )

    async def main() -> Mail:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, one)
        with_way = replace(ATTEMPT, way=way, mail_number=7)
        await record(spool, Outcome(one, changed(one, RecipientState.RELAYED), (ATTEMPT, with_way)))
        await spool.close()
        return one

    attempts = place.found(run(main).id)["attempts"]
    assert isinstance(attempts, list)
    without, found = attempts
    assert (without["way"], without["mail_number"]) == (None, 0)
    assert found["mail_number"] == 7
    assert found["way"] == {
        "local": "[2001:db8::1]:41234",
        "remote": "[2001:db8::2]:25",
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "certificate": "pinned",
        "login": "re\N{REPLACEMENT CHARACTER}l?é",
    }


def test_a_version_without_spoofed_fields_keeps_its_cuts(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = mail(YOU)
        source = one.contents[0].source
        one = replace(
            one,
            contents=(Content(source), Content(source, ((0, 12),))),
            recipients=changed(one, RecipientState.QUEUED, version=1),
        )
        await accept(spool, one)
        (again,) = await spool.take_due("exchange", NOW, 10, 1 << 30)
        assert again.contents == one.contents
        await spool.close()

    run(main)


def test_operators_commands_change_rows_and_leave_a_trail(place: Place) -> None:
    async def main() -> Mail:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, replace(one, recipients=changed(one, RecipientState.QUEUED, due_at=NOW + 600)))

        async def act(kind: str, target: str = "") -> int:
            return (await spool.act(QueueCommand(1, kind, "op", (one.id,), "", target), NOW)).recipients

        assert await act("hold") == 1
        assert place.states(one.id) == ["held"]
        assert await spool.next_due() == {}
        assert await act("retry") == 0
        assert await act("release") == 1
        assert await spool.next_due() == {"exchange": NOW}
        assert await act("reroute", "other") == 1
        assert await spool.next_due() == {"other": NOW}
        assert await act("delete") == 1
        assert place.states(one.id) == ["deleted"]
        await spool.close()
        return one

    one = run(main)
    assert place.trail(one.id) == ["received", "held", "released", "rerouted", "deleted"]
    found = place.found(one.id)
    assert found["contents"] == []


def test_a_command_on_all_reaches_a_queue_longer_than_one_transaction(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        for _ in range(600):
            one = mail(YOU)
            await accept(spool, replace(one, recipients=changed(one, RecipientState.QUEUED, due_at=NOW + 600)))
        acted = await spool.act(QueueCommand(1, "retry", "op"), NOW)
        assert acted.recipients == 600
        assert await spool.next_due() == {"exchange": NOW}
        await spool.close()

    run(main)


def test_a_command_on_all_that_is_obeyed_late_leaves_alone_what_has_come_since(place: Place) -> None:
    """A worker that starts obeys the commands of the last minute."""

    async def main() -> None:
        spool = place.spool()
        old, new = mail(YOU), replace(mail(YOU), received_at=NOW + 30)
        for one in (old, new):
            await accept(spool, replace(one, recipients=changed(one, RecipientState.QUEUED, due_at=NOW + 600)))
        deleting = QueueCommand(1, "delete", "op", at=old.received_at)
        assert (await spool.act(deleting, NOW + 40)).mails == (old.id,)
        assert (place.states(old.id), place.states(new.id)) == (["deleted"], ["queued"])
        named = QueueCommand(2, "delete", "op", (new.id,), at=old.received_at)
        assert (await spool.act(named, NOW + 40)).recipients == 1
        await spool.close()

    run(main)


async def deferred(spool: MailSpool, deferral: Deferral, *, due_at: float = NOW + 3600, **more: object) -> Mail:
    """A mail that waits, for that reason."""
    one = mail(YOU)
    state = RecipientState.QUEUED
    row = replace(one.recipients[0], **{"state": state, "due_at": due_at, "deferral": deferral, **more})  # type: ignore[arg-type]
    await accept(spool, replace(one, recipients=(row,)))
    return one


def due(place: Place, mails: Iterable[Mail]) -> list[float]:
    return [place.found(one.id)["recipients"][0]["due_at"] for one in mails]  # type: ignore[index]


def test_mail_put_off_by_a_servers_fault_is_woken_spread_over_some_seconds_and_no_other(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        fault = Deferral.SERVER_FAULT
        mails = [await deferred(spool, fault) for _ in range(40)]
        soon = await deferred(spool, fault, due_at=NOW + 4)
        others = [
            await deferred(spool, Deferral.ANSWER),
            await deferred(spool, Deferral.THROTTLED),
            await deferred(spool, Deferral.NONE),
            await deferred(spool, fault, state=RecipientState.HELD),
            await deferred(spool, fault, profile="other"),
        ]
        assert await spool.wake({"exchange", "unknown"}, NOW, 10) == 40
        times = due(place, mails)
        assert NOW <= min(times) < NOW + 4
        assert NOW + 6 < max(times) < NOW + 10
        assert len(set(times)) > 30
        assert due(place, [soon]) == [NOW + 4]
        assert due(place, others) == [NOW + 3600] * 5
        assert await spool.wake({"exchange"}, NOW, 10) == 0
        taken = await spool.take_due("exchange", NOW + 10, 100, 1 << 30)
        assert {m.id for m in taken} == {m.id for m in (*mails, soon)}
        assert {r.deferral for m in taken for r in m.recipients} == {fault}
        await spool.close()

    run(main)


def test_a_long_queue_is_woken_in_several_transactions_or_one_mail_of_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posthouse.storage.spool.WOKEN_AT_ONCE", 20)

    async def main() -> None:
        spool = place.spool()
        mails = [await deferred(spool, Deferral.SERVER_FAULT) for _ in range(50)]
        assert await spool.wake({"exchange"}, NOW, 0, most=1) == 1
        assert due(place, mails).count(NOW) == 1
        assert await spool.wake({"exchange"}, NOW, 10) == 49
        assert max(due(place, mails)) < NOW + 10
        await spool.close()

    run(main)


def test_mail_that_another_worker_leases_is_not_woken(place: Place) -> None:
    async def main() -> None:
        first, second = place.spool("node/0/boot"), place.spool("node/1/boot")
        one = mail(YOU, TWO)
        await accept(first, one)
        (waiting,) = changed(one, RecipientState.QUEUED, due_at=NOW + 3600, deferral=Deferral.SERVER_FAULT)
        await record(first, Outcome(one, (waiting,)))
        assert await second.wake({"exchange"}, NOW, 10) == 0
        assert due(place, [one]) == [NOW + 3600]
        assert await first.wake({"exchange"}, NOW, 10) == 1
        await first.close()
        await second.close()

    run(main)


def test_unleased_mail_is_woken_by_whichever_worker_comes(postgres: str, tmp_path: Path) -> None:
    from support.postgres import new_database

    place = Place(str(tmp_path / "one"), new_database(postgres))

    async def main() -> None:
        first, second = place.spool("alpha/0/a"), place.spool("beta/0/b", str(tmp_path / "two"))
        mails = [await deferred(first, Deferral.SERVER_FAULT) for _ in range(200)]
        woken = await asyncio.gather(first.wake({"exchange"}, NOW, 10), second.wake({"exchange"}, NOW, 10))
        assert sum(woken) == 200
        assert max(due(place, mails)) < NOW + 10
        await first.close()
        await second.close()

    run(main)


def test_a_failed_email_can_be_opened_again_while_its_content_is_kept(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = mail(YOU)
        await accept(spool, one)
        await record(spool, Outcome(one, changed(one, RecipientState.FAILED)))
        assert (await spool.act(QueueCommand(1, "retry", "op", (one.id,)), NOW)).recipients == 1
        (again,) = await spool.take_due("exchange", NOW, 10, 1 << 30)
        assert octets(again) == octets(one)
        await spool.close()

    run(main)


def test_two_workers_never_take_the_same_mail(place: Place) -> None:
    async def main() -> None:
        first, second = place.spool("node/0/boot"), place.spool("node/1/boot")
        ids = set()
        for number in range(40):
            one = mail(YOU)
            ids.add(one.id)
            waiting = replace(one, recipients=changed(one, RecipientState.QUEUED))
            await accept(first if number % 2 else second, waiting)
        taken: list[str] = []
        while len(taken) < len(ids):
            both = await asyncio.gather(
                first.take_due("exchange", NOW, 3, 1 << 30), second.take_due("exchange", NOW, 3, 1 << 30)
            )
            taken += [m.id for some in both for m in some]
        assert len(taken) == len(set(taken))
        assert set(taken) == ids
        await first.close()
        await second.close()

    run(main)


def test_another_node_takes_over_when_a_lease_has_run_out(postgres: str, tmp_path: Path) -> None:
    from support.postgres import new_database

    place = Place(str(tmp_path / "one"), new_database(postgres))

    async def main() -> None:
        first = place.spool("alpha/0/a")
        second = place.spool("beta/0/b", str(tmp_path / "two"))
        one = large(first, YOU)
        await accept(first, one)
        assert await second.take_back(NOW) == 0
        lease_runs_out(place.database, "alpha/0/a")
        assert await second.take_back(NOW) == 1
        (again,) = await second.take_due("exchange", place.clock.at, 10, 1 << 30)
        assert octets(again) == LARGE
        assert not await first.renew()
        assert not first.lease_fresh()
        with pytest.raises(LeaseLost):
            await record(first, Outcome(one, changed(one, RecipientState.RELAYED)))
        await record(second, Outcome(again, changed(again, RecipientState.RELAYED)))
        await first.close()
        await second.close()

    run(main)


def test_a_worker_adopts_the_file_of_one_that_is_gone(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        first, second = place.spool("node/0/boot"), place.spool("node/1/boot")
        one = mail(YOU)
        await accept(second, one)
        await die(second)
        assert await first.take_back(NOW) == 1
        (again,) = await first.take_due("exchange", NOW, 10, 1 << 30)
        assert again.id == one.id
        await record(first, Outcome(again, changed(again, RecipientState.RELAYED)))
        await first.close()

    run(main)
    assert sorted(p.name for p in tmp_path.glob("mail-*.db")) == ["mail-000.db", "mail-001.db"]


def test_leftover_files_are_swept_at_the_start(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        spool = place.spool()
        await accept(spool, large(spool, YOU))
        await spool.close()
        (tmp_path / "content" / "000" / ".tmp-half").write_bytes(b"half")
        (tmp_path / "content" / "000" / "nobodys").write_bytes(b"whole, but no row names it")
        spool = place.spool("node/0/boot2")
        assert len(os.listdir(tmp_path / "content" / "000")) == 1
        await spool.close()

    run(main)


def test_looks_for_due_mail_use_the_index_of_due_mail(tmp_path: Path) -> None:
    from sqlalchemy import text

    from posthouse.storage.database import open_sqlite

    place = Place(str(tmp_path), "sqlite")

    async def main() -> None:
        await place.spool().close()

    run(main)
    database = open_sqlite(tmp_path / "mail-000.db")
    with database.read() as connection:
        plan = connection.execute(
            text(
                "EXPLAIN QUERY PLAN SELECT mail_id FROM recipient WHERE state = 'queued' AND stage = 'relay' "
                "AND profile = 'x' AND due_at <= 1 ORDER BY due_at LIMIT 10"
            )
        ).all()
    assert "recipient_due" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    database.close()


def test_a_mail_that_shares_its_commit_with_no_other_is_told_while_it_is_under_way(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        events: list[str] = []
        alone, ended = [asyncio.get_running_loop().create_future() for _ in range(2)]
        spool.accept(mail(YOU), (), ended.set_result, lambda: alone.set_result(ended.done()))
        assert await alone is False
        assert await ended is None
        both = [asyncio.get_running_loop().create_future() for _ in range(2)]
        for future in both:
            spool.accept(mail(YOU), (), future.set_result, lambda: events.append("shared"))
        assert await asyncio.gather(*both) == [None, None]
        assert events == []
        await spool.close()

    run(main)
