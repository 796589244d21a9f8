"""The circuit: every cell of its table, and every number of the design."""

from dataclasses import replace
from math import inf

import pytest

from posthouse.core.circuit import (
    SPREAD_SECONDS,
    Action,
    Answered,
    CircuitState,
    Closed,
    Event,
    Faulted,
    Opened,
    Phase,
    ProbeAbandoned,
    ProbeAt,
    ProbeFailed,
    ProbeStarted,
    ProbeSucceeded,
    ProbeWanted,
    Served,
    SetOut,
    WakeOne,
    Withdrawn,
    admits,
    probe_due,
    step,
    wait,
)

ERA = 7
NOW = 1000.0
CLOSED = CircuitState(since=500.0, era=ERA, faults=2, waits=2, reason="before", served_at=400.0)
OPEN = replace(CLOSED, phase=Phase.OPEN, faults=3, waits=2, next_probe_at=900.0)
AWAITED = replace(OPEN, phase=Phase.FIRST_AWAITED, next_probe_at=inf)
OUT = replace(AWAITED, phase=Phase.FIRST_OUT)
ALL = (CLOSED, OPEN, AWAITED, OUT)
"""Each phase with two faults and two waits behind it, so that what is taken back can be seen."""
each_phase = pytest.mark.parametrize("state", ALL, ids=[state.phase.name for state in ALL])


def after(state: CircuitState, *events: Event, now: float = NOW) -> CircuitState:
    for event in events:
        state, _ = step(state, event, now, 0.0)
    return state


def actions_of(state: CircuitState, event: Event, now: float = NOW, jitter: float = 0.0) -> tuple[Action, ...]:
    return step(state, event, now, jitter)[1]


def reopened(state: CircuitState, reason: str) -> CircuitState:
    """`state` opened at NOW without jitter, its third wait (40 s) begun."""
    return replace(
        state,
        phase=Phase.OPEN,
        since=NOW,
        era=ERA + 1,
        faults=state.faults + 1,
        reason=reason,
        waits=3,
        next_probe_at=NOW + 40,
    )


# --- mails ----------------------------------------------------------------------------------------


def test_only_a_closed_circuit_and_one_whose_first_mail_is_awaited_admit_mail() -> None:
    assert [admits(state) for state in ALL] == [True, False, True, False]


def test_mails_set_out_through_a_closed_circuit_without_a_trace() -> None:
    assert step(CLOSED, SetOut(), NOW, 0.0) == (CLOSED, ())


def test_the_first_mail_sets_out_alone() -> None:
    assert step(AWAITED, SetOut(), NOW, 0.0) == (replace(OUT, since=NOW), ())


@pytest.mark.parametrize("state", [OPEN, OUT], ids=["open", "first out"])
def test_a_mail_that_was_not_admitted_is_a_broken_caller(state: CircuitState) -> None:
    with pytest.raises(ValueError, match=state.phase.value):
        step(state, SetOut(), NOW, 0.0)


def test_a_delivery_through_a_closed_circuit_takes_back_faults_and_back_off() -> None:
    expected = replace(CLOSED, faults=0, waits=0, served_at=NOW)
    assert step(CLOSED, Served(), NOW, 0.0) == (expected, ())


@pytest.mark.parametrize("state", [OPEN, AWAITED, OUT], ids=["open", "first awaited", "first out"])
def test_a_delivery_closes_whatever_the_probes_say(state: CircuitState) -> None:
    expected = CircuitState(since=NOW, era=ERA, reason="before", served_at=NOW)
    assert step(state, Served(), NOW, 0.0) == (expected, (Closed(),))


def test_an_answer_without_a_delivery_interrupts_the_faults_and_leaves_the_back_off() -> None:
    assert step(CLOSED, Answered(ERA), NOW, 0.0) == (replace(CLOSED, faults=0), ())


def test_an_answer_to_the_first_mail_closes_and_leaves_the_back_off() -> None:
    expected = replace(CLOSED, since=NOW, faults=0, waits=2)
    assert step(OUT, Answered(ERA), NOW, 0.0) == (expected, (Closed(),))


def test_a_first_mail_that_comes_back_undecided_lets_another_go_first() -> None:
    assert step(OUT, Withdrawn(ERA), NOW, 0.0) == (replace(AWAITED, since=NOW), (WakeOne(),))


def test_a_mail_that_comes_back_undecided_changes_a_closed_circuit_not_at_all() -> None:
    assert step(CLOSED, Withdrawn(ERA), NOW, 0.0) == (CLOSED, ())


