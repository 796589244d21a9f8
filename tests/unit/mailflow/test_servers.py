"""Circuits, throttles and locked logins in the flow: who is addressed, who waits, and what becomes of the mail."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from posthouse.core.fields import Secret
from posthouse.core.inventory import build_inventory
from posthouse.core.limits import Limits
from posthouse.core.mail import Deferral, Mail, RecipientState
from posthouse.core.outcome import RecipientResult, Result, ServerAnswer, Stage
from posthouse.core.profile import ServerProfile
from posthouse.core.way import WayFacts
from posthouse.mailflow.servers import LoginUnderWay, Ticket
from posthouse.ports import Done, Outcome
from posthouse.settings import NodeSettings
from support.flow import FAULT, LATER, OWN, PERMANENT, RELAYED, TRANSIENT, UNCERTAIN, A, B, C, Flow, flow, mail

YOU = "you@ours.example"
OTHER = "someone@other.example"
BUSY = RecipientResult(Result.SERVER_FAULT, "421 4.7.0 Too many connections from you", "4.7.0", Stage.MAIL)
SLOW = RecipientResult(Result.TRANSIENT, "451 4.7.0 Too many concurrent sessions", "4.7.0", Stage.MAIL)
LOGIN = RecipientResult(Result.SERVER_FAULT, "535 5.7.8 wrong password", "5.7.8", Stage.AUTH)
HANDSHAKE = RecipientResult(Result.SERVER_FAULT, "certificate expired on 2024-02-29", "4.7.5", Stage.TLS)


def to_other() -> Mail:
    """A mail for the profile `other`, which has the one server C."""
    one = mail(OTHER)
    return replace(one, recipients=tuple(replace(r, profile="other") for r in one.recipients))


def run(made: Flow, *steps: object) -> None:
    """Mails are delivered one after the other; a number moves the clock and lets the servers be looked at."""

    async def go() -> None:
        for step in steps:
            if isinstance(step, int):
                made.clock.at += step
                made.delivery.look_at_servers()
                for _ in range(5):
                    await asyncio.sleep(0)
                made.delivery.look_at_servers()
                await made.settle()
            else:
                await made.run(step)  # type: ignore[arg-type]

    asyncio.run(go())


def kinds(made: Flow, outcome: int = -1) -> list[str]:
    return [entry.kind for entry in made.spool.outcomes[outcome].trail]


def test_after_three_faults_in_a_row_a_server_is_passed_over_and_the_trail_says_so() -> None:
    made = flow({A: [FAULT] * 9})
    run(made, *[mail(YOU) for _ in range(5)])
    assert made.relay.servers == [A, B, A, B, A, B, B, B]
    (entry,) = [e for e in made.spool.outcomes[-1].trail if e.kind == "passed-over"]
    assert entry.detail == {"servers": [{"server": A, "why": "circuit open: connection refused"}]}


def test_a_delivery_between_faults_keeps_the_circuit_closed() -> None:
    made = flow({A: [FAULT, FAULT, RELAYED, FAULT, FAULT, RELAYED]})
    run(made, *[mail(YOU) for _ in range(6)])
    assert made.relay.servers.count(A) == 6


def test_a_refused_mail_is_no_fault_of_the_server() -> None:
    made = flow({A: [PERMANENT] * 5})
    run(made, *[mail(YOU) for _ in range(5)])
    assert set(made.relay.servers) == {A}


def all_open(made: Flow) -> None:
    for server in (A, B, C):
        made.relay.script[server] = [FAULT] * 3
        made.relay.probe_faults[server] = "connection refused"
    run(made, *[mail(YOU) for _ in range(3)])
    made.relay.sent.clear()


def test_while_all_are_open_mail_waits_in_memory_and_nothing_is_hammered() -> None:
    made = flow()
    all_open(made)
    before = len(made.spool.outcomes)
    run(made, mail(YOU), mail(YOU), 5, 5)
    assert made.relay.sent == []
    assert len(made.spool.outcomes) == before
    assert made.delivery.in_memory == 2


def test_only_probes_reach_an_open_server_and_they_come_ever_later() -> None:
    made = flow()
    all_open(made)
    run(made, mail(YOU), *[1] * 75)
    assert made.relay.sent == []
    assert [server for server, _, _ in made.relay.probed].count(A) == 3  # after 10, 20 and 40 seconds
    assert {(whole, login) for _, whole, login in made.relay.probed} == {(False, False)}


def test_after_a_probe_one_mail_goes_first_and_then_all() -> None:
    made = flow()
    all_open(made)
    gate = made.relay.gate = asyncio.Event()

    async def go() -> None:
        for _ in range(4):
            made.delivery.enqueue(made.delivery.admit(mail(YOU)))
        made.relay.probe_faults.pop(A)
        made.clock.at += 10
        for _ in range(3):
            made.delivery.look_at_servers()
            await asyncio.sleep(0.01)
        assert made.delivery._queue.hop("exchange").running == 1
        gate.set()
        await made.settle()

    asyncio.run(go())
    assert made.relay.servers == [A] * 4
    assert made.delivery.in_memory == 0


def test_a_first_mail_that_fails_opens_the_circuit_again_and_waits_itself() -> None:
    made = flow()
    all_open(made)
    made.relay.script[A] = [FAULT]
    made.relay.probe_faults = {B: "refused", C: "refused"}
    run(made, mail(YOU), 10)
    assert made.relay.servers == [A]
    assert made.states() == {YOU: RecipientState.QUEUED}


def test_a_probe_that_succeeds_wakes_one_mail_and_the_first_delivery_all_the_others() -> None:
    made = flow()
    all_open(made)
    made.relay.probe_faults.pop(A)
    run(made, 10)
    assert made.spool.woken == [(frozenset({"exchange"}), 0, 1)]
    made.spool.woken.clear()
    run(made, mail(YOU), 1)
    assert made.relay.servers == [A]
    assert made.spool.woken == [(frozenset({"exchange"}), 10, None)]


def test_every_profile_that_names_the_server_is_woken_for() -> None:
    made = flow()
    all_open(made)
    made.relay.probe_faults.pop(C)
    run(made, to_other(), 10, 1)
    assert made.relay.servers == [C]
    assert made.spool.woken == [
        (frozenset({"exchange", "other"}), 0, 1),
        (frozenset({"exchange", "other"}), 10, None),
    ]


def test_the_edit_of_a_profile_wakes_its_mail() -> None:
    made = flow()
    before = made.delivery.inventory
    edited = {**before.profiles, "other": replace(before.profiles["other"], revision=7)}
    made.delivery.take_inventory(replace(before, revision=7, profiles=edited))
    run(made, 1)
    assert made.spool.woken == [(frozenset({"other"}), 10, None)]


def test_mail_that_could_not_be_woken_is_at_the_next_look() -> None:
    made = flow()
    all_open(made)
    made.relay.probe_faults.pop(A)
    made.spool.wake_errors = [OSError("disk full"), OSError("disk full")]
    run(made, 10)
    assert made.spool.woken == []
    run(made, 1)
    assert made.spool.woken == [(frozenset({"exchange"}), 0, 1)]


def test_what_put_a_mail_off_is_kept_with_it() -> None:
    for answer, deferral in (
        (FAULT, Deferral.SERVER_FAULT),
        (LATER, Deferral.ANSWER),
        (TRANSIENT, Deferral.ANSWER),
        (UNCERTAIN, Deferral.ANSWER),
        (RELAYED, Deferral.NONE),
    ):
        made = flow({C: [answer] * 2})
        run(made, to_other())
        assert made.spool.outcomes[-1].recipients[0].deferral is deferral, answer
    made = flow({C: [RELAYED, BUSY]})
    run(made, to_other(), to_other())
    assert made.spool.outcomes[-1].recipients[0].deferral is Deferral.THROTTLED


def probing(seconds: int = 100, **more: Any) -> Flow:
    """Background probes are on."""
    return flow(settings=NodeSettings("mx.ours.example", own_mail=OWN, limits=Limits(probe_seconds=seconds)), **more)


def test_by_default_a_server_that_is_not_used_is_not_probed() -> None:
    made = flow()
    run(made, mail(YOU), *[1000] * 5)
    assert made.relay.probed == []


def test_with_probe_seconds_the_endpoint_of_each_server_of_each_profile_is_probed_every_so_often() -> None:
    made = probing()
    run(made, 1, 99)
    assert made.relay.probed == []
    run(made, 1)
    assert sorted(made.relay.probed) == [(A, False, False), (B, False, False), (C, False, False)]
    run(made, 99)
    assert len(made.relay.probed) == 3
    run(made, 1)
    assert len(made.relay.probed) == 6


def test_only_servers_of_type_smtp_are_probed() -> None:
    made = probing()
    profiles: list[dict[str, object]] = [
        {"name": "clamav", "type": "clamav", "servers": ["clamd://10.0.0.9", "/run/clamd.ctl"]},
        {"name": "vault", "type": "metadefender-vault", "servers": ["10.0.0.8"], "api_key": {"env": "K"}},
        {"name": "core", "type": "metadefender-core", "servers": ["10.0.0.7"]},
        {"name": "exchange", "type": "smtp", "servers": [A]},
    ]
    made.delivery.take_inventory(build_inventory(2, [(profile, 2) for profile in profiles], []))
    run(made, 1, 100)
    assert made.relay.probed == [(A, False, False)]


def test_a_server_that_served_within_a_minute_or_has_a_mail_under_way_is_not_probed() -> None:
    made = probing(30)
    run(made, 1, 20, mail(YOU), 59)
    assert {server for server, _, _ in made.relay.probed} == {B, C}
    run(made, 1)
    assert {server for server, _, _ in made.relay.probed} == {A, B, C}
    made = probing(30)

    async def go() -> None:
        made.relay.gate = asyncio.Event()
        made.delivery.enqueue(made.delivery.admit(to_other()))
        for _ in range(2):
            made.delivery.look_at_servers()
            await asyncio.sleep(0)
            made.clock.at += 40
        assert {server for server, _, _ in made.relay.probed} == {A, B}
        made.relay.gate.set()
        await made.settle()

    asyncio.run(go())


def test_a_dead_server_is_found_before_mail_is_sent_to_it() -> None:
    made = probing()
    made.relay.probe_faults[A] = "connection refused"
    run(made, 1, 101, 101, 101, mail(YOU))
    assert made.relay.servers == [B]
    (entry,) = [e for e in made.spool.outcomes[-1].trail if e.kind == "passed-over"]
    assert entry.detail == {"servers": [{"server": A, "why": "circuit open: connection refused"}]}


def test_trouble_of_our_own_is_no_fault_that_a_probe_finds() -> None:
    made = probing()
    made.relay.probe_faults = dict.fromkeys((A, B, C), "too many open files here")
    made.relay.blame = False
    run(made, *[101] * 6, mail(YOU))
    assert len(made.relay.probed) > 12
    assert made.relay.servers == [A]


def test_an_operators_retry_of_all_lets_a_probe_go_at_once() -> None:
    made = flow()
    all_open(made)
    made.relay.probe_faults.clear()

    async def go() -> None:
        made.delivery.servers.probe_all()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(go())
    assert [server for server, _, _ in made.relay.probed] == [A, B, C]


def test_senders_hear_of_delay_and_end_while_every_server_is_closed() -> None:
    settings = NodeSettings("mx.ours.example", own_mail=OWN, limits=Limits(delay_seconds=600, lifetime_seconds=3600))
    made = flow(settings=settings)
    all_open(made)
    run(made, mail(YOU))
    before = len(made.spool.outcomes)

    async def look() -> None:
        await made.delivery._look_for_old()

    asyncio.run(look())
    assert len(made.spool.outcomes) == before
    made.clock.at += 700
    asyncio.run(look())
    told = made.spool.outcomes[-1]
    assert [m.own for m, _ in told.generated] == [True]
    assert (told.recipients[0].state, told.recipients[0].tries) == (RecipientState.QUEUED, 0)
    assert told.recipients[0].delay_told
    made.spool.waiting = [replace(told.mail, recipients=told.recipients)]
    made.clock.at += 3000
    asyncio.run(look())
    assert made.states() == {YOU: RecipientState.FAILED}
    assert kinds(made).count("dsn") == 1


def test_one_old_mail_that_cannot_be_settled_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = NodeSettings("mx.ours.example", own_mail=OWN, limits=Limits(delay_seconds=600, lifetime_seconds=3600))
    made = flow(settings=settings)
    all_open(made)
    bad, good = mail(YOU), mail(YOU)
    run(made, bad, good)
    record = made.spool.record

    def refusing(outcome: Outcome, done: Done) -> None:
        if outcome.mail.id == bad.id:
            raise ValueError("a bug of ours")
        record(outcome, done)

    monkeypatch.setattr(made.spool, "record", refusing)
    made.clock.at += 700
    asyncio.run(made.delivery._look_for_old())
    assert [outcome.mail.id for outcome in made.spool.outcomes[-1:]] == [good.id]
    assert len(made.spool.outcomes[-1].generated) == 1


def test_a_tls_or_auth_fault_closes_the_server_for_its_own_login_only() -> None:
    made = flow({A: [FAULT] * 9, B: [FAULT] * 9, C: [HANDSHAKE] * 3})
    run(made, *[mail(YOU) for _ in range(3)])
    made.relay.sent.clear()
    made.relay.script[C] = []
    run(made, to_other())
    # Both profiles have the same settings, so they are one identity; another login is another one.
    assert made.relay.sent == []
    profile = made.delivery.inventory.profiles["other"]
    assert made.delivery.servers.admits(replace(profile, username="another", revision=2))


@pytest.mark.parametrize(("tls", "shut"), [("TLSv1.3 TLS_AES_256_GCM_SHA384", False), ("none", True)])
def test_ehlo_refused_under_tls_closes_nothing_for_another_certificate(tls: str, shut: bool) -> None:
    made = flow()
    profile, servers = made.delivery.inventory.profiles["other"], made.delivery.servers
    missed = RecipientResult(Result.SERVER_FAULT, "421 4.7.1 No client certificate presented", "4.7.1", Stage.EHLO)
    for _ in range(3):
        ticket = servers.set_out(profile, C)
        assert isinstance(ticket, Ticket)
        ticket.tell(ServerAnswer((missed,), "at EHLO: 421 4.7.1", way=WayFacts(tls=tls)))
    assert not servers.admits(profile)
    assert servers.admits(replace(profile, client_certificate=True, revision=2)) is not shut


def test_a_refused_login_is_left_alone_at_once_for_15_minutes_or_until_an_edit() -> None:
    made = flow({C: [LOGIN]})
    run(made, to_other())
    servers, profile = made.delivery.servers, made.delivery.inventory.profiles["other"]
    assert not servers.admits(profile)
    assert servers.admits(replace(profile, revision=profile.revision + 1))
    made = flow({C: [LOGIN]})
    run(made, to_other(), 899)
    assert not made.delivery.servers.admits(profile)
    run(made, 1)
    assert made.delivery.servers.admits(profile)


# --- logins that were never accepted ---------------------------------------------------------------------


def with_login(made: Flow, revision: int = 1, name: str = "other", servers: tuple[str, ...] = (C,)) -> ServerProfile:
    """The profile `name` has a login from now on."""
    inventory = made.delivery.inventory
    profile = replace(
        inventory.profiles["other"],
        name=name,
        username="relay",
        password=Secret("env", "PASSWORD"),
        revision=revision,
        server_texts=servers,
    )
    made.delivery.inventory = replace(inventory, profiles={**inventory.profiles, name: profile})
    return profile


async def begin(made: Flow, mails: int) -> None:
    """So many for `other`, with the relay's gate closed: none has an answer yet."""
    made.relay.gate = asyncio.Event()
    for _ in range(mails):
        made.delivery.enqueue(made.delivery.admit(to_other()))
    for _ in range(20):
        await asyncio.sleep(0)


