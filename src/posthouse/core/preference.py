"""Preference order: in which order the servers of a profile are addressed by one attempt.

failover: always from the first. round-robin: the start is the server after the one that did the last service.
random-start: the start is chance. All go on through the list, wrapping at its end, to the starting entry, so each
server comes once. Standards: seed 3.7 (server preference); design 2.5 and section 3 (Uncertain).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.core.profile import Preference


@dataclass(frozen=True, slots=True)
class Rotation:
    """What round-robin remembers of one profile: the server that did the last service, and where it stood."""

    last: str = ""
    """Empty before the first service."""
    position: int = -1
    """Index of `last` in the list as it was; used when `last` is no longer in the list."""


def order(
    preference: Preference, servers: Sequence[str], rotation: Rotation, random_unit: float, first: str = ""
) -> tuple[str, ...]:
    """All `servers`, each once. `random_unit` is in [0, 1). `first`, if still listed, is moved to the front."""
    count = len(servers)
    if not count:
        return ()
    match preference:
        case Preference.FAILOVER:
            start = 0
        case Preference.ROUND_ROBIN:
            start = _after(servers, rotation)
        case Preference.RANDOM_START:
            start = min(int(random_unit * count), count - 1)
    if not start and not first:
        return tuple(servers)
    turned = (*servers[start:], *servers[:start])
    if first and first in turned:
        return (first, *(server for server in turned if server != first))
    return turned


def served(rotation: Rotation, servers: Sequence[str], server: str) -> Rotation:
    """The rotation after `server` did the service; unchanged if it was removed from the list meanwhile."""
    return Rotation(server, servers.index(server)) if server in servers else rotation


def _after(servers: Sequence[str], rotation: Rotation) -> int:
    """Where to start: after the last server; where that is gone, at what has moved into its place."""
    if rotation.last in servers:
        return (servers.index(rotation.last) + 1) % len(servers)
    return rotation.position % len(servers) if rotation.position >= 0 else 0
