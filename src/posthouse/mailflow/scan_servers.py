"""What a worker knows of its scan servers: whether a mail may be shown to them now, circuits, probes, drains.

As `servers` does for next hops, with one circuit for each server and way to it (scheme, TLS settings): a profile with
a wrong pin closes nothing for others. A scanner has no login that could be locked, and no throttle: 503 is a fault.
Source: design section 3 (Circuit).
"""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from math import inf

from posthouse.core import circuit
from posthouse.core.circuit import Answered, CircuitState, Faulted, Served, SetOut, Withdrawn
from posthouse.core.drain import Drain
from posthouse.core.profile import ServerProfile
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.drained import Drained
from posthouse.mailflow.servers import PROBE, NotNow
from posthouse.mailflow.tally import Tally
from posthouse.ports import Clock
from posthouse.scan_ports import Scanner
from posthouse.telemetry import logger

log = logger("scan-servers")

PROBE_SECONDS = 10.0
"""For the answer to a probe."""
SCAN = "scan"
"""Where an error of a scan happened."""


class _Server:
    """A server, one way to it, and the profile to probe it with."""

    def __init__(self, profile: ServerProfile, server: str, now: float, chance: float) -> None:
        """`chance` in [0, 1): so that workers and servers are not probed in step."""
        self.profile, self.server = profile, server
        self.state = CircuitState(since=now, chance=chance)
        self.in_use = 0
        self.fault = ""
        """Text of the last fault, whether it counted or not."""
        self.fault_at = -inf

    @property
    def why_not(self) -> str:
        """Empty if its circuit admits a mail."""
        if circuit.admits(self.state):
            return ""
        first = self.state.phase is circuit.Phase.FIRST_OUT
        phase = "half-open, one mail goes first" if first else "open"
        return f"circuit {phase}: {self.state.reason}"

    def facts(self, epoch: Callable[[float], float | None], *, probed: bool) -> dict[str, object]:
        """For the live row. `probed` False: it is left alone at present."""
        state = self.state
        troubled = state.faults or state.phase is not circuit.Phase.CLOSED
        return {
            "phase": "half-open" if state.half_open else state.phase.value,
            "reason": state.reason if troubled else "",
            "since": epoch(state.since),
            "next_probe": None if state.probing or not probed else epoch(state.next_probe_at),
            "faults": state.faults,
        }


class Leave:
    """Leave to show one mail to one server; exactly one of its methods ends it, further calls do nothing."""

    __slots__ = ("_era", "_open", "_servers", "_tally", "_to")

    def __init__(self, servers: "ScanServers", to: _Server, tally: Tally) -> None:
        self._servers, self._to, self._tally = servers, to, tally
        self._era, self._open = to.state.era, True

    def served(self) -> None:
        """It gave all results."""
        self._tally.relayed += 1
        self._say(Served())

    def answered(self) -> None:
        """It works, yet did not do all that it was asked for."""
        self._say(Answered(self._era))

    def faulted(self, why: str) -> None:
        """The server's fault."""
        self._say(Faulted(self._era, why))

    def withdraw(self) -> None:
        """Nothing became of it, for a reason of ours."""
        self._say(Withdrawn(self._era))

    def _say(self, event: circuit.Event) -> None:
        if self._open:
            self._open = False
            self._to.in_use -= 1
            self._servers.step(self._to, event)


