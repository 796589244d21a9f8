"""Drains: how long they hold, what they say, and which server is meant."""

from dataclasses import replace

import pytest

from posthouse.core.drain import Drain, DrainKind, drains_in, find_server

SERVERS = ("smtp://10.0.0.1:25", "smtps://mail.example:465", "smtp://[2001:db8::1]:2525")
DRAIN = Drain("exchange", SERVERS[0], DrainKind.DRAINED, 1_764_000_000.0, None, "key anna (k2)")


def test_a_drain_holds_until_its_end_or_for_ever() -> None:
    assert DRAIN.holds(9e9)
    timed = replace(DRAIN, until=1_764_000_600.0)
    assert timed.holds(1_764_000_599.9)
    assert not timed.holds(1_764_000_600.0)


@pytest.mark.parametrize(
    ("drain", "why"),
    [
        (DRAIN, "drained by key anna (k2) since 2025-11-24 16:00:00Z"),
        (replace(DRAIN, reason="new disks"), "drained by key anna (k2) since 2025-11-24 16:00:00Z: new disks"),
        (
            replace(DRAIN, until=1_764_000_600.0),
            "drained by key anna (k2) since 2025-11-24 16:00:00Z until 2025-11-24 16:10:00Z",
        ),
        (
            replace(DRAIN, kind=DrainKind.SIMULATED, until=1_764_000_600.0, reason="rehearsal"),
            "treated as down until 2025-11-24 16:10:00Z by key anna (k2): rehearsal",
        ),
    ],
)
def test_why_tells_who_when_and_what_for(drain: Drain, why: str) -> None:
    assert drain.why == why


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("1", 0),
        ("003", 2),
        ("10.0.0.1", 0),
        ("10.0.0.1:25", 0),
        ("SMTP://10.0.0.1", 0),
        ("smtps://Mail.Example", 1),
        ("[2001:db8:0::1]:2525", 2),
    ],
)
def test_a_server_is_meant_by_its_number_or_uri(asked: str, found: int) -> None:
    assert find_server(SERVERS, asked) == SERVERS[found]


@pytest.mark.parametrize("asked", ["", "0", "4", "-1", "1.0", "²", "9" * 5000, "mail.example", "10.0.0.1:26", "::1"])
def test_what_means_no_server_is_none(asked: str) -> None:
    assert find_server(SERVERS, asked) is None


def test_a_drain_is_of_a_profile_by_exactly_its_name_and_of_a_server_that_it_has() -> None:
    document = {"name": "exchange", "servers": list(SERVERS)}
    others = [replace(DRAIN, profile="Exchange"), replace(DRAIN, server="smtp://10.0.0.9:25")]
    assert drains_in(document, [DRAIN, *others]) == [DRAIN]
