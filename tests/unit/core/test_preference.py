"""Preference order: where each walk starts and how it goes on."""

import pytest

from posthouse.core.preference import Rotation, order, served
from posthouse.core.profile import Preference

SERVERS = ("a", "b", "c")
FRESH = Rotation()


def test_failover_always_starts_with_the_first() -> None:
    assert order(Preference.FAILOVER, SERVERS, served(FRESH, SERVERS, "b"), 0.9) == SERVERS


def test_round_robin_starts_with_the_first_server_before_any_service() -> None:
    assert order(Preference.ROUND_ROBIN, SERVERS, FRESH, 0.9) == SERVERS


@pytest.mark.parametrize(("last", "expected"), [("a", "bca"), ("b", "cab"), ("c", "abc")])
def test_round_robin_starts_after_the_server_that_did_the_last_service(last: str, expected: str) -> None:
    rotation = served(FRESH, SERVERS, last)
    assert order(Preference.ROUND_ROBIN, SERVERS, rotation, 0.9) == tuple(expected)


def test_round_robin_rotates_over_all_when_each_start_does_the_service() -> None:
    rotation, starts = FRESH, []
    for _ in range(7):
        start = order(Preference.ROUND_ROBIN, SERVERS, rotation, 0.0)[0]
        starts.append(start)
        rotation = served(rotation, SERVERS, start)
    assert starts == list("abcabca")


def test_round_robin_skips_nobody_after_a_failover() -> None:
    """a failed, b did the service: c is next, and it is c's turn only by what happened, not by what was tried."""
    assert order(Preference.ROUND_ROBIN, SERVERS, served(FRESH, SERVERS, "b"), 0.0)[0] == "c"


def test_a_walk_that_nobody_served_leaves_the_rotation() -> None:
    rotation = served(FRESH, SERVERS, "a")
    assert served(rotation, SERVERS, "gone") == rotation


def test_a_server_added_after_the_last_one_is_next() -> None:
    assert order(Preference.ROUND_ROBIN, ("a", "x", "b"), served(FRESH, ("a", "b"), "a"), 0.0) == ("x", "b", "a")


def test_servers_moved_in_between_keep_the_turn_of_the_one_that_served() -> None:
    assert order(Preference.ROUND_ROBIN, ("c", "b", "a"), served(FRESH, SERVERS, "b"), 0.0) == ("a", "c", "b")


def test_when_the_last_server_is_removed_the_one_in_its_place_is_next() -> None:
    assert order(Preference.ROUND_ROBIN, ("a", "c"), served(FRESH, SERVERS, "b"), 0.0) == ("c", "a")
    assert order(Preference.ROUND_ROBIN, ("a", "b"), served(FRESH, SERVERS, "c"), 0.0) == ("a", "b")


@pytest.mark.parametrize(
    ("unit", "expected"), [(0.0, "abc"), (0.34, "bca"), (0.67, "cab"), (0.9999999999999999, "cab"), (1.0, "cab")]
)
def test_random_start_goes_on_in_the_list_and_wraps(unit: float, expected: str) -> None:
    assert order(Preference.RANDOM_START, SERVERS, FRESH, unit) == tuple(expected)


@pytest.mark.parametrize("preference", list(Preference))
def test_an_uncertain_server_comes_first_then_the_order(preference: Preference) -> None:
    plain = order(preference, SERVERS, served(FRESH, SERVERS, "a"), 0.5)
    moved = order(preference, SERVERS, served(FRESH, SERVERS, "a"), 0.5, first="c")
    assert moved == ("c", *(server for server in plain if server != "c"))


def test_an_uncertain_server_that_was_removed_changes_nothing() -> None:
    assert order(Preference.FAILOVER, SERVERS, FRESH, 0.0, first="gone") == SERVERS


@pytest.mark.parametrize("preference", list(Preference))
def test_no_servers_and_one_server(preference: Preference) -> None:
    assert order(preference, (), served(FRESH, SERVERS, "c"), 0.9) == ()
    assert order(preference, ("x",), served(FRESH, SERVERS, "c"), 0.9) == ("x",)