class ScanServers:
    """All scan servers of a worker."""

    def __init__(self, scanners: Mapping[ServiceType, Scanner], clock: Clock, random: Callable[[], float]) -> None:
        self._scanners, self._clock, self._random = scanners, clock, random
        self._servers: dict[Hashable, _Server] = {}
        self._tallies: dict[tuple[str, str], Tally] = {}
        """By profile and server."""
        self._drained = Drained()
        self._named: list[tuple[ServerProfile, str]] = []
        self._regained: set[str] = set()
        self._probes: set[asyncio.Task[None]] = set()

    # --- for the walk -------------------------------------------------------------------------------------

    def why_not(self, profile: ServerProfile, server: str) -> str:
        """Why no mail may be shown to it now; empty if one may."""
        drain = self._drained.of(profile.name, server)
        if drain is not None and drain.holds(self._clock.now()):
            return drain.why
        return self._of(profile, server).why_not

    def set_out(self, profile: ServerProfile, server: str) -> Leave | NotNow:
        """A mail is about to be shown to it, unless it may not."""
        if why := self.why_not(profile, server):
            return NotNow(why)
        to = self._of(profile, server)
        to.in_use += 1
        leave = Leave(self, to, self._tally(profile.name, server))
        self.step(to, SetOut())
        return leave

    def tell_error(self, profile: ServerProfile, server: str, why: str) -> None:
        """For people: what went wrong there, whether it counts or not."""
        self._tally(profile.name, server).error(self._clock.monotonic(), SCAN, why)

    # --- for the worker -----------------------------------------------------------------------------------

    def facts(self, profile: ServerProfile, server: str, epoch: Callable[[float], float | None]) -> dict[str, object]:
        """For the live row; as `servers.Servers.facts`, less what only a next hop has. `scanned`: mails that it gave
        all results for."""
        to = self._of(profile, server)
        tally = self._tally(profile.name, server).facts(epoch)
        of_circuit = to.facts(epoch, probed=_key(profile, server) not in self._drained.left_alone)
        return {
            "endpoint": of_circuit,
            "identity": of_circuit,
            "not_now": self.why_not(profile, server),
            "in_use": to.in_use,
            "scanned": tally.pop("relayed"),
            **tally,
            "served_at": epoch(to.state.served_at),
            "last_fault": to.fault,
            "last_fault_at": epoch(to.fault_at),
        }

    def drain(self, drains: Mapping[tuple[str, str], Drain]) -> None:
        """Exactly these are left out from now on, and each no longer than it holds."""
        self._regained |= self._drained.take(drains, self._clock.now()) or set()

    def keep_only(self, profiles: Iterable[ServerProfile]) -> None:
        """The inventory changed: what no scan profile names any more is forgotten. Profiles of other types may be
        among them."""
        self._named = [(p, server) for p in profiles if p.type in self._scanners for server in p.server_texts]
        keys = {(p.name, server): _key(p, server) for p, server in self._named}
        self._drained.serve({name: (key,) for name, key in keys.items()})
        self._tallies = {name: tally for name, tally in self._tallies.items() if name in keys}
        in_force = set(keys.values())
        self._servers = {key: to for key, to in self._servers.items() if key in in_force or to.in_use}
        for profile, server in self._named:
            self._of(profile, server)

    def take_regained(self) -> frozenset[str]:
        """Profiles that have a server back since this was asked last: mail whose scan failed may be due now."""
        regained, self._regained = frozenset(self._regained), set()
        return regained

    def look(self) -> None:
        """Starts the probes that are due, and ends drains; once a second."""
        self._regained |= self._drained.look(self._clock.now()) or set()
        for key, to in self._servers.items():
            if key not in self._drained.left_alone and circuit.probe_due(to.state, self._clock.monotonic()):
                self.step(to, circuit.ProbeStarted())
                task = asyncio.get_running_loop().create_task(self._probe(to))
                self._probes.add(task)
                task.add_done_callback(self._probes.discard)

    def probe_all(self) -> None:
        """An operator asks: one probe for each open circuit, at once."""
        for to in self._servers.values():
            self.step(to, circuit.ProbeWanted())
        self.look()

    async def stop(self) -> None:
        """Ends the probes."""
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)

    # --- steps --------------------------------------------------------------------------------------------

    def step(self, to: _Server, event: circuit.Event) -> None:
        to.state, actions = circuit.step(to.state, event, self._clock.monotonic(), self._random())
        if isinstance(event, Faulted | circuit.ProbeFailed):
            to.fault, to.fault_at = event.reason, self._clock.monotonic()
        for action in actions:
            match action:
                case circuit.Opened(reason):
                    log.warning("circuit opened", server=to.server, reason=reason)
                case circuit.Closed():
                    log.info("circuit closed", server=to.server)
                    self._regained |= self._behind(to)
                case circuit.WakeOne():
                    self._regained |= self._behind(to)
                case circuit.ProbeAt():
                    pass  # `look` comes round every second

    async def _probe(self, to: _Server) -> None:
        """No octets of a mail are sent."""
        event: circuit.Event = circuit.ProbeAbandoned()
        try:
            fault = await self._scanners[to.profile.type].probe(to.profile, to.server, PROBE_SECONDS)
            event = circuit.ProbeFailed(fault) if fault else circuit.ProbeSucceeded()
            if fault:
                for name in self._behind(to):
                    self._tally(name, to.server).error(self._clock.monotonic(), PROBE, fault)
        finally:
            self.step(to, event)

    def _behind(self, to: _Server) -> set[str]:
        """Names of the profiles that have the server, by this way."""
        return {p.name for p, server in self._named if server == to.server and self._of(p, server) is to}

    def _tally(self, name: str, server: str) -> Tally:
        return self._tallies.setdefault((name, server), Tally())

    def _of(self, profile: ServerProfile, server: str) -> _Server:
        key = _key(profile, server)
        to = self._servers.get(key)
        if to is None:
            to = self._servers[key] = _Server(profile, server, self._clock.monotonic(), self._random())
        elif profile.revision >= to.profile.revision or profile.name != to.profile.name:
            to.profile = profile
        return to

    @property
    def drained(self) -> Collection[tuple[str, str]]:
        """Profiles and servers that mail is kept from."""
        return self._drained.servers


def _key(profile: ServerProfile, server: str) -> Hashable:
    """Server and the way to it."""
    return (
        profile.type,
        server,
        profile.tls_verify,
        profile.tls_name,
        profile.tls_ca,
        profile.tls_pin,
        profile.tls_min,
        profile.client_certificate,
    )
