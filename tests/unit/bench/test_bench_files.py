"""What a run writes: the report behind its mark, the figures, the chart."""

from pathlib import Path

import pytest
from benchmarks import measure, saved
from benchmarks.figures import Figures, Taken


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the project's docs."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, file in (("REPORT", "performance.md"), ("SAVED", "performance.json"), ("CHART", "performance.svg")):
        monkeypatch.setattr(measure, name, docs / file)
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    measure.REPORT.write_text(f"Words that stay.\n\n{measure.MARK}\n\nold figures\n", "utf-8")
    return docs


def taken(workload: str, rate: float) -> Taken:
    peers = (Figures(workload, "postfix", rates=(100.0,)), Figures(workload, "posthouse", rates=(rate,)))
    return Taken(workload, "2026-11-25 10:10", "abc1234", "3 rounds", peers)


def test_figures_stand_behind_the_mark(folder: Path) -> None:
    measure.write([taken("a", 300.0)])
    text = measure.REPORT.read_text("utf-8")
    assert text.startswith(f"Words that stay.\n\n{measure.MARK}\n\n### a: ")
    assert "old figures" not in text


def test_a_run_of_one_workload_keeps_the_others(folder: Path) -> None:
    measure.write([taken("a", 300.0), taken("c", 200.0)])
    measure.write([taken("c", 250.0)])
    text = measure.REPORT.read_text("utf-8")
    assert "| posthouse | 300 |" in text
    assert "| posthouse | 250 |" in text
    assert "| posthouse | 200 |" not in text


def test_the_chart_is_drawn_anew_from_the_saved_figures(folder: Path) -> None:
    measure.SAVED.write_text(saved.write([taken("a", 450.0)]), "utf-8")
    assert measure.main(["--chart"]) == 0
    assert "4.5×" in measure.CHART.read_text("utf-8")
    assert "old figures" in measure.REPORT.read_text("utf-8")


def test_no_chart_without_saved_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        measure.main(["--chart"])
    assert "docs/performance.json is missing" in capsys.readouterr().err


def test_a_quick_look_writes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "measure", lambda given: [taken("a", 300.0)])
    assert measure.main(["--scale", "0.1"]) == 0
    assert "| posthouse | 300 |" in capsys.readouterr().out
    assert not measure.SAVED.exists()
    assert "old figures" in measure.REPORT.read_text("utf-8")


def test_an_unknown_workload_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        measure.main(["--work", "ax"])
    assert "x" in capsys.readouterr().err
