"""What the workers' live rows say of a server profile: per server, over all workers."""

from collections.abc import Iterable, Mapping, Sequence

from posthouse.ports import ServerState

Facts = Mapping[str, object]

_WORST_FIRST = ("open", "half-open", "closed")


def profile_state(profile: str, servers: Iterable[str], states: Iterable[ServerState]) -> dict[str, object]:
    """The state of a profile as REST answers it; `servers` in the order of the profile."""
    of_server: dict[str, list[ServerState]] = {server: [] for server in servers}
    for state in states:
        if state.profile == profile and state.server in of_server:
            of_server[state.server].append(state)
    return {"profile": profile, "servers": [_server(server, rows) for server, rows in of_server.items()]}


def server_texts(document: Facts) -> list[str]:
    """The servers of a stored profile, canonical."""
    found = document.get("servers")
    return [str(server) for server in found] if isinstance(found, list) else []


def _server(server: str, rows: Sequence[ServerState]) -> dict[str, object]:
    """One server: the worst circuit and the sums over all workers, then each worker's row."""
    facts = [row.facts for row in rows]
    circuits = [part(f, name) for f in facts for name in ("endpoint", "identity")]
    circuits.sort(key=lambda found: _WORST_FIRST.index(text(found, "phase")))
    pools = [part(f, "pool") for f in facts]
    last_fault: Facts = max(facts, key=lambda f: moment(f, "last_fault_at") or 0.0, default={})
    return {
        "server": server,
        "circuit": text(circuits[0], "phase") if circuits else None,
        "reason": text(circuits[0], "reason") if circuits else "",
        "next_probe": min(_moments(circuits, "next_probe"), default=None),
        "in_use": _sum(facts, "in_use"),
        "limit": _sum(facts, "limit"),
        "idle": _sum(pools, "idle"),
        "relayed": _sum(facts, "relayed"),
        "served_at": max(_moments(facts, "served_at"), default=None),
        "last_fault": text(last_fault, "last_fault"),
        "last_fault_at": moment(last_fault, "last_fault_at"),
        "workers": [{"worker": row.worker, "at": row.at, **row.facts} for row in rows],
    }


def part(facts: Facts, name: str) -> Facts:
    """A table among the facts."""
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}


def text(facts: Facts, name: str) -> str:
    return str(facts.get(name, ""))


def moment(facts: Facts, name: str) -> float | None:
    """Epoch seconds."""
    found = facts.get(name)
    return float(found) if isinstance(found, int | float) else None


def _moments(facts: Iterable[Facts], name: str) -> list[float]:
    return [at for at in (moment(f, name) for f in facts) if at is not None]


def _sum(facts: Iterable[Facts], name: str) -> int:
    return sum(found for f in facts if isinstance(found := f.get(name), int))
