"""Where a worker's CPU goes, stage by stage: py-spy's samples shared out by the module that was running.

A sample belongs to the innermost of our frames on its stack, so that a stage has the cost of the libraries and of the
system calls that it makes. What has none of ours is the event loop's: accept, read, wake-ups. The CPU of each thread
is the kernel's, of a run without py-spy; the samples of a second run only divide that of the main thread.
"""

import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, processes
from benchmarks.node import posthouse

from support.processes import ROOT
from support.waiting import eventually

PY_SPY = "py-spy==0.4.3"
WORK: Mapping[str, tuple[int, int, int, bool]] = {
    "a": (6_000, 4096, 20, False),
    "b": (10_000, 4096, 20, True),
    "c": (600, 1 << 20, 10, False),
}
"""Mails, octets of each, sessions, connections kept."""
HOW = "load generator and counting next hop of smtp_load.c, pool on, one worker, py-spy at 500 samples a second"

LOOP, COMMIT, OTHER = "event loop: accept, read, wake up", "commit: thread of the writer", "other threads"
STAGES: tuple[tuple[str, str], ...] = (
    ("receive: session, replies", r"posthouse/inbound/"),
    (
        "receive: SMTP machine, content",
        r"posthouse/core/(smtp_server|smtp_data|smtp_command|smtp_reply|envelope|smtp_path)",
    ),
    (
        "decide: rules, trace field, trail",
        r"posthouse/(mailflow/pipeline|core/(policy|pattern|rule|trace|fields|mail|mail_id))",
    ),
    ("store: rows, statements, content", r"posthouse/storage/"),
    (
        "deliver: queue, circuit, results",
        r"posthouse/(mailflow|core/(circuit|throttle|preference|retry|outcome|reply))",
    ),
    ("send: pool, connection, SMTP machine", r"posthouse/(clients|core/(smtp_client|smtp_opening|pool|wire_form))"),
    ("log", r"posthouse/telemetry"),
)
_FRAME = re.compile(r" \((.+?):\d+\)$")


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU of a worker in one workload, in milliseconds for each mail, by stage."""

    workload: str
    by_stage: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.by_stage.values())


def measure() -> list[Spent]:
    spy = _py_spy()
    return [_one(spy, name) for name in WORK]


def _one(spy: str, name: str) -> Spent:
    mails, octets, sessions, keep = WORK[name]
    with (
        load.sink() as sink,
        posthouse(sink.port, 1) as node,
        tempfile.NamedTemporaryFile("r", suffix=".raw") as samples,
    ):
        load.relayed(node.port, sink, mails // 10, octets, sessions, keep=keep)
        (worker,) = processes.named(node.children(), "worker")
        before = processes.thread_seconds(worker)
        load.relayed(node.port, sink, mails, octets, sessions, keep=keep)
        processes.settle(lambda: [worker])
        after = processes.thread_seconds(worker)
        command = [
            spy,
            "record",
            "--nonblocking",
            "-t",
            "-r",
            "500",
            "-f",
            "raw",
            "-d",
            "3600",
            "-o",
            samples.name,
            "-p",
            str(worker),
        ]
        recording = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            load.relayed(node.port, sink, mails, octets, sessions, keep=keep)
        finally:
            recording.send_signal(2)
            recording.wait(60)
        eventually(lambda: Path(samples.name).stat().st_size, "the samples", 10)
        raw = Path(samples.name).read_text("utf-8").splitlines()
    shares = shared_out(raw)
    spent = {thread: 1000 * (seconds - before.get(thread, 0.0)) / mails for thread, seconds in after.items()}
    main = spent.pop(worker)
    all_samples = sum(shares.values())
    found = {stage: main * shares[stage] / all_samples for stage in (*(name for name, _ in STAGES), LOOP)}
    found[COMMIT] = sum(spent.pop(thread, 0.0) for thread in _threads(raw, "mail-writer"))
    found[OTHER] = sum(spent.values())
    return Spent(name, found)


def shared_out(raw: Iterable[str]) -> Counter[str]:
    """Samples of the main thread by stage, from py-spy's raw form: frames joined by `;`, then a count."""
    found: Counter[str] = Counter()
    for line in raw:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if "MainThread" in frames[0]:
            found[_stage(frames)] += int(count)
    return found


def _threads(raw: Iterable[str], name: str) -> set[int]:
    """Numbers of the threads of that name."""
    return {int(number) for line in raw for number in re.findall(rf"^thread \((\d+)\): {name};", line)}


def _stage(frames: list[str]) -> str:
    for frame in reversed(frames):
        place = _FRAME.search(frame)
        if place is None or "posthouse/app" in place[1]:
            continue
        for stage, pattern in STAGES:
            if re.search(pattern, place[1]):
                return stage
    return LOOP


def report(spent: Iterable[Spent]) -> str:
    """A table of Markdown."""
    columns = list(spent)
    rows = [["CPU ms/mail", *(f"{each.workload}" for each in columns)], ["---"] * (len(columns) + 1)]
    for stage in columns[0].by_stage:
        rows.append([stage, *(_cell(each.by_stage[stage], each.total) for each in columns)])
    rows.append(["all of the worker", *(f"{each.total:.3f}" for each in columns)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _cell(value: float, total: float) -> str:
    return f"{value:.3f} ({100 * value / total:.0f} %)"


def _py_spy() -> str:
    """Installed beside, not among, what the project needs."""
    tools = ROOT / ".work" / "py-spy"
    program = tools / "bin" / "py-spy"
    if not program.exists():
        python = ROOT / ".venv" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "--prefix", tools, PY_SPY], check=True)
    return str(program)


def main() -> None:
    began = time.monotonic()
    print(report(measure()))
    print(f"{HOW}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
