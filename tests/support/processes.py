"""Runs `posthouse serve` as people do: a process group of its own on free ports, spoken to from outside only."""

import json
import os
import queue
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 20.0
_LOG_TAIL = 16_000
_ESTABLISHED = "01"

# Not through a proxy, whatever the environment says.
_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE
_OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_UNVERIFIED)
)


class NodeEnded(AssertionError):
    """`posthouse serve` ended, or was not ready in time."""


def inventory_for(port: int, *, recipients: str = "*@ours.example", profile: str = "next", extra: str = "") -> str:
    """An inventory that relays `recipients` to one server on loopback."""
    return f"""
[[server_profiles]]
name = "{profile}"
type = "smtp"
servers = ["127.0.0.1:{port}"]

[[rules]]
name = "inbound"
match = {{ recipients = ["{recipients}"] }}
relay = {{ profile = "{profile}" }}
{extra}
"""


@dataclass
class Node:
    """One data dir and the process that serves it, if any. Its log is `folder/serve.log`, added to by restarts."""

    folder: Path
    inventory: str
    config: str = 'hostname = "mx.test"\n'
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to this process's environment."""
    workers: int = 1
    process: "subprocess.Popen[bytes] | None" = None
    _lines: "queue.SimpleQueue[bytes]" = field(default_factory=queue.SimpleQueue)
    _left: list[int] = field(default_factory=list)
    """Process groups whose parent `kill_parent` has killed."""

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "serve.log"

    def start(self, seconds: float = START_SECONDS) -> None:
        """Returns once `ready` stood on stdout. NodeEnded with the log if it does not."""
        self.launch()
        self.wait_ready(seconds)

    def launch(self) -> None:
        """Starts the process and does not wait for it.

        A thread reads its stdout from now on, so that the pipe never fills, and is closed also when nobody waits.
        """
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        # Unless a test is about them: others count the logins and sessions at their servers.
        untested = "" if "test_profiles" in self.config else "test_profiles = false\n"
        (self.folder / "posthouse.toml").write_text(untested + self.config, "utf-8")
        (self.folder / "inventory.toml").write_text(self.inventory, "utf-8")
        command = [sys.executable, "-m", "posthouse", "serve"]
        command += ["--config", str(self.folder / "posthouse.toml")]
        command += ["--inventory", str(self.folder / "inventory.toml")]
        command += ["--data-dir", str(self.data_dir), "--workers", str(self.workers)]
        command += ["--smtp", "127.0.0.1:0", "--console", "127.0.0.1:0", *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
                env={**os.environ, **self.environment},
            )
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(self.process.stdout, self._lines), daemon=True).start()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Until the line `ready`; any other word, or the end of stdout without one, is a fault."""
        process = self._running()
        try:
            first = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise NodeEnded(f"not ready within {seconds:.0f} s\n{self.log_tail()}") from None
        if not first:
            process.wait(STOP_SECONDS)
        if first != b"ready\n":
            raise NodeEnded(f"instead of `ready` came {first!r}\n{self.log_tail()}")

    def facts(self) -> Mapping[str, object]:
        """node.json of the running node."""
        return cast(Mapping[str, object], json.loads((self.data_dir / "node.json").read_text("utf-8")))

    @property
    def smtp(self) -> tuple[str, int]:
        """Host and port of the first listener."""
        host, _, port = cast(Sequence[str], self.facts()["smtp"])[0].rpartition(":")
        return host, int(port)

    @property
    def port(self) -> int:
        """Port of the first listener."""
        return self.smtp[1]

    def api(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, dict[str, object]]:
        """Status and document of a call below `/api/v1`, with the key that serve left in the data dir."""
        request = urllib.request.Request(
            f"{self.facts()['console']}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(self.data_dir / 'console.key').read_text('utf-8').strip()}",
                "Content-Type": "application/json",
            },
        )
        try:
            with _OPENER.open(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read() or b"{}")

    def get(self, path: str) -> dict[str, object]:
        """The document of a GET that must succeed."""
        status, document = self.api("GET", path)
        assert status == 200, (path, status, document)
        return document

    def readyz(self) -> dict[str, object]:
        """The document of /readyz, whatever the status."""
        try:
            with _OPENER.open(f"{self.facts()['console']}/readyz", timeout=30) as answer:
                return cast(dict[str, object], json.loads(answer.read()))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return cast(dict[str, object], json.loads(refusal.read()))

    def queued(self) -> int:
        """Recipients waiting, held ones too, over all next hops."""
        rows = cast(Sequence[Mapping[str, int]], self.get("queue")["items"])
        return sum(row["queued"] + row["held"] for row in rows)

    def wait_empty(self, seconds: float = 60.0) -> None:
        """Until nothing waits in the queue. A console that is being restarted is asked again."""

        def empty() -> bool:
            try:
                return self.queued() == 0
            except OSError:
                return False

        eventually(empty, "an empty queue", seconds)

    def children(self) -> list[int]:
        """Processes of its group besides the parent: workers and console."""
        leader = self._running().pid
        return [pid for pid in _group(leader) if pid != leader]

    def worker_processes(self) -> list[int]:
        """Its workers that live."""
        return [pid for pid in self.children() if b"worker" in _command(pid)]

    def holder(self, client: socket.socket) -> int:
        """The process at the other end of an open connection of this process over IPv4."""
        inode = _inode(client.getpeername(), client.getsockname())
        for pid in self.children():
            if inode in _sockets(pid):
                return pid
        raise AssertionError(f"no process of the node holds the connection from {client.getsockname()}")

    def connections_to(self, port: int) -> list[int]:
        """How many open connections to a port on loopback each worker has, in the order of `worker_processes`."""
        remote = f"{socket.inet_aton('127.0.0.1')[::-1].hex().upper()}:{port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
        inodes = {fields[9] for fields in rows if fields[2] == remote and fields[3] == _ESTABLISHED}
        return [len(inodes & _sockets(pid)) for pid in self.worker_processes()]

    def signal(self, number: signal.Signals) -> None:
        """To the whole process group, where all processes of a node stay."""
        try:
            os.killpg(self._running().pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """SIGKILL to all its processes at once, as a power cut would."""
        self.signal(signal.SIGKILL)
        for pid in self.orphans():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._reap()

    def kill_parent(self) -> None:
        """SIGKILL to the parent alone: workers and console are left to themselves, see `orphans`."""
        process = self._running()
        process.kill()
        process.wait(STOP_SECONDS)
        self._left.append(process.pid)

    def orphans(self) -> list[int]:
        """Living processes whose parent `kill_parent` has killed."""
        self._left = [group for group in self._left if _group(group)]
        return [pid for group in self._left for pid in _group(group)]

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM to the parent as a service manager sends it; its exit code."""
        process = self._running()
        process.terminate()
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise NodeEnded(f"SIGTERM did not end it within {seconds:.0f} s\n{self.log_tail()}") from None
        self._reap()
        return code

    def alive(self) -> bool:
        """The parent process runs."""
        return self.process is not None and self.process.poll() is None

    def log_tail(self) -> str:
        """The end of its log, for the report of a failed test."""
        text = self.log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace") if self.log.exists() else ""
        return f"--- {self.log}\n{text}---"

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self.process is not None, "it was never started"
        return self.process

    def _reap(self) -> None:
        """Waits until the whole group is gone: a child left behind would still own files and ports."""
        process = self._running()
        process.wait(STOP_SECONDS)
        eventually(
            lambda: not _group(process.pid) and not self.orphans(),
            "the end of all processes of the node",
            STOP_SECONDS,
        )


