"""Delivery attempts over fakes: the walk, what each result leads to, DSNs, bounds, fairness (design section 3)."""

import asyncio
import email
import email.policy
from dataclasses import replace

from posthouse.core.circuit import Event, Faulted, ProbeStarted, ProbeSucceeded
from posthouse.core.inventory import build_inventory
from posthouse.core.limits import Limits
from posthouse.core.mail import InlineOctets, RecipientState
from posthouse.ports import LeaseLost, QueueCommand
from posthouse.settings import NodeSettings
from support.flow import (
    FAULT,
    LATER,
    PERMANENT,
    RELAYED,
    TRANSIENT,
    UNCERTAIN,
    A,
    B,
    C,
    Flow,
    flow,
    inventory,
    mail,
)

YOU, TWO = "you@ours.example", "two@ours.example"


def run(made: Flow, *mails: object) -> None:
    asyncio.run(made.run(*mails))  # type: ignore[arg-type]


def test_the_first_server_that_can_be_addressed_does_the_service() -> None:
    made = flow({A: [FAULT], B: [FAULT]})
    run(made, mail(YOU))
    assert made.relay.servers == [A, B, C]
    assert made.states() == {YOU: RecipientState.RELAYED}
    attempts = made.spool.outcomes[0].attempts
    assert [(a.server, a.outcome) for a in attempts] == [(A, "server-fault"), (B, "server-fault"), (C, "relayed")]
    assert attempts[0].order == (A, B, C)
    assert attempts[0].transcript
    assert not attempts[2].transcript


def test_a_server_fault_everywhere_waits_for_the_schedule_and_sends_no_dsn() -> None:
    made = flow({A: [FAULT], B: [FAULT], C: [FAULT]})
    run(made, mail(YOU))
    row = made.spool.outcomes[0].recipients[0]
    assert (row.state, row.tries, row.due_at) == (RecipientState.QUEUED, 1, made.clock.at + 60)
    assert not made.spool.outcomes[0].generated


def test_a_transient_fault_of_the_message_goes_on_to_the_next_server() -> None:
    made = flow({A: [TRANSIENT]})
    run(made, mail(YOU))
    assert made.relay.servers == [A, B]
    assert made.states() == {YOU: RecipientState.RELAYED}


def test_a_permanent_reply_ends_the_walk_for_that_recipient_only() -> None:
    made = flow({A: [{YOU: PERMANENT, TWO: TRANSIENT}]})
    run(made, mail(YOU, TWO))
    assert made.relay.sent[:2] == [(A, (YOU, TWO)), (B, (TWO,))]
    assert made.states(0) == {YOU: RecipientState.FAILED, TWO: RecipientState.RELAYED}


def test_4yz_to_rcpt_waits_for_the_schedule_and_goes_to_no_other_server() -> None:
    made = flow({A: [{YOU: LATER}]})
    run(made, mail(YOU, TWO))
    assert made.relay.servers == [A]
    assert made.states() == {YOU: RecipientState.QUEUED, TWO: RecipientState.RELAYED}


def test_a_lost_reply_to_the_final_dot_gets_one_more_try_at_the_same_server() -> None:
    made = flow({A: [UNCERTAIN]})
    run(made, mail(YOU))
    assert made.relay.servers == [A, A]
    assert made.relay.fresh == [False, True]
    assert made.states() == {YOU: RecipientState.RELAYED}
    assert made.spool.outcomes[0].attempts[1].marks == ("possible duplicate",)


def test_an_outcome_still_uncertain_waits_and_asks_that_server_first_next_time() -> None:
    made = flow({B: [UNCERTAIN, FAULT], A: [FAULT]})
    run(made, mail(YOU))
    assert made.relay.servers == [A, B, B]
    row = made.spool.outcomes[0].recipients[0]
    assert (row.state, row.uncertain_at) == (RecipientState.QUEUED, B)
    again = replace(mail(YOU), recipients=(replace(row, state=RecipientState.ACTIVE),))
    run(made, again)
    assert made.relay.servers[3:] == [B]
    assert made.spool.outcomes[1].attempts[0].marks == ("possible duplicate",)


