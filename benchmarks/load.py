"""The load generator and the next hop of smtp_load.c, each a process of its own."""

import mmap
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from posthouse.tls import ensure_digital_id
from support.peers import free_port
from support.processes import ROOT
from support.waiting import eventually

_SOURCE = ROOT / "benchmarks" / "smtp_load.c"
_LAYOUT = struct.Struct("=5Q")
_LONGEST_RUN = 1800
NUMBER = b"NUMBER0000"
"""Ten octets that are base64 too."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a sink took since it was started."""

    ready: int
    connections: int
    mails: int
    under_tls: int
    last_ns: int
    """Monotonic clock at the last mail."""


@dataclass(frozen=True, slots=True)
class Sink:
    """A running next hop."""

    port: int
    process: "subprocess.Popen[bytes]"
    file: mmap.mmap

    def counts(self) -> Counts:
        return Counts(*_LAYOUT.unpack_from(self.file))

    def stop(self) -> None:
        """From now on connections to its port are refused."""
        self.process.terminate()
        self.process.wait(10)


@cache
def program() -> str:
    """Compiled anew when its source is newer."""
    built = ROOT / ".work" / "smtp_load"
    if not built.exists() or built.stat().st_mtime < _SOURCE.stat().st_mtime:
        built.parent.mkdir(exist_ok=True)
        command = ["cc", "-O2", "-pthread", "-o", str(built), str(_SOURCE), "-lssl", "-lcrypto"]
        subprocess.run(command, check=True)
    return str(built)


@cache
def certificate() -> tuple[str, str]:
    """A self-signed pair, P-256 as posthouse makes it, for everybody who needs one. Lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="posthouse-bench-")
    _kept.append(folder)
    return ensure_digital_id(folder.name, "bench.invalid")


_kept: "list[tempfile.TemporaryDirectory[str]]" = []


@contextmanager
def sink(port: int = 0) -> Iterator[Sink]:
    """Counts from 0. `port` 0: a free one."""
    port = port or free_port()
    with tempfile.NamedTemporaryFile(prefix="posthouse-bench-", dir="/dev/shm") as counts:
        counts.truncate(_LAYOUT.size)
        process = subprocess.Popen([program(), "sink", str(port), *certificate(), counts.name])
        try:
            with mmap.mmap(counts.fileno(), _LAYOUT.size) as file:
                found = Sink(port, process, file)
                eventually(lambda: found.counts().ready or process.poll() is not None, "a listening sink", 10)
                assert process.poll() is None, "the sink ended"
                yield found
        finally:
            process.terminate()
            process.wait(10)


def send(
    port: int,
    mails: int,
    octets: int,
    sessions: int,
    *,
    keep: bool = True,
    tls: bool = False,
    content: Path | None = None,
) -> None:
    """Returns when all are acknowledged; AssertionError at the first reply that is no success.

    `content`: a file with the content in wire form, without its final dot, instead of one of `octets`; each mail has
    its own number wherever NUMBER stands in it.
    """
    options = (port, sessions, mails, octets, int(keep), int(tls), *([content] if content else []))
    command = [program(), "source", *map(str, options)]
    try:
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LONGEST_RUN)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"load generator: not within {_LONGEST_RUN} s") from None
    assert run.returncode == 0, f"load generator: {run.stderr.strip()}"


def relayed(
    port: int,
    next_hop: Sink,
    mails: int,
    octets: int,
    sessions: int,
    *,
    keep: bool = True,
    tls: bool = False,
    limit: float = 300,
    content: Path | None = None,
) -> float:
    """Seconds from the start of the generator until the last of `mails` is at the next hop."""
    before, began = next_hop.counts(), time.monotonic_ns()
    send(port, mails, octets, sessions, keep=keep, tls=tls, content=content)
    arrived(next_hop, before.mails + mails, limit)
    after = next_hop.counts()
    if tls:
        assert after.under_tls - before.under_tls >= mails, "mail went to the next hop in clear"
    return (after.last_ns - began) / 1e9


def arrived(next_hop: Sink, mails: int, limit: float) -> None:
    """Waits until that many mails in all are at the next hop."""
    what = f"{mails} mails at the next hop"
    eventually(lambda: next_hop.counts().mails >= mails, what, limit)