def opened(made: Flow) -> None:
    assert made.relay.gate is not None
    made.relay.gate.set()


def test_a_refused_login_was_tried_with_one_mail_however_many_were_due() -> None:
    made = flow({C: [LOGIN] * 9})
    with_login(made)

    async def go() -> None:
        await begin(made, 9)
        opened(made)
        await made.settle()

    asyncio.run(go())
    assert len(made.relay.sent) == 1
    assert made.delivery.in_memory == 8
    assert [row.tries for outcome in made.spool.outcomes for row in outcome.recipients] == [1]


def test_when_a_login_is_accepted_all_go_at_once_on_the_same_server() -> None:
    made = flow()
    with_login(made, servers=(C, A))

    async def go() -> None:
        await begin(made, 9)
        assert made.relay.fresh == [True]
        opened(made)
        await made.settle()
        await begin(made, 3)
        assert made.relay.fresh[9:] == [False] * 3
        opened(made)
        await made.settle()

    asyncio.run(go())
    assert made.relay.servers == [C] * 12


def test_after_a_fault_before_auth_the_next_mail_tries_the_login() -> None:
    made = flow({C: [FAULT]})
    with_login(made)

    async def go() -> None:
        await begin(made, 3)
        opened(made)
        await made.settle()

    asyncio.run(go())
    assert made.relay.fresh == [True, True, False]


