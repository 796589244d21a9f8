"""What the workers' live rows say of a server profile: per server, over all workers; and why its mail waits."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from posthouse.core.service_type import ServiceType
from posthouse.ports import ServerState
from posthouse.web.tools import WebTools

Facts = Mapping[str, object]

SERVERS_TOLD = 3
"""Of those that a profile waits for, in one line."""

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


class Waiting:
    """Why mail waits now, by server profile; looked up once for an answer."""

    def __init__(self, tools: WebTools) -> None:
        now = tools.clock.now()
        self._profiles = {str(p.document["name"]): p.document for p in tools.inventory.load().profiles}
        self._anyone = bool(tools.commands.workers(now))
        self._rows: dict[str, dict[str, dict[str, Facts]]] = {}
        """By profile, worker and server."""
        for state in tools.commands.server_states(now):
            of_worker = self._rows.setdefault(state.profile, {}).setdefault(state.worker, {})
            of_worker[state.server] = state.facts

    def reason(self, name: str) -> str | None:
        """One line for a mail administrator; None if a server of the profile may be addressed, so that mail is only
        waiting for its time."""
        if not self._anyone:
            return "no worker is running"
        document = self._profiles.get(name)
        if document is None:
            return "there is no server profile of this name any more"
        if document.get("type") != ServiceType.SMTP:
            return f"the server profile of this name is of type {document.get('type')}, which relays no mail"
        servers, workers = server_texts(document), self._rows.get(name, {})
        waiting = [
            rows
            for rows in workers.values()
            if all(server in rows and text(rows[server], "not_now") for server in servers)
        ]
        if not waiting:
            return None
        told = [f"{server}: {why_not_now(waiting[0][server])}" for server in servers[:SERVERS_TOLD]]
        if len(servers) > SERVERS_TOLD:
            told.append(f"and {len(servers) - SERVERS_TOLD} more servers")
        part_of = f" (on {len(waiting)} of {len(workers)} workers)" if len(waiting) < len(workers) else ""
        return "; ".join(told) + part_of


def why_not_now(facts: Facts) -> str:
    """Why no mail goes to a server now, and until when."""
    why = text(facts, "not_now")
    probes = _moments((part(facts, name) for name in ("endpoint", "identity")), "next_probe")
    if probes:
        return f"{why}, next probe {_clock_time(probes[0])}"
    locked_until = moment(facts, "login_locked_until")
    return f"{why}, until {_clock_time(locked_until)}" if locked_until is not None else why


def _clock_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ")


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
