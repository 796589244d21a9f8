"""The supervisor of one node: starts the worker processes and the console process, repairs the dead, ends all.

A child is `python -m posthouse.app ROLE` and gets its `Boot` pickled on standard input, which stays open: its
end tells the child that the supervisor is gone. It inherits the lock on the data dir, so that no other start begins
before the last process of this one has ended (`hold_data_dir`). Listening sockets are bound here and inherited, so
that a connection that arrives while a worker is being replaced waits in the kernel instead of being refused. A child
that accepts work writes one line `ready` to its standard output.
"""

import asyncio
import fcntl
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from posthouse.settings import Address, NodeSettings
from posthouse.telemetry import logger

log = logger("node")

RESTART_SECONDS = (0.2, 1.0, 5.0, 15.0)

END_SECONDS = 5.0
"""What a child that is to end gets beyond `drain_seconds`, the time of open transactions; then it is killed."""

_LOOK_SECONDS = 0.05


class PortTaken(Exception):
    """Another process listens there."""


class DataDirTaken(Exception):
    """Processes of another start serve this data dir."""


@contextmanager
def hold_data_dir(data_dir: Path, seconds: float) -> Iterator[int]:
    """Holds the data dir for this start; yields a descriptor that every child must inherit. Raises DataDirTaken.

    `node.lock` is the supervisor's alone: beside a living one no other starts. `children.lock` is held through an
    open file that the children share (flock, not fcntl locks, which belong to one process), so it is free when the
    last of them has ended. Those whose supervisor was killed end by themselves; for them the next start waits, at
    most `seconds`: beside them it would deliver their mail a second time.
    """
    with (
        open(data_dir / "node.lock", "w", encoding="ascii") as own,
        open(data_dir / "children.lock", "w", encoding="ascii") as shared,
    ):
        if not _locked(own):
            raise DataDirTaken(f"{data_dir}: another posthouse serves this data dir")
        if not _locked(shared):
            log.warning(
                "waiting for the processes of an earlier start to end", data_dir=str(data_dir), seconds=seconds
            )
            until = time.monotonic() + seconds
            while not _locked(shared):
                if time.monotonic() > until:
                    raise DataDirTaken(
                        f"{data_dir}: processes of an earlier start (`posthouse.app`) did not end within "
                        f"{seconds:.0f} s; end them, then start again"
                    )
                time.sleep(_LOOK_SECONDS)
        yield shared.fileno()


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Boot:
    """What a child process needs to start."""

    role: str
    """`worker` or `console`."""
    index: int
    owner: str
    """`node-id/index/boot-id`: the lease owner."""
    settings: NodeSettings
    descriptors: tuple[int, ...]
    """Listening sockets: one per listener for a worker, one for the console."""


@dataclass(slots=True)
class Child:
    """One child process and how to start it again."""

    boot: Boot
    sockets: list[socket.socket]
    process: asyncio.subprocess.Process | None = None
    failures: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it accepts work."""


def listen(address: Address, copies: int) -> list[socket.socket]:
    """Binds `copies` sockets to one address, one accept queue each (SO_REUSEPORT). Raises PortTaken."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # Without SO_REUSEPORT first: a second posthouse on this port must be refused, not joined.
        probe.bind((address.host, address.port))
        port = probe.getsockname()[1]
    except OSError as error:
        raise PortTaken(f"{address}: {error.strerror}") from error
    finally:
        probe.close()
    sockets = []
    for _ in range(copies):
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((address.host, port))
            bound.listen(1024)
        except OSError as error:
            raise PortTaken(f"{address}: {error.strerror}") from error
        bound.setblocking(False)
        sockets.append(bound)
    return sockets


MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "16777216"}
"""For the C library: buffers of large content (256 KiB) come from memory that the process has, and go back to it; by
default each is mapped and faulted in anew, a seventh of all time of a large mail."""


class Node:
    """All processes of one `serve`."""

    def __init__(
        self,
        children: list[Child],
        lock: int,
        on_ready: Callable[[], None],
        reload: Callable[[], NodeSettings | None],
    ):
        """`lock` is the descriptor from `hold_data_dir`; `reload` re-applies the files on SIGHUP and returns the new
        settings, or None if they were refused."""
        self._children = children
        self._lock = lock
        self._on_ready = on_ready
        self._reload = reload
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Until SIGTERM or SIGINT; exit code 0 whatever is queued."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_files)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        ready = asyncio.create_task(self._announce())
        await self._stop.wait()
        log.info("stopping")
        ready.cancel()
        await asyncio.gather(*(self._end(child) for child in self._children))
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, ready, return_exceptions=True)
        return 0

    async def _announce(self) -> None:
        while not all(child.ready.is_set() for child in self._children):  # one may have died while another came up
            for child in self._children:
                await child.ready.wait()
        self._on_ready()

    async def _keep(self, child: Child) -> None:
        """Starts a child again when it dies, ever slower while it fails at once."""
        while not self._stop.is_set():
            role, index = child.boot.role, child.boot.index
            try:
                process = await self._start(child)
            except OSError as error:  # no memory or no process number left: often what killed the last one
                log.error("process not started, trying again", role=role, index=index, error=str(error))
            else:
                code = await process.wait()
                child.ready.clear()
                if self._stop.is_set():
                    return
                log.error("process died, starting it again", role=role, index=index, code=code)
            pause = RESTART_SECONDS[min(child.failures, len(RESTART_SECONDS) - 1)]
            child.failures += 1
            await asyncio.sleep(pause)

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        boot = child.boot
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "posthouse.app",
            boot.role,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(*boot.descriptors, self._lock),
            env=MALLOC | os.environ,
        )
        child.process = process
        self._tell(child, child.boot)  # not `boot`: the files may have been applied again meanwhile
        asyncio.get_running_loop().create_task(self._hear(child, process))
        return process

    @staticmethod
    def _tell(child: Child, message: object) -> None:
        if child.process is not None and child.process.stdin is not None:
            octets = pickle.dumps(message)
            child.process.stdin.write(len(octets).to_bytes(4, "big") + octets)

    @staticmethod
    async def _hear(child: Child, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.strip() == b"ready" and process.returncode is None:
                child.ready.set()
                child.failures = 0

    def _reload_files(self) -> None:
        settings = self._reload()
        if settings is None:
            return
        for child in self._children:
            child.boot = replace(child.boot, settings=settings)
            self._tell(child, settings)
        log.info("files applied again")

    @staticmethod
    async def _end(child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        try:
            process.send_signal(signal.SIGTERM)
        except ProcessLookupError:
            return
        # Workers end by themselves after drain_seconds; this is the net under them.
        try:
            await asyncio.wait_for(process.wait(), child.boot.settings.limits.drain_seconds + END_SECONDS)
        except TimeoutError:
            log.error("process did not end, killed", role=child.boot.role, index=child.boot.index)
            process.kill()
            await process.wait()


def read_message(descriptor: int) -> object | None:
    """In a child: the next message of the supervisor, or None when it is gone. Blocks."""
    head = _read_exactly(descriptor, 4)
    if head is None:
        return None
    body = _read_exactly(descriptor, int.from_bytes(head, "big"))
    # The other end of the pipe is our own supervisor.
    return None if body is None else pickle.loads(body)  # noqa: S301


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    octets = b""
    while len(octets) < count:
        more = os.read(descriptor, count - len(octets))
        if not more:
            return None
        octets += more
    return octets
