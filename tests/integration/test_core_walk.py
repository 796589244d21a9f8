"""The walk over real connections to MetaDefender Cores that are busy, dead, lying, or come back."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from posthouse.clients.core_scanner import CoreScanner
from posthouse.clients.http_clients import HttpClients
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Verdict
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.scanners import Scanners
from posthouse.scan_ports import Asked, ProfileOutcome, ScanOrder
from support.flow import FakeClock
from support.http_servers import Request, Response, http_server
from support.scripted_scanner import ShortOctets, items
from support.servers import LOOPS, profile, run
from support.stateful_core import EICAR, Plan, StatefulCore
from support.waiting import eventually

Act = Callable[[Scanners, ServerProfile, FakeClock], Any]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def infected(name: str = "bad.com") -> Asked:
    (asked,) = items(name)
    item = replace(asked.item, sha256=hashlib.sha256(EICAR).hexdigest())
    return replace(asked, item=item, octets=ShortOctets(EICAR))


def walk(loop: str, servers: Sequence[str], act: Act) -> Any:
    async def whole() -> Any:
        clients, clock = HttpClients(lambda: ("", "")), FakeClock()
        made = Scanners({ServiceType.METADEFENDER_CORE: CoreScanner(clients)}, clock, lambda: 0.0)
        to = profile(*servers, type="metadefender-core")
        made.keep_only([to])
        try:
            return await act(made, to, clock)
        finally:
            await made.close()
            await clients.close()

    return run(loop, whole())


async def scan(made: Scanners, to: ServerProfile, *asked: Asked, seconds: float = 20.0) -> ProfileOutcome:
    return await made.scan(to, ScanOrder("mail-1"), asked, seconds)


def test_what_one_core_could_not_tell_the_next_does(loop: str) -> None:
    full = Plan(submit=Response(503, {"err": "Server is too busy. Try again later."}))
    first, second = StatefulCore({"b.txt": full}, key=""), StatefulCore(key="")

    async def act(made: Scanners, to: ServerProfile, clock: FakeClock) -> ProfileOutcome:
        return await scan(made, to, *items("a.txt", "b.txt"), replace(infected(), number=2))

    with http_server(first.answer) as one, http_server(second.answer) as two:
        outcome = walk(loop, (one.specification, two.specification), act)
    assert outcome.failure is None
    assert [attempt.failure for attempt in outcome.attempts] == [Failure.BUSY, None]
    verdicts = [outcome.results[n].scanned.found.verdict for n in range(3)]
    assert verdicts == [Verdict.CLEAN, Verdict.CLEAN, Verdict.BLOCKED]
    assert outcome.results[1].server == two.specification
    assert outcome.results[1].batch_id in second.batches


def test_a_core_that_hangs_leaves_time_to_the_next(loop: str) -> None:
    stuck, well = StatefulCore({"bad.com": Plan(stuck_at=99)}, key=""), StatefulCore(key="")

    async def act(made: Scanners, to: ServerProfile, clock: FakeClock) -> ProfileOutcome:
        return await scan(made, to, infected(), seconds=2.0)

    with http_server(stuck.answer) as one, http_server(well.answer) as two:
        outcome = walk(loop, (one.specification, two.specification), act)
    assert [attempt.failure for attempt in outcome.attempts] == [Failure.TIMEOUT, None]
    assert outcome.results[0].scanned.found.verdict is Verdict.BLOCKED


def test_a_core_that_dies_and_comes_back_never_lets_anything_through(loop: str) -> None:
    core = StatefulCore(key="")
    dead = [Response(500, {}), Response(200, octets=b"{", length=9, dies=True), Response(200, octets=b"<p>hello</p>")]
    down: list[Response] = []

    def respond(request: Request) -> Response:
        return down[len(core.files) % len(down)] if down else core.answer(request)

    async def act(made: Scanners, to: ServerProfile, clock: FakeClock) -> list[Verdict]:
        said = []
        for step in range(6):
            down[:] = [dead[step % 3]] if step in (1, 2, 3, 4) else []
            if step == 5:
                clock.at += 10
                made.servers.look()
                await asyncio.to_thread(eventually, made.servers.take_regained, "the probe found the server well")
            outcome = await scan(made, to, infected(f"bad{step}.e{step}"))
            said.append(outcome.results[0].scanned.found.verdict)
            if step == 4:
                assert outcome.attempts[0].passed_over
        return said

    with http_server(respond) as server:
        said = walk(loop, (server.specification,), act)
    assert said == [Verdict.BLOCKED, *[Verdict.FAILED] * 4, Verdict.BLOCKED]
