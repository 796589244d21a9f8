"""The throttle: which replies, what the limit does, and logins that are left alone."""

from dataclasses import replace

import pytest

from posthouse.core.limits import Limits
from posthouse.core.outcome import Stage
from posthouse.core.smtp_reply import ReplyParser
from posthouse.core.throttle import (
    LOGIN_REFUSED,
    Halved,
    LimitState,
    LoginLock,
    Raised,
    Taken,
    Throttled,
    has_room,
    is_throttle,
    step,
    unthrottled,
    worked_recently,
)

EXCHANGE = "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel"


def throttles(line: str, stage: Stage = Stage.GREETING) -> bool:
    (reply,) = ReplyParser(65536).feed(line.encode() + b"\r\n")
    return is_throttle(stage, reply)


# --- replies --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        EXCHANGE,
        "421 4.3.2 The maximum number of concurrent server connections has exceeded a per-source limit",
        "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
        "421 4.7.0 mx.example Error: too many connections from 192.0.2.1",
        "450 4.7.1 Error: too much mail from 192.0.2.1",
        "421 4.3.2 Connection rate limit exceeded.",
        "452 4.3.2 Connection rate limit exceeded.",
        "421 4.3.2 Too many open connections.",
        "421 mx.example: Too many concurrent SMTP connections; please try again later.",
        "421 too many concurrent connections",
        "421 4.3.2 Too many sessions, try again later",
        "421 4.4.5 Service unavailable, concurrency limit reached",
        "451 4.7.500 Server busy. Please try again later from [192.0.2.1].",
        "421 4.7.0 Throttled, try again later",
        "421-4.7.28 There is an unusual\r\n421 4.7.28 rate of mail from your address",
        "421 4.7.0 Temporarily RATE LIMITED",
        "421 Connection rate too high",
        "421 Connection limit reached",
        "421 Maximum concurrent connections reached",
        "421 Too many SMTP sessions for this host",
        "421 Too many simultaneous connections",
        "421 4.3.2 Server too busy",
        "421 4.3.2 System overloaded",
        "421 4.3.2 Refused because of high load",
        "421 4.3.2 Load too high",
        "451 4.7.700 Access denied, tenant has exceeded threshold",
    ],
)
def test_replies_of_real_servers_that_want_less_of_us_are_throttles(line: str) -> None:
    assert throttles(line)


@pytest.mark.parametrize(
    "line",
    [
        "421 4.3.2 Service shutting down",
        "421 4.3.2 Service not available, closing transmission channel",
        "421 4.7.0 Too many errors",
        "421 Service not available",
        "421 4.4.2 Timeout",
        "450 4.7.1 Greylisted, please try again later",
        "450 4.7.1 Client host rejected: cannot find your hostname",
        "451 4.7.1 Service unavailable - try again later",
        "451 4.7.0 Temporary server error. Please try again later. PRX2",
        "452 4.3.1 Insufficient system resources",
        "452 4.5.3 Too many recipients",
        "451 throttled",
        "451 4.3.0 Server busy",
    ],
)
def test_other_replies_are_what_they_always_were(line: str) -> None:
    assert not throttles(line, Stage.MAIL)


@pytest.mark.parametrize("code", [421, 450, 451, 452])
def test_four_codes_can_throttle(code: int) -> None:
    assert throttles(f"{code} 4.3.2 too many connections", Stage.MAIL)


@pytest.mark.parametrize("code", [220, 420, 432, 454, 500, 550, 552, 554])
def test_no_other_code_throttles(code: int) -> None:
    assert not throttles(f"{code} too many connections")


@pytest.mark.parametrize("stage", list(Stage))
def test_throttles_come_at_greeting_ehlo_and_mail_and_never_at_rcpt(stage: Stage) -> None:
    assert throttles(EXCHANGE, stage) is (stage in (Stage.GREETING, Stage.EHLO, Stage.MAIL))


def test_an_endpoint_that_works_for_us_may_throttle_us() -> None:
    assert worked_recently(-1e9, True, 1000.0)
    assert worked_recently(940.0, False, 1000.0)


