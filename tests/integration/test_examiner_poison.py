"""A mail that loops, swallows memory, crashes its examiner or has it lie costs one process, and the next goes
through."""

import asyncio
import time

import pytest

from posthouse.clients.examiner import IsolatedExaminer
from posthouse.core.examination import AddField
from posthouse.scan_ports import ExaminationFailed
from support.examiners import LIMITS, Taken, examiners, mail, open_descriptors, until
from support.servers import LOOPS, run

POISON = {
    "loop": "took longer than 2 s",
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
    "part-of-mail": "answered an examination that does not begin with the mail",
    "no-mail": "answered an examination that does not begin with the mail",
    "bad-hash": "answered what is no SHA-256",
    "many-items": "answered what is no list, or one that is too long",
}
SLOW = {"loop"}


@pytest.mark.parametrize("subject", POISON)
@pytest.mark.parametrize("loop", LOOPS)
def test_poison_costs_one_process_and_says_what_happened(loop: str, subject: str) -> None:
    async def go() -> None:
        async with examiners(seconds=2 if subject in SLOW else 10, octets=1 << 28) as examiner:
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


def test_poison_in_numbers_is_quick() -> None:
    async def go() -> float:
        async with examiners() as examiner:
            begun = time.monotonic()
            for _ in range(20):
                with pytest.raises(ExaminationFailed):
                    await examiner.examine(mail("crash"), LIMITS)
            return time.monotonic() - begun

    assert asyncio.run(go()) < 30.0
