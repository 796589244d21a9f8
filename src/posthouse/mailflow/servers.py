"""What a worker knows of the servers it relays to: whether mail may be sent there now.

Connect, greeting and transaction faults count for the endpoint, which all profiles that name it share; TLS and AUTH
faults for the identity only, so that one profile's wrong password closes nothing for others. A login that was never
accepted is tried with one mail at a time: a wrong password costs one AUTH, not one for each mail that is due, for
accounts get locked. A throttled endpoint gets a lower limit of its own. The machines are `core.circuit` and
`core.throttle`; their states and the probes are here.
Source: design section 3 (Circuit, Throttle), section 2 item 7.
"""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from posthouse.core import circuit, throttle
from posthouse.core.circuit import Answered, CircuitState, Faulted, Served, SetOut, Withdrawn
from posthouse.core.drain import Drain
from posthouse.core.outcome import RecipientResult, Result, ServerAnswer, Stage
from posthouse.core.profile import ServerProfile
from posthouse.core.smtp_reply import Reply
from posthouse.core.throttle import LimitState, LoginLock
from posthouse.core.way import CLEAR_TEXT
from posthouse.mailflow.drained import Drained
from posthouse.mailflow.tally import Tally
from posthouse.ports import Clock, Relay
from posthouse.telemetry import logger

log = logger("servers")

_OF_IDENTITY = frozenset({Stage.STARTTLS, Stage.TLS, Stage.AUTH})
_LOGIN_REFUSED = frozenset(str(code) for code in throttle.LOGIN_REFUSED)
PROBE = "probe"
"""Where an error of a probe happened."""
LOGIN_SECONDS = 10.0
"""So long a mail waits at most for another one's login; then the next server is its way, or it waits in the queue."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """Why no mail goes there at present."""

    why: str


@dataclass(frozen=True, slots=True)
class LoginUnderWay:
    """Another mail tries the login there, which was never accepted yet; `decided` is set when it knows."""

    decided: asyncio.Event


@dataclass(frozen=True, slots=True)
class Wake:
    """Mail put off because of the server's fault is to be woken."""

    profiles: frozenset[str]
    """Those that name the server."""
    first: bool
    """Only one mail, which goes first; else all, spread over `circuit.SPREAD_SECONDS`."""


class _Circuit:
    """A circuit and the profile to probe it with."""

    def __init__(self, name: str, now: float, key: Hashable) -> None:
        self.name = name
        self.key = key
        self.state = CircuitState(since=now)
        self.profile: ServerProfile | None = None
        self.server = ""
        self.fault = ""
        """Text of the last fault, whether it counted or not."""
        self.fault_at = -inf

    def is_of(self, profile: ServerProfile) -> bool:
        """The profile has a server behind this circuit."""
        return any(self.is_behind(profile, server) for server in profile.server_texts)

    def is_behind(self, profile: ServerProfile, server: str) -> bool:
        """The circuit is one of this server's."""
        raise NotImplementedError

    @property
    def why_not(self) -> str:
        going_first = ", one mail goes first" if self.state.phase is circuit.Phase.FIRST_OUT else ""
        return f"circuit {self._phase}{going_first}: {self.state.reason}"

    @property
    def _phase(self) -> str:
        """As people know it."""
        match self.state.phase:
            case circuit.Phase.CLOSED:
                return "closed"
            case circuit.Phase.OPEN:
                return "open"
            case circuit.Phase.FIRST_AWAITED | circuit.Phase.FIRST_OUT:
                return "half-open"

    def facts(self, epoch: Callable[[float], float | None], probed: bool) -> dict[str, object]:
        """For the live row. `probed` False: it is left alone at present."""
        state = self.state
        troubled = state.faults or state.phase is not circuit.Phase.CLOSED
        return {
            "phase": "half-open" if state.half_open else self._phase,
            "reason": state.reason if troubled else "",
            "since": epoch(state.since),
            "next_probe": None if state.probing or not probed else epoch(state.next_probe_at),
            "faults": state.faults,
        }


class _Endpoint(_Circuit):
    def __init__(self, name: str, now: float, ceiling: int, chance: float) -> None:
        """`chance` in [0, 1): so that workers and servers are not probed in step."""
        super().__init__(name, now, name)
        self.state = CircuitState(since=now, chance=chance)
        self.limit = throttle.unthrottled(ceiling)
        self.in_use = 0

    def is_behind(self, profile: ServerProfile, server: str) -> bool:
        return _address(server) == self.name


