"""One examiner: a child process and our end of its socket. It is asked one thing at a time; whatever goes wrong
ends it.

Works on both event loops. Nothing here waits without the caller's deadline.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence

from posthouse.examiner import frames
from posthouse.examiner.frames import Frame, FrameReader, OutOfForm

_INHERITED = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
"""Of the environment: where Python finds itself and us. No secrets."""
_LAST_SECONDS = 1.0
"""From the end of its socket to its own."""
_PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


class Ended(Exception):
    """It is dead, or was ended for what it said; the text completes "the examiner ..."."""


class ExaminerProcess:
    """Started at once; it ends with the thread that starts it, which is to be the main thread of the worker."""

    def __init__(self, command: Sequence[str], gone: Callable[["ExaminerProcess"], None]) -> None:
        """`gone` is told when the system has given it up. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self.mails = 0
        """That it has been given."""
        self._waiter: asyncio.Future[Frame] | None = None
        self._why = ""
        """We ended it for this."""
        self._reader = FrameReader()
        self._last_word: asyncio.TimerHandle | None = None
        self._tell_gone = gone
        self._gone = asyncio.Event()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in _INHERITED if name in os.environ},
                )
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        self._end = ours
        self._open = True
        try:
            self._end_of_process = os.pidfd_open(self._process.pid)
        except BaseException:
            ours.close()
            self._process.kill()
            self._process.wait()
            raise
        self._loop.add_reader(self._end, self._read)
        self._loop.add_reader(self._end_of_process, self._ended)

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """It may be asked."""
        return self._open and not self._gone.is_set()

    def resident_octets(self) -> int:
        """Of its memory, as the system says; 0 if it is gone."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb", buffering=0) as file:
                return int(file.read(256).split()[1]) * _PAGE_OCTETS
        except (OSError, IndexError, ValueError):
            return 0

    async def ready(self) -> Frame:
        """Its first word. Raises Ended."""
        self._waiter = self._loop.create_future()
        self._check_gone()
        return await self._waited()

    async def ask(self, question: Frame) -> Frame:
        """Its answer; the caller has its descriptors. Raises Ended. Cancelled, `kill` is due."""
        self._waiter = self._loop.create_future()
        try:
            if not self.alive:
                raise OSError
            if left := frames.send_some(self._end, question):
                await self._loop.sock_sendall(self._end, left)
        except OSError:
            self._check_gone()
        return await self._waited()

    async def _waited(self) -> Frame:
        waiter = self._waiter
        assert waiter is not None
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.done() and waiter.exception() is None:
                close_all(waiter.result().descriptors)
            raise
        finally:
            self._waiter = None

    def kill(self) -> None:
        """It ends now; its socket is closed. Safe to call twice."""
        self._leave()
        self._process.kill()

    async def gone(self) -> None:
        """Returns when the system has given it up."""
        await self._gone.wait()

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._end)
            self._end.close()
            close_all(self._reader.leave())

    def _read(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        """Whether there may be more to read."""
        try:
            octets, descriptors = frames.receive(self._end)
            if octets:
                self._heard(octets, descriptors)
                return True
        except (BlockingIOError, InterruptedError):
            return False
        except OutOfForm as error:
            self._why = f"answered {error}"
            self.kill()
            return False
        except OSError:
            pass
        # It is on its way out, and how it ends is told soon; or else it has closed its socket only.
        self._leave()
        self._last_word = self._loop.call_later(_LAST_SECONDS, self.kill)
        return False

    def _heard(self, octets: bytes, descriptors: list[int]) -> None:
        if self._waiter is None or self._waiter.done():
            close_all(descriptors)
            raise OutOfForm("more than it was asked")
        if (frame := self._reader.feed(octets, descriptors)) is not None:
            self._waiter.set_result(frame)

    def _ended(self) -> None:
        """The process is dead. What it said before is still read: why it could not start may be among it."""
        self._loop.remove_reader(self._end_of_process)
        os.close(self._end_of_process)
        code = self._process.wait()
        while self._open and self._read_once():
            pass
        self._leave()
        if self._last_word is not None:
            self._last_word.cancel()
        self._why = self._why or _said_of(code)
        self._gone.set()
        self._check_gone()
        self._tell_gone(self)

    def _check_gone(self) -> None:
        if self._gone.is_set() and self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Ended(self._why))


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _said_of(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
