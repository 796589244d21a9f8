"""What waits for its scan is given to be scanned only, whatever becomes of it meanwhile; ports.Spool."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import product

import pytest

from posthouse.core.mail import Deferral, Mail, RecipientState, Stage
from posthouse.ports import Age, Outcome, QueueCommand
from posthouse.storage.spool import MailSpool
from support.flow import mail
from support.storage import NOW, TWO, YOU, Place, accept, die, lease_runs_out, record, run

QUEUED, FAILED = RecipientState.QUEUED, RecipientState.FAILED
LATER = NOW + 10 * 86400
PROFILES = ("exchange", "other")


@pytest.fixture
def place(data_dir: str, database: str) -> Place:
    return Place(data_dir, database)


def to_scan(*addresses: str, **more: object) -> Mail:
    one = mail(*addresses)
    values = {"state": QUEUED, "stage": Stage.SCAN, **more}
    return replace(one, recipients=tuple(replace(r, **values) for r in one.recipients))  # type: ignore[arg-type]


async def due(spool: MailSpool) -> list[Mail]:
    """What is given to be relayed, by any way to it."""
    assert await spool.next_due() == {}
    assert await spool.wake(PROFILES, NOW, 10) == 0
    found = [one for profile in PROFILES for one in await spool.take_due(profile, LATER, 100, 1 << 30)]
    return found + [one for p in PROFILES for one in await spool.take_due(p, LATER, 100, 1 << 30, Age(LATER, LATER))]


Step = Callable[[Place, MailSpool, Mail], Awaitable[MailSpool]]


def command(*kinds: str, target: str = "") -> Step:
    async def carried_out(place: Place, spool: MailSpool, one: Mail) -> MailSpool:
        for number, kind in enumerate(kinds):
            await spool.act(QueueCommand(number + 1, kind, "ann", (one.id,), target=target), NOW)
        return spool

    return carried_out


async def scan_put_off(place: Place, spool: MailSpool, one: Mail) -> MailSpool:
    (taken,) = await spool.take_unscanned(LATER, 10, 1 << 30)
    again = replace(taken.recipients[0], state=QUEUED, due_at=NOW + 60, deferral=Deferral.SERVER_FAULT)
    await record(spool, Outcome(taken, (again,)))
    return spool


async def killed_during_the_scan(place: Place, spool: MailSpool, one: Mail) -> MailSpool:
    await spool.take_unscanned(LATER, 10, 1 << 30)
    return await killed(place, spool, one)


async def killed(place: Place, spool: MailSpool, one: Mail) -> MailSpool:
    await die(spool)
    if place.database != "sqlite":
        lease_runs_out(place.database, spool._owner)
    next_one = place.spool(f"node/0/{spool._owner}x")
    await next_one.take_back(NOW)
    return next_one


async def failed_and_retried(place: Place, spool: MailSpool, one: Mail) -> MailSpool:
    (taken,) = await spool.take_unscanned(LATER, 10, 1 << 30)
    await record(spool, Outcome(taken, (replace(taken.recipients[0], state=FAILED),)))
    acted = await spool.act(QueueCommand(1, "retry", "ann", (one.id,)), NOW)
    assert acted.recipients == 1
    return spool


async def failed_and_rerouted(place: Place, spool: MailSpool, one: Mail) -> MailSpool:
    (taken,) = await spool.take_unscanned(LATER, 10, 1 << 30)
    await record(spool, Outcome(taken, (replace(taken.recipients[0], state=FAILED),)))
    target = "other" if taken.recipients[0].profile == "exchange" else "exchange"
    await spool.act(QueueCommand(1, "reroute", "ann", (one.id,), target=target), NOW)
    return spool


STEPS: dict[str, Step] = {
    "retry": command("retry"),
    "hold, release": command("hold", "release"),
    "hold, reroute, release": command("hold", "reroute", "release", target="other"),
    "reroute": command("reroute", target="other"),
    "put off": scan_put_off,
    "killed": killed,
    "killed during the scan": killed_during_the_scan,
    "failed, retried": failed_and_retried,
    "failed, rerouted": failed_and_rerouted,
}


@pytest.mark.parametrize(("first", "second"), list(product(STEPS, repeat=2)))
def test_nothing_but_an_outcome_makes_what_is_to_be_scanned_due_to_be_relayed(
    place: Place, first: str, second: str
) -> None:
    async def main() -> None:
        spool = place.spool()
        one = to_scan(YOU, due_at=NOW)
        await accept(spool, one)
        for step in (first, second):
            assert await due(spool) == []
            spool = await STEPS[step](place, spool, one)
        assert await due(spool) == []
        (taken,) = await spool.take_unscanned(LATER, 10, 1 << 30)
        assert [(r.state, r.stage) for r in taken.recipients] == [(RecipientState.ACTIVE, Stage.SCAN)]
        decided = replace(taken.recipients[0], stage=Stage.RELAY, state=QUEUED, due_at=NOW)
        await record(spool, Outcome(taken, (decided,)))
        assert await spool.take_unscanned(LATER, 10, 1 << 30) == []
        (relayed,) = await spool.take_due(decided.profile, NOW, 10, 1 << 30)
        assert relayed.recipients[0].stage is Stage.RELAY
        await spool.close()

    run(main)


def test_recipients_of_one_mail_are_taken_by_their_stage(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        one = to_scan(YOU, TWO)
        mixed = replace(one, recipients=(one.recipients[0], replace(one.recipients[1], stage=Stage.RELAY)))
        await accept(spool, mixed)
        (to_relay,) = await spool.take_due("exchange", NOW, 10, 1 << 30)
        (unscanned,) = await spool.take_unscanned(NOW, 10, 1 << 30)
        assert [r.address for r in to_relay.recipients] == [TWO]
        assert [r.address for r in unscanned.recipients] == [YOU]
        await record(spool, Outcome(to_relay, (replace(to_relay.recipients[0], state=RecipientState.RELAYED),)))
        assert place.states(one.id) == ["queued", "relayed"]
        active = replace(unscanned.recipients[0], stage=Stage.RELAY)
        await record(spool, Outcome(unscanned, (active,)))
        await record(spool, Outcome(unscanned, (replace(active, state=RecipientState.RELAYED),)))
        assert place.found(one.id)["contents"] == []
        await spool.close()

    run(main)


def test_unscanned_mail_is_taken_oldest_first_within_its_bounds_whatever_its_next_hop(place: Place) -> None:
    async def main() -> None:
        spool = place.spool()
        mails = [to_scan(YOU, due_at=NOW - n, profile=PROFILES[n % 2]) for n in range(4)]
        for one in mails:
            await accept(spool, one)
        await accept(spool, to_scan(YOU, due_at=NOW + 1))
        old = replace(to_scan(YOU, due_at=NOW + 1, delay_told=True), received_at=NOW - 5)
        await accept(spool, old)
        assert [m.id for m in await spool.take_unscanned(NOW, 2, 1 << 30)] == [mails[3].id, mails[2].id]
        assert [m.id for m in await spool.take_unscanned(NOW, 10, 1)] == [mails[1].id]
        assert await spool.take_unscanned(LATER, 10, 1 << 30, Age(NOW, NOW - 10)) == []
        assert [m.id for m in await spool.take_unscanned(LATER, 10, 1 << 30, Age(NOW, NOW - 1))] == [old.id]
        await spool.close()

    run(main)


def test_the_queue_counts_what_is_to_be_scanned_by_its_next_hop(place: Place) -> None:
    from posthouse.storage.history import History

    async def main() -> None:
        spool = place.spool()
        await accept(spool, to_scan(YOU, due_at=NOW + 5))
        await accept(spool, to_scan(YOU, due_at=NOW + 6, stage=Stage.RELAY))
        await spool.close()

    run(main)
    history = History(place.data_dir, place.database)
    (row,) = history.queue()
    history.close()
    assert (row["profile"], row["queued"], row["next_due"]) == ("exchange", 2, NOW + 5)
