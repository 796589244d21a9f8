"""A mail that loops, swallows memory, crashes its examiner or has it lie costs one process, and the next goes
through."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from posthouse.clients import examiner_pool
from posthouse.clients.examiner import IsolatedExaminer
from posthouse.clients.examiner_process import ExaminerProcess
from posthouse.core.examination import AddField
from posthouse.scan_ports import ExaminationFailed, ExaminerUnavailable
from support.examiners import DOUBLE, LIMITS, Taken, examiners, mail, open_descriptors, until
from support.servers import LOOPS, run
from support.waiting import eventually

POISON = {
    "loop": "took longer than 1 s",
    "swallow": "failed (it needed more memory than it may have)",
    "crash": "was ended by SIGSEGV",
    "exit": "ended with exit code 7",
    "raise": "failed (ValueError: two\ufffdlines \ufffd)",
    "recurse": "failed (RecursionError: maximum recursion depth exceeded)",
    "garbage": "answered more than it may",
    "huge-frame": "answered more than it may",
    "garbage-json": "answered what is no JSON",
    "deep-json": "answered what is no JSON",
    "no-kind": "answered another question",
    "wrong-answer": "answered another question",
    "two-answers": "answered more than it was asked",
    "hang-up": "was ended by SIGKILL",
    "unsealed": "answered with a memory file that is not sealed",
    "no-memory-file": "answered with what is no memory file",
    "short-file": "answered with a memory file of another size",
    "three-files": "answered with too many descriptors",
    "untold-file": "answered with octets that it did not tell of",
    "fill-memory-file": "failed (OSError: [Errno 27] File too large)",
    "beyond-mail": "answered a number out of bounds",
    "beyond-made": "answered a number out of bounds",
    "backwards": "answered a number out of bounds",
    "no-mail": "answered an examination that does not begin with the mail",
    "bad-hash": "answered what is no SHA-256",
    "many-items": "answered what is no list, or one that is too long",
}
SLOW = {"loop"}


def living(pid: int) -> bool:
    """Not as a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("subject", POISON)
@pytest.mark.parametrize("loop", LOOPS)
def test_poison_costs_one_process_and_says_what_happened(loop: str, subject: str) -> None:
    async def go() -> None:
        async with examiners(seconds=1 if subject in SLOW else 10, octets=1 << 28) as examiner:
            await examiner.examine(mail("a"), LIMITS)
            before = examiner.pool.processes
            with pytest.raises(ExaminationFailed) as failed:
                await examiner.examine(mail(subject), LIMITS)
            assert str(failed.value) == f"the examiner {POISON[subject]} over this mail"
            await examiner.examine(mail("a"), LIMITS)
            await until(lambda: len(before - examiner.pool.processes) == 1, "the end of one")

    run(loop, asyncio.sleep(0))
    descriptors = open_descriptors()
    run(loop, go())
    assert open_descriptors() == descriptors


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("edits-endlessly", "the examiner answered a content that is far too large over this mail"),
        ("crash", "the examiner was ended by SIGSEGV over this mail"),
        ("a", "the examiner answered a content that is not in wire form: there is a bare CR or LF"),
    ],
)
def test_an_edit_is_not_believed_either(subject: str, why: str) -> None:
    async def go() -> None:
        async with examiners() as examiner:
            examined = await examiner.examine(mail("a"), LIMITS)
            edit = IsolatedExaminer._edit
            with pytest.raises(ExaminationFailed) as failed:
                await edit(examiner, mail(subject, size=1000), LIMITS, [AddField("A", "b\nc")], (), Taken())
            assert str(failed.value) == why
            await examined.edit([AddField("A", "b")], (), Taken())

    asyncio.run(go())


def test_limits_are_in_force_and_nothing_is_inherited() -> None:
    os.environ["POSTHOUSE_CANARY"] = "canary"
    read, write = os.pipe()
    os.set_inheritable(write, True)

    async def go() -> None:
        async with examiners(octets=1 << 28) as examiner:
            with pytest.raises(ExaminationFailed) as failed:
                await examiner.examine(mail("limits"), LIMITS)
            limits = {"AS": 1 << 28, "FSIZE": 1 << 28, "NOFILE": 24, "NPROC": 0, "CORE": 0}
            await examiner.examine(mail("a"), LIMITS)
            await until(lambda: all(map(living, examiner.pool.processes)), "the end of the first")
            assert f"{limits} / 0 [0, 1, 2, 3]" in str(failed.value)  # 3 is that of the look itself
            group = os.getpgrp()
            assert {os.getpgid(pid) for pid in examiner.pool.processes} == {group}
            assert not any(b"canary" in environment(pid) for pid in examiner.pool.processes)

    try:
        asyncio.run(go())
    finally:
        del os.environ["POSTHOUSE_CANARY"]
        os.close(read)
        os.close(write)


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


PARENT = """
import asyncio, sys
sys.path[:0] = {path!r}
from support.examiners import LIMITS, examiners, mail, until
async def go():
    async with examiners(count=2, seconds=100) as examiner:
        await examiner.examine(mail("a"), LIMITS)
        working = asyncio.create_task(examiner.examine(mail("loop"), LIMITS))
        await examiner.examine(mail("a"), LIMITS)
        await until(lambda: len(examiner.pool.processes) == 2, "a busy one and an idle one")
        print(*examiner.pool.processes, flush=True)
        await working
asyncio.run(go())
"""


def test_children_end_with_their_parent_also_those_that_are_busy() -> None:
    code = PARENT.format(path=[path for path in sys.path if path])
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        try:
            assert len(children) == 2
            assert all(map(living, children))
            parent.send_signal(signal.SIGKILL)
            eventually(lambda: not any(map(living, children)), "the end of all examiners", 10.0)
        finally:
            parent.kill()


def test_poison_in_numbers_is_quick() -> None:
    async def go() -> float:
        async with examiners() as examiner:
            begun = time.monotonic()
            for _ in range(20):
                with pytest.raises(ExaminationFailed):
                    await examiner.examine(mail("crash"), LIMITS)
            return time.monotonic() - begun

    assert asyncio.run(go()) < 30.0
