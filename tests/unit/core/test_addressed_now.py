"""Where a mail would go first now: order, circuits of several workers, and what is not known."""

import pytest

from posthouse.core.addressed_now import Addressable, Refusals, addressed_now
from posthouse.core.profile import Preference

A, B, C = "smtp://a:25", "smtp://b:25", "smtp://c:25"
OPEN = "circuit open: connection refused, next probe 12:00:10Z"


def well(*servers: str) -> Refusals:
    return dict.fromkeys(servers, "")


def test_failover_goes_to_the_first_that_may_be_addressed() -> None:
    now = addressed_now(Preference.FAILOVER, [A, B], [well(A, B)])
    assert (now.goes_to, now.start, now.sentence) == ((A,), "", f"The mail goes to {A}.")
    now = addressed_now(Preference.FAILOVER, [A, B], [{A: OPEN, B: ""}])
    assert now.goes_to == (B,)
    assert now.sentence == f"{A} is skipped: {OPEN}; the mail goes to {B}."
    assert [one.addressable for one in now.servers] == [Addressable.NO, Addressable.YES]


def test_a_server_behind_the_one_that_gets_the_mail_is_not_called_skipped() -> None:
    now = addressed_now(Preference.FAILOVER, [A, B], [{A: "", B: OPEN}])
    assert now.sentence == f"The mail goes to {A}."
    assert now.servers[1].why_not == OPEN


def test_where_none_may_be_addressed_the_mail_waits_and_every_reason_is_told() -> None:
    now = addressed_now(Preference.FAILOVER, [A, B], [{A: OPEN, B: "the limit"}, {A: OPEN, B: "the limit"}])
    assert now.goes_to == ()
    assert now.sentence == (
        f"{A} is skipped: {OPEN}; {B} is skipped: the limit; no server may be addressed now, so the mail waits."
    )


def test_workers_that_differ_are_both_told() -> None:
    now = addressed_now(Preference.FAILOVER, [A, B, C], [{A: OPEN, B: "", C: OPEN}, well(A, B, C)])
    assert now.goes_to == (A, B)
    assert now.servers[0].addressable is Addressable.SOME
    assert now.sentence == (
        f"{A} is skipped on 1 of 2 workers: {OPEN}; the mail goes to {A} or {B}: the worker that receives it decides."
    )


def test_a_worker_on_which_it_waits_is_told() -> None:
    now = addressed_now(Preference.FAILOVER, [A], [{A: OPEN}, well(A)])
    assert now.goes_to == (A,)
    assert now.sentence == (
        f"{A} is skipped on 1 of 2 workers: {OPEN}; the mail goes to {A}; on 1 of 2 workers it waits."
    )


def test_a_server_nobody_has_told_of_is_tried_and_its_state_is_not_known() -> None:
    for workers in ([], [{B: OPEN}]):
        now = addressed_now(Preference.FAILOVER, [A, B], workers)
        assert now.goes_to == (A,)
        assert now.servers[0].addressable is Addressable.NOT_KNOWN
        assert now.sentence == f"The mail goes to {A}, whose state is not known."


def test_round_robin_says_which_start_is_assumed() -> None:
    now = addressed_now(Preference.ROUND_ROBIN, [A, B], [{A: OPEN, B: ""}])
    assert now.goes_to == (B,)
    assert now.start.endswith(f"here {A} is assumed as the start.")


def test_with_random_start_any_server_that_may_be_addressed_can_be_the_first() -> None:
    now = addressed_now(Preference.RANDOM_START, [A, B, C], [{A: "", B: OPEN, C: ""}])
    assert now.goes_to == (A, C)
    assert now.sentence == f"{B} is skipped: {OPEN}; the mail goes to {A} or {C}: chance decides."
    assert "any server may be the first" in now.start


@pytest.mark.parametrize("preference", Preference)
def test_a_single_server_needs_no_assumption(preference: Preference) -> None:
    now = addressed_now(preference, [A], [well(A)])
    assert (now.start, now.sentence) == ("", f"The mail goes to {A}.")


@pytest.mark.parametrize("preference", Preference)
def test_without_servers_it_waits(preference: Preference) -> None:
    now = addressed_now(preference, [], [])
    assert (now.servers, now.goes_to) == ((), ())
    assert "no servers" in now.sentence