def test_round_robin_starts_after_the_server_that_did_the_last_service() -> None:
    made = flow({B: [FAULT]}, preference="round-robin")

    async def three() -> None:
        for _ in range(3):
            await made.run(mail(YOU))

    asyncio.run(three())
    assert made.relay.servers == [A, B, C, A]


def test_random_start_begins_where_chance_says_and_wraps() -> None:
    made = flow({C: [FAULT]}, preference="random-start", random=0.9)
    run(made, mail(YOU))
    assert made.relay.servers == [C, A]


def test_retries_follow_the_schedule_until_five_days_have_passed_then_one_failure_dsn() -> None:
    made = flow()
    one = mail(YOU)
    waits: list[float] = []
    dsns: list[object] = []

    async def whole_life() -> None:
        at_hand = one
        while True:
            made.relay.script[A] = [LATER]
            await made.run(at_hand)
            outcome = next(o for o in reversed(made.spool.outcomes) if o.mail.id == one.id)
            dsns.extend(m for m, _ in outcome.generated)
            row = outcome.recipients[0]
            if row.state is RecipientState.FAILED:
                return
            waits.append(row.due_at - made.clock.at)
            made.clock.at = row.due_at
            at_hand = replace(one, recipients=(replace(row, state=RecipientState.ACTIVE),))

    asyncio.run(whole_life())
    assert waits[:6] == [60, 300, 900, 1800, 3600, 3600]
    assert made.clock.at - one.received_at <= 5 * 86400
    assert made.clock.at - one.received_at > 5 * 86400 - 3601
    subjects = [email.message_from_bytes(_octets(m), policy=email.policy.SMTP) for m in dsns]
    actions = [m.get_payload()[1].get_payload()[1]["Action"] for m in subjects]  # type: ignore[index,union-attr]
    assert actions == ["delayed", "failed"]


def _octets(made: object) -> bytes:
    source = made.contents[0].source  # type: ignore[attr-defined]
    assert isinstance(source, InlineOctets)
    return source.octets


def test_a_failure_makes_a_dsn_in_the_same_commit_and_relays_it_by_own_mail() -> None:
    made = flow({A: [PERMANENT]})
    one = mail(YOU)
    run(made, one)
    outcome = made.spool.outcomes[0]
    dsn, trail = outcome.generated[0]
    assert dsn.own
    assert dsn.reverse_path == ""
    assert [r.address for r in dsn.recipients] == [one.reverse_path]
    assert trail[0].detail == {"kind": "failure", "for": one.id}
    assert made.relay.sent[-1][1] == (one.reverse_path,)
    assert made.spool.outcomes[1].mail.id == dsn.id


def test_no_dsn_to_the_null_reverse_path_nor_for_own_mail() -> None:
    made = flow({A: [PERMANENT, PERMANENT]})
    run(made, mail(YOU, reverse_path=""), mail(YOU, own=True))
    assert [o.generated for o in made.spool.outcomes] == [(), ()]


def test_notify_never_silences_the_failure_dsn() -> None:
    made = flow({A: [PERMANENT]})
    one = mail(YOU)
    run(made, replace(one, recipients=(replace(one.recipients[0], notify="NEVER"),)))
    assert not made.spool.outcomes[0].generated
    assert "NOTIFY does not ask for it" in str(made.spool.outcomes[0].trail)


def test_success_is_told_by_us_only_when_the_next_hop_lacks_dsn() -> None:
    for offered, expected in ((False, 1), (True, 0)):
        made = flow()
        made.relay.dsn_offered = offered
        one = mail(YOU)
        run(made, replace(one, recipients=(replace(one.recipients[0], notify="SUCCESS"),)))
        assert len(made.spool.outcomes[0].generated) == expected


def test_without_own_mail_the_dsn_becomes_a_failed_email() -> None:
    made = flow({A: [PERMANENT]}, settings=NodeSettings("mx.ours.example"))
    run(made, mail(YOU))
    dsn, _ = made.spool.outcomes[0].generated[0]
    assert dsn.recipients[0].state is RecipientState.FAILED
    assert "own_mail" in dsn.recipients[0].detail
    assert len(made.relay.sent) == 1


