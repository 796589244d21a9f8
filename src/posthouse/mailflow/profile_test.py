"""TEST of a server profile: every server at once, within a time for all, with advice.

Runs in the console process only. What comes of it touches no worker's circuit.
Standards: seed 3.7 ("Testing the configuration"); design 2.11.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from posthouse.core.ladder_advice import advise
from posthouse.core.profile import ServerProfile, ServiceType
from posthouse.core.profile_test import Inquiry, ProfileResult, ServerResult, StageResult
from posthouse.ports import ServerTester

TEST_SECONDS = 10.0
AT_ONCE = 4
"""Tests under way; further ones wait, so that many of them cannot fill this process with connections."""

Watch = Callable[[ServerResult], None]
"""Is shown the ladder of a server whenever it has changed, so far as it is climbed."""


class ProfileTest:
    """`testers` has one for each service type that can be tested; `hostname` is what this node says in EHLO."""

    def __init__(
        self, testers: Mapping[ServiceType, ServerTester], hostname: str = "", seconds: float = TEST_SECONDS
    ) -> None:
        self._testers = testers
        self._hostname = hostname
        self._seconds = seconds
        self._turn = asyncio.Semaphore(AT_ONCE)

    def reload(self, testers: Mapping[ServiceType, ServerTester], hostname: str) -> None:
        """New settings, for tests that begin from now on."""
        self._testers, self._hostname = testers, hostname

    @property
    def types(self) -> tuple[ServiceType, ...]:
        """Those whose servers can be tested."""
        return tuple(self._testers)

    async def run(
        self, profile: ServerProfile, inquiry: Inquiry | None = None, watch: Watch | None = None
    ) -> ProfileResult:
        """The profile's type has to be one of `types`. Nothing is sent but what opens a session. `watch` is shown
        the ladders while they grow."""
        async with self._turn, asyncio.TaskGroup() as group:
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
