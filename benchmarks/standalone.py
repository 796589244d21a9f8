"""The benchmark without a harness: Debian's Postfix and posthouse, smtp-source before them, smtp-sink behind.

Two workloads, a and c. smtp-sink counts what it took on its standard output, so a lost or doubled mail is noticed.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.figures import Figures

from support.peers import Peer, postfix, smtp_sink, smtp_source
from support.processes import inventory_for, serving
from support.waiting import eventually

WORK: Mapping[str, tuple[int, int, int]] = {"a": (3000, 4096, 20), "c": (200, 1 << 20, 10)}
"""Mails, octets of each, sessions."""
_COUNT = re.compile(rb"mesg=(\d+)")

Relay = tuple[str, int, Callable[[], list[int]]]
"""Name, port, and what tells its processes."""


def measure(work: str, rounds: int, scale: float, workers: int) -> list[Figures]:
    """Every round starts the sink anew, since it counts from its own start."""
    runs: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    failed: dict[tuple[str, str], int] = {}
    for name in (name for name in work if name in WORK):
        mails, octets, sessions = WORK[name]
        mails = max(sessions, int(mails * scale))
        for _ in range(rounds):
            for start in (_postfix, _posthouse):
                with smtp_sink(dump=False, arguments=["-c"]) as sink, start(sink.port, workers) as relay:
                    key = (name, relay[0])
                    try:
                        runs.setdefault(key, []).append(_one(relay, sink, mails, octets, sessions))
                    except AssertionError as fault:
                        failed[key] = failed.get(key, 0) + 1
                        print(f"{name} {relay[0]}: {fault}")
    return [
        Figures(
            workload=key[0],
            peer=key[1],
            failed=failed.get(key, 0),
            rates=tuple(rate for rate, _, _ in found),
            cpu_ms=tuple(cpu for _, cpu, _ in found),
            memory_mib=tuple(memory for _, _, memory in found),
        )
        for key, found in runs.items()
    ]


def _one(relay: Relay, sink: Peer, mails: int, octets: int, sessions: int) -> tuple[float, float, float]:
    """Mails a second, CPU ms a mail, MiB at the end."""
    _, port, pids = relay
    before, cpu = _taken(sink), processes.cpu_seconds(pids())
    began = time.monotonic()
    addresses = ("-f", "from@bench.invalid", "-t", "to@bench.invalid")
    run = smtp_source(port, "-s", str(sessions), "-m", str(mails), "-l", str(octets), *addresses)
    assert run.returncode == 0, run.stderr
    eventually(lambda: _taken(sink) - before >= mails, f"{mails} mails at the sink", 120)
    seconds = time.monotonic() - began
    time.sleep(1)  # what is still to be written after the last mail belongs to its cost
    assert _taken(sink) - before == mails, "a mail arrived twice"
    cost = 1000 * (processes.cpu_seconds(pids()) - cpu) / mails
    return mails / seconds, cost, processes.anonymous_mib(pids())


@contextmanager
def _postfix(next_hop: int, workers: int) -> Iterator[Relay]:
    with postfix(next_hop) as peer:
        yield "postfix", peer.port, lambda: processes.tree(peer.pid)


@contextmanager
def _posthouse(next_hop: int, workers: int) -> Iterator[Relay]:
    inventory = inventory_for(next_hop, recipients="*@bench.invalid")
    with (
        tempfile.TemporaryDirectory(prefix="posthouse-bench-") as folder,
        serving(Path(folder), inventory, workers=workers) as node,
    ):
        assert node.process is not None
        pid = node.process.pid
        yield "posthouse", node.port, lambda: processes.tree(pid)


def _taken(sink: Peer) -> int:
    counts = _COUNT.findall((sink.folder / "output.log").read_bytes())
    return int(counts[-1]) if counts else 0
