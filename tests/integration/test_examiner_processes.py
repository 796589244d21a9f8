"""How many examiners there are, how they end, and what becomes of those that cannot be started."""

import asyncio
import sys
from collections.abc import Callable, Sequence

import pytest

from posthouse.clients import examiner_pool
from posthouse.clients.examiner_process import ExaminerProcess
from posthouse.scan_ports import ExaminationFailed, ExaminerUnavailable
from support.examiners import DOUBLE, LIMITS, examiners, living, mail, open_descriptors, until
from support.servers import LOOPS, run


@pytest.mark.parametrize("loop", LOOPS)
def test_200_mails_leave_nothing_behind_and_one_examiner_gets_so_many(loop: str) -> None:
    used: set[int] = set()

    async def go() -> None:
        async with examiners(count=2, mails=50) as examiner:
            for number in range(200):
                examined = await examiner.examine(mail("a", 10 if number % 2 else 300_000), LIMITS)
                examined.close()
                used.update(examiner.pool.processes)
                assert len(examiner.pool.processes) <= 4  # two at work, a spare, and one that is ending

    run(loop, asyncio.sleep(0))
    before = open_descriptors()
    run(loop, go())
    assert open_descriptors() == before
    assert 4 <= len(used) <= 6
    assert not any(map(living, used))


@pytest.mark.parametrize("loop", LOOPS)
def test_so_many_at_a_time(loop: str) -> None:
    async def go() -> None:
        async with examiners(count=2) as examiner:
            most = 0

            async def one() -> None:
                nonlocal most
                (await examiner.examine(mail("a"), LIMITS)).close()
                most = max(most, len(examiner.pool.processes))

            await asyncio.gather(*(one() for _ in range(20)))
            assert 2 <= most <= 3

    run(loop, go())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [0, 2_000_000])
def test_who_is_cancelled_costs_one_process(loop: str, size: int) -> None:
    async def go() -> None:
        async with examiners() as examiner:
            await examiner.examine(mail("a"), LIMITS)
            before = examiner.pool.processes
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await examiner.examine(mail("loop", size=size), LIMITS)
            await examiner.examine(mail("a"), LIMITS)
            await until(lambda: len(before - examiner.pool.processes) == 1, "the end of one")

    run(loop, asyncio.sleep(0))
    descriptors = open_descriptors()
    run(loop, go())
    assert open_descriptors() == descriptors


def test_cancelled_in_the_moment_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = ExaminerProcess._heard

    async def go() -> None:
        async with examiners() as examiner:
            await examiner.examine(mail("a"), LIMITS)
            await until(lambda: len(examiner.pool._idle) == 2, "a spare")
            descriptors = open_descriptors()
            asking = asyncio.create_task(examiner.examine(mail("a", 300_000), LIMITS))

            def cancel(process: ExaminerProcess, octets: bytes, descriptors: list[int]) -> None:
                assert descriptors
                heard(process, octets, descriptors)
                asking.cancel()

            with monkeypatch.context() as patched:
                patched.setattr(ExaminerProcess, "_heard", cancel)
                await asyncio.wait([asking])
            assert asking.cancelled()
            await until(lambda: len(examiner.pool.processes) == 1, "the end of one")
            assert open_descriptors() == descriptors - 2  # its socket and its end

    asyncio.run(go())


def test_a_spare_is_kept_also_after_poison() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            await examiner.examine(mail("a"), LIMITS)
            await until(lambda: len(examiner.pool._idle) == 2, "a spare")
            for _ in range(3):
                with pytest.raises(ExaminationFailed):
                    await examiner.examine(mail("crash"), LIMITS)
                await until(lambda: len(examiner.pool._idle) == len(examiner.pool.processes) == 1, "a spare")

    asyncio.run(go())


def test_cancelled_at_any_moment() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            for turns in range(40):
                task = asyncio.create_task(examiner.examine(mail("a", 300_000), LIMITS))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            (await examiner.examine(mail("a"), LIMITS)).close()

    asyncio.run(go())
    before = open_descriptors()
    asyncio.run(go())
    assert open_descriptors() == before


def test_close_tells_those_that_wait() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            await examiner.examine(mail("a"), LIMITS)
            tasks = [asyncio.create_task(examiner.examine(mail("loop"), LIMITS)) for _ in range(3)]
            await asyncio.sleep(0)
            await examiner.close()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(ended, ExaminerUnavailable)

    asyncio.run(go())


def test_one_that_has_grown_is_ended() -> None:
    async def go() -> None:
        async with examiners() as examiner:
            await examiner.examine(mail("a"), LIMITS)
            before = examiner.pool.processes
            await examiner.examine(mail("grow", size=2_000_000), LIMITS)
            await until(lambda: len(before - examiner.pool.processes) == 1, "the end of one")

    asyncio.run(go())


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ((*DOUBLE, "fail"), "no examiner can be started: it ended with exit code 3"),
        (("/nonexistent/python",), "no examiner can be started: No such file or directory"),
        (
            (sys.executable, "-c", "import os; os.write(0, b'x' * 100)"),
            "no examiner can be started: it answered more than it may",
        ),
    ],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_what_cannot_be_started_is_tried_less_and_less_often(
    loop: str, command: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = 0

    def count(command: Sequence[str], gone: Callable[[ExaminerProcess], None]) -> ExaminerProcess:
        nonlocal started
        started += 1
        return ExaminerProcess(command, gone)

    monkeypatch.setattr(examiner_pool, "ExaminerProcess", count)

    async def go() -> None:
        async with examiners(command, count=2) as examiner:
            for _ in range(20):
                with pytest.raises(ExaminerUnavailable) as failed:
                    await examiner.examine(mail("a"), LIMITS)
                assert str(failed.value) == why
            assert started == 1
            examiner.pool._not_before = 0.0
            with pytest.raises(ExaminerUnavailable):
                await examiner.examine(mail("a"), LIMITS)
            assert started == 2
            left = examiner.pool._not_before - asyncio.get_running_loop().time()
            assert 1.0 < left <= 2.0

    run(loop, go())