class _Identity(_Circuit):
    def __init__(self, name: str, now: float, key: Hashable) -> None:
        super().__init__(name, now, key)
        self.lock: LoginLock | None = None
        self.accepted = -1
        """Latest revision of a profile whose login was accepted there; an older one needs no proof."""
        self.trying: asyncio.Event | None = None
        """A login is under way that was never accepted."""

    def is_behind(self, profile: ServerProfile, server: str) -> bool:
        return _identity_key(profile, server) == self.key

    def refused(self, now: float, revision: int) -> None:
        """534 or 535 to AUTH."""
        self.lock, self.accepted = LoginLock(now, revision), -1


@dataclass(frozen=True, slots=True)
class _Server:
    """One server of a profile at one revision."""

    endpoint: _Endpoint
    identity: _Identity
    tally: Tally
    drain: Drain | None


class Ticket:
    """Leave to address one server with one mail; `tell` or `withdraw` ends it, exactly once."""

    __slots__ = (
        "_endpoint",
        "_endpoint_era",
        "_generation",
        "_identity",
        "_identity_era",
        "_open",
        "_profile",
        "_servers",
        "_tally",
        "tries_login",
    )

    def __init__(self, servers: "Servers", profile: ServerProfile, to: _Server) -> None:
        self._servers, self._profile = servers, profile
        self._endpoint, self._identity, self._tally = to.endpoint, to.identity, to.tally
        self._endpoint_era, self._identity_era = to.endpoint.state.era, to.identity.state.era
        self._generation = to.endpoint.limit.generation
        self._open = True
        self.tries_login = False
        """The only mail that may log in there at present: over a fresh connection, saying `login_accepted`."""

    def login_accepted(self) -> None:
        """AUTH succeeded. Told at once: the others need not wait until this mail is through."""
        self._identity.accepted = max(self._identity.accepted, self._profile.revision)
        self._login_decided()

    def _login_decided(self) -> None:
        if self.tries_login:
            self.tries_login = False
            trying, self._identity.trying = self._identity.trying, None
            assert trying is not None
            trying.set()

    def tell(self, answer: ServerAnswer) -> ServerAnswer:
        """What became of the mail; the answer comes back with THROTTLED where the server wants less of us."""
        servers, endpoint, identity = self._servers, self._endpoint, self._identity
        if not self._close():
            return answer
        results = answer.recipients
        stopped = next((r for r in results if r.result in (Result.SERVER_FAULT, Result.TRANSIENT)), None)
        if stopped is not None and (answer.fault or stopped.result is Result.TRANSIENT):
            self._tally.error(servers.now(), stopped.stage.value, stopped.reply)
        if stopped is not None and self._throttled(stopped):
            servers.limit(endpoint, throttle.Throttled(self._generation))
            self._say(Withdrawn(self._endpoint_era), Withdrawn(self._identity_era))
            held = tuple(replace(r, result=Result.THROTTLED) if _stops(r) else r for r in results)
            return replace(answer, recipients=held, fault="")
        if answer.fault:
            assert stopped is not None
            if stopped.stage in _OF_IDENTITY or _under_tls(stopped.stage, answer):
                self._say(Answered(self._endpoint_era), Faulted(self._identity_era, answer.fault))
                if stopped.stage is Stage.AUTH and _code(stopped) in throttle.LOGIN_REFUSED:
                    identity.refused(servers.now(), self._profile.revision)
            else:
                self._say(Faulted(self._endpoint_era, answer.fault), Withdrawn(self._identity_era))
        elif relayed := sum([r.result is Result.RELAYED for r in results]):
            self._tally.relayed += relayed
            servers.served(endpoint)
            servers.served(identity)
            if endpoint.limit.limit < endpoint.limit.ceiling:
                servers.limit(endpoint, throttle.Taken())
        elif stopped is not None or any(r.result is Result.UNCERTAIN for r in results):
            # Our own reason to stop, or nobody knows; but a 4yz to the mail is an answer.
            transient = stopped is not None and stopped.result is Result.TRANSIENT
            self._say(
                *((Answered if transient else Withdrawn)(era) for era in (self._endpoint_era, self._identity_era))
            )
        else:
            self._say(Answered(self._endpoint_era), Answered(self._identity_era))
        return answer

    def withdraw(self) -> None:
        """It came back without a result; nothing if it has been told already."""
        if self._close():
            self._say(Withdrawn(self._endpoint_era), Withdrawn(self._identity_era))

    def _close(self) -> bool:
        if not self._open:
            return False
        self._open = False
        self._endpoint.in_use -= 1
        self._login_decided()
        return True

    def _say(self, *events: circuit.Event) -> None:
        of_endpoint, of_identity = events
        self._servers.step(self._endpoint, of_endpoint)
        self._servers.step(self._identity, of_identity)

    def _throttled(self, result: RecipientResult) -> bool:
        code = _code(result)
        if not code or not throttle.is_throttle(result.stage, Reply(code, (result.reply[4:],), result.status)):
            return False
        served_at, others = self._endpoint.state.served_at, self._endpoint.in_use > 0
        return throttle.worked_recently(served_at, others, self._servers.now())


