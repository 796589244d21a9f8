"""Commits an outcome, again and again while the disk refuses: what has happened must not be forgotten."""

import asyncio

from posthouse.ports import LeaseLost, Outcome, Spool
from posthouse.telemetry import logger

log = logger("recording")
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


async def record(spool: Spool, outcome: Outcome) -> bool:
    """True once it is durable; False if another worker has the mail now, so that it is void."""
    pause = FIRST_PAUSE
    while True:
        error = await _commit(spool, outcome)
        if error is None:
            return True
        if isinstance(error, LeaseLost):
            log.warning("lease lost, result void", id=outcome.mail.id)
            return False
        log.error("result not stored, trying again", id=outcome.mail.id, error=repr(error))
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _commit(spool: Spool, outcome: Outcome) -> "asyncio.Future[Exception | None]":
    future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def done(error: Exception | None) -> None:
        if not future.done():
            future.set_result(error)

    spool.record(outcome, done)
    return future
