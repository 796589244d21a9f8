"""Workloads f and f1: STARTTLS in and out, posthouse beside Postfix, the load generator and next hop of smtp_load.c.

Postfix has TLS as Debian's main.cf has it (`may` both ways, session cache in a btree), with a P-256 certificate as
posthouse has, which is quicker than Debian's RSA. By default it keeps no TLS connections to next hops;
`postfix-reuse` is the same with `smtp_tls_connection_reuse = yes`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks import load, processes
from benchmarks.figures import Figures
from benchmarks.node import leader, posthouse

from support.peers import postfix

MAILS, OCTETS, SESSIONS = 3000, 4096, 20
VARIANTS = {"f": True, "f1": False}
"""Whether the connections of the client are kept."""
HOW = (
    "load generator and counting next hop of smtp_load.c, both with TLS 1.3 and P-256, no resumption by the client, "
    "interleaved rounds"
)
_WARM_UP = 1000

Relay = tuple[int, Callable[[], list[int]]]
"""Port, and what tells its processes."""
Start = Callable[[load.Sink], AbstractContextManager[Relay]]


@dataclass
class _Runs:
    """What one peer has shown in one variant so far."""

    failed: int = 0
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


class _Live:
    """A peer that runs through all rounds, with a next hop of its own; a run that failed starts both anew."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._stack = ExitStack()

    def start(self) -> None:
        """Warmed up."""
        self.stop()
        self.sink = self._stack.enter_context(load.sink())
        self.port, self.pids = self._stack.enter_context(self._start(self.sink))
        load.relayed(self.port, self.sink, _WARM_UP, OCTETS, SESSIONS, tls=True)

    def stop(self) -> None:
        self._stack.close()


def measure(rounds: int, scale: float, workers: int) -> list[Figures]:
    """All peers in turn in every round, another one first each time."""
    mails = max(SESSIONS, int(MAILS * scale))
    peers = {
        "direct": _Live(_direct),
        "postfix": _Live(lambda sink: _postfix(sink, reuse=False)),
        "postfix-reuse": _Live(lambda sink: _postfix(sink, reuse=True)),
        "posthouse": _Live(lambda sink: _posthouse(sink, workers)),
    }
    runs = {(variant, peer): _Runs() for variant in VARIANTS for peer in peers}
    with ExitStack() as stack:
        for live in peers.values():
            stack.callback(live.stop)
            live.start()
        for variant, keep in VARIANTS.items():
            for number in range(rounds):
                for peer in _turned(tuple(peers), number):
                    try:
                        _one(peers[peer], mails, keep, runs[variant, peer])
                    except AssertionError as fault:
                        runs[variant, peer].failed += 1
                        print(f"{variant} {peer}: {fault}", file=sys.stderr)
                        peers[peer].start()
    return [
        Figures(
            workload=variant,
            peer=peer,
            failed=found.failed,
            rates=tuple(found.rates),
            cpu_ms=tuple(found.cpu_ms),
            memory_mib=tuple(found.memory_mib),
        )
        for (variant, peer), found in runs.items()
    ]


def _turned(peers: Sequence[str], by: int) -> Sequence[str]:
    by %= len(peers)
    return [*peers[by:], *peers[:by]]


def _one(live: _Live, mails: int, keep: bool, runs: _Runs) -> None:
    port, sink, pids = live.port, live.sink, live.pids
    processes.settle(pids)
    before, cpu = sink.counts(), processes.cpu_seconds(pids())
    seconds = load.relayed(port, sink, mails, OCTETS, SESSIONS, keep=keep, tls=True)
    memory = processes.anonymous_mib(pids())
    processes.settle(pids)
    assert sink.counts().mails - before.mails == mails, "a mail arrived twice"
    runs.rates.append(mails / seconds)
    runs.cpu_ms.append(1000 * (processes.cpu_seconds(pids()) - cpu) / mails)
    runs.memory_mib.append(memory)


@contextmanager
def _direct(sink: load.Sink) -> Iterator[Relay]:
    """No relay: what generator and next hop can do. CPU is the next hop's."""
    yield sink.port, lambda: [sink.process.pid]


@contextmanager
def _postfix(sink: load.Sink, reuse: bool) -> Iterator[Relay]:
    certificate, key = load.certificate()
    tls = f"""smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtp_tls_security_level = may
smtp_tls_session_cache_database = btree:$data_directory/smtp_scache
smtp_tls_connection_reuse = {"yes" if reuse else "no"}
"""
    with postfix(sink.port, tls=tls, services=("tlsproxy unix - - n - 0 tlsproxy",)) as peer:
        yield peer.port, lambda: processes.tree(peer.pid)


@contextmanager
def _posthouse(sink: load.Sink, workers: int) -> Iterator[Relay]:
    with posthouse(sink.port, workers, tls=True) as node:
        yield node.port, lambda: processes.tree(leader(node))