def test_a_cancelled_first_login_lets_the_next_mail_try() -> None:
    made = flow()
    profile = with_login(made)
    servers = made.delivery.servers
    first = servers.set_out(profile, C)
    assert isinstance(first, Ticket)
    assert isinstance(servers.set_out(profile, C), LoginUnderWay)
    first.withdraw()
    second = servers.set_out(profile, C)
    assert isinstance(second, Ticket)
    assert second.tries_login


def test_the_others_do_not_wait_until_the_first_mail_is_through() -> None:
    made = flow()
    profile = with_login(made)
    servers = made.delivery.servers
    first = servers.set_out(profile, C)
    assert isinstance(first, Ticket)
    first.login_accepted()
    second = servers.set_out(profile, C)
    assert isinstance(second, Ticket)
    assert not second.tries_login


def test_a_login_that_takes_too_long_sends_mail_on_to_the_next_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.mailflow.servers.LOGIN_SECONDS", 0.01)
    made = flow()
    profile = with_login(made, servers=(C, A))

    async def go() -> None:
        stuck = made.delivery.servers.set_out(profile, C)
        assert isinstance(stuck, Ticket)
        await made.run(to_other())

    asyncio.run(go())
    assert made.relay.servers == [A]
    (entry,) = [e for e in made.spool.outcomes[-1].trail if e.kind == "passed-over"]
    assert entry.detail == {"servers": [{"server": C, "why": "its login is being tried with another mail"}]}


