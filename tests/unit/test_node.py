"""The supervisor, with processes that are none."""

import asyncio
import errno
import os
import pickle
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

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
        await run_until_ready(node.Node([child()], ready.set, lambda: None), ready)
        assert refusals == []

    asyncio.run(main())


def test_a_worker_that_starts_while_files_are_applied_again_gets_the_new_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        ready, started = asyncio.Event(), list[Process]()
        fresh = replace(OLD, hostname="new.test")
        supervisor = node.Node([child()], ready.set, lambda: fresh)

        async def start(*command: object, **more: object) -> Process:
            supervisor._reload_files()
            started.append(Process())
            return started[0]

        monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
        await run_until_ready(supervisor, ready)
        assert started[0].stdin.messages() == [replace(child().boot, settings=fresh)]

    asyncio.run(main())
