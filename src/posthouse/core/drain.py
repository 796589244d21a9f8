"""Servers of a profile that mail is kept from for a while: drained, or treated as down to see what failover does.

Both leave out one server of one profile, never the endpoint, which other profiles may name: the walk passes it over,
no probe goes there for it, its circuits learn nothing, and no mail uses up a try for it.
Standards: issue 5 item 5; design section 4 (`profile drain`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from posthouse.core.service_type import ServiceType
from posthouse.core.uri import Specification, parse_specification

LONGEST_SECONDS = 86400
"""For so long at most; a drain may also have no end."""
LONGEST_REASON = 200
"""Characters."""


class DrainKind(StrEnum):
    """What a server is left out for."""

    DRAINED = "drained"
    SIMULATED = "simulated"
    """A rehearsal: it is treated as down."""


@dataclass(frozen=True, slots=True)
class Drain:
    """One server of one profile is left out. Times are epoch seconds."""

    profile: str
    server: str
    """Canonical specification."""
    kind: DrainKind
    at: float
    until: float | None
    """None: until somebody takes it back; only of DRAINED."""
    by: str
    reason: str = ""

    def holds(self, now: float) -> bool:
        """It has not ended by itself."""
        return self.until is None or now < self.until

    def repeats(self, other: "Drain") -> bool:
        """It says what the other does, and neither ends: nothing new, whoever says it and when."""
        ours, theirs = ((d.profile, d.server, d.kind, d.reason) for d in (self, other))
        return self.until is None and other.until is None and ours == theirs

    @property
    def why(self) -> str:
        """Why no mail goes there, for trail and queue."""
        until = f" until {_moment(self.until)}" if self.until is not None else ""
        match self.kind:
            case DrainKind.DRAINED:
                told = f"drained by {self.by} since {_moment(self.at)}{until}"
            case DrainKind.SIMULATED:
                told = f"treated as down{until} by {self.by}"
        return f"{told}: {self.reason}" if self.reason else told


def drain_json(drain: Drain) -> dict[str, object]:
    """As REST and audit have it."""
    return {
        "server": drain.server,
        "kind": drain.kind.value,
        "at": drain.at,
        "until": drain.until,
        "by": drain.by,
        "reason": drain.reason,
    }


def lost_drains(lost: Sequence[Drain]) -> dict[str, object]:
    """For the audit row of the change that they went with; nothing if none did."""
    return {"undrained": [{"server_profile": d.profile, **drain_json(d)} for d in lost]} if lost else {}


def drains_in(document: Mapping[str, object], drains: Sequence[Drain]) -> list[Drain]:
    """Those whose server the stored profile still has, under the name that it has."""
    servers = document.get("servers")
    known = {str(server) for server in servers} if isinstance(servers, list) else set()
    return [drain for drain in drains if drain.profile == document.get("name") and drain.server in known]


def after_change(
    drains: Sequence[Drain], profiles: Sequence[Mapping[str, object]], now: float
) -> tuple[list[Drain], list[Drain]]:
    """The inventory has these stored profiles now: drains that stay, and those that go before their end because
    their server or profile has gone. What has ended by itself is in neither."""
    holding = [drain for drain in drains if drain.holds(now)]
    kept = [drain for profile in profiles for drain in drains_in(profile, holding)]
    return kept, [drain for drain in holding if drain not in kept]


def find_server(servers: Sequence[str], asked: str) -> str | None:
    """Which of an SMTP profile's canonical servers is meant: by its number, 1 being the first, or by its URI, which
    may be short."""
    if asked.isascii() and asked.isdigit():
        return servers[int(asked) - 1] if len(asked) <= 9 and 0 < int(asked) <= len(servers) else None
    found = parse_specification(asked, ServiceType.SMTP)
    return str(found) if isinstance(found, Specification) and str(found) in servers else None


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
