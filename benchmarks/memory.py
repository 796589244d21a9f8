"""Workload g: 20 sessions with mails of 25 MiB at once; the peak of resident memory of each worker process."""

import sys

from benchmarks import load, processes
from benchmarks.figures import Figures
from benchmarks.node import posthouse

MAILS, OCTETS, SESSIONS = 40, 25 << 20, 20
HOW = "load generator and counting next hop of smtp_load.c, the node started anew for each round"


def measure(rounds: int, scale: float, workers: int) -> list[Figures]:
    mails = max(SESSIONS, int(MAILS * scale))
    failed = 0
    rates, resting, peaks = [], [], []
    for _ in range(rounds):
        try:
            with load.sink() as sink, posthouse(sink.port, workers) as node:
                pids = processes.named(node.children(), "worker")
                assert len(pids) == workers, "not every worker was found"
                before = tuple(processes.resident_mib(pid) for pid in pids)
                seconds = load.relayed(node.port, sink, mails, OCTETS, SESSIONS)
                peaks.append(tuple(processes.peak_mib(pid) for pid in pids))
                resting.append(before)
                rates.append(mails / seconds)
        except AssertionError as fault:
            failed += 1
            print(f"g: {fault}", file=sys.stderr)
    return [
        Figures("g", "posthouse", failed, tuple(rates), resting_mib=tuple(resting), peak_mib=tuple(peaks)),
    ]