def test_a_refused_commit_is_tried_again_and_nothing_is_sent_twice() -> None:
    made = flow()
    made.spool.errors = [OSError(28, "No space left on device")]
    run(made, mail(YOU))
    assert len(made.relay.sent) == 1
    assert made.states() == {YOU: RecipientState.RELAYED}


def test_a_lost_lease_voids_the_result() -> None:
    made = flow()
    made.spool.errors = [LeaseLost()]
    run(made, mail(YOU))
    assert not made.spool.outcomes
    assert made.delivery.in_memory == 0


def test_no_more_transactions_are_open_than_one_server_may_have() -> None:
    made = flow(per_server=2)

    async def main() -> int:
        made.relay.gate = asyncio.Event()
        for _ in range(5):
            made.delivery.enqueue(made.delivery.admit(mail(YOU)))
        await asyncio.sleep(0)
        open_now = len(made.delivery._tasks)
        made.relay.gate.set()
        await made.settle()
        return open_now

    assert asyncio.run(main()) == 2
    assert len(made.relay.sent) == 5


def test_past_the_bound_of_memory_mail_waits_in_the_database() -> None:
    made = flow(settings=NodeSettings("mx.ours.example", limits=Limits(memory_mails=10)), per_server=1)
    states = [made.delivery.admit(mail(YOU)).recipients[0].state for _ in range(7)]
    assert states == [RecipientState.ACTIVE] * 5 + [RecipientState.QUEUED] * 2


def test_a_dead_next_hop_leaves_half_of_memory_to_the_others() -> None:
    made = flow(settings=NodeSettings("mx.ours.example", limits=Limits(memory_mails=10)))
    for _ in range(10):
        made.delivery.admit(mail(YOU))
    other = mail("x@other.example")
    other = replace(other, recipients=(replace(other.recipients[0], profile="other"),))
    assert made.delivery.admit(other).recipients[0].state is RecipientState.ACTIVE


def test_new_mail_and_due_retries_alternate() -> None:
    made = flow(per_server=1)

    async def main() -> None:
        made.relay.gate = asyncio.Event()
        made.spool.waiting = [mail(f"due{n}@ours.example") for n in range(3)]
        for n in range(4):
            made.delivery.enqueue(made.delivery.admit(mail(f"new{n}@ours.example")))
        await made.delivery.look()
        made.relay.gate.set()
        await made.settle()

    asyncio.run(main())
    order = [addresses[0].split("@")[0] for _, addresses in made.relay.sent]
    assert order == ["new0", "due0", "new1", "due1", "new2", "due2", "new3"]


def test_a_profile_that_is_gone_defers_its_mail() -> None:
    made = flow()
    one = mail(YOU)
    run(made, replace(one, recipients=(replace(one.recipients[0], profile="gone"),)))
    assert made.states() == {YOU: RecipientState.QUEUED}


def test_an_edited_inventory_is_used_by_the_next_attempt() -> None:
    made = flow()
    made.delivery.inventory = inventory(servers=[B])
    run(made, mail(YOU))
    assert made.relay.servers == [B]


def test_hold_takes_waiting_parcels_out_of_memory() -> None:
    made = flow(per_server=1)

    async def main() -> None:
        made.relay.gate = asyncio.Event()
        first, second = mail(YOU), mail(TWO)
        for one in (first, second):
            made.delivery.enqueue(made.delivery.admit(one))
        await asyncio.sleep(0)
        await made.delivery.command(QueueCommand(1, "hold", "op", (second.id,)))
        made.relay.gate.set()
        await made.settle()

    asyncio.run(main())
    assert [addresses for _, addresses in made.relay.sent] == [(YOU,)]
    assert made.states(0) == {TWO: RecipientState.QUEUED}
    assert made.delivery.in_memory == 0


def test_relayed_is_the_only_thing_written_for_a_straight_mail() -> None:
    made = flow()
    run(made, mail(YOU))
    outcome = made.spool.outcomes[0]
    assert (len(outcome.attempts), outcome.trail, outcome.generated) == (1, (), ())
    assert RELAYED.reply in outcome.attempts[0].summary


