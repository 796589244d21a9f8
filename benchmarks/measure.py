"""Measures posthouse beside Postfix and writes docs/performance.md.

benchmarks/run [--work acdeb] [--rounds 3] [--scale 1.0]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import standalone
from benchmarks.figures import Figures

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "performance.md"
MARK = "<!-- figures: written by benchmarks/run -->"


@dataclass(frozen=True, slots=True)
class Workload:
    """What the harness calls a workload, in words."""

    title: str
    latency: bool = False


WORKLOADS = {
    "a": Workload("4 KiB, 20 sessions, one mail a connection"),
    "b": Workload("4 KiB, 20 sessions, connections of the client kept"),
    "c": Workload("1 MiB, 10 sessions"),
    "d": Workload("latency of single mails, one after the other", latency=True),
    "e": Workload("as a, next hop 20 ms away"),
}


def harness() -> Path | None:
    """The harness that measures all peers alike, if this machine has it."""
    folder = Path(os.environ.get("POSTHOUSE_BENCH", ROOT.parent / "shared" / "bench"))
    return folder if (folder / "peers.py").exists() else None


def by_harness(folder: Path, given: argparse.Namespace) -> list[Figures]:
    """All workloads, Postfix and posthouse interleaved, by a harness that knows neither."""
    base = Path(os.environ.get("PEERBENCH", "/tmp/peerbench"))
    if not (base / "roots" / "usr" / "sbin").exists():
        subprocess.run(["sh", str(folder / "setup.sh")], check=True)
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, str(folder / "peers.py"), "--peers", "direct,postfix", "--work", given.work]
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


def table(figures: Sequence[Figures], title: str, latency: bool) -> str:
    """One table of Markdown: medians, with the range over the rounds where it says something."""
    postfix = next((each for each in figures if each.peer == "postfix"), None)
    head = ["peer", "p50 ms", "p99 ms"] if latency else ["peer", "mails/s", "x Postfix"]
    head += ["CPU ms/mail", "of Postfix's", "memory MiB", "failed runs"]
    rows = [head, ["---"] * len(head)]
    for each in figures:
        if latency:
            middle = [spread([p50 for p50, _ in each.latency_ms], 2), spread([p99 for _, p99 in each.latency_ms], 1)]
        else:
            middle = [spread(each.rates, 0), ratio(each.rates, postfix.rates if postfix else ())]
        cpu = [spread(each.cpu_ms, 2), ratio(each.cpu_ms, postfix.cpu_ms if postfix else ())]
        memory = f"{statistics.median(each.memory_mib):.0f}" if each.memory_mib else "-"
        rows.append([each.peer, *middle, *cpu, memory, str(each.failed)])
    return f"### {title}\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def spread(values: Sequence[float], digits: int) -> str:
    """Median (least-most)."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratio(values: Sequence[float], base: Sequence[float]) -> str:
    """Of the medians."""
    return f"{statistics.median(values) / statistics.median(base):.2f}" if values and base else "-"


def report(figures: Sequence[Figures], how: str) -> str:
    """What stands in docs/performance.md after the mark."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    moment = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        f"Measured {moment}, commit {commit}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}, load at the end {load}; {how}.\n"
    ]
    for name in dict.fromkeys(each.workload for each in figures):
        work = WORKLOADS[name]
        chosen = [each for each in figures if each.workload == name]
        lines.append(table(chosen, f"{name}: {work.title}", work.latency))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--work", default="acdeb", help="workloads: " + "; ".join(f"{k} {w.title}" for k, w in WORKLOADS.items())
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of mails, for a quick look")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="print the tables, leave docs/performance.md alone")
    given = parser.parse_args(arguments)
    os.environ["POSTHOUSE_BENCH_WORKERS"] = str(given.workers)
    folder = harness()
    if folder is not None:
        figures = by_harness(folder, given)
        how = f"smtp-source in, recording C sink out, {given.rounds} rounds interleaved, {given.workers} worker(s)"
    else:
        figures = standalone.measure(given.work, given.rounds, given.scale, given.workers)
        how = f"smtp-source in, smtp-sink out, {given.rounds} rounds interleaved, {given.workers} worker(s)"
    text = report(figures, how)
    if given.scale != 1.0:
        text = text.replace("\n", f" Scaled by {given.scale}: a quick look, no result.\n", 1)
    if given.print:
        print(text)
        return 0
    before = REPORT.read_text("utf-8").partition(MARK)[0]
    REPORT.write_text(f"{before}{MARK}\n\n{text}", "utf-8")
    print(f"written: {REPORT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
