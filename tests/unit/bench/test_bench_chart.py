"""The chart: what it shows, and that it is a well-formed document."""

from xml.etree import ElementTree

from benchmarks.chart import Row, draw, origin, rows
from benchmarks.figures import Figures, Taken

SVG = "{http://www.w3.org/2000/svg}"


def taken(workload: str, rate: float | None = 3.0, cpu: float = 0.2, commit: str = "abc1234") -> Taken:
    postfix = Figures(workload, "postfix", rates=(100.0,), cpu_ms=(1.0,))
    ours = Figures(workload, "posthouse", rates=() if rate is None else (100.0 * rate,), cpu_ms=(cpu,))
    return Taken(workload, "2026-11-25 10:10", commit, "3 rounds", (postfix, ours))


def bars(text: str) -> list[float]:
    """Widths, rates first."""
    found = ElementTree.fromstring(text).iter(f"{SVG}rect")
    return [float(each.attrib["width"]) for each in found if each.attrib["class"] == "bar"]


def words(text: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}text")]


def test_a_row_compares_rate_and_cpu() -> None:
    assert rows([taken("a", 2.5, 0.25)]) == [Row("4 KiB, one a connection", 2.5, 0.25)]


def test_a_workload_without_postfix_is_left_out() -> None:
    alone = Taken("g", "2026-11-25 10:10", "abc1234", "", (Figures("g", "posthouse", rates=(9.0,)),))
    assert rows([alone]) == []


def test_bars_are_as_long_as_their_values() -> None:
    text = draw([taken("a", 4.0), taken("b", 2.0)])
    four, two, *_ = bars(text)
    assert abs(four - 2 * two) < 0.2


def test_values_stand_beside_the_bars() -> None:
    assert {"4.0×", "25 %"} <= set(words(draw([taken("a", 4.0, 0.25)])))


def test_latency_has_a_dash_instead_of_a_rate() -> None:
    text = draw([taken("d", None, 0.5)])
    assert "–" in words(text)
    assert len(bars(text)) == 1


def test_commit_and_day_are_told_once() -> None:
    assert origin([taken("a"), taken("b")]) == "commit abc1234, 2026-11-25"


def test_commits_of_several_runs_are_told() -> None:
    told = origin([taken("a"), taken("b", commit="def5678")])
    assert told == "commit abc1234, 2026-11-25; commit def5678, 2026-11-25"


def test_a_chart_of_nothing_is_a_document_too() -> None:
    assert bars(draw([])) == []


def test_slower_than_postfix_ends_before_its_line() -> None:
    text = draw([taken("e", 0.7, 0.4)])
    line = next(ElementTree.fromstring(text).iter(f"{SVG}line"))
    bar = next(each for each in ElementTree.fromstring(text).iter(f"{SVG}rect") if each.attrib["class"] == "bar")
    assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < float(line.attrib["x1"])
