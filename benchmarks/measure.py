"""Measures posthouse beside Postfix; writes docs/performance.md, the figures behind it and their chart.

benchmarks/run [--work abcdefghi] [--rounds 3] [--scale 1.0]
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import backlog, chart, latency, memory, saved, scanning, standalone, starttls
from benchmarks.figures import Figures, Taken
from benchmarks.workloads import WORKLOADS, report

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "performance.md"
SAVED = REPORT.with_suffix(".json")
CHART = REPORT.with_suffix(".svg")
MARK = "<!-- figures: written by benchmarks/run -->"
OF_HARNESS = "abcde"


def harness() -> Path | None:
    """The harness that measures all peers alike, if this machine has it."""
    folder = Path(os.environ.get("POSTHOUSE_BENCH", ROOT.parent / "shared" / "bench"))
    return folder if (folder / "peers.py").exists() else None


def by_harness(folder: Path, work: str, given: argparse.Namespace) -> list[Figures]:
    """Its workloads, Postfix and posthouse interleaved, by a harness that knows neither."""
    base = Path(os.environ.get("PEERBENCH", "/tmp/peerbench"))
    if not (base / "roots" / "usr" / "sbin").exists():
        subprocess.run(["sh", str(folder / "setup.sh")], check=True)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, str(folder / "peers.py"), "--peers", "direct,postfix", "--work", work]
        command += ["--rounds", str(given.rounds), "--scale", str(given.scale), "--json", file.name]
        command += ["--target-cmd", f"posthouse=exec sh {ROOT / 'benchmarks' / 'target'}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return read_harness(json.loads(Path(file.name).read_text("utf-8")))


def read_harness(document: Sequence[dict[str, object]]) -> list[Figures]:
    """Its JSON as figures: one entry for each workload and peer, the runs that failed counted."""
    found = []
    for entry in document:
        runs = entry["runs"]
        assert isinstance(runs, list)
        good = [run for run in runs if "fail" not in run]
        found.append(
            Figures(
                workload=str(entry["work"]),
                peer=str(entry["peer"]),
                failed=len(runs) - len(good),
                rates=tuple(run["rate"] for run in good if "rate" in run),
                accept_seconds=tuple(run["acc"] for run in good if "acc" in run),
                latency_ms=tuple((run["p50"], run["p99"]) for run in good if "p50" in run),
                cpu_ms=tuple(1000 * run["cpu"] / run["got"] for run in good if run["got"]),
                memory_mib=tuple(run["mem"] for run in good),
            )
        )
    return found


def measure(given: argparse.Namespace) -> list[Taken]:
    """Every workload that was asked for, with how it was taken."""
    rounds, scale, workers = given.rounds, given.scale, given.workers
    found = []
    compared = "".join(name for name in given.work if name in OF_HARNESS)
    if compared:
        folder = harness()
        if folder is not None:
            figures = by_harness(folder, compared, given)
            how = "smtp-source in, recording C sink out, interleaved rounds"
        else:
            figures = standalone.measure(compared, rounds, scale, workers)
            how = "smtp-source in, smtp-sink out, interleaved rounds"
        found += taken(figures, f"{rounds} round(s), {how}", given)
    if "d" in given.work:
        found += taken(latency.measure(rounds, scale, workers), f"{rounds} round(s), {latency.HOW}", given)
    if "f" in given.work:
        found += taken(starttls.measure(rounds, scale, workers), f"{rounds} round(s), {starttls.HOW}", given)
    if "g" in given.work:
        found += taken(memory.measure(rounds, scale, workers), f"{rounds} round(s), {memory.HOW}", given)
    if "h" in given.work:
        mails = f"{backlog.mails(scale):,} mails"
        found += taken(backlog.measure(scale, workers), f"{mails}, {backlog.HOW}", given)
    if "i" in given.work:
        found += taken(scanning.measure(rounds, scale, workers), f"{rounds} round(s), {scanning.HOW}", given)
    return found


def taken(figures: Sequence[Figures], how: str, given: argparse.Namespace) -> list[Taken]:
    """By workload, with commit and machine of this moment."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, Linux {platform.release()}"
    how = f"{how}, {given.workers} worker(s); {machine}, load at the end {load}"
    if given.scale != 1.0:
        how += f"; scaled by {given.scale}: a quick look, no result"
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    names = dict.fromkeys(each.workload for each in figures)
    return [
        Taken(name, moment, _commit(), how, tuple(each for each in figures if each.workload == name))
        for name in names
    ]


def _commit() -> str:
    """Abbreviated; what the benchmark itself writes is no change."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks", "tests", "requirements")
    return git("rev-parse", "--short", "HEAD") + ("+" if changes else "")


def write(new: Sequence[Taken]) -> None:
    """Report, figures and chart. Workloads that were not measured now keep what they had."""
    before = saved.read(SAVED.read_text("utf-8")) if SAVED.exists() else ()
    everything = saved.merge(before, new, tuple(WORKLOADS))
    SAVED.write_text(saved.write(everything), "utf-8")
    text = REPORT.read_text("utf-8").partition(MARK)[0]
    REPORT.write_text(f"{text}{MARK}\n\n{report(everything)}", "utf-8")
    redraw()


def redraw() -> None:
    CHART.write_text(chart.draw(saved.read(SAVED.read_text("utf-8"))), "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=(__doc__ or "").split("\n")[0])
    listed = "; ".join(f"{name} {work.title}" for name, work in WORKLOADS.items())
    parser.add_argument("--work", default="abcdefgh", help=f"workloads: {listed} (with i)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of the number of mails, for a quick look: printed only"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="print the tables, write nothing")
    parser.add_argument("--chart", action="store_true", help="measure nothing, draw docs/performance.svg anew")
    given = parser.parse_args(arguments)
    if given.chart:
        if not SAVED.exists():
            parser.error(f"{SAVED.relative_to(ROOT)} is missing: a run without --scale and --print writes it")
        redraw()
        print(f"written: {CHART.relative_to(ROOT)}")
        return 0
    unknown = sorted(set(given.work) - WORKLOADS.keys())
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}")
    os.environ["POSTHOUSE_BENCH_WORKERS"] = str(given.workers)
    new = measure(given)
    if given.print or given.scale != 1.0:
        print(report(new))
        return 0
    write(new)
    print(f"written: {', '.join(str(file.relative_to(ROOT)) for file in (REPORT, SAVED, CHART))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
