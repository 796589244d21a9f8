"""What was found in equal content shortly before, so that a newsletter is not scanned a thousand times.

Short on purpose: a verdict is as old as the signatures behind it. Only what is known is kept: a failure is tried
again, a sanitized file is not kept, and what is encrypted may be opened by another mail's password.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Found, Verdict
from posthouse.ports import Clock
from posthouse.scan_ports import Asked, ScanOrder

SECONDS = 600.0
ENTRIES = 20_000
_KEPT = frozenset({Verdict.CLEAN, Verdict.BLOCKED, Verdict.POLICY})
_EXTENSION = 20
"""Characters."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """All that a verdict depends on, as far as we know."""

    profile: str
    revision: int
    core_rule: str
    sanitize: bool
    sha256: str
    kind: str
    extension: str
    """Scanners compare name and content: a program is one thing as `a.exe` and another as `a.pdf`."""


def cache_key(profile: ServerProfile, order: ScanOrder, asked: Asked) -> CacheKey | None:
    """None: neither look it up nor keep it."""
    if order.passwords:
        return None
    item = asked.item
    extension = (item.names[0] if item.names else "").rpartition(".")[2].lower()[-_EXTENSION:]
    return CacheKey(
        profile.name, profile.revision, order.core_rule, order.sanitize, item.sha256, item.kind.value, extension
    )


class VerdictCache:
    """Holds at most `entries`; those that were used longest ago go first."""

    def __init__(self, clock: Clock, seconds: float = SECONDS, entries: int = ENTRIES) -> None:
        self._clock, self._seconds, self._entries = clock, seconds, entries
        self._kept: OrderedDict[CacheKey, tuple[Found, str, float]] = OrderedDict()

    def find(self, key: CacheKey) -> tuple[Found, str] | None:
        """What was found, marked as `cached`, and the server that found it."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        found, server, until = kept
        if self._clock.monotonic() >= until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return replace(found, cached=True), server

    def keep(self, key: CacheKey, found: Found, server: str) -> None:
        """Nothing if its verdict is none to be kept."""
        if found.verdict not in _KEPT or found.cached:
            return
        self._kept[key] = found, server, self._clock.monotonic() + self._seconds
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)