def test_three_faults_in_a_row_open() -> None:
    state = CircuitState(since=0.0)
    first = after(state, Faulted(0, "a"), now=1.0)
    second = after(first, Faulted(0, "b"), now=2.0)
    assert (first.phase, first.faults, first.reason) == (Phase.CLOSED, 1, "a")
    assert (second.phase, second.faults, second.reason) == (Phase.CLOSED, 2, "b")
    third, actions = step(second, Faulted(0, "c"), 3.0, 0.0)
    assert third == CircuitState(3.0, Phase.OPEN, era=1, faults=3, waits=1, reason="c", next_probe_at=13.0)
    assert actions == (Opened("c"), ProbeAt(13.0))


@pytest.mark.parametrize("between", [Served(), Answered(0)], ids=["delivery", "answer"])
def test_faults_that_are_not_in_a_row_never_open(between: Event) -> None:
    state = CircuitState(since=0.0)
    for _ in range(10):
        state = after(state, Faulted(0, "x"), Faulted(0, "x"), between)
    assert state.phase is Phase.CLOSED


def test_neither_a_mail_without_a_result_nor_a_probe_interrupts_the_faults() -> None:
    events = (Faulted(0, "x"), Withdrawn(0), Faulted(0, "x"), ProbeStarted(), ProbeSucceeded(), Faulted(0, "x"))
    assert after(CircuitState(since=0.0), *events).phase is Phase.OPEN


def test_one_fault_of_the_first_mail_opens_again_and_waits_longer() -> None:
    assert step(OUT, Faulted(ERA, "x"), NOW, 0.0) == (reopened(OUT, "x"), (Opened("x"), ProbeAt(NOW + 40)))


