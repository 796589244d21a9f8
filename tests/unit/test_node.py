"""The supervisor, with processes that are none."""

import asyncio
import errno
import os
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from posthouse import node
from posthouse.settings import NodeSettings

OLD = NodeSettings(hostname="old.test")


class Input:
    """The pipe to a child."""

    def __init__(self) -> None:
        self.octets = b""

    def write(self, octets: bytes) -> None:
        self.octets += octets

    def messages(self) -> list[object]:
        found, rest = [], self.octets
        while rest:
            end = 4 + int.from_bytes(rest[:4], "big")
            found.append(pickle.loads(rest[4:end]))
            rest = rest[end:]
        return found


async def says_ready() -> AsyncIterator[bytes]:
    yield b"ready\n"


@dataclass
class Process:
    """One that says `ready` and lives until it is told to end."""

    stdin: Input = field(default_factory=Input)
    stdout: AsyncIterator[bytes] = field(default_factory=says_ready)
    returncode: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        await self.ended.wait()
        self.returncode = 0
        return 0

    def send_signal(self, number: int) -> None:
        self.ended.set()


def child() -> node.Child:
    return node.Child(node.Boot("worker", 0, "n/0/b", OLD, ()), [])


async def run_until_ready(supervisor: node.Node, ready: asyncio.Event) -> None:
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(ready.wait(), 20)
    supervisor._stop.set()
    assert await running == 0


def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ready, refusals = asyncio.Event(), [errno.EAGAIN, errno.ENOMEM]

        async def start(*command: object, **more: object) -> Process:
            if refusals:
                raise OSError(number := refusals.pop(), os.strerror(number))
            return Process()

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        monkeypatch.setattr(node, "RESTART_SECONDS", (0.0,))
        await run_until_ready(node.Node([child()], 0, ready.set, lambda: None), ready)
        assert refusals == []

    asyncio.run(main())


def test_a_worker_that_starts_while_files_are_applied_again_gets_the_new_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        ready, started = asyncio.Event(), list[Process]()
        fresh = replace(OLD, hostname="new.test")
        supervisor = node.Node([child()], 0, ready.set, lambda: fresh)

        async def start(*command: object, **more: object) -> Process:
            supervisor._reload_files()
            started.append(Process())
            return started[0]

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        await run_until_ready(supervisor, ready)
        assert started[0].stdin.messages() == [replace(child().boot, settings=fresh)]

    asyncio.run(main())


def test_ready_is_not_said_while_one_that_was_ready_is_being_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        ready, second_comes_up, first_comes_back, started_again = (asyncio.Event() for _ in range(4))

        async def says_ready_after(event: asyncio.Event) -> AsyncIterator[bytes]:
            await event.wait()
            yield b"ready\n"

        dies = Process()
        processes = [
            dies,
            Process(stdout=says_ready_after(second_comes_up)),
            Process(stdout=says_ready_after(first_comes_back)),
        ]

        async def start(*command: object, **more: object) -> Process:
            if len(processes) == 1:
                started_again.set()
            return processes.pop(0)

        async def story() -> None:
            await first.ready.wait()
            dies.ended.set()
            await started_again.wait()
            second_comes_up.set()
            await second.ready.wait()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not ready.is_set()
            first_comes_back.set()

        first, second = child(), child()
        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        monkeypatch.setattr(node, "RESTART_SECONDS", (0.0,))
        told = asyncio.create_task(story())
        await run_until_ready(node.Node([first, second], 0, ready.set, lambda: None), ready)
        await told

    asyncio.run(main())


def test_a_data_dir_is_held_once(tmp_path: Path) -> None:
    again = node.hold_data_dir(tmp_path, 20)
    with node.hold_data_dir(tmp_path, 20), pytest.raises(node.DataDirTaken, match="another posthouse serves"), again:
        pass
    with node.hold_data_dir(tmp_path, 0):
        pass


def left_by_a_killed_supervisor(data_dir: Path) -> int:
    """The descriptor that its children have."""
    with node.hold_data_dir(data_dir, 0) as lock:
        return os.dup(lock)


def test_a_start_waits_for_the_processes_of_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Log:
        said: list[object] = []

        def warning(self, event: str, **_: object) -> None:
            self.said.append(event)
            os.close(left)

    left = left_by_a_killed_supervisor(tmp_path)
    monkeypatch.setattr(node, "log", Log())
    with node.hold_data_dir(tmp_path, 20):
        assert Log.said == ["waiting for the processes of an earlier start to end"]


def test_a_start_is_refused_beside_processes_that_do_not_end(tmp_path: Path) -> None:
    left = left_by_a_killed_supervisor(tmp_path)
    with pytest.raises(node.DataDirTaken, match="processes of an earlier start"), node.hold_data_dir(tmp_path, 0.1):
        pass
    os.close(left)


def test_a_child_that_hangs_when_its_supervisor_is_gone_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = (
        "import threading; from posthouse import node; from posthouse.app import child;"
        "from posthouse.core.limits import Limits;"
        "from posthouse.settings import NodeSettings; node.END_SECONDS = -0.9;"
        "settings = NodeSettings(hostname='mx.test', limits=Limits(drain_seconds=1));"
        "child.listen_to_supervisor(settings, print, lambda: print('end', flush=True));"
        "threading.Event().wait(60)"
    )
    ended = subprocess.run([sys.executable, "-c", hangs], stdin=subprocess.DEVNULL, capture_output=True, timeout=50)
    assert (ended.returncode, ended.stdout) == (1, b"end\n"), ended.stderr