def test_an_endpoint_that_has_not_worked_for_a_minute_is_at_fault() -> None:
    assert not worked_recently(939.9, False, 1000.0)
    assert not worked_recently(float("-inf"), False, 1000.0)


# --- the limit ------------------------------------------------------------------------------------


def taken(state: LimitState, mails: int, now: float) -> LimitState:
    for _ in range(mails):
        state, _ = step(state, Taken(), now)
    return state


def test_twenty_transactions_may_be_open_at_first() -> None:
    state = unthrottled(Limits().transactions_per_server)
    assert (state.limit, has_room(state, 19), has_room(state, 20)) == (20, True, False)


def test_a_ceiling_of_nothing_is_a_broken_caller() -> None:
    assert unthrottled(1).limit == 1
    with pytest.raises(ValueError, match="0"):
        unthrottled(0)


def test_each_throttle_halves_the_limit_down_to_one() -> None:
    state, limits, told = unthrottled(20), [], []
    for _ in range(6):
        state, actions = step(state, Throttled(state.generation), 0.0)
        limits.append(state.limit)
        told.append(actions)
    assert limits == [10, 5, 2, 1, 1, 1]
    assert told == [(Halved(10),), (Halved(5),), (Halved(2),), (Halved(1),), (), ()]


def test_twenty_sessions_throttled_at_once_halve_the_limit_once() -> None:
    state = unthrottled(20)
    for _ in range(20):
        state, _ = step(state, Throttled(0), 5.0)
    assert state == LimitState(10, 20, generation=1, taken=0, changed_at=5.0)
    assert not has_room(state, 19)
    assert step(state, Throttled(1), 5.0)[0].limit == 5


def test_at_the_ceiling_deliveries_change_nothing() -> None:
    state = unthrottled(20)
    assert step(state, Taken(), 0.0) == (state, ())


def test_the_limit_grows_by_one_after_as_many_deliveries_as_it_allows() -> None:
    state = taken(LimitState(10, 20, changed_at=0.0), 9, 100.0)
    assert (state.limit, state.taken) == (10, 9)
    assert step(state, Taken(), 100.0) == (LimitState(11, 20, taken=0, changed_at=100.0), (Raised(11),))


def test_the_limit_does_not_grow_within_ten_seconds_of_a_halving() -> None:
    state, _ = step(unthrottled(20), Throttled(0), 100.0)
    state = taken(state, 1000, 109.9)
    assert state.limit == 10
    assert taken(state, 1, 110.0).limit == 11


def test_the_limit_grows_at_most_once_in_ten_seconds() -> None:
    state = taken(LimitState(1, 20, changed_at=0.0), 1000, 10.0)
    assert state.limit == 2
    assert taken(state, 1000, 19.9).limit == 2
    assert taken(state, 1000, 20.0).limit == 3


def test_a_halving_forgets_the_deliveries_before_it() -> None:
    state = taken(LimitState(10, 20, changed_at=0.0), 9, 5.0)
    halved, _ = step(state, Throttled(0), 5.0)
    assert (halved.limit, halved.taken) == (5, 0)


def test_the_limit_grows_back_to_the_ceiling_and_no_further() -> None:
    state, now = replace(unthrottled(20), limit=1, changed_at=0.0), 0.0
    while state.limit < 20:
        now += 10
        state = taken(state, 20, now)
    assert now == 190
    assert taken(state, 1000, 1e6) == state


# --- logins ---------------------------------------------------------------------------------------


def test_a_refused_login_is_left_alone_for_fifteen_minutes() -> None:
    lock = LoginLock(locked_at=100.0, revision=3)
    assert lock.holds(100.0, 3)
    assert lock.holds(999.9, 3)
    assert not lock.holds(1000.0, 3)


def test_an_edited_profile_may_log_in_at_once_and_an_older_one_of_the_same_login_may_not() -> None:
    assert not LoginLock(100.0, 3).holds(100.0, 4)
    assert LoginLock(100.0, 3).holds(100.0, 2)


def test_534_and_535_lock_a_login_and_a_transient_refusal_does_not() -> None:
    assert {534, 535} == LOGIN_REFUSED
