"""Warns in the log of certificates that end: at the start of the console process, then once a day."""

import asyncio

from posthouse.digital_id.authorities import AuthoritiesUnusable
from posthouse.digital_id.endings import endings
from posthouse.ports import Clock
from posthouse.telemetry import logger

LOOK_SECONDS = 600.0
DAY = 86400.0

log = logger("certificates")


class ExpiryWatch:
    """Of one data dir. A certificate that has reached the next of 30, 14 and 3 days is told of at once."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self._told: dict[str, tuple[int, float]] = {}
        """By fingerprint: of which stage and when."""
        self._fault = ""

    def look(self, now: float) -> None:
        """Cheap; to be called more often than once a day."""
        try:
            found = endings(self._data_dir)
        except Exception as error:  # the watch is for what others have put there: it goes on, whatever that is
            fault = str(error) if isinstance(error, AuthoritiesUnusable | OSError) else repr(error)
            if fault != self._fault:
                self._fault = fault
                log.error("certificates of this node cannot be read", error=fault)
            return
        self._fault = ""
        for ending in found:
            stage, sha256 = ending.stage(now), ending.facts.sha256
            before = self._told.get(sha256)
            if stage is None or (before is not None and before[0] == stage and now - before[1] < DAY):
                continue
            self._told[sha256] = (stage, now)
            tell = log.warning if stage > 3 else log.error
            tell(
                "certificate expires" if stage else "certificate has expired",
                what=ending.warning(now),
                days_left=ending.facts.days_left(now),
                sha256=sha256,
                remedy=ending.remedy,
            )

    async def run(self, clock: Clock) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.to_thread(self.look, clock.now())
            await asyncio.sleep(LOOK_SECONDS)
