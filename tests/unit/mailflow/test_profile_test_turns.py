"""TEST of server profiles as a whole: how many at once, and what a reload changes."""

import asyncio
from dataclasses import dataclass, field

import pytest

from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import Inquiry, StageName, StageResult, Told, failed, unheard
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.profile_test import AT_ONCE, OF_ONE, NoTurn, ProfileTest
from support.servers import profile

EXCHANGE = profile("10.0.0.1", "10.0.0.2")


@dataclass
class Held:
    """ports.ServerTester: nothing is answered before `go`."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    began: int = 0
    most: int = 0
    under_way: int = 0

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        self.began += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        return (failed(StageName.EHLO, 0.0, "at EHLO: 550 no"),)


async def turns() -> None:
    """Lets whatever can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def in_turn(test: ProfileTest, who: str = "") -> None:
    async with test.turn(who):
        await test.run(EXCHANGE)


def test_only_some_tests_are_under_way_at_once_and_all_get_their_turn() -> None:
    async def go() -> None:
        tester = Held()
        test = ProfileTest({ServiceType.SMTP: tester})
        running = [asyncio.create_task(in_turn(test)) for _ in range(AT_ONCE + 3)]
        await turns()
        assert tester.began == 2 * AT_ONCE
        tester.go.set()
        await asyncio.gather(*running)
        assert tester.began == 2 * (AT_ONCE + 3)
        assert tester.most == 2 * AT_ONCE

    asyncio.run(go())


def test_a_test_that_is_cancelled_gives_its_turn_to_the_next() -> None:
    async def go() -> None:
        tester = Held()
        test = ProfileTest({ServiceType.SMTP: tester})
        running = [asyncio.create_task(in_turn(test)) for _ in range(AT_ONCE + 1)]
        await turns()
        running[0].cancel()
        await turns()
        assert tester.began == 2 * (AT_ONCE + 1)
        tester.go.set()
        await asyncio.gather(*running[1:])

    asyncio.run(go())


def test_a_turn_that_does_not_come_in_time_is_given_up_and_blocks_nobody() -> None:
    async def go() -> None:
        tester = Held()
        test = ProfileTest({ServiceType.SMTP: tester}, turn_seconds=0.01)
        running = [asyncio.create_task(in_turn(test)) for _ in range(AT_ONCE)]
        await turns()
        with pytest.raises(NoTurn):
            await in_turn(test, "late")
        assert tester.began == 2 * AT_ONCE
        tester.go.set()
        await asyncio.gather(*running)
        await in_turn(test, "late")
        assert tester.began == 2 * (AT_ONCE + 1)

    asyncio.run(go())


def test_one_who_asks_is_full_while_tests_are_under_way_or_wait_and_nobody_else_is() -> None:
    async def go() -> None:
        tester = Held()
        test = ProfileTest({ServiceType.SMTP: tester})
        others = [asyncio.create_task(in_turn(test, f"other {number}")) for number in range(AT_ONCE)]
        await turns()
        waiting = [asyncio.create_task(in_turn(test, "a")) for _ in range(OF_ONE)]
        await turns()
        assert test.is_full("a")
        assert not test.is_full("b")
        waiting[0].cancel()
        await turns()
        assert not test.is_full("a")
        tester.go.set()
        await asyncio.gather(*others, waiting[1])

    asyncio.run(go())


def test_a_reload_is_for_tests_that_begin_after_it() -> None:
    async def go() -> None:
        old, new = Held(), Held()
        test = ProfileTest({ServiceType.SMTP: old}, "old.test")
        under_way = asyncio.create_task(test.run(EXCHANGE))
        await turns()
        test.reload({ServiceType.SMTP: new, ServiceType.CLAMAV: new}, "new.test")
        assert test.types == (ServiceType.SMTP, ServiceType.CLAMAV)
        new.go.set()
        advice = (await test.run(EXCHANGE)).servers[0].stages[0].advice
        assert "the server refuses new.test" in advice
        assert (old.began, new.began) == (2, 2)
        old.go.set()
        await under_way

    asyncio.run(go())
