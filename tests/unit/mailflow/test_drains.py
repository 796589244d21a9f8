"""Servers that are drained or treated as down: what is passed over, what waits, and how mail comes back to them."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from posthouse.core.drain import Drain, DrainKind
from posthouse.core.limits import Limits
from posthouse.core.mail import Mail, RecipientState
from posthouse.core.outcome import RecipientResult, Result, Stage
from posthouse.mailflow.live import LiveRows
from posthouse.settings import NodeSettings
from support.flow import FAULT, OWN, RELAYED, A, B, C, Flow, flow, mail

YOU = "you@ours.example"
NOW = 1_000_000.0
WHY = "drained by key op (k1) since 1970-01-12 13:46:40Z: new disks"
DOWN_WHY = "treated as down until 1970-01-12 13:56:40Z by key op (k1)"


def drained(server: str, profile: str = "exchange") -> Drain:
    return Drain(profile, server, DrainKind.DRAINED, NOW, None, "key op (k1)", "new disks")


def down(server: str, seconds: float = 600) -> Drain:
    return Drain("exchange", server, DrainKind.SIMULATED, NOW, NOW + seconds, "key op (k1)")


def take(made: Flow, *drains: Drain) -> None:
    """An inventory with exactly these drains comes into force; profiles stay at their revisions."""
    now = made.delivery.inventory
    by_server = {(d.profile, d.server): d for d in drains}
    made.delivery.take_inventory(replace(now, revision=now.revision + 1, drains=by_server))


def run(made: Flow, *steps: Mail | int) -> None:
    """Mails are delivered one after the other; a number moves the clock and lets the servers be looked at."""

    async def go() -> None:
        for step in steps:
            if isinstance(step, Mail):
                await made.run(step)
                continue
            made.clock.at += step
            made.delivery.look_at_servers()
            for _ in range(5):
                await asyncio.sleep(0)
            made.delivery.look_at_servers()
            await made.settle()

    asyncio.run(go())


def facts(made: Flow, server: str, profile: str = "exchange") -> Mapping[str, Any]:
    live = LiveRows("w/0", made.delivery.servers.facts, made.clock)
    rows = live.look(made.delivery.inventory.next_hops()).rows
    return next(row.facts for row in rows if (row.profile, row.server) == (profile, server))


def to_other() -> Mail:
    one = mail("someone@other.example")
    return replace(one, recipients=tuple(replace(r, profile="other") for r in one.recipients))


def test_a_drained_server_is_passed_over_with_who_and_since_when_in_the_trail() -> None:
    made = flow()
    take(made, drained(A))
    run(made, mail(YOU))
    assert made.relay.servers == [B]
    (outcome,) = made.spool.outcomes
    assert [attempt.server for attempt in outcome.attempts] == [B]
    (entry,) = outcome.trail
    assert (entry.kind, entry.detail) == ("passed-over", {"servers": [{"server": A, "why": WHY}]})
    assert facts(made, A)["not_now"] == WHY


def test_after_it_is_undrained_mail_goes_there_again_and_deferred_mail_is_woken_spread() -> None:
    made = flow()
    take(made, drained(A))
    run(made, mail(YOU))
    take(made)
    run(made, 1, mail(YOU))
    assert made.relay.servers == [B, A]
    assert made.spool.woken == [(frozenset({"exchange"}), 10, None)]
    assert facts(made, A)["not_now"] == ""


def test_a_rehearsal_ends_by_itself() -> None:
    made = flow()
    take(made, down(A))
    run(made, mail(YOU), 599, mail(YOU))
    assert (made.relay.servers, made.spool.woken) == ([B, B], [])
    assert facts(made, A)["not_now"] == DOWN_WHY
    run(made, 1, mail(YOU))
    assert made.relay.servers == [B, B, A]
    assert made.spool.woken == [(frozenset({"exchange"}), 10, None)]
    assert made.delivery.servers.drained == set()


def test_a_clock_that_jumps_ahead_and_back_ends_no_drain() -> None:
    made = flow()
    until = replace(drained(A), until=NOW + 3600)
    take(made, until)
    run(made, mail(YOU), 7200, mail(YOU), -7190, mail(YOU))
    assert made.relay.servers == [B, A, B]
    assert made.delivery.servers.drained == {("exchange", A)}
    assert facts(made, A)["not_now"] == until.why


def test_at_the_end_of_a_rehearsal_mail_goes_there_before_anybody_has_looked() -> None:
    made = flow()
    take(made, down(A))
    made.clock.at += 600
    run(made, mail(YOU))
    assert made.relay.servers == [A]


def test_a_drain_that_has_ended_while_nobody_ran_is_none() -> None:
    made = flow()
    made.clock.at += 1000
    take(made, down(A))
    assert made.delivery.servers.drained == set()
    run(made, 1, mail(YOU))
    assert (made.relay.servers, made.spool.woken) == ([A], [])


def test_a_worker_that_starts_knows_the_drains() -> None:
    first = flow()
    first.delivery.inventory = replace(first.delivery.inventory, drains={("exchange", A): drained(A)})
    again = type(first.delivery)(first.tools, first.settings, first.delivery.inventory, 20, first.delivery._results)
    assert set(again.servers.drained) == {("exchange", A)}


def test_with_all_servers_out_mail_waits_no_try_is_used_up_and_the_queue_can_say_why() -> None:
    made = flow()
    take(made, drained(A), drained(B), down(C))
    run(made, mail(YOU), 5, mail(YOU), 5)
    assert (made.relay.sent, made.spool.outcomes, made.delivery.in_memory) == ([], [], 2)
    assert [facts(made, server)["not_now"] for server in (A, B, C)] == [WHY, WHY, DOWN_WHY]
    run(made, 590)
    assert made.relay.servers == [C, C]
    assert made.delivery.in_memory == 0
    assert {r.tries for outcome in made.spool.outcomes for r in outcome.recipients} == {0}


def test_what_no_memory_holds_waits_without_a_try_too() -> None:
    made = flow(settings=NodeSettings("mx.ours.example", own_mail=OWN, limits=Limits(lifetime_seconds=86400)))
    take(made, drained(A), drained(B), drained(C))
    run(made, mail(YOU, at=NOW - 86400), 60)
    made.delivery._tools.spool.outcomes.clear()  # type: ignore[attr-defined]

    async def old() -> None:
        await made.delivery._look_for_old()

    asyncio.run(old())
    assert made.states() == {YOU: RecipientState.FAILED}  # the lifetime is over, drained or not


def test_the_endpoint_of_a_drained_server_serves_other_profiles() -> None:
    made = flow()
    take(made, drained(C))
    run(made, to_other(), 1)
    assert made.relay.servers == [C]
    assert (facts(made, C)["not_now"], facts(made, C, "other")["not_now"]) == (WHY, "")


def test_a_transaction_that_is_open_ends_as_usual() -> None:
    made = flow()
    gate = made.relay.gate = asyncio.Event()

    async def go() -> None:
        made.delivery.enqueue(made.delivery.admit(mail(YOU)))
        await asyncio.sleep(0)
        take(made, drained(A))
        assert facts(made, A)["in_use"] == 1
        gate.set()
        await made.settle()

    asyncio.run(go())
    assert made.relay.servers == [A]
    assert made.states() == {YOU: RecipientState.RELAYED}
    assert facts(made, A)["in_use"] == 0


def opened(made: Flow, server: str) -> None:
    """Three faults open the circuit of a server."""
    made.relay.script[server] = [FAULT] * 3
    run(made, *[mail(YOU) for _ in range(3)])
    made.relay.probe_faults[server] = "connection refused"


def test_no_probe_goes_to_a_drained_server_until_it_is_undrained() -> None:
    made = flow()
    opened(made, A)
    take(made, drained(A))
    run(made, *[10] * 10)
    made.delivery.servers.probe_all()
    assert made.relay.probed == []
    assert facts(made, A)["endpoint"]["next_probe"] is None
    take(made)
    run(made, 1)
    assert [server for server, _, _ in made.relay.probed] == [A]


def test_probes_go_on_where_another_profile_names_the_endpoint() -> None:
    made = flow()
    made.relay.probe_faults = {A: "refused", B: "refused"}
    for server in (A, B, C):
        opened(made, server)
    take(made, drained(C))
    run(made, *[10] * 3)
    assert C in [server for server, _, _ in made.relay.probed]
    made.relay.probed.clear()
    take(made, drained(C), drained(C, "other"))
    run(made, *[300] * 3)
    assert {server for server, _, _ in made.relay.probed} == {A, B}


def test_servers_without_traffic_are_not_probed_either() -> None:
    made = flow(settings=NodeSettings("mx.ours.example", own_mail=OWN, limits=Limits(probe_seconds=60)))
    take(made, drained(A))
    run(made, 0, 61)
    assert {server for server, _, _ in made.relay.probed} == {B, C}


def test_last_errors_tell_time_stage_and_text_and_are_few_and_short() -> None:
    made = flow()
    busy = RecipientResult(Result.TRANSIENT, "451 4.3.0 " + "x" * 1000, "4.3.0", Stage.FINAL_DOT)
    made.relay.script[A] = [FAULT, FAULT, busy, RELAYED]
    run(made, mail(YOU), 1, mail(YOU), 1, mail(YOU), mail(YOU))
    assert facts(made, A)["last_errors"] == [
        {"at": NOW + 2, "stage": "final dot", "text": ("451 4.3.0 " + "x" * 1000)[:200], "times": 1},
        {"at": NOW + 1, "stage": "connect", "text": "connection refused", "times": 2},
    ]
    refusals = [RecipientResult(Result.TRANSIENT, f"451 4.3.0 {n}", "4.3.0", Stage.MAIL) for n in range(9)]
    made.relay.script[A] = [*refusals]
    run(made, *[mail(YOU) for _ in range(9)])
    assert [each["text"] for each in facts(made, A)["last_errors"]] == [f"451 4.3.0 {n}" for n in (8, 7, 6, 5, 4)]
    assert facts(made, B)["last_errors"] == []


def test_a_probe_that_failed_is_an_error_for_all_profiles_that_name_the_server() -> None:
    made = flow()
    for server in (A, B, C):
        opened(made, server)
    run(made, 10)
    for profile in ("exchange", "other"):
        newest = facts(made, C, profile)["last_errors"][0]
        assert newest == {"at": NOW + 10, "stage": "probe", "text": "connection refused", "times": 1}
