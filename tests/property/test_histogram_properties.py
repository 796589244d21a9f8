"""Histograms of times against the sorted samples themselves."""

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.histogram import (
    CEILING,
    ERROR,
    FLOOR,
    HALF_SECONDS,
    MOST_BUCKETS,
    Recent,
    bucket,
    merged,
    middle,
    quantile,
    samples,
)

times = st.floats(FLOOR, CEILING, exclude_max=True)
parts = st.sampled_from((0.01, 0.5, 0.95, 1.0))


def recent(seconds: list[float], now: float = 0.0) -> Recent:
    made = Recent()
    for each in seconds:
        made.add(each, now)
    return made


@given(st.lists(times, min_size=1, max_size=200), parts)
def test_a_quantile_is_near_the_sample_of_its_rank(seconds: list[float], part: float) -> None:
    exact = sorted(seconds)[ceil(part * len(seconds)) - 1]
    found = quantile(recent(seconds).counts(0.0), part)
    assert found is not None
    assert abs(found - exact) <= ERROR * exact


@given(times, times)
def test_buckets_keep_the_order_of_the_samples(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bucket(low) <= bucket(high)
    assert middle(bucket(low)) <= middle(bucket(high))


@given(st.floats(allow_nan=False))
def test_there_are_never_more_buckets_than_said(seconds: float) -> None:
    assert bucket(FLOOR) <= bucket(seconds) <= bucket(CEILING)
    assert bucket(CEILING) - bucket(FLOOR) < MOST_BUCKETS


@given(st.lists(st.lists(times, max_size=50), max_size=4), parts)
def test_the_counts_of_workers_add_up(workers: list[list[float]], part: float) -> None:
    together = merged(recent(seconds).counts(0.0) for seconds in workers)
    alone = recent([each for seconds in workers for each in seconds]).counts(0.0)
    assert together == alone
    assert samples(together) == sum(len(seconds) for seconds in workers)
    assert quantile(together, part) == quantile(alone, part)


@given(st.lists(st.tuples(st.floats(0, 400), times), max_size=60), st.floats(0, 1000))
def test_what_is_kept_is_all_of_the_last_five_minutes_and_nothing_of_the_last_ten_but_those(
    steps: list[tuple[float, float]], later: float
) -> None:
    made, now, given_at = Recent(), 0.0, list[tuple[float, int]]()
    for gap, seconds in steps:
        now += gap
        made.add(seconds, now)
        given_at.append((now, bucket(seconds)))
    now += later
    kept = made.counts(now)
    for age, wanted in ((HALF_SECONDS, True), (2 * HALF_SECONDS, False)):
        within = [number for at, number in given_at if now - at < age]
        for number in range(bucket(FLOOR), bucket(CEILING) + 1):
            count = within.count(number)
            assert kept.get(number, 0) >= count if wanted else kept.get(number, 0) <= count


def test_without_samples_there_is_no_quantile() -> None:
    assert quantile(Recent().counts(10.0), 0.5) is None