def test_two_profiles_with_one_login_prove_it_once_each_and_share_its_lock() -> None:
    made = flow()
    old, new = with_login(made, 3), with_login(made, 5, "new")
    servers = made.delivery.servers
    for profile in (old, new):
        ticket = servers.set_out(profile, C)
        assert isinstance(ticket, Ticket)
        ticket.login_accepted()
        ticket.withdraw()
    for profile in (old, new, old):
        ticket = servers.set_out(profile, C)
        assert isinstance(ticket, Ticket)
        assert not ticket.tries_login
    ticket = servers.set_out(new, C)
    assert isinstance(ticket, Ticket)
    ticket.tell(ServerAnswer((LOGIN,), "at AUTH: 535 5.7.8 wrong password"))
    assert [servers.admits(profile) for profile in (old, new, old)] == [False] * 3


def test_a_login_that_a_probe_finds_refused_is_left_alone() -> None:
    made = flow({C: [HANDSHAKE] * 3})
    with_login(made)
    run(made, *[to_other() for _ in range(3)])
    made.relay.probe_faults[C] = "535 5.7.8 wrong password"
    run(made, *[1] * 100)
    assert [login for _, whole, login in made.relay.probed if whole] == [True, False, False]


def test_a_throttled_mail_goes_on_to_the_next_server_and_the_limit_is_halved() -> None:
    made = flow({A: [RELAYED, BUSY, SLOW]})
    run(made, mail(YOU), mail(YOU), mail(YOU), mail(YOU))
    assert made.relay.servers == [A, A, B, A, B, A]
    assert made.spool.outcomes[1].attempts[0].outcome == "throttled"
    assert made.delivery.servers._endpoints["10.0.0.1:25"].limit.limit == 5
    assert made.delivery.servers._endpoints["10.0.0.1:25"].state.faults == 0