class Servers:
    """All endpoints and identities of a worker. `ceiling`: its share of `transactions_per_server`."""

    def __init__(self, relay: Relay, clock: Clock, random: Callable[[], float], ceiling: int) -> None:
        self._relay, self._clock, self._random = relay, clock, random
        self.ceiling = ceiling
        self._endpoints: dict[Hashable, _Endpoint] = {}
        self._identities: dict[Hashable, _Identity] = {}
        self._found: dict[tuple[str, int, str], _Server] = {}
        """By profile, revision and server: spares the long keys."""
        self._tallies: dict[tuple[str, str], Tally] = {}
        """By profile and server."""
        self._probes: set[asyncio.Task[None]] = set()
        self._to_wake: list[tuple[_Circuit, bool]] = []
        """Circuits that closed, or (True) that await a first mail, until `to_wake` is asked."""
        self._drained = Drained()
        self._regained: set[str] = set()
        """Profiles that have a server back, by the end of a drain or of a locked login, until `to_wake` is asked."""
        self._named: list[tuple[ServerProfile, str]] = []

    def now(self) -> float:
        return self._clock.monotonic()

    # --- for the walk -------------------------------------------------------------------------------------

    def set_out(self, profile: ServerProfile, server: str) -> Ticket | NotNow | LoginUnderWay:
        """A mail is about to be sent there, unless it may not, or not yet."""
        to = self._of(profile, server)
        why = self._why_not(profile, to)
        if why:
            return NotNow(why)
        first_login = profile.password is not None and profile.revision > to.identity.accepted
        if first_login and to.identity.trying is not None:
            return LoginUnderWay(to.identity.trying)
        to.endpoint.in_use += 1
        ticket = Ticket(self, profile, to)
        if first_login:
            ticket.tries_login = True
            to.identity.trying = asyncio.Event()
        for of in (to.endpoint, to.identity):
            if of.state.phase is not circuit.Phase.CLOSED:  # else it changes nothing
                self.step(of, SetOut())
        return ticket

    async def set_out_later(self, profile: ServerProfile, server: str) -> Ticket | NotNow:
        """As `set_out`, when the login under way is decided. The preference order holds: no other server is tried
        meanwhile, for the wait is but that of a connection."""
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                while isinstance(leave := self.set_out(profile, server), LoginUnderWay):
                    await leave.decided.wait()
                return leave
        except TimeoutError:
            return NotNow("its login is being tried with another mail")

    def served(self, of: _Circuit) -> None:
        """A delivery. Told once a second while all is well: nobody asks more exactly when the last one was."""
        state, now = of.state, self.now()
        if state.phase is circuit.Phase.CLOSED and not (state.faults or state.waits) and now - state.served_at < 1.0:
            return
        self.step(of, Served())

    def admits(self, profile: ServerProfile) -> bool:
        """A mail may be sent to one of the profile's servers now."""
        return any(not self._why_not(profile, self._of(profile, server)) for server in profile.server_texts)

    def facts(self, profile: ServerProfile, server: str, epoch: Callable[[float], float | None]) -> dict[str, object]:
        """What is known of a server of the profile, for its live row. `epoch` makes epoch seconds of this clock's."""
        to = self._of(profile, server)
        endpoint, identity, lock = to.endpoint, to.identity, to.identity.lock
        locked = lock is not None and lock.holds(self.now(), profile.revision)
        last = max((endpoint, identity), key=lambda of: of.fault_at)
        return {
            "endpoint": endpoint.facts(epoch, endpoint.key not in self._drained.left_alone),
            "identity": identity.facts(epoch, identity.key not in self._drained.left_alone),
            "login_locked_until": epoch(lock.until) if lock is not None and locked else None,
            "not_now": self._why_not(profile, to),
            "in_use": endpoint.in_use,
            "limit": endpoint.limit.limit,
            "ceiling": endpoint.limit.ceiling,
            **to.tally.facts(epoch),
            "served_at": epoch(endpoint.state.served_at),
            "last_fault": last.fault,
            "last_fault_at": epoch(last.fault_at),
        }

    def _why_not(self, profile: ServerProfile, to: _Server) -> str:
        endpoint, identity = to.endpoint, to.identity
        if to.drain is not None and to.drain.holds(self._clock.now()):
            return to.drain.why
        if not circuit.admits(endpoint.state):
            return endpoint.why_not
        if not circuit.admits(identity.state):
            return identity.why_not
        if identity.lock is not None:
            if identity.lock.holds(self.now(), profile.revision):
                return "the login was refused there and is left alone for 15 minutes"
            identity.lock = None
        if not throttle.has_room(endpoint.limit, endpoint.in_use):
            return f"the limit of {endpoint.limit.limit} open transactions is reached there"
        return ""

    def _of(self, profile: ServerProfile, server: str) -> _Server:
        found = self._found.get((profile.name, profile.revision, server))
        if found is not None:
            return found
        address = _address(server)
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            endpoint = self._endpoints[address] = _Endpoint(address, self.now(), self.ceiling, self._random())
        key = _identity_key(profile, server)
        identity = self._identities.get(key)
        if identity is None:
            identity = self._identities[key] = _Identity(f"{server} as {profile.name}", self.now(), key)
        endpoint.profile, endpoint.server = profile, server
        identity.profile, identity.server = profile, server
        tally = self._tallies.setdefault((profile.name, server), Tally())
        drain = self._drained.of(profile.name, server)
        made = self._found[profile.name, profile.revision, server] = _Server(endpoint, identity, tally, drain)
        return made

    # --- drains -------------------------------------------------------------------------------------------

    @property
    def drained(self) -> Collection[tuple[str, str]]:
        """Profiles and servers that mail is kept from."""
        return self._drained.servers

    def drain(self, drains: Mapping[tuple[str, str], Drain]) -> None:
        """Exactly these are left out from now on, and each no longer than it holds. Mail of a profile that has a
        server back is woken, as when a circuit closes."""
        self._have_back(self._drained.take(drains, self._clock.now()))

    def _have_back(self, profiles: Collection[str] | None) -> None:
        """None: no drain has changed."""
        if profiles is not None:
            self._found.clear()
            self._regained.update(profiles)

    # --- steps --------------------------------------------------------------------------------------------

    def step(self, of: _Circuit, event: circuit.Event) -> None:
        of.state, actions = circuit.step(of.state, event, self.now(), self._random())
        if isinstance(event, Faulted | circuit.ProbeFailed):
            of.fault, of.fault_at = event.reason, self.now()
        for action in actions:
            match action:
                case circuit.Opened(reason):
                    log.warning("circuit opened", server=of.name, reason=reason)
                case circuit.Closed():
                    log.info("circuit closed", server=of.name)
                    self._to_wake.append((of, False))
                case circuit.WakeOne():
                    self._to_wake.append((of, True))
                case circuit.ProbeAt():
                    pass  # `look` comes round every second

    def to_wake(self, profiles: Collection[ServerProfile]) -> list[Wake]:
        """What has come up since it was asked last."""
        found, self._to_wake = self._to_wake, []
        wakes = [Wake(frozenset(p.name for p in profiles if of.is_of(p)), first) for of, first in found]
        regained, self._regained = frozenset(self._regained), set()
        wakes.append(Wake(regained & {p.name for p in profiles}, first=False))
        return [wake for wake in wakes if wake.profiles]

    def limit(self, endpoint: _Endpoint, event: throttle.Event) -> None:
        endpoint.limit, actions = throttle.step(endpoint.limit, event, self.now())
        for action in actions:
            log.info("limit of open transactions", server=endpoint.name, limit=action.limit)

    def reload(self, ceiling: int) -> None:
        """A new share of `transactions_per_server`: every limit begins at it."""
        if ceiling != self.ceiling:
            self.ceiling = ceiling
            for endpoint in self._endpoints.values():
                endpoint.limit = LimitState(ceiling, ceiling, endpoint.limit.generation + 1)

    def keep_only(self, profiles: Iterable[ServerProfile]) -> None:
        """The inventory changed: what no profile names any more is forgotten."""
        self._found.clear()
        named = self._named = [(profile, server) for profile in profiles for server in profile.server_texts]
        keys = {(p.name, server): (_address(server), _identity_key(p, server)) for p, server in named}
        self._drained.serve(keys)
        self._tallies = {(p.name, server): self._tallies.get((p.name, server), Tally()) for p, server in named}
        addresses, identities = {address for address, _ in keys.values()}, {identity for _, identity in keys.values()}
        self._endpoints = {key: e for key, e in self._endpoints.items() if key in addresses or e.in_use}
        self._identities = {key: i for key, i in self._identities.items() if key in identities}

    def unlock_login(self, profile: ServerProfile) -> int:
        """A TEST of the profile has passed: its login may be tried again. Returns at how many servers it was locked.
        The mail of all that log in so is woken, and circuits that the login has opened are probed at once."""
        identities = {self._of(profile, server).identity for server in profile.server_texts}
        locked = [identity for identity in identities if identity.lock is not None]
        for identity in locked:
            identity.lock = None
            self.step(identity, circuit.ProbeWanted())
            self._regained.update(p.name for p, server in self._named if identity.is_behind(p, server))
            log.info("login unlocked by a test", server=identity.name)
        return len(locked)

    def probe_all(self) -> None:
        """An operator asks: one probe for each open circuit, at once."""
        for of in (*self._endpoints.values(), *self._identities.values()):
            self.step(of, circuit.ProbeWanted())
        self.look()

    # --- probes -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Starts the probes of open circuits that are due, and ends drains; once a second."""
        self._have_back(self._drained.look(self._clock.now()))
        for of in (*self._endpoints.values(), *self._identities.values()):
            if of.state.phase is not circuit.Phase.CLOSED:
                self._look(of, 0)

    def look_at_unused(self, profiles: Iterable[ServerProfile], probe_seconds: float) -> None:
        """Starts the background probes that are due; once a second. A mail that is under way says more than a probe
        would, and takes the room of one."""
        named = [(profile, server) for profile in profiles for server in profile.server_texts]
        for endpoint in {self._of(profile, server).endpoint for profile, server in named}:
            if not endpoint.in_use:
                self._look(endpoint, probe_seconds)

    def _look(self, of: _Circuit, probe_seconds: float) -> None:
        if of.key not in self._drained.left_alone and circuit.probe_due(of.state, self.now(), probe_seconds):
            self.step(of, circuit.ProbeStarted())
            task = asyncio.get_running_loop().create_task(self._probe(of))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    async def _probe(self, of: _Circuit) -> None:
        assert of.profile is not None
        event: circuit.Event = circuit.ProbeAbandoned()
        try:
            whole = isinstance(of, _Identity)
            lock = of.lock if isinstance(of, _Identity) else None
            login = whole and not (lock is not None and lock.holds(self.now(), of.profile.revision))
            found = await self._relay.probe(of.profile, of.server, whole=whole, login=login)
            if login and isinstance(of, _Identity) and found.fault[:3] in _LOGIN_REFUSED:
                of.refused(self.now(), of.profile.revision)
            if not found.fault:
                event = circuit.ProbeSucceeded()
            elif found.blame:
                event = circuit.ProbeFailed(found.fault)
                self._tell_probe_error(of, found.fault)
        finally:
            self.step(of, event)

    def _tell_probe_error(self, of: _Circuit, fault: str) -> None:
        """To every profile that has a server behind the circuit."""
        for profile, server in self._named:
            if of.is_behind(profile, server):
                self._of(profile, server).tally.error(self.now(), PROBE, fault)

    async def stop(self) -> None:
        for probe in self._probes:
            probe.cancel()
        await asyncio.gather(*self._probes, return_exceptions=True)


def _address(server: str) -> str:
    """Host and port of a canonical specification: the endpoint."""
    return server.partition("://")[2]


def _identity_key(profile: ServerProfile, server: str) -> Hashable:
    """Endpoint, TLS settings, login and certificate (design section 3)."""
    return (
        server,
        profile.tls,
        profile.tls_verify,
        profile.tls_name,
        profile.tls_ca,
        profile.tls_pin,
        profile.tls_min,
        profile.username,
        profile.password,
        profile.client_certificate,
        profile.allow_plaintext_auth,
    )


def _under_tls(stage: Stage, answer: ServerAnswer) -> bool:
    """EHLO under TLS is refused for what came of the handshake: Postfix misses a client certificate only then."""
    return stage is Stage.EHLO and answer.way is not None and answer.way.tls != CLEAR_TEXT


def _stops(result: RecipientResult) -> bool:
    return result.result in (Result.SERVER_FAULT, Result.TRANSIENT)


def _code(result: RecipientResult) -> int:
    """Of the reply; 0 if the result has none."""
    return int(result.reply[:3]) if result.reply[:3].isdigit() else 0
