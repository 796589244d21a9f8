"""Figures as tables: medians, spread, comparison with Postfix."""

from email import message_from_bytes

import pytest
from benchmarks import load, saved, scanning
from benchmarks.figures import Figures, Taken
from benchmarks.measure import read_harness
from benchmarks.workloads import WORKLOADS, ratio, report, spread

POSTFIX = Figures("a", "postfix", rates=(400.0, 500.0, 900.0), cpu_ms=(3.0,), memory_mib=(80.4,))
OURS = Figures("a", "posthouse", failed=1, rates=(1500.0, 1250.0), cpu_ms=(0.6,), memory_mib=(157.0, 158.0))


def taken(workload: str, *figures: Figures, commit: str = "abc1234") -> Taken:
    return Taken(workload, "2026-11-25 10:10", commit, "3 rounds", figures)


def rows(text: str) -> list[list[str]]:
    """Cells of a table's lines, without the rule."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def test_spread_is_median_least_and_most() -> None:
    assert spread((3.0, 1.0, 2.0), 1) == "2.0 (1.0-3.0)"


def test_spread_of_one_value_is_the_value() -> None:
    assert spread((81.4,), 0) == "81"


def test_spread_of_nothing_is_a_dash() -> None:
    assert spread((), 2) == "-"


@pytest.mark.parametrize(("values", "base"), [((), (1.0,)), ((1.0,), ()), ((1.0,), (0.0,))])
def test_no_ratio_without_a_base(values: tuple[float, ...], base: tuple[float, ...]) -> None:
    assert ratio(values, base) is None


def test_rates_are_compared_with_postfix_by_medians() -> None:
    head, postfix, ours = rows(report([taken("a", POSTFIX, OURS)]))
    assert head[:3] == ["peer", "mails/s", "x Postfix"]
    assert postfix[:3] == ["postfix", "500 (400-900)", "1.00"]
    assert ours == ["posthouse", "1375 (1250-1500)", "2.75", "0.60", "0.20", "158", "1"]


def test_every_table_says_how_it_was_taken() -> None:
    text = report([taken("a", POSTFIX), taken("f", POSTFIX, commit="def5678+")])
    assert text.count("2026-11-25 10:10 UTC, commit ") == 2
    assert "def5678+; 3 rounds." in text


def test_latency_is_compared_by_its_median() -> None:
    postfix = Figures("d", "postfix", latency_ms=((2.0, 9.0),))
    ours = Figures("d", "posthouse", latency_ms=((1.0, 4.0),))
    assert rows(report([taken("d", postfix, ours)]))[2][:4] == ["posthouse", "1.00", "0.50", "4.0"]


def test_memory_is_that_of_the_largest_worker() -> None:
    figures = Figures("g", "posthouse", rates=(9.0,), resting_mib=((60.0, 61.0),), peak_mib=((70.0, 90.0),))
    assert rows(report([taken("g", figures)]))[1] == ["posthouse", "2", "90", "61", "9.0", "0"]


def test_draining_is_compared_with_the_normal_rate() -> None:
    figures = Figures("h", "posthouse", rates=(900.0,), normal_rates=(1000.0,), peak_mib=((90.0,),))
    assert rows(report([taken("h", figures)]))[1][1:4] == ["900", "1000", "0.90"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_in_which_every_run_failed_has_a_table(name: str) -> None:
    assert rows(report([taken(name, Figures(name, "posthouse", failed=3))]))[1][-1] == "3"


def test_saved_figures_are_read_back() -> None:
    figures = Figures("d", "postfix", 1, latency_ms=((1.5, 2.5),), peak_mib=((1.0, 2.0),))
    everything = (taken("a", POSTFIX, OURS), taken("d", figures))
    assert saved.read(saved.write(everything)) == everything


def test_saved_figures_have_four_digits() -> None:
    text = saved.write([taken("a", Figures("a", "postfix", rates=(1234.5678, 0.0123456)))])
    assert saved.read(text)[0].figures[0].rates == (1235.0, 0.01235)


def test_a_new_run_replaces_its_own_workloads_only() -> None:
    before = (taken("a", POSTFIX), taken("c", POSTFIX))
    new = [taken("a", OURS, commit="new"), taken("b", OURS, commit="new")]
    merged = saved.merge(before, new, ("a", "b", "c"))
    assert [(each.workload, each.commit) for each in merged] == [("a", "new"), ("b", "new"), ("c", "abc1234")]


def test_a_workload_that_is_no_more_is_dropped() -> None:
    assert saved.merge([taken("z", POSTFIX)], [], ("a",)) == ()


def test_runs_of_the_harness_that_failed_are_counted() -> None:
    good = {"rate": 100.0, "acc": 1.0, "cpu": 0.5, "got": 100, "mem": 80.0}
    (figures,) = read_harness([{"work": "a", "peer": "postfix", "runs": [good, {"fail": "got 3 of 4"}]}])
    assert figures == Figures("a", "postfix", 1, (100.0,), (1.0,), (), (5.0,), (80.0,))


def test_scanning_is_compared_with_amavisd_new_alone_and_with_the_scanner() -> None:
    peer = Figures("i", "postfix-amavis", rates=(10.0,), cpu_ms=(30.0,), scanner_cpu_ms=(10.0,), memory_mib=(180.0,))
    ours = Figures("i", "posthouse", rates=(50.0,), cpu_ms=(3.0,), scanner_cpu_ms=(7.0,), memory_mib=(90.0,))
    head, base, found = rows(report([taken("i", peer, ours)]))
    assert head[:7] == [
        "peer", "mails/s", "x amavisd-new", "CPU ms/mail", "of amavisd-new's", "with clamd", "of amavisd-new's",
    ]  # fmt: skip
    assert base == ["postfix-amavis", "10.0", "1.00", "30.0", "1.00", "40.0", "1.00", "180", "0"]
    assert found == ["posthouse", "50.0", "5.00", "3.0", "0.10", "10.0", "0.25", "90", "0"]


@pytest.mark.parametrize("work", ["i", "i1", "i2"])
def test_mails_to_be_scanned_have_the_size_that_is_told(work: str) -> None:
    octets = scanning.WORK[work].octets
    made = scanning.content(octets)
    assert abs(len(made) - octets) < octets * 0.03
    assert made.count(load.NUMBER) >= 2
    assert b"\n" not in made.replace(b"\r\n", b"")
    parsed = message_from_bytes(made)
    assert parsed.is_multipart() == (octets > 8192)
    if parsed.is_multipart():
        *_, attachment = parsed.walk()
        decoded = attachment.get_payload(decode=True)
        assert isinstance(decoded, bytes)
        assert abs(len(decoded) * 78 / 57 - octets) < octets * 0.03
