"""TEST of a server profile: every server at once, within a time for all, with advice.

Runs in the console process only. What comes of it touches no worker's circuit.
Standards: seed 3.7 ("Testing the configuration"); design 2.11.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from posthouse.core.ladder_advice import advise
from posthouse.core.profile import ServerProfile, ServiceType
from posthouse.core.profile_test import Inquiry, ProfileResult, ServerResult, StageResult
from posthouse.ports import ServerTester

TEST_SECONDS = 10.0
AT_ONCE = 4
"""Tests under way; further ones wait, so that many of them cannot fill this process with connections."""

OF_ONE = 2
"""Tests under way or waiting of one who asks, so that nobody can take all turns."""
TURN_SECONDS = 15.0
"""Longest wait for a turn: with a test of 10 s an answer comes within the 30 s that a client waits."""

Watch = Callable[[ServerResult], None]
"""Is shown the ladder of a server whenever it has changed, so far as it is climbed."""


class NoTurn(Exception):
    """Others were under way all the time."""


class ProfileTest:
    """`testers` has one for each service type that can be tested; `hostname` is what this node says in EHLO."""

    def __init__(
        self,
        testers: Mapping[ServiceType, ServerTester],
        hostname: str = "",
        seconds: float = TEST_SECONDS,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._testers = testers
        self._hostname = hostname
        self._seconds = seconds
        self._turn_seconds = turn_seconds
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._asking: Counter[str] = Counter()

    def reload(self, testers: Mapping[ServiceType, ServerTester], hostname: str) -> None:
        """New settings, for tests that begin from now on."""
        self._testers, self._hostname = testers, hostname

    @property
    def types(self) -> tuple[ServiceType, ...]:
        """Those whose servers can be tested."""
        return tuple(self._testers)

    def is_full(self, who: str) -> bool:
        """Whether `who` has as many tests under way or waiting as one may have."""
        return self._asking[who] >= OF_ONE

    @asynccontextmanager
    async def turn(self, who: str = "") -> AsyncIterator[None]:
        """To be held while `run` runs. Raises NoTurn if it does not come in time; `who` counts for `is_full`."""
        self._asking[who] += 1
        try:
            try:
                async with asyncio.timeout(self._turn_seconds):
                    await self._turn.acquire()
            except TimeoutError:
                raise NoTurn from None
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._asking[who] -= 1
            if not self._asking[who]:
                del self._asking[who]

    async def run(
        self, profile: ServerProfile, inquiry: Inquiry | None = None, watch: Watch | None = None
    ) -> ProfileResult:
        """The profile's type has to be one of `types`. Nothing is sent but what opens a session. `watch` is shown
        the ladders while they grow. Whoever runs it holds a `turn`."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._test(profile, server, inquiry, watch)) for server in profile.server_texts
            ]
        return ProfileResult(tuple(task.result() for task in tasks))

    async def _test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, watch: Watch | None
    ) -> ServerResult:
        def told(stages: Sequence[StageResult]) -> None:
            if watch is not None:
                watch(self._advised(profile, server, stages))

        stages = await self._testers[profile.type].test(profile, server, inquiry, self._seconds, told)
        result = self._advised(profile, server, stages)
        if watch is not None:
            watch(result)
        return result

    def _advised(self, profile: ServerProfile, server: str, stages: Sequence[StageResult]) -> ServerResult:
        specification = profile.servers[profile.server_texts.index(server)]
        words = {
            "host": specification.host,
            "port": str(specification.port),
            "username": profile.username,
            "hostname": self._hostname,
        }
        return ServerResult(
            server, tuple(replace(stage, advice=advise(stage, words, profile.type)) for stage in stages)
        )
