"""Tests that nobody has asked for: what is due, once, by one node, and what becomes of it."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from posthouse.core.fields import Secret
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_mark import FailedServer, Mark, MarkState
from posthouse.core.profile_test import Inquiry, StageName, StageResult, Told, failed, unheard
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.background_tests import CLAIM_SECONDS, REFUSED_SECONDS, BackgroundTests
from posthouse.mailflow.profile_test import AT_ONCE, ProfileTest
from support.memory_stores import MemoryClock, MemoryInventory
from support.rest import ScriptedTester

A = {"name": "a", "type": "smtp", "servers": ["smtp://10.0.0.1:25"]}
B = {"name": "b", "type": "smtp", "servers": ["smtp://10.0.0.2:25"]}
SCANNER = {"name": "scanner", "type": "clamav", "servers": ["clamd://10.0.0.3:3310"]}


@dataclass
class Drill:
    """One database, and nodes that test what is in it."""

    inventory: MemoryInventory = field(default_factory=MemoryInventory)
    clock: MemoryClock = field(default_factory=MemoryClock)
    tester: Any = field(default_factory=ScriptedTester)

    def node(self, name: str = "node 1") -> BackgroundTests:
        return BackgroundTests(self.inventory, ProfileTest({ServiceType.SMTP: self.tester}), self.clock, name)

    def file(self, *profiles: dict[str, Any], **more: Any) -> None:
        revision = self.inventory.revision()
        self.inventory.replace(profiles, [], expected_revision=revision, by="serve", now=self.clock.now(), **more)

    def mark(self, name: str) -> Mark:
        (mark,) = [p.tested for p in self.inventory.load().profiles if p.document["name"] == name]
        assert mark is not None
        return mark

    @property
    def tested(self) -> list[str]:
        return [server for _, server, _ in self.tester.tested]


def all_of(node: BackgroundTests) -> int:
    """How many profiles the node tests until nothing is due."""
    count = 0
    while asyncio.run(node.test_next()):
        count += 1
        assert count < 10
    return count


def test_each_profile_of_a_file_is_tested_once_and_marked() -> None:
    drill = Drill()
    drill.tester.refusing.add("smtp://10.0.0.2:25")
    drill.file(A, B)
    drill.clock.epoch += 1
    revision = drill.inventory.revision()
    node = drill.node()
    assert all_of(node) == 2
    assert drill.mark("a") == Mark(MarkState.PASSED, drill.clock.now(), "node 1", revision=1)
    failed = (FailedServer("smtp://10.0.0.2:25", "connect", "connection refused"),)
    assert drill.mark("b") == Mark(MarkState.FAILED, drill.clock.now(), "node 1", revision=1, failed=failed)
    assert drill.inventory.revision() == revision
    assert [(row["what"], row["by"]) for row in drill.inventory.rows[:2]] == [("server profile tested", "node 1")] * 2
    drill.clock.epoch += 1e6
    assert all_of(node) + all_of(drill.node()) == 0, "neither later nor at another start"
    assert drill.tested == ["smtp://10.0.0.1:25", "smtp://10.0.0.2:25"]


def test_a_changed_profile_is_tested_again_and_one_in_another_order_is_not() -> None:
    drill = Drill()
    drill.file(A, B)
    node = drill.node()
    all_of(node)
    drill.tester.tested.clear()
    drill.file({**A, "preference": "round-robin"}, {**B, "tls": "starttls-required"})
    assert all_of(node) == 1
    assert drill.tested == ["smtp://10.0.0.2:25"]


def test_what_is_forced_and_what_nobody_can_test_is_left_alone() -> None:
    drill = Drill()
    forced = Mark(MarkState.UNTESTED, 1.0, "key a (1)", "later", forced=True)
    drill.file(A, SCANNER, tested={"a": forced})
    assert all_of(drill.node()) == 0
    assert (drill.mark("a").reason, drill.mark("scanner").state) == ("later", MarkState.UNTESTED)


def test_stored_secrets_are_tested_too() -> None:
    drill = Drill()
    document = {**A, "username": "u", "password": {"set": True}, "tls": "starttls-required"}
    drill.file(document, secrets={"a": {"password": Secret("text", "canary")}})
    all_of(drill.node())
    ((profile, _, _),) = drill.tester.tested
    assert profile.password is not None
    assert drill.inventory.texts[profile.password.value] == "canary"


@pytest.mark.parametrize("ahead", [-1e6, -1.0, 0.0, 1.0, 1e6])
def test_of_two_nodes_one_tests_and_the_other_takes_over_what_it_saw_for_a_minute(ahead: float) -> None:
    """Wherever the clock stands of the node that has claimed."""
    drill = Drill()
    drill.file(A)
    one, two = drill.node("node 1"), drill.node("node 2")
    claim = Mark(MarkState.TESTING, drill.clock.now() + ahead, "node 1", revision=1, attempts=1)
    assert drill.inventory.mark("a", drill.mark("a"), claim)
    assert all_of(two) == 0
    drill.clock.steady += CLAIM_SECONDS - 0.1
    assert all_of(two) + all_of(one) == 0
    drill.clock.steady += 0.1
    assert all_of(two) == 1
    assert drill.mark("a").by == "node 2"


@dataclass
class Stuck(ScriptedTester):
    """Nothing is answered."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def test(self, *given: Any, **more: Any) -> tuple[StageResult, ...]:
        await super().test(*given, **more)
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError


