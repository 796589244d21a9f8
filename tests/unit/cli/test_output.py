"""How values are shown to people."""

import pytest

from posthouse.cli.output import moment, octets, plain, span


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0007, "0.7 ms"),
        (0.25, "0.25 s"),
        (59, "59 s"),
        (90, "1.5 min"),
        (5400, "1.5 h"),
        (432000, "5 d"),
        (None, ""),
    ],
)
def test_spans_have_the_unit_that_people_would_choose(seconds: object, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize(("value", "shown"), [(512, "512 B"), (1536, "1.5 KiB"), (3 * 1024**3, "3 GiB"), (None, "")])
def test_sizes_have_the_unit_that_people_would_choose(value: object, shown: str) -> None:
    assert octets(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "1970-01-01 00:00:00Z"), (None, ""), (1e300, "1e+300"), (float("nan"), "nan")]
)
def test_moments_are_utc_and_never_fail(value: object, shown: str) -> None:
    assert moment(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Grüße 日本 \N{PILE OF POO}", "Grüße 日本 \N{PILE OF POO}"),
        ("a\x1b[2J", "a\\x1b[2J"),
        ("\u202e\u2028", "\\u202e\\u2028"),
        ("\U000e0041", "\\U000e0041"),
        ("\x9b", "\\x9b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_not_printable_is_escaped(value: str, shown: str) -> None:
    assert plain(value) == shown
