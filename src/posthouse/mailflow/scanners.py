"""The walk over the servers of a scan profile: each item gets a result, by whichever server gives one.

Servers are addressed in the preference order. One that cannot be reached, is busy or takes too long leaves the items
that have no result yet to the next; one that refuses the request itself ends the walk, for the others would refuse it
too, and an administrator has to mend something. What no server could tell is failed, never clean.
Source: design sections 2.5 and 3.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from posthouse.core import preference
from posthouse.core.preference import Rotation
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.scan_servers import Leave, ScanServers
from posthouse.mailflow.servers import NotNow
from posthouse.mailflow.verdict_cache import VerdictCache, cache_key
from posthouse.ports import Clock
from posthouse.scan_ports import (
    Asked,
    ItemResult,
    ProfileOutcome,
    ScanAnswer,
    ScanAttempt,
    Scanned,
    Scanner,
    ScanOrder,
)
from posthouse.telemetry import logger

log = logger("scanners")

ALERT_SECONDS = 60.0
"""Between two lines on what an administrator has to mend in one profile."""
_WEIGHT = (Failure.UNREACHABLE, Failure.PROCESSING, Failure.BUSY, Failure.TIMEOUT, Failure.CONFIGURATION)
"""Of several servers' faults the last one here is told: whoever answered at all says more than who did not."""


