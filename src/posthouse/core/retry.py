"""When a recipient that was not relayed is tried again, and when its delay is told.

| Failed tries, this one included | Next try after |
| --- | --- |
| 1 | 1 minute |
| 2 | 5 minutes |
| 3 | 15 minutes |
| 4 | 30 minutes |
| 5 and more | 1 hour |
| any, `lifetime_seconds` (5 days) after receipt | none: failure DSN, failed email |

The last try comes at the end of the lifetime itself. Shorter than RFC 5321 section 4.5.4.1 on purpose: the next
hops are the operator's own. A wait that is no fault of the mail (throttled, all servers closed) uses up no try:
5 s, 10 s, 20 s, 40 s, then 60 s each; the lifetime ends these too.
"""

from posthouse.core.dsn import DsnKind, wanted
from posthouse.core.limits import Limits

SCHEDULE = (60, 300, 900, 1800)
"""Seconds to the next try after the first, second, third and fourth failed one."""
AFTERWARDS = 3600
FIRST_WAIT = 5
LONGEST_WAIT = 60


def next_attempt(tries: int, now: float, received_at: float, limits: Limits) -> float | None:
    """Epoch seconds of the next try; None when the lifetime is over. `tries`: how many failed before this one."""
    return _within_lifetime(SCHEDULE[tries] if tries < len(SCHEDULE) else AFTERWARDS, now, received_at, limits)


def next_wait(waits: int, now: float, received_at: float, limits: Limits) -> float | None:
    """As `next_attempt`, for a wait that uses up no try. `waits`: how many in a row came before this one."""
    return _within_lifetime(min(FIRST_WAIT << min(waits, 10), LONGEST_WAIT), now, received_at, limits)


def delay_due(notify: str, told: bool, now: float, received_at: float, limits: Limits) -> bool:
    """The delay DSN is to be sent now: once, after `delay_seconds`, to those who want it."""
    return not told and now - received_at >= limits.delay_seconds and wanted(DsnKind.DELAY, notify)


def _within_lifetime(pause: float, now: float, received_at: float, limits: Limits) -> float | None:
    end = received_at + limits.lifetime_seconds
    return min(now + pause, end) if now < end else None
