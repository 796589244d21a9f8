"""For a mail whose delivery attempt began while its commit is under way: the final dot waits for it (ADR 0008)."""

import asyncio
from collections.abc import Awaitable
from functools import partial

from posthouse.ports import MayFinish


class CommitUnderWay:
    """At its end it is known whether a final dot may leave."""

    def __init__(self) -> None:
        self.has_ended = False
        """Well; an attempt whose commit fails is cancelled instead."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking: list[asyncio.Future[bool]] = []

    def may_finish(self, ask: MayFinish) -> bool | Awaitable[bool]:
        """As `ask`, but not before the end of the commit."""
        if self.has_ended:
            return ask()
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asking.append(answer)
        return answer

    def end(self, ask: MayFinish) -> None:
        """It was a success. Answers at once, without a task, where the lease is known to hold."""
        self.has_ended = True
        if not self.ended.done():
            self.ended.set_result(None)
        for answer in self._asking:
            match ask():
                case bool(allowed):
                    if not answer.done():  # else whoever asked has gone
                        answer.set_result(allowed)
                case later:
                    asyncio.ensure_future(later).add_done_callback(partial(_pass_on, answer))


def _pass_on(answer: "asyncio.Future[bool]", asked: "asyncio.Future[bool]") -> None:
    if not answer.done():
        answer.set_result(not asked.cancelled() and asked.exception() is None and asked.result())
