"""The examiners of a worker: so many work at a time, and one more is kept warm. Each gets one mail at a time.

One that fails over a mail is ended and another takes its place; so is one that has had many mails, or has grown. If
none can be started, the next try waits, longer each time, and who asks meanwhile is told so at once.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from posthouse.clients.examined import MadeOctets
from posthouse.clients.examiner_process import Ended, ExaminerProcess, close_all
from posthouse.core.limits import Limits
from posthouse.examiner import answers
from posthouse.examiner.frames import Frame, OutOfForm, document_of
from posthouse.scan_ports import ExaminationFailed, ExaminerUnavailable

MAILS = 500
"""That one examiner gets."""
GROWN_OCTETS = 128 * 1024 * 1024
"""Of memory in use between two mails: such an examiner has kept something."""
_LOOK_MAILS = 20
"""Between two looks at that; one is also due after a large mail."""
LARGE_OCTETS = 1024 * 1024
_START_SECONDS = 30.0
_PAUSE_SECONDS = (1.0, 60.0)
_END_SECONDS = 10.0
_QUICK_OCTETS = 256 * 1024
"""An answer that is longer is read in a thread: the event loop is not held up."""
_MOST_OCTETS = 1 << 40
T = TypeVar("T")
Read = Callable[[object, MadeOctets], T]
"""Makes a value of a document and what was made with it. Raises OutOfForm; the octets are closed then."""


class ExaminerPool:
    """Of one event loop."""

    def __init__(self, limits: Limits, command: Sequence[str], mails: int = MAILS) -> None:
        self._limits = limits
        self._command = (*command, str(limits.examination_octets))
        self._mails = mails
        self._slots = asyncio.Semaphore(limits.examinations)
        self._idle: list[ExaminerProcess] = []
        self._all: set[ExaminerProcess] = set()
        """Those whose end the system has not told yet."""
        self._starting: asyncio.Task[None] | None = None
        self._faults = 0
        """Starts that went wrong, in a row."""
        self._fault = ""
        self._not_before = 0.0
        self._closed = False

    @property
    def processes(self) -> frozenset[int]:
        """Ids of all that live."""
        return frozenset(child.pid for child in self._all)

    async def ask(self, question: Frame, octets: int, read: Read[T]) -> T:
        """What `read` makes of the answer to a question about a mail of so many octets. An answer that is none of
        ours costs the examiner its life. Raises ExaminationFailed, ExaminerUnavailable."""
        async with self._slots:
            child = await self._take()
            try:
                async with asyncio.timeout(self._limits.examination_seconds):
                    answer = await child.ask(question)
                if len(answer.document) <= _QUICK_OCTETS:
                    result = _result(answer, read)
                else:
                    result = await asyncio.to_thread(_result, answer, read)
            except (TimeoutError, Ended, OutOfForm, _Failed) as error:
                self._end(child)
                self._check_open()
                raise ExaminationFailed(self._sentence(error)) from error
            except BaseException:
                self._end(child)
                raise
            self._give_back(child, octets)
            return result

    async def close(self) -> None:
        """Safe to call twice."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
        for child in self._all:
            child.kill()
        try:
            async with asyncio.timeout(_END_SECONDS):
                for child in list(self._all):
                    await child.gone()
        except TimeoutError:
            pass  # the system keeps it; it has been told to end

    async def _take(self) -> ExaminerProcess:
        """One that waits for a mail. Raises ExaminerUnavailable."""
        while True:
            self._check_open()
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    self._keep_spare()
                    return child
            if self._starting is None:
                if asyncio.get_running_loop().time() < self._not_before:
                    raise ExaminerUnavailable(self._fault)
                self._starting = asyncio.create_task(self._start())
            await asyncio.wait([self._starting])

    def _give_back(self, child: ExaminerProcess, octets: int) -> None:
        child.mails += 1
        look = octets > LARGE_OCTETS or child.mails % _LOOK_MAILS == 0
        worn = child.mails >= self._mails or (look and child.resident_octets() > GROWN_OCTETS)
        if self._closed or worn:
            self._end(child)
        else:
            self._idle.append(child)

    def _end(self, child: ExaminerProcess) -> None:
        child.kill()
        self._keep_spare()

    def _keep_spare(self) -> None:
        """One waits for the next mail, if there may be one more."""
        living = sum(child.alive for child in self._all)
        if (
            not self._idle
            and not self._closed
            and self._starting is None
            and living <= self._limits.examinations
            and asyncio.get_running_loop().time() >= self._not_before
        ):
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        child: ExaminerProcess | None = None
        try:
            child = ExaminerProcess(self._command, self._all.discard)
            self._all.add(child)
            async with asyncio.timeout(_START_SECONDS):
                answer = await child.ready()
            _result(answer, _read_ready)
        except Exception as error:  # whatever it is: without the pause the next mail would try at once
            self._could_not_start(error)
        else:
            self._faults = 0
            self._idle.append(child)
            child = None
        finally:
            self._starting = None
            if child is not None:
                child.kill()

    def _could_not_start(self, error: Exception) -> None:
        first, longest = _PAUSE_SECONDS
        pause = min(longest, first * 2 ** min(self._faults, 10))
        self._faults += 1
        self._not_before = asyncio.get_running_loop().time() + pause
        match error:
            case TimeoutError():
                why = f"it was not ready within {_START_SECONDS:g} s"
            case OSError(strerror=str(why)):
                pass
            case OutOfForm():
                why = f"it answered {error}"
            case Ended() | _Failed():
                why = f"it {error}"
            case _:
                why = f"{type(error).__name__}: {error}"
        self._fault = f"no examiner can be started: {why}"

    def _check_open(self) -> None:
        if self._closed:
            raise ExaminerUnavailable("the examiners have been ended")

    def _sentence(self, error: Exception) -> str:
        match error:
            case TimeoutError():
                return f"the examiner took longer than {self._limits.examination_seconds} s over this mail"
            case OutOfForm():
                return f"the examiner answered {error} over this mail"
            case _:
                return f"the examiner {error} over this mail"


class _Failed(Exception):
    """It says so itself; the text completes "the examiner ..."."""


def _result(answer: Frame, read: Read[T]) -> T:
    made = MadeOctets(0, b"")
    left = answer.descriptors
    try:
        document = document_of(answer)
        match document:
            case {"failed": why}:
                raise _Failed(f"failed ({answers.text(why, answers.SENTENCE_LENGTH)})")
            case {"made": [True, size]} if not answer.descriptors and size == len(answer.band):
                made = MadeOctets(len(answer.band), answer.band)
            case {"made": [False, size]} if len(answer.descriptors) == 1 and not answer.band:
                made = MadeOctets.of_descriptor(answer.descriptors[0], answers.number(size, _MOST_OCTETS))
                left = ()
            case {"made": _}:
                raise OutOfForm("with other octets than it told")
            case _ if answer.descriptors or answer.band:
                raise OutOfForm("with octets that it did not tell of")
        return read(document, made)
    except BaseException:
        made.close()
        close_all(left)
        raise


def _read_ready(document: object, made: MadeOctets) -> None:
    if document != {"ready": True}:
        raise OutOfForm("before it was asked")
