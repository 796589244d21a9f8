"""The retry schedule: 1, 5, 15, 30 minutes, then hourly to five days."""

import pytest

from posthouse.core.limits import Limits
from posthouse.core.retry import delay_due, next_attempt, next_wait

LIMITS = Limits()
DAY = 86400.0


@pytest.mark.parametrize(("tries", "minutes"), [(0, 1), (1, 5), (2, 15), (3, 30), (4, 60), (5, 60), (100, 60)])
def test_pause_grows_to_an_hour(tries: int, minutes: int) -> None:
    assert next_attempt(tries, 1000.0, 900.0, LIMITS) == 1000.0 + minutes * 60


def test_five_days_of_a_dead_next_hop() -> None:
    received = now = 1_000_000.0
    tries = 0
    while (due := next_attempt(tries, now, received, LIMITS)) is not None:
        assert due > now
        now, tries = due, tries + 1
    assert now == received + 5 * DAY  # the last try comes at the very end
    assert tries == 4 + 120


def test_nothing_is_tried_after_the_lifetime() -> None:
    assert next_attempt(0, 5 * DAY, 0.0, LIMITS) is None
    assert next_attempt(0, 5 * DAY - 10, 0.0, LIMITS) == 5 * DAY
    assert next_attempt(0, 61.0, 0.0, Limits(lifetime_seconds=60)) is None


@pytest.mark.parametrize(("waits", "seconds"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 60), (1000, 60)])
def test_wait_that_uses_no_try_doubles_to_a_minute(waits: int, seconds: int) -> None:
    assert next_wait(waits, 100.0, 0.0, LIMITS) == 100.0 + seconds


def test_waits_end_with_the_lifetime_too() -> None:
    assert next_wait(3, 5 * DAY, 0.0, LIMITS) is None


@pytest.mark.parametrize(
    ("notify", "told", "hours", "due"),
    [
        ("", False, 3.9, False),
        ("", False, 4.0, True),
        ("", True, 9.0, False),
        ("NEVER", False, 9.0, False),
        ("FAILURE,SUCCESS", False, 9.0, False),
        ("DELAY", False, 9.0, True),
    ],
)
def test_delay_is_told_once_after_four_hours_to_those_who_want_it(
    notify: str, told: bool, hours: float, due: bool
) -> None:
    assert delay_due(notify, told, hours * 3600, 0.0, LIMITS) is due
