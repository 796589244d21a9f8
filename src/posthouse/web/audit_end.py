"""Audit rows older than the setting `audit_days` go: at the start of the console process, then once a day."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from posthouse.ports import Clock
from posthouse.telemetry import logger

DAY = 86400.0
LOOK_SECONDS = 600.0
MOST = 1000
"""Of one transaction, so that nobody waits long for it."""

log = logger("audit")


class _Log(Protocol):
    """Of ports.InventoryStore."""

    def forget_audit(self, before: float, most: int) -> int: ...


class AuditEnd:
    """Of the shared database; several nodes may have one each. `days` is asked each time, 0 keeps rows for ever."""

    def __init__(self, inventory: _Log, days: Callable[[], int]) -> None:
        self._inventory, self._days = inventory, days
        self._done_at: float | None = None

    def look(self, now: float) -> bool:
        """Removes some of what is too old, once a day; True if there may be more."""
        days = self._days()
        if not days or (self._done_at is not None and 0 <= now - self._done_at < DAY):
            return False
        removed = self._inventory.forget_audit(now - days * DAY, MOST)
        if removed:
            log.info("audit rows removed", rows=removed, older_than_days=days)
        if removed < MOST:
            self._done_at = now
        return removed == MOST

    async def run(self, clock: Clock) -> None:
        """Until it is cancelled."""
        while True:
            more = False
            try:
                more = await asyncio.to_thread(self.look, clock.now())
            except Exception as error:
                log.error("shared database not reached", error=repr(error))
            await asyncio.sleep(1.0 if more else LOOK_SECONDS)
