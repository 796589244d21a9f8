"""A worker's live rows: what it knows of each server, for people (design section 5, "Live state").

Looked at once a second, so that mails cost nothing more than the counters they move anyway.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from posthouse.core.profile import ServerProfile
from posthouse.ports import Clock, ServerRows, ServerState

GAP_SECONDS = 15.0
"""After a longer pause others may have taken the worker for dead and removed its rows: all are written again."""
DRIFT_SECONDS = 1.0
"""How far the wall clock may go off before the times in the rows follow it; else every row would change for it."""


FactsOf = Callable[[ServerProfile, str, Callable[[float], float | None]], Mapping[str, object] | None]
"""What is known of a server of a profile, given what makes epoch seconds of the worker's; None: nothing is told."""


class LiveRows:
    """What there is to write of a worker's servers, and what stands in the database."""

    def __init__(self, worker: str, facts: FactsOf, clock: Clock) -> None:
        self._worker, self._facts_of, self._clock = worker, facts, clock
        self._written: dict[tuple[str, str], Mapping[str, object]] | None = None
        """None: nobody knows what an earlier process left there."""
        self._looked_at = clock.monotonic()
        self._offset = clock.now() - clock.monotonic()

    def look(self, profiles: Iterable[ServerProfile]) -> ServerRows:
        """The rows that differ from those written."""
        now, looked_at = self._clock.now(), self._clock.monotonic()
        if abs(now - looked_at - self._offset) > DRIFT_SECONDS:
            self._offset = now - looked_at
        paused, self._looked_at = looked_at - self._looked_at > GAP_SECONDS, looked_at
        facts = {
            (profile.name, server): found
            for profile in profiles
            for server in profile.server_texts
            if (found := self._facts_of(profile, server, self._epoch)) is not None
        }
        written = self._written
        if written is None or paused or not written.keys() <= facts.keys():
            written = None
        rows = tuple(
            [
                ServerState(self._worker, name, server, now, fact)
                for (name, server), fact in facts.items()
                if written is None or written.get((name, server)) != fact
            ]
        )
        return ServerRows(rows, all=written is None)

    def written(self, rows: ServerRows) -> None:
        """They are committed."""
        if rows.all or self._written is None:
            self._written = {}
        self._written |= {(row.profile, row.server): row.facts for row in rows.rows}

    def _epoch(self, at: float) -> float | None:
        return round(at + self._offset, 3) if isfinite(at) else None
