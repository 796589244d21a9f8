"""Answers that take long to work out: few at once, in threads of their own, so that nothing else waits for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from threading import Semaphore
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from posthouse.web.problems import Problem

T = TypeVar("T")

AT_ONCE = 2
"""Of a node. All threads of a process share one processor, and an inventory of thousands of rules keeps it busy."""
RETRY_SECONDS = 5
TOO_MANY: dict[int | str, dict[str, object]] = {
    429: {
        "description": f"{AT_ONCE} explanations or replays are under way on this node; see Retry-After",
        "content": {"application/problem+json": {}},
    }
}
"""For OpenAPI."""


class Heavy:
    """Threads for such answers."""

    def __init__(self) -> None:
        self._free = Semaphore(AT_ONCE)
        self._threads = ThreadPoolExecutor(AT_ONCE, "heavy")

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises Problem (429) while as many as may be are under way."""
        if not self._free.acquire(blocking=False):
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{AT_ONCE} explanations or replays are under way; ask again in {RETRY_SECONDS} seconds.",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        under_way = self._threads.submit(work)
        # The thread's own end, not that of a request that may be given up before.
        under_way.add_done_callback(lambda _: self._free.release())
        return await asyncio.wrap_future(under_way)


async def _heavy(request: Request) -> Heavy:
    return cast(Heavy, request.app.state.heavy)


HeavyWork = Annotated[Heavy, Depends(_heavy)]
"""Dependency: those of the app."""