def _group(group: int) -> list[int]:
    """Living processes of a process group. A zombie that init has yet to collect holds nothing any more."""
    members = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(pgrp) == group and state not in ("Z", "X"):
            members.append(int(entry.name))
    return members


def _command(pid: int) -> list[bytes]:
    """The words of its command line; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> str:
    """The inode of a connected socket of this machine."""
    wanted = [
        f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}" for host, port in (local, remote)
    ]
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
            return fields[9]
    raise AssertionError(f"no connection between {local} and {remote}")


def _sockets(pid: int) -> set[str]:
    """Inodes of the sockets a process has open; none if it is gone."""
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            kind, _, inode = os.readlink(entry).partition(":")
            if kind == "socket":
                found.add(inode.strip("[]"))
    except OSError:
        pass  # it ended, or closed one of them meanwhile
    return found


def _read_lines(stdout: "IO[bytes] | None", lines: "queue.SimpleQueue[bytes]") -> None:
    assert stdout is not None
    with stdout:
        for line in stdout:
            lines.put(line)
    lines.put(b"")


@contextmanager
def serving(
    folder: Path,
    inventory: str,
    *,
    config: str = 'hostname = "mx.test"\n',
    workers: int = 1,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Node]:
    """A node that is ready; killed at the end if it still runs, its log printed if the block failed."""
    node = Node(folder, inventory, config, arguments, environment or {}, workers)
    try:
        node.start()
        yield node
    except BaseException:
        sys.stderr.write(node.log_tail())
        raise
    finally:
        if node.process is not None:
            node.kill()