def test_mail_under_way_finds_a_renamed_profile_by_its_former_name() -> None:
    made = flow()
    renamed: dict[str, object] = {"name": "next", "type": "smtp", "servers": [A]}
    made.delivery.take_inventory(build_inventory(2, [(renamed, 2)], [], former={"exchange": "next"}))
    run(made, mail(YOU))
    assert made.relay.servers == [A]
    (row,) = made.spool.outcomes[0].recipients
    assert row.state is RecipientState.RELAYED
    taken: dict[str, object] = {"name": "exchange", "type": "smtp", "servers": [B]}
    profiles = [(renamed, 2), (taken, 3)]
    made.delivery.take_inventory(build_inventory(3, profiles, [], former={"exchange": "next"}))
    run(made, mail(YOU))
    assert made.relay.servers == [A, B], "a profile of that name comes first"


def test_waiting_mail_follows_a_rename_unless_another_profile_has_the_name_by_now() -> None:
    made = flow()
    renamed: dict[str, object] = {"name": "next", "type": "smtp", "servers": [A]}
    made.delivery.take_inventory(build_inventory(2, [(renamed, 2)], [], former={"exchange": "next"}))
    asyncio.run(made.delivery.follow_renames())
    assert [(c.kind, c.profile, c.target) for c in made.spool.acted] == [("reroute", "exchange", "next")]
    taken: dict[str, object] = {"name": "exchange", "type": "smtp", "servers": [B]}
    profiles = [(renamed, 2), (taken, 3)]
    made.delivery.take_inventory(build_inventory(3, profiles, [], former={"exchange": "next"}))
    asyncio.run(made.delivery.follow_renames())
    assert len(made.spool.acted) == 1


def test_mail_is_woken_by_the_former_name_too_and_when_its_profile_comes_back() -> None:
    made = flow()

    def woken() -> list[frozenset[str]]:
        async def main() -> None:
            made.delivery.look_at_servers()
            await made.settle()

        asyncio.run(main())
        found = [names for names, _, _ in made.spool.woken]
        made.spool.woken.clear()
        return found

    renamed: dict[str, object] = {"name": "next", "type": "smtp", "servers": [A]}
    made.delivery.take_inventory(build_inventory(2, [(renamed, 2)], [], former={"exchange": "next"}))
    woken()
    endpoint = made.delivery.servers._of(made.delivery.inventory.profiles["next"], A).endpoint
    fault = Faulted(endpoint.state.era, "refused")
    events: list[Event] = [fault, fault, fault, ProbeStarted(), ProbeSucceeded()]
    for event in events:
        made.delivery.servers.step(endpoint, event)
    assert frozenset({"exchange", "next"}) in woken()
    made.delivery.take_inventory(build_inventory(3, [], []))
    assert woken() == []
    made.delivery.take_inventory(build_inventory(4, [(renamed, 4)], []))
    assert frozenset({"next"}) in woken()


def test_a_command_on_all_leaves_parcels_alone_that_came_after_it() -> None:
    made = flow(per_server=1)

    async def main() -> None:
        made.relay.gate = asyncio.Event()
        first, second = mail(YOU), mail(TWO)
        for one in (first, second):
            made.delivery.enqueue(made.delivery.admit(one))
        await asyncio.sleep(0)
        await made.delivery.command(QueueCommand(1, "delete", "op", at=second.received_at - 1))
        made.relay.gate.set()
        await made.settle()

    asyncio.run(main())
    assert [addresses for _, addresses in made.relay.sent] == [(YOU,), (TWO,)]


def test_a_profile_of_another_type_is_never_used_to_relay() -> None:
    made = flow()
    core = {"name": "exchange", "type": "metadefender-core", "servers": ["http://10.0.0.1:25", "http://10.0.0.2:25"]}
    made.delivery.take_inventory(build_inventory(2, [(core, 2)], []))
    run(made, mail(YOU))
    made.delivery.look_at_servers()
    assert made.relay.servers == []
    assert made.relay.probed == []
    (row,) = made.spool.outcomes[0].recipients
    assert row.state is RecipientState.QUEUED
    assert not made.delivery.servers._endpoints
    made.delivery.take_inventory(inventory(revision=3))
    run(made, mail(YOU))
    assert made.relay.servers == [A]
