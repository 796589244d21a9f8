"""Every order is a permutation and starts where the seed says, whatever became of the list in between."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.preference import Rotation, order, served
from posthouse.core.profile import Preference

LISTS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8).map(tuple)
UNITS = st.floats(0, 1, exclude_max=True)


@given(st.sampled_from(Preference), LISTS, LISTS, st.sampled_from("abcdefgh"), UNITS, st.sampled_from(["", *"abcdz"]))
def test_an_order_is_a_permutation(
    preference: Preference, before: tuple[str, ...], now: tuple[str, ...], last: str, unit: float, first: str
) -> None:
    rotation = served(Rotation(), before, last)
    result = order(preference, now, rotation, unit, first)
    assert sorted(result) == sorted(now)
    if first in now:
        assert result[0] == first


@given(st.sampled_from(Preference), LISTS, LISTS, st.sampled_from("abcdefgh"), UNITS)
def test_an_order_is_a_rotation_of_the_list(
    preference: Preference, before: tuple[str, ...], now: tuple[str, ...], last: str, unit: float
) -> None:
    result = order(preference, now, served(Rotation(), before, last), unit)
    assert not now or result in [(*now[at:], *now[:at]) for at in range(len(now))]


@given(LISTS.filter(bool), st.data())
def test_round_robin_starts_after_the_last_service_in_any_history(
    servers: tuple[str, ...], data: st.DataObject
) -> None:
    rotation = Rotation()
    for server in data.draw(st.lists(st.sampled_from(servers), min_size=1, max_size=10)):
        rotation = served(rotation, servers, server)
        expected = servers[(servers.index(server) + 1) % len(servers)]
        assert order(Preference.ROUND_ROBIN, servers, rotation, 0.0)[0] == expected


@given(LISTS.filter(bool), LISTS, st.sampled_from("abcdefgh"), UNITS)
def test_failover_starts_with_the_first(
    servers: tuple[str, ...], before: tuple[str, ...], last: str, unit: float
) -> None:
    assert order(Preference.FAILOVER, servers, served(Rotation(), before, last), unit) == servers
