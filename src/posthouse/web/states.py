"""What the workers' live rows say of a server profile: per server, over all workers; and why its mail waits."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from posthouse.core.drain import drain_json, drains_in
from posthouse.core.inventory import rules_using
from posthouse.core.service_type import ServiceType
from posthouse.ports import ServerState, StoredInventory
from posthouse.web import server_facts
from posthouse.web.facts import Facts as Facts
from posthouse.web.facts import moment as moment
from posthouse.web.facts import moments, total
from posthouse.web.facts import part as part
from posthouse.web.facts import text as text
from posthouse.web.tools import WebTools

SERVERS_TOLD = 3
"""Of those that a profile waits for, in one line."""

_WORST_FIRST = ("open", "half-open", "closed")


def profile_state(
    profile: str, servers: Iterable[str], states: Iterable[ServerState], *, relays: bool = True
) -> dict[str, object]:
    """What the workers say of a profile; `servers` in the order of the profile. `relays`: it is of type smtp; what
    only next hops have is left out of the others, for a 0 would be no number of theirs."""
    of_server: dict[str, list[ServerState]] = {server: [] for server in servers}
    for state in states:
        if state.profile == profile and state.server in of_server:
            of_server[state.server].append(state)
    told = _server if relays else _scan_server
    return {"profile": profile, "servers": [told(server, rows) for server, rows in of_server.items()]}


def whole_state(tools: WebTools, stored: StoredInventory, document: Facts) -> dict[str, object]:
    """The state of a stored profile as REST answers it: what the workers say, who else uses it, and drains."""
    now, name, own_mail = tools.clock.now(), text(document, "name"), tools.settings.own_mail
    relays = document.get("type") == ServiceType.SMTP
    state = profile_state(name, server_texts(document), tools.commands.server_states(now), relays=relays)
    drains = {d.server: drain_json(d) for d in drains_in(document, stored.drains) if d.holds(now)}
    servers = state["servers"]
    assert isinstance(servers, list)
    for server in servers:
        server["drain"] = drains.get(server["server"])
        if relays:
            server["certificate"] = server_facts.with_days_left(server["certificate"], now)
            server["also_used_by"] = _also_used_by(stored, document, server["server"])
    rules = list(dict.fromkeys(rule for rule, _ in rules_using(name, stored.rules)))
    return {**state, "rules": rules, "own_mail": own_mail is not None and own_mail.profile == name}


def _also_used_by(stored: StoredInventory, document: Facts, server: str) -> list[str]:
    """Other profiles that relay mail to the same endpoint, whatever their scheme: they share circuit and limit."""
    return [
        text(other.document, "name")
        for other in stored.profiles
        if other.document.get("type") == document.get("type") == ServiceType.SMTP
        and other.document.get("name") != document.get("name")
        and _endpoint(server) in map(_endpoint, server_texts(other.document))
    ]


def _endpoint(server: str) -> str:
    return server.partition("://")[2]


def server_texts(document: Facts) -> list[str]:
    """The servers of a stored profile, canonical."""
    found = document.get("servers")
    return [str(server) for server in found] if isinstance(found, list) else []


def _server(server: str, rows: Sequence[ServerState]) -> dict[str, object]:
    """One next hop: the worst circuit and the sums over all workers, then each worker's row."""
    facts = [row.facts for row in rows]
    pools = [part(f, "pool") for f in facts]
    return {
        **_common(server, facts),
        "limit": total(facts, "limit"),
        "idle": total(pools, "idle"),
        "relayed": total(facts, "relayed"),
        "reuse": server_facts.reuse(pools),
        "times": server_facts.times([part(f, "times") for f in facts]),
        "certificate": server_facts.certificate(facts),
        "workers": [
            {"worker": row.worker, "at": row.at, **row.facts, "times": server_facts.times([part(row.facts, "times")])}
            for row in rows
        ],
    }


def _scan_server(server: str, rows: Sequence[ServerState]) -> dict[str, object]:
    """One scanner, or a vault, of which workers tell nothing."""
    facts = [row.facts for row in rows]
    return {
        **_common(server, facts),
        "in_use": total(facts, "in_use") if facts else None,
        "scanned": total(facts, "scanned") if facts else None,
        "workers": [{"worker": row.worker, "at": row.at, **row.facts} for row in rows],
    }


def _common(server: str, facts: Sequence[Facts]) -> dict[str, object]:
    """What every server has that workers address."""
    circuits = [part(f, name) for f in facts for name in ("endpoint", "identity")]
    circuits.sort(key=lambda found: _WORST_FIRST.index(text(found, "phase")))
    last_fault: Facts = max(facts, key=lambda f: moment(f, "last_fault_at") or 0.0, default={})
    return {
        "server": server,
        "circuit": text(circuits[0], "phase") if circuits else None,
        "reason": text(circuits[0], "reason") if circuits else "",
        "since": moment(circuits[0], "since") if circuits else None,
        "next_probe": min(moments(circuits, "next_probe"), default=None),
        "in_use": total(facts, "in_use"),
        "served_at": max(moments(facts, "served_at"), default=None),
        "last_fault": text(last_fault, "last_fault"),
        "last_fault_at": moment(last_fault, "last_fault_at"),
        "last_errors": server_facts.last_errors(facts),
    }


class Waiting:
    """Why mail waits now, by server profile; looked up once for an answer."""

    def __init__(self, tools: WebTools) -> None:
        now = tools.clock.now()
        profiles = tools.inventory.load().profiles
        self._profiles = {str(p.document["name"]): p.document for p in profiles}
        self._former = {former: str(p.document["name"]) for p in profiles for former in p.former}
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
        if name not in self._profiles:
            name = self._former.get(name, name)
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
    if why.startswith(("drained", "treated as down")):
        return why
    probes = moments((part(facts, name) for name in ("endpoint", "identity")), "next_probe")
    if probes:
        return f"{why}, next probe {_clock_time(probes[0])}"
    locked_until = moment(facts, "login_locked_until")
    return f"{why}, until {_clock_time(locked_until)}" if locked_until is not None else why


def _clock_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ")
