"""Workloads i, i1 and i2: every mail is scanned by the same real clamd; posthouse beside Postfix with amavisd-new.

No two mails are equal, for clamd remembers what it has found clean. The larger ones have an attachment in base64,
octets without a meaning.
"""

import random
import sys
import tempfile
from base64 import encodebytes
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import load, processes
from benchmarks.amavis import CHILDREN, amavis, socket_of
from benchmarks.figures import Figures
from benchmarks.node import leader, posthouse
from benchmarks.workloads import SCANNING_PEER

from support.clamd_peer import EICAR, Clamd, clamd
from support.peers import postfix

HOW = (
    "one clamd for all, by its socket, with signatures made here; amavisd-new with "
    f"{CHILDREN} child processes, without SpamAssassin, sends to the next hop itself; load generator and counting "
    "next hop of smtp_load.c, no two mails equal, interleaved rounds"
)
_LMTP = ("lmtp unix - - n - - lmtp",)
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Work:
    """Of one workload."""

    mails: int
    octets: int
    sessions: int


WORK = {"i": Work(600, 4096, 20), "i1": Work(200, 256 << 10, 10), "i2": Work(30, 5 << 20, 4)}
"""Mails of a round: few, as amavisd-new takes a good while."""

Relay = tuple[int, Callable[[], list[int]]]
"""Port, and what tells its processes."""
Start = Callable[[load.Sink], AbstractContextManager[Relay]]


@dataclass
class _Runs:
    """What one peer has shown in one workload so far."""

    failed: int = 0
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    scanner_cpu_ms: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


class _Live:
    """A peer that runs through all rounds, with a next hop of its own; a run that failed starts both anew.

    One that cannot be started fails every run.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._stack = ExitStack()
        self.port = 0

    def run(self) -> None:
        """It runs from now on. Raises AssertionError."""
        if not self.port:
            self.sink = self._stack.enter_context(load.sink())
            self.port, self.pids = self._stack.enter_context(self._start(self.sink))

    def stop(self) -> None:
        self.port = 0
        self._stack.close()


def content(octets: int) -> bytes:
    """A mail of about that size in wire form without its final dot; what is above 8 KiB has an attachment."""
    number = load.NUMBER
    head = b"From: <from@bench.invalid>\r\nTo: <to@bench.invalid>\r\nSubject: load\r\n"
    head += (
        b"Date: Wed, 25 Nov 2026 12:00:00 +0000\r\nMessage-Id: <%s@bench.invalid>\r\nMIME-Version: 1.0\r\n" % number
    )
    text = b"Mail %s of many.\r\n" % number
    if octets <= 8192:
        line = b"The quick brown fox jumps over the lazy dog, as it does in every mail of this kind.\r\n"
        return head + b"Content-Type: text/plain\r\n\r\n" + text + line * ((octets - len(head)) // len(line))
    head += (
        b'Content-Type: multipart/mixed; boundary="bench"\r\n\r\n--bench\r\nContent-Type: text/plain\r\n\r\n' + text
    )
    head += b'--bench\r\nContent-Type: application/octet-stream; name="data.bin"\r\n'
    head += b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n"
    encoded = encodebytes(random.Random(6).randbytes((octets - len(head)) * 57 // 78)).replace(b"\n", b"\r\n")
    return head + number + encoded[len(number) :] + b"--bench--\r\n"


def measure(rounds: int, scale: float, workers: int) -> list[Figures]:
    """All peers in turn in every round, another one first each time."""
    with (
        tempfile.TemporaryDirectory(prefix="posthouse-bench-") as folder,
        clamd({"Local.Eicar": EICAR}) as scanner,
        ExitStack() as stack,
    ):
        peers = {
            SCANNING_PEER: _Live(lambda sink: _amavis(sink, scanner)),
            "posthouse": _Live(lambda sink: _posthouse(sink, scanner, workers)),
        }
        for live in peers.values():
            stack.callback(live.stop)
        runs = {(name, peer): _Runs() for name in WORK for peer in peers}
        for name, work in WORK.items():
            file = Path(folder) / name
            file.write_bytes(content(work.octets))
            mails = max(work.sessions, int(work.mails * scale))
            for number in range(rounds):
                for peer in _turned(tuple(peers), number):
                    _tried(peers[peer], work, mails, file, scanner, runs[name, peer], f"{name} {peer}")
    return [
        Figures(
            workload=name,
            peer=peer,
            failed=found.failed,
            rates=tuple(found.rates),
            cpu_ms=tuple(found.cpu_ms),
            scanner_cpu_ms=tuple(found.scanner_cpu_ms),
            memory_mib=tuple(found.memory_mib),
        )
        for (name, peer), found in runs.items()
    ]


def _turned(peers: Sequence[str], by: int) -> Sequence[str]:
    by %= len(peers)
    return [*peers[by:], *peers[:by]]


def _tried(live: _Live, work: Work, mails: int, file: Path, scanner: Clamd, runs: _Runs, what: str) -> None:
    try:
        live.run()
        _one(live, work, mails, file, scanner, runs)
    except AssertionError as fault:
        runs.failed += 1
        print(f"{what}: {fault}", file=sys.stderr)
        live.stop()


def _one(live: _Live, work: Work, mails: int, file: Path, scanner: Clamd, runs: _Runs) -> None:
    """Warmed up by a few mails first."""
    port, sink, pids = live.port, live.sink, live.pids
    load.relayed(port, sink, 2 * work.sessions, work.octets, work.sessions, content=file, limit=_SECONDS)
    clamds = [scanner.process.pid]
    processes.settle(lambda: [*pids(), *clamds])
    before, cpu, scanned = sink.counts(), processes.cpu_seconds(pids()), processes.cpu_seconds(clamds)
    seconds = load.relayed(port, sink, mails, work.octets, work.sessions, content=file, limit=_SECONDS)
    memory = processes.anonymous_mib(pids())
    processes.settle(lambda: [*pids(), *clamds])
    assert sink.counts().mails - before.mails == mails, "a mail arrived twice"
    scanned = processes.cpu_seconds(clamds) - scanned
    assert scanned > 0, "clamd had nothing to do"
    runs.rates.append(mails / seconds)
    runs.cpu_ms.append(1000 * (processes.cpu_seconds(pids()) - cpu) / mails)
    runs.scanner_cpu_ms.append(1000 * scanned / mails)
    runs.memory_mib.append(memory)


@contextmanager
def _amavis(sink: load.Sink, scanner: Clamd) -> Iterator[Relay]:
    with (
        amavis(sink.port, scanner.unix.removeprefix("clamd://")) as filtering,
        postfix(filtering.port, tls=_settings(socket_of(filtering)), services=_LMTP) as peer,
    ):
        yield peer.port, lambda: [*processes.tree(peer.pid), *processes.tree(filtering.pid)]


def _settings(socket: Path) -> str:
    """Of Postfix: without TLS, everything through the filter, as many at a time as it has processes."""
    return f"""smtpd_tls_security_level =
content_filter = lmtp:unix:{socket}
lmtp_destination_concurrency_limit = {CHILDREN}
"""


@contextmanager
def _posthouse(sink: load.Sink, scanner: Clamd, workers: int) -> Iterator[Relay]:
    with posthouse(sink.port, workers, clamd=scanner.unix) as node:
        yield node.port, lambda: processes.tree(leader(node))