class Scanners:
    """`scan` is the walk; `servers` what is known of them (circuits, drains, live facts)."""

    def __init__(
        self,
        scanners: Mapping[ServiceType, Scanner],
        clock: Clock,
        random: Callable[[], float],
        cache: VerdictCache | None = None,
    ) -> None:
        self._scanners, self._clock, self._random = scanners, clock, random
        self._cache = cache if cache is not None else VerdictCache(clock)
        self._rotations: dict[str, Rotation] = {}
        self._alerted: dict[str, float] = {}
        self.servers = ScanServers(scanners, clock, random)

    async def scan(
        self, profile: ServerProfile, order: ScanOrder, items: Sequence[Asked], seconds: float
    ) -> ProfileOutcome:
        """Shows the items to the profile's servers, for `seconds` in all. A server gets an equal share of the time
        that is left, so that one that hangs leaves some to the next."""
        walk = _Walk(self._clock.monotonic(), seconds)
        remaining = self._cached(profile, order, items, walk)
        servers = preference.order(profile.preference, profile.server_texts, self._rotation(profile), self._random())
        for position, server in enumerate(servers):
            left = walk.left(self._clock.monotonic())
            if not remaining or left <= 0:
                break
            leave = self.servers.set_out(profile, server)
            if isinstance(leave, NotNow):
                walk.attempts.append(ScanAttempt(server, passed_over=leave.why))
                continue
            later = sum([not self.servers.why_not(profile, other) for other in servers[position + 1 :]])
            try:
                answer = await self._scanners[profile.type].scan(
                    profile, server, order, remaining, left / (1 + later)
                )
                remaining = self._take(profile, server, order, remaining, answer, walk)
                self._tell(profile, server, leave, walk.attempts[-1])
            finally:
                leave.withdraw()  # nothing, if it has been told
            if walk.attempts[-1].failure is Failure.CONFIGURATION:
                break
        return walk.outcome(remaining, self._clock.monotonic())

    def admits(self, profile: ServerProfile) -> bool:
        """scan_ports.ScanProfiles.admits."""
        return any(not self.servers.why_not(profile, server) for server in profile.server_texts)

    def keep_only(self, profiles: Iterable[ServerProfile]) -> None:
        """The inventory changed: what no profile names any more is forgotten."""
        profiles = list(profiles)
        names = {profile.name for profile in profiles}
        self._rotations = {name: rotation for name, rotation in self._rotations.items() if name in names}
        self._alerted = {name: at for name, at in self._alerted.items() if name in names}
        self.servers.keep_only(profiles)

    async def close(self) -> None:
        """Ends the probes and what the scanners have open."""
        await self.servers.stop()
        for scanner in self._scanners.values():
            await scanner.close()

    # --- parts of the walk --------------------------------------------------------------------------------

    def _rotation(self, profile: ServerProfile) -> Rotation:
        return self._rotations.get(profile.name, Rotation())

    def _cached(self, profile: ServerProfile, order: ScanOrder, items: Sequence[Asked], walk: "_Walk") -> list[Asked]:
        """The items that have no result in the cache."""
        remaining = []
        for asked in items:
            key = cache_key(profile, order, asked)
            kept = self._cache.find(key) if key is not None else None
            if kept is None:
                remaining.append(asked)
            else:
                walk.results[asked.number] = ItemResult(Scanned(kept[0]), kept[1])
        return remaining

    def _take(
        self,
        profile: ServerProfile,
        server: str,
        order: ScanOrder,
        asked: Sequence[Asked],
        answer: ScanAnswer,
        walk: "_Walk",
    ) -> list[Asked]:
        """Adds the results of an answer and the attempt. Returns the items that have none."""
        remaining = []
        for each in asked:
            scanned = answer.results.get(each.number)
            if scanned is None:
                remaining.append(each)
                continue
            walk.results[each.number] = ItemResult(scanned, server, answer.batch_id)
            if (key := cache_key(profile, order, each)) is not None:
                self._cache.keep(key, scanned.found, server)
        fault, failure = answer.fault, answer.failure
        if remaining and not fault:
            fault, failure = f"no result for {len(remaining)} of {len(asked)} items", Failure.PROCESSING
        failure = (failure or Failure.UNREACHABLE) if fault else None
        count = len(asked) - len(remaining)
        walk.attempts.append(ScanAttempt(server, "", fault, failure, answer.batch_id, count, answer.seconds))
        return remaining

    def _tell(self, profile: ServerProfile, server: str, leave: Leave, attempt: ScanAttempt) -> None:
        """What the attempt says of the server."""
        if attempt.fault:
            self.servers.tell_error(profile, server, attempt.fault)
        match attempt.failure:
            case None:
                leave.served()
                rotation = preference.served(self._rotation(profile), profile.server_texts, server)
                self._rotations[profile.name] = rotation
            case Failure.CONFIGURATION:
                leave.answered()
                self._alert(profile, server, attempt.fault)
            case Failure.TIMEOUT if attempt.results:
                leave.answered()  # it works: one item took too long, or there were too many
            case _:
                leave.faulted(attempt.fault)

    def _alert(self, profile: ServerProfile, server: str, why: str) -> None:
        now = self._clock.monotonic()
        if now - self._alerted.get(profile.name, now - ALERT_SECONDS) >= ALERT_SECONDS:
            self._alerted[profile.name] = now
            log.error("scan profile has to be mended", profile=profile.name, server=server, why=why)


class _Walk:
    """What has come of it so far."""

    def __init__(self, began: float, seconds: float) -> None:
        self._began, self._seconds = began, seconds
        self.results: dict[int, ItemResult] = {}
        self.attempts: list[ScanAttempt] = []

    def left(self, now: float) -> float:
        return self._seconds - (now - self._began)

    def outcome(self, remaining: Sequence[Asked], now: float) -> ProfileOutcome:
        """`remaining` are failed."""
        failure, fault = self._why(now) if remaining else (None, "")
        for asked in remaining:
            found = Found(Verdict.FAILED, reason=fault, failure=failure)
            self.results[asked.number] = ItemResult(Scanned(found))
        return ProfileOutcome(self.results, tuple(self.attempts), now - self._began, failure, fault)

    def _why(self, now: float) -> tuple[Failure, str]:
        told = [(each.failure, each.fault) for each in self.attempts if each.failure is not None]
        if told:
            return max(told, key=lambda each: _WEIGHT.index(each[0]) if each[0] in _WEIGHT else 0)
        if self.left(now) <= 0:
            return Failure.TIMEOUT, "there was no time left to ask a scan server"
        why = next((each.passed_over for each in self.attempts), "the profile has none")
        return Failure.UNREACHABLE, f"no scan server may be asked now: {why}"