def test_a_mail_throttled_everywhere_waits_and_uses_up_no_try() -> None:
    made = flow({C: [RELAYED, BUSY]})
    run(made, to_other(), to_other())
    (row,) = made.spool.outcomes[-1].recipients
    assert (row.state, row.tries, row.waits) == (RecipientState.QUEUED, 0, 1)
    assert row.due_at - made.clock.at == 5


def test_the_same_words_of_a_server_that_serves_nobody_are_its_fault() -> None:
    made = flow({C: [BUSY]})
    run(made, to_other())
    (row,) = made.spool.outcomes[-1].recipients
    assert (row.tries, row.waits) == (1, 0)


def test_no_more_transactions_are_open_than_the_limit_says() -> None:
    made = flow(per_server=4)
    gate = made.relay.gate = asyncio.Event()
    made.delivery.servers._endpoints.clear()

    async def go() -> None:
        profile = made.delivery.inventory.profiles["other"]
        endpoint = made.delivery.servers._of(profile, C).endpoint
        endpoint.limit = replace(endpoint.limit, limit=2)
        for _ in range(6):
            made.delivery.enqueue(made.delivery.admit(to_other()))
        for _ in range(20):
            await asyncio.sleep(0)
        assert endpoint.in_use == 2
        gate.set()
        await made.settle()
        made.delivery.look_at_servers()
        await made.settle()
        assert endpoint.in_use == 0

    asyncio.run(go())
    assert made.relay.servers == [C] * 6


def test_a_cancelled_delivery_gives_its_leave_back() -> None:
    made = flow()
    made.relay.gate = asyncio.Event()

    async def go() -> None:
        made.delivery.enqueue(made.delivery.admit(to_other()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await made.delivery.stop(0)

    asyncio.run(go())
    assert made.delivery.servers._endpoints["10.0.0.3:25"].in_use == 0


def test_what_no_profile_names_any_more_is_forgotten() -> None:
    made = flow({A: [FAULT] * 3})
    run(made, *[mail(YOU) for _ in range(3)])
    made.delivery.servers.keep_only([made.delivery.inventory.profiles["other"]])
    assert list(made.delivery.servers._endpoints) in ([], ["10.0.0.3:25"])
