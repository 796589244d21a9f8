"""Workload h: a backlog for a next hop that refused connections and then returns: how fast it is drained.

The normal rate is measured on the same node before and after: mails over kept sessions, until the last is at the next
hop. It has receiving in it, draining has not.
Then the next hop goes, and the backlog is taken; then it returns on the same port, and at that moment an operator
lets all be tried at once (`posthouse queue retry --all`), so that the retry schedule is no part of the figure.
"""

import sys
import time

from benchmarks import load, processes
from benchmarks.figures import Figures
from benchmarks.node import leader, posthouse

from support.processes import Node

MAILS, OCTETS, SESSIONS = 100_000, 4096, 20
NORMAL = 10_000
"""Mails for the normal rate. As many go before as a warm-up: a fresh node is slower."""
HOW = "load generator and counting next hop of smtp_load.c, one round, `queue retry --all` when the next hop returns"
_LIMIT_SECONDS = 1800
_PAUSE_SECONDS = 0.5


def mails(scale: float) -> int:
    """In the backlog."""
    return max(SESSIONS, int(MAILS * scale))


def measure(scale: float, workers: int) -> list[Figures]:
    """One round."""
    with load.sink() as first:
        port = first.port
        with posthouse(port, workers) as node:
            try:
                _normal(node, first)
                normal = _normal(node, first)
                first.stop()
                return [_drained(node, port, mails(scale), normal)]
            except AssertionError as fault:
                print(f"h: {fault}", file=sys.stderr)
                return [Figures("h", "posthouse", failed=1)]


def _normal(node: Node, sink: load.Sink) -> float:
    """Mails a second while none waits."""
    seconds = load.relayed(node.port, sink, NORMAL, OCTETS, SESSIONS)
    node.wait_empty()
    return NORMAL / seconds


def _retry_until(node: Node, sink: load.Sink, count: int) -> None:
    """Commands the retry, and again whenever nothing comes any more: attempts under way at the return had failed."""
    end, arrived = time.monotonic() + _LIMIT_SECONDS, -1
    _retry(node)
    while sink.counts().mails < count:
        assert time.monotonic() < end, f"{sink.counts().mails} of {count} drained"
        if sink.counts().mails == arrived:
            _retry(node)
        arrived = sink.counts().mails
        time.sleep(_PAUSE_SECONDS)


def _retry(node: Node) -> None:
    status, answer = node.api("POST", "queue/retry", {"all": True})
    assert status == 200, answer


def _drained(node: Node, port: int, count: int, normal: float) -> Figures:
    began = time.monotonic()
    load.send(node.port, count, OCTETS, SESSIONS)
    accepted = time.monotonic() - began
    queued = node.queued()
    assert queued == count, f"{queued} of {count} wait for the next hop"
    pids = processes.tree(leader(node))
    cpu = processes.cpu_seconds(pids)
    with load.sink(port) as sink:
        returned = time.monotonic_ns()
        _retry_until(node, sink, count)
        seconds = (sink.counts().last_ns - returned) / 1e9
        node.wait_empty()
        assert sink.counts().mails == count, "a mail arrived twice"
        processes.settle(lambda: pids)
        cost = 1000 * (processes.cpu_seconds(pids) - cpu) / count
        peaks = tuple(processes.peak_mib(pid) for pid in processes.named(pids, "worker"))
        again = _normal(node, sink)
    return Figures(
        workload="h",
        peer="posthouse",
        rates=(count / seconds,),
        accept_seconds=(accepted,),
        cpu_ms=(cost,),
        peak_mib=(peaks,),
        normal_rates=(normal, again),
    )