def test_a_test_that_is_interrupted_is_audited_and_repeated_once() -> None:
    drill = Drill(tester=Stuck())
    drill.file(A)

    async def life() -> None:
        """Of a node, up to a clean stop in the middle of a test."""
        drill.tester.begun = asyncio.Event()
        node = drill.node()
        await node.test_next()
        drill.clock.steady += CLAIM_SECONDS
        task, begun = asyncio.create_task(node.test_next()), asyncio.create_task(drill.tester.begun.wait())
        await asyncio.wait((task, begun), return_when=asyncio.FIRST_COMPLETED)
        for each in (task, begun):
            each.cancel()
        await asyncio.gather(task, begun, return_exceptions=True)

    async def first() -> None:
        task = asyncio.create_task(drill.node().test_next())
        await drill.tester.begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(first())
    assert drill.mark("a").attempts == 1
    for _ in range(4):
        asyncio.run(life())
    assert len(drill.tested) == 2
    assert (drill.mark("a").state, drill.mark("a").reason) == (MarkState.FAILED, "interrupted")
    rows = [row["detail"] for row in drill.inventory.rows if row["what"] == "server profile tested"]
    assert rows == [{"server_profile": "a", "as_saved": True, "ok": None, "servers": []}] * 2
    drill.file({**A, "tls": "starttls-required"})
    assert drill.mark("a").due, "another revision"


def test_without_a_turn_nothing_is_claimed_and_it_is_tried_again() -> None:
    drill = Drill()
    drill.file(A)
    test = ProfileTest({ServiceType.SMTP: drill.tester}, turn_seconds=0.01)
    node = BackgroundTests(drill.inventory, test, drill.clock, "node 1")

    async def go() -> None:
        async with AsyncExitStack() as operators:
            for number in range(AT_ONCE):
                await operators.enter_async_context(test.turn(f"key {number}"))
            assert not await node.test_next()
            assert drill.mark("a").due
        assert await node.test_next()

    asyncio.run(go())
    assert drill.mark("a").state is MarkState.PASSED


@dataclass
class Meddled(ScriptedTester):
    """Something happens while the test runs."""

    drill: Drill | None = None
    change: dict[str, Any] = field(default_factory=dict)

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        stages = await super().test(profile, server, inquiry, seconds)
        if len(self.tested) == 1:
            assert self.drill is not None
            assert self.drill.mark("a").state is MarkState.TESTING
            self.drill.file({**A, **self.change})
        return stages


def test_the_result_for_a_profile_that_has_changed_meanwhile_is_not_taken() -> None:
    drill = Drill(tester=Meddled(change={"tls": "starttls-required"}))
    drill.tester.drill = drill
    drill.file(A)
    node = drill.node()
    assert asyncio.run(node.test_next())
    assert drill.mark("a").due
    assert all_of(node) == 1
    assert (drill.mark("a").state, drill.mark("a").revision) == (MarkState.PASSED, 2)


def test_a_change_that_needs_no_test_lets_the_result_count() -> None:
    drill = Drill(tester=Meddled(change={"preference": "round-robin"}))
    drill.tester.drill = drill
    drill.file(A)
    assert all_of(drill.node()) == 1
    assert drill.mark("a").state is MarkState.PASSED


def test_a_bug_is_told_once_and_not_every_minute() -> None:
    class Broken(ScriptedTester):
        async def test(self, *_: Any) -> tuple[StageResult, ...]:
            raise ZeroDivisionError

    drill = Drill(tester=Broken())
    drill.file(A)
    assert all_of(drill.node()) == 1
    drill.clock.epoch += 1e6
    assert all_of(drill.node()) == 0
    assert (drill.mark("a").state, drill.mark("a").reason) == (MarkState.FAILED, "internal trouble")
    (row,) = [row for row in drill.inventory.rows if row["what"] == "server profile tested"]
    assert row["detail"]["ok"] is None  # type: ignore[index]


class Locked(ScriptedTester):
    """Refuses logins."""

    reply = "535 5.7.8 no"

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        await super().test(profile, server, inquiry, seconds)
        return (failed(StageName.AUTH, 0.0, f"at AUTH: {self.reply}"),)


LOGIN = {**A, "username": "u", "password": {"env": "PASSWORD"}, "tls": "starttls-required"}


def flapping(drill: Drill, node: BackgroundTests, *profiles: dict[str, Any]) -> int:
    """How many tests there are while these contents are applied in turn."""
    before = len(drill.tested)
    for profile in profiles:
        drill.file(profile)
        drill.clock.steady += 30.0
        all_of(node)
    return len(drill.tested) - before


@pytest.mark.parametrize(("reply", "tests"), [("535 5.7.8 no", 1), ("534 5.7.9 no", 1), ("454 4.7.0 later", 6)])
def test_a_refused_login_is_not_tried_again_unasked_whatever_else_changes(reply: str, tests: int) -> None:
    drill = Drill(tester=Locked())
    drill.tester.reply = reply
    other = {**LOGIN, "tls_min": "1.3"}
    assert flapping(drill, drill.node(), *[LOGIN, other] * 3) == tests


def test_a_refused_login_is_tested_again_later_and_another_login_at_once() -> None:
    drill = Drill(tester=Locked())
    node = drill.node()
    other = {**LOGIN, "tls_min": "1.3"}
    assert flapping(drill, node, LOGIN, other) == 1
    drill.clock.steady += REFUSED_SECONDS - 60.1
    assert all_of(node) == 0
    drill.clock.steady += 30.1
    assert all_of(node) == 1
    changes = ({"username": "v"}, {"password": {"env": "OTHER"}}, {"servers": ["smtp://10.0.0.9:25"]})
    assert flapping(drill, node, *({**LOGIN, **change} for change in changes)) == 3
