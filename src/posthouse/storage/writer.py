"""The one thread that commits mail: group commit.

While a commit runs the next batch gathers, and then for a few turns of the loop while each brings more; there is no
timer. A transaction is filled on the loop where that waits for nothing (`MailStore.stage`), and always committed in
the thread, which waits for the disk. After it the callbacks of the whole batch run on the event loop, in order, by
one wake-up.
"""

import asyncio
from itertools import chain
from queue import SimpleQueue
from threading import Thread

from posthouse.storage.units import MailUnit

TURNS = 8
"""Of the loop, that a commit waits at most for more to share it."""


class GroupWriter:
    """Takes units on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._gathering: list[MailUnit] = []
        self._busy = False
        self._closing: asyncio.Future[None] | None = None
        self._batches: SimpleQueue[list[list[MailUnit]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="mail-writer", daemon=True)
        self._thread.start()

    def submit(self, unit: MailUnit) -> None:
        """All that is submitted in one turn of the loop, or while a commit runs, shares one commit."""
        if self._closing is not None:
            raise RuntimeError("the spool is closed")
        self._gathering.append(unit)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._gather, 0, TURNS)

    def _gather(self, before: int, turns: int) -> None:
        """Lets turns of the loop pass while each brings more: under load commits are few and large."""
        if turns and len(self._gathering) > before:
            self._loop.call_soon(self._gather, len(self._gathering), turns - 1)
        else:
            self._start()

    def _start(self) -> None:
        batch, self._gathering = _by_store(self._gathering), []
        for units in batch:
            units[0].store.stage(units)
        self._batches.put(batch)
        if len(batch) == 1 and len(batch[0]) == 1:
            batch[0][0].alone()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            for units in batch:
                units[0].store.run(units)
            try:
                self._loop.call_soon_threadsafe(self._settle, batch)
            except RuntimeError:
                return  # the loop is gone, and with it whoever waited

    def _settle(self, batch: list[list[MailUnit]]) -> None:
        for unit in chain.from_iterable(batch):
            try:
                unit.settle()
            except Exception as error:
                self._loop.call_exception_handler({"message": "callback after a commit failed", "exception": error})
        if self._gathering:
            self._loop.call_soon(self._gather, len(self._gathering), TURNS)
            return
        self._busy = False
        if self._closing is not None:
            self._closing.set_result(None)

    async def close(self) -> None:
        """Ends the thread when all that was submitted is done."""
        if self._closing is None:
            self._closing = self._loop.create_future()
            if not self._busy:
                self._closing.set_result(None)
            await self._closing
            self._batches.put(None)
            self._thread.join()


def _by_store(batch: list[MailUnit]) -> list[list[MailUnit]]:
    """The units of each store, in their order."""
    first = batch[0].store
    if all(unit.store is first for unit in batch):
        return [batch]
    found: dict[int, list[MailUnit]] = {}
    for unit in batch:
        found.setdefault(id(unit.store), []).append(unit)
    return list(found.values())
