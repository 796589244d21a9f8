"""One mail at one MetaDefender Core: a batch, its items a few at a time, each asked for until its result is there.

Questions come further apart the longer a result takes: too many of them slow a Core. A result that has expired, or a
submission that Core knows nothing of, is submitted once more. The first fault of the server ends all items.
"""

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

from posthouse.clients import core_requests
from posthouse.clients.http_client import HttpClient, HttpRequest, NoAnswer, NoConnection, Sink, TlsFailed, TooSlow
from posthouse.clients.temporary_octets import TemporaryOctets
from posthouse.core import core_answer
from posthouse.core.core_answer import Decided, Gone, ServerFault, Unfinished
from posthouse.core.examination import ItemKind
from posthouse.core.http_ladder import MOST_OCTETS, Answer
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import Asked, Scanned, ScanOrder

AT_ONCE = 4
"""Items of one mail."""
FIRST_WAIT, LONGEST_WAIT, GROWTH = 0.05, 1.0, 1.6
"""Seconds before a result is asked for, and how they grow."""
QUESTION_SECONDS = 15.0
"""For the answer to a question, which is never long under way."""
SUBMISSIONS = 2
"""Of one item."""
SANITIZED_OCTETS = 256 * 1024 * 1024
"""Of one sanitized file."""


class Stopped(Exception):
    """The server is at fault."""

    def __init__(self, fault: ServerFault) -> None:
        super().__init__(fault.why)
        self.fault = fault


class CoreBatch:
    """`id` is the batch's, empty until it is opened; `whole`: every item has its result."""

    def __init__(
        self, client: HttpClient, key: Mapping[str, str], order: ScanOrder, seconds: float, folder: str | None
    ) -> None:
        """`key`: the header field of the API key, if there is one; `folder` for sanitized files."""
        self._client, self._key, self._order, self._folder = client, key, order, folder
        self._loop = asyncio.get_running_loop()
        self._seconds, self._end = seconds, self._loop.time() + seconds
        self.id = ""
        self.whole = False

    async def run(self, items: Sequence[Asked], results: MutableMapping[int, Scanned]) -> ServerFault | None:
        """Adds results as they come. Returns the fault that has ended it before its end."""
        faults: list[ServerFault] = []
        try:
            opened = core_answer.batch_id(await self._send(core_requests.open_batch(self._key, self._order)))
            if isinstance(opened, ServerFault):
                return opened
            self.id = opened
            remaining = iter(items)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(AT_ONCE, len(items))):
                    group.create_task(self._work(remaining, results))
        except* Stopped as stopped:
            faults += [each.fault for each in stopped.exceptions if isinstance(each, Stopped)]
        self.whole = not faults
        return faults[0] if faults else None

    async def _work(self, remaining: Iterator[Asked], results: MutableMapping[int, Scanned]) -> None:
        """The items are shared between all that work."""
        for asked in remaining:
            results[asked.number] = await self._scanned(asked)

    async def _scanned(self, asked: Asked) -> Scanned:
        if not asked.octets.size:
            return Scanned(Found(Verdict.CLEAN, reason="it is empty"))  # Core answers 422
        for _ in range(SUBMISSIONS):
            try:
                answer = await self._send(
                    core_requests.submit(self._key, self._order, self.id, asked), self._left(), MOST_OCTETS
                )
            except ContentUnreadable as error:
                return Scanned(core_answer.failed(Failure.PROCESSING, str(error)).found)
            submitted = core_answer.data_id(answer)
            if isinstance(submitted, ServerFault):
                raise Stopped(submitted)
            decided = submitted if isinstance(submitted, Decided) else await self._awaited(submitted, asked)
            if decided is not None:
                return await self._fetched(decided) if decided.sanitized else Scanned(decided.found)
        return Scanned(core_answer.failed(Failure.PROCESSING, "the server has lost the result twice").found)

    async def _awaited(self, data_id: str, asked: Asked) -> Decided | None:
        """None if the server knows nothing of it."""
        sanitize = self._order.sanitize and asked.item.kind is ItemKind.PART
        wait = FIRST_WAIT
        while True:
            await asyncio.sleep(min(wait, self._left()))
            wait = min(wait * GROWTH, LONGEST_WAIT)
            answer = await self._send(core_requests.fetch_result(self._key, data_id))
            match core_answer.result(answer, data_id, asked.item.sha256, sanitize=sanitize):
                case Unfinished():
                    continue
                case Gone():
                    return None
                case ServerFault() as fault:
                    raise Stopped(fault)
                case Decided() as decided:
                    return decided

    async def _fetched(self, decided: Decided) -> Scanned:
        """The sanitized file in the place of the item's octets."""
        found = decided.found
        try:
            octets = TemporaryOctets(self._folder)
            request = core_requests.fetch_sanitized(self._key, found.data_id)
            answer = await self._send(request, self._left(), SANITIZED_OCTETS, octets.write)
        except OSError as error:
            return self._not_sanitized(found, f"the sanitized file cannot be kept here: {error.strerror or error}")
        match core_answer.sanitized_file(answer):
            case ServerFault() as fault:
                raise Stopped(fault)
            case Found() as refused:
                return self._not_sanitized(found, refused.reason)
        if not octets.size:
            return self._not_sanitized(found, "the sanitized file is empty")
        name = core_answer.sanitized_name(answer.fields.get("content-disposition", ""))
        clean = Found(Verdict.SANITIZED, data_id=found.data_id, engines=found.engines)
        return Scanned(clean, octets, name)

    @staticmethod
    def _not_sanitized(found: Found, why: str) -> Scanned:
        told = Found(Verdict.FAILED, "", why, Failure.SANITIZE, found.data_id, found.engines)
        return Scanned(told)

    async def _send(
        self,
        request: HttpRequest,
        seconds: float = QUESTION_SECONDS,
        most_octets: int = core_answer.RESULT_OCTETS,
        sink: Sink | None = None,
    ) -> Answer:
        """Raises Stopped, and what the body or the sink raise."""
        left = self._left()
        if left <= 0:
            raise Stopped(ServerFault(f"no result within {round(self._seconds, 1):g} s", Failure.TIMEOUT))
        try:
            return await self._client.send(request, min(seconds, left), most_octets, sink)
        except TooSlow as error:
            what = f"no answer to {request.method} within {round(min(seconds, left), 1):g} s"
            raise Stopped(ServerFault(what, Failure.TIMEOUT)) from error
        except (NoAnswer, NoConnection, TlsFailed) as error:
            raise Stopped(ServerFault(str(error), Failure.UNREACHABLE)) from error

    def _left(self) -> float:
        return max(0.0, self._end - self._loop.time())