@pytest.mark.parametrize("event", [Answered(ERA), Withdrawn(ERA), Faulted(ERA, "x")], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("state", [OPEN, AWAITED], ids=["open", "first awaited"])
def test_nothing_of_this_era_is_under_way_while_open_or_before_the_first_mail(
    state: CircuitState, event: Event
) -> None:
    assert step(state, event, NOW, 0.0) == (state, ())


@pytest.mark.parametrize("era", [ERA - 1, ERA + 1])
@pytest.mark.parametrize("kind", [Answered, Withdrawn, lambda era: Faulted(era, "x")], ids=["a", "w", "f"])
@each_phase
def test_what_mails_of_another_era_come_to_changes_nothing(
    state: CircuitState, kind: type[Answered], era: int
) -> None:
    assert step(state, kind(era), NOW, 0.0) == (state, ())


def test_twenty_mails_under_way_open_the_circuit_once() -> None:
    state, opened = CircuitState(since=0.0), 0
    for second in range(20):
        state, actions = step(state, Faulted(0, "x"), float(second), 0.0)
        opened += sum(isinstance(action, Opened) for action in actions)
    assert opened == 1
    assert (state.waits, state.next_probe_at) == (1, 12.0)
    state = after(state, ProbeStarted(), ProbeSucceeded(), SetOut(), Faulted(0, "x"), now=20.0)
    assert state.phase is Phase.FIRST_OUT
    state = after(state, Served(), Faulted(0, "x"), Faulted(0, "x"), Faulted(0, "x"), now=21.0)
    assert (state.phase, state.faults) == (Phase.CLOSED, 0)


# --- probes ---------------------------------------------------------------------------------------


@each_phase
def test_a_probe_that_starts_is_noted(state: CircuitState) -> None:
    assert step(state, ProbeStarted(), NOW, 0.0) == (replace(state, probing=True, probed_at=NOW), ())


@each_phase
def test_a_second_probe_is_a_broken_caller(state: CircuitState) -> None:
    with pytest.raises(ValueError, match="second probe"):
        step(replace(state, probing=True), ProbeStarted(), NOW, 0.0)


@pytest.mark.parametrize("event", [ProbeSucceeded(), ProbeFailed("x"), ProbeAbandoned()])
@each_phase
def test_the_end_of_a_probe_that_never_started_is_a_broken_caller(state: CircuitState, event: Event) -> None:
    with pytest.raises(ValueError, match="had not started"):
        step(state, event, NOW, 0.0)


def probing(state: CircuitState) -> CircuitState:
    return replace(state, probing=True, probed_at=NOW - 1)


def over(state: CircuitState) -> CircuitState:
    """As `probing(state)` when nothing but the probe has ended."""
    return replace(state, probed_at=NOW - 1)


def test_a_probe_that_succeeds_lets_one_mail_go_first() -> None:
    expected = over(replace(AWAITED, since=NOW))
    assert step(probing(OPEN), ProbeSucceeded(), NOW, 0.0) == (expected, (WakeOne(),))


@pytest.mark.parametrize("state", [CLOSED, AWAITED, OUT], ids=["closed", "first awaited", "first out"])
def test_a_probe_that_succeeds_proves_nothing_to_a_circuit_that_is_not_open(state: CircuitState) -> None:
    assert step(probing(state), ProbeSucceeded(), NOW, 0.0) == (over(state), ())


def test_a_probe_that_fails_waits_longer() -> None:
    expected = replace(over(OPEN), reason="x", waits=3, next_probe_at=NOW + 40)
    assert step(probing(OPEN), ProbeFailed("x"), NOW, 0.0) == (expected, (ProbeAt(NOW + 40),))


def test_a_probe_that_succeeds_takes_back_faults_of_probes_and_none_of_mails() -> None:
    state = after(CircuitState(since=0.0), Faulted(0, "mail"))
    for _ in range(5):
        state = after(state, ProbeStarted(), ProbeFailed("probe"), now=1.0)
        assert (state.phase, state.faults, state.probe_faults) == (Phase.CLOSED, 2, 1)
        state = after(state, ProbeStarted(), ProbeSucceeded(), now=2.0)
        assert (state.phase, state.faults, state.probe_faults) == (Phase.CLOSED, 1, 0)


@pytest.mark.parametrize("news", [Served(), Answered(0)], ids=["delivery", "answer"])
def test_faults_of_probes_that_a_mail_took_back_are_not_taken_back_again(news: Event) -> None:
    state = after(CircuitState(since=0.0), ProbeStarted(), ProbeFailed("probe"), news, Faulted(0, "mail"))
    state = after(state, ProbeStarted(), ProbeSucceeded())
    assert state.faults == 1


def test_three_probes_in_a_row_that_fail_open() -> None:
    state = CircuitState(since=0.0)
    for _ in range(3):
        state = after(state, ProbeStarted(), ProbeFailed("x"))
    assert (state.phase, state.reason, state.era) == (Phase.OPEN, "x", 1)
    state = after(
        state, ProbeStarted(), ProbeSucceeded(), ProbeStarted(), ProbeSucceeded(), SetOut(), Faulted(1, "y")
    )
    assert (state.phase, state.reason) == (Phase.OPEN, "y")


@pytest.mark.parametrize("state", [CLOSED, AWAITED, OUT], ids=["closed", "first awaited", "first out"])
def test_a_probe_that_fails_is_a_fault_where_the_circuit_is_not_open(state: CircuitState) -> None:
    expected = (replace(reopened(over(state), "x"), probe_faults=1), (Opened("x"), ProbeAt(NOW + 40)))
    assert step(probing(state), ProbeFailed("x"), NOW, 0.0) == expected


def test_one_probe_that_fails_does_not_open_a_closed_circuit() -> None:
    state = after(CircuitState(since=0.0), ProbeStarted(), ProbeFailed("x"))
    assert (state.phase, state.faults, state.reason) == (Phase.CLOSED, 1, "x")


def test_an_abandoned_probe_is_waited_for_as_long_again() -> None:
    expected = replace(over(OPEN), next_probe_at=NOW + 20)
    assert step(probing(OPEN), ProbeAbandoned(), NOW, 0.0) == (expected, (ProbeAt(NOW + 20),))


@pytest.mark.parametrize("state", [CLOSED, AWAITED, OUT], ids=["closed", "first awaited", "first out"])
def test_an_abandoned_probe_leaves_a_circuit_that_is_not_open(state: CircuitState) -> None:
    assert step(probing(state), ProbeAbandoned(), NOW, 0.0) == (over(state), ())


def test_an_operator_gets_a_probe_at_once_without_moving_the_back_off() -> None:
    waiting = replace(OPEN, next_probe_at=NOW + 200)
    assert not probe_due(waiting, NOW)
    state, actions = step(waiting, ProbeWanted(), NOW, 0.0)
    assert (state, actions) == (replace(OPEN, next_probe_at=NOW), (ProbeAt(NOW),))
    assert probe_due(state, NOW)


@pytest.mark.parametrize("state", [CLOSED, AWAITED, OUT, probing(OPEN)], ids=["closed", "awaited", "out", "probing"])
def test_an_operator_gets_no_probe_that_is_needless_or_under_way(state: CircuitState) -> None:
    assert step(state, ProbeWanted(), NOW, 0.0) == (state, ())


def test_a_delivery_while_a_probe_runs_closes_and_the_probe_stays_the_only_one() -> None:
    state = after(probing(OPEN), Served())
    assert (state.phase, state.probing) == (Phase.CLOSED, True)
    state = after(state, *[Faulted(ERA, "x")] * 3)
    assert (state.phase, probe_due(state, NOW + 1000)) == (Phase.OPEN, False)


# --- times ----------------------------------------------------------------------------------------


def test_waits_double_from_ten_seconds_to_five_minutes() -> None:
    assert [wait(waits, 0.0) for waits in range(8)] == [10, 20, 40, 80, 160, 300, 300, 300]
    assert wait(10**6, 0.0) == 300


def test_jitter_shortens_a_wait_by_up_to_a_fifth() -> None:
    assert wait(0, 0.5) == 9
    assert wait(0, 1.0) == 8
    assert wait(9, 0.999) > 240
    assert actions_of(probing(OPEN), ProbeFailed("x"), jitter=0.5) == (ProbeAt(NOW + 36),)


def test_the_back_off_outlives_probes_that_succeed_and_ends_with_a_delivery() -> None:
    state, waits = after(CircuitState(since=0.0), *[Faulted(0, "x")] * 3), []
    for _ in range(6):
        waits.append(state.next_probe_at - NOW)
        state = after(state, ProbeStarted(), ProbeSucceeded(), SetOut())
        state = after(state, Faulted(state.era, "x"))
    assert waits == [10, 20, 40, 80, 160, 300]
    state = after(state, ProbeStarted(), ProbeSucceeded(), SetOut(), Served())
    state = after(state, *[Faulted(state.era, "x")] * 3)
    assert state.next_probe_at - NOW == 10


def test_the_back_off_outlives_an_answer_without_a_delivery() -> None:
    state = after(OUT, Answered(ERA), *[Faulted(ERA, "x")] * 3)
    assert state.next_probe_at - NOW == 40


def test_an_open_circuit_is_probed_when_its_wait_is_over_and_one_at_a_time() -> None:
    assert not probe_due(OPEN, 899.9)
    assert probe_due(OPEN, 900.0)
    assert not probe_due(probing(OPEN), 900.0)


@pytest.mark.parametrize("state", [CLOSED, AWAITED, OUT], ids=["closed", "first awaited", "first out"])
def test_only_open_circuits_are_probed_unless_probe_seconds_is_set(state: CircuitState) -> None:
    assert not probe_due(state, 1e9)


@pytest.mark.parametrize("state", [CLOSED, AWAITED], ids=["closed", "first awaited"])
def test_with_probe_seconds_servers_that_are_not_open_are_probed_too(state: CircuitState) -> None:
    assert not probe_due(state, 529.0, 30)
    assert probe_due(state, 530.0, 30)
    probed = replace(state, probed_at=600.0)
    assert not probe_due(probed, 629.0, 30)
    assert probe_due(probed, 630.0, 30)
    assert not probe_due(replace(state, probing=True), 1e9, 30)


def test_background_probes_come_up_to_a_fifth_sooner_by_the_chance_of_the_one_before() -> None:
    state = after(replace(CLOSED, chance=0.25), now=600.0)
    assert not probe_due(state, 594.9, 100)
    assert probe_due(state, 595.0, 100)
    state, _ = step(state, ProbeStarted(), 600.0, 0.5)
    state = after(state, ProbeSucceeded(), now=601.0)
    assert not probe_due(state, 689.9, 100)
    assert probe_due(state, 690.0, 100)


def test_while_the_first_mail_is_out_no_probe_is_needed() -> None:
    assert not probe_due(OUT, 1e9, 30)


def test_background_probes_are_off_while_traffic_of_the_last_minute_succeeded() -> None:
    served = replace(CLOSED, served_at=1000.0)
    assert not probe_due(served, 1059.9, 30)
    assert probe_due(served, 1060.0, 30)


def test_an_open_circuit_is_probed_after_ten_seconds_though_it_served_just_before() -> None:
    """Else the first minute after a failure would pass without a probe."""
    state = after(CircuitState(since=0.0), Served(), *[Faulted(0, "x")] * 3)
    assert probe_due(state, NOW + 10)


def test_deferred_mail_is_woken_over_at_most_ten_seconds() -> None:
    assert SPREAD_SECONDS == 10


def test_people_see_three_states() -> None:
    assert [state.half_open for state in ALL] == [False, False, True, True]
    assert [probing(state).half_open for state in ALL] == [False, True, True, True]
