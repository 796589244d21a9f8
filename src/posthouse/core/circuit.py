"""Circuit: keeps a server at fault from being addressed, finds out when it works again, and lets mail back in.

One machine serves both kinds of circuit: of an endpoint (faults of connect and greeting), and of an identity, that is
endpoint + TLS settings + login + certificate (faults of TLS and AUTH). `step` is the whole of it; - is no change:

| Event | CLOSED | OPEN | FIRST_AWAITED | FIRST_OUT |
| --- | --- | --- | --- | --- |
| `SetOut` | - | ValueError | FIRST_OUT | ValueError |
| `Served` | no faults, no back-off | CLOSED, no back-off | CLOSED, no back-off | CLOSED, no back-off |
| `Answered` of this era | no faults | - | - | CLOSED |
| `Withdrawn` of this era | - | - | - | FIRST_AWAITED |
| `Faulted` of this era | one fault more; the third: OPEN | - | - | OPEN |
| `Answered`, `Withdrawn`, `Faulted` of another era | - | - | - | - |
| `ProbeStarted` (ValueError if one is under way) | probing | probing | probing | probing |
| `ProbeSucceeded` (ValueError if none is, as below) | faults of probes taken back | FIRST_AWAITED | - | - |
| `ProbeFailed` | as `Faulted` | waits longer | OPEN | OPEN |
| `ProbeAbandoned` | - | waits as long again | - | - |
| `ProbeWanted` | - | due now, unless probing | - | - |

Every change into OPEN says `Opened` and `ProbeAt`, into FIRST_AWAITED `WakeOne`, into CLOSED `Closed`; a new time of
a probe says `ProbeAt`. FIRST_AWAITED and FIRST_OUT, and OPEN while a probe runs, are what people know as half-open.

An era begins with each opening. What mails under way at that moment come to is of an older era: their faults neither
lengthen the back-off nor open the circuit again later. But a delivery is the best proof there is, whenever its mail
set out, so `Served` has no era. Nor has a probe: there is only one, and its result is news whenever it began.

Source: design section 3 (Circuit).
"""

from dataclasses import dataclass, replace
from enum import Enum
from math import inf

FAULTS_TO_OPEN = 3
"""In a row: a count, not a rate, so that it holds at any load."""
FIRST_WAIT = 10
LONGEST_WAIT = 300
JITTER = 0.2
"""A wait is up to this part shorter, so that the nodes do not probe in step; never longer than the schedule says."""
QUIET_SECONDS = 60
"""After a delivery, a server that is not open is not probed for so long."""
SPREAD_SECONDS = 10
"""At `Closed`, deferred mails are woken spread over so long."""


class Phase(Enum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    FIRST_AWAITED = "first mail awaited"
    """A probe succeeded: one mail may go first."""
    FIRST_OUT = "first mail out"
    """It is under way; further mails wait until it is decided."""


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A circuit. All times are seconds of the caller's one clock."""

    since: float
    """When the phase began."""
    phase: Phase = Phase.CLOSED
    era: int = 0
    """Noted when a mail sets out and given back with what became of it."""
    faults: int = 0
    """In a row."""
    probe_faults: int = 0
    """How many of them were of probes. A probe that succeeds takes these back and no more: they came in no row."""
    waits: int = 0
    """Back-off: how many waits for a probe have passed or begun since the last delivery."""
    reason: str = ""
    """Text of the last fault."""
    probing: bool = False
    probed_at: float = -inf
    """When the last probe began."""
    chance: float = 0.0
    """In [0, 1), drawn then: how much sooner than by the schedule the next background probe comes."""
    next_probe_at: float = inf
    served_at: float = -inf
    """When the last delivery was made."""

    @property
    def half_open(self) -> bool:
        """For people, who know three states: closed, open and this."""
        return self.phase in (Phase.FIRST_AWAITED, Phase.FIRST_OUT) or (self.phase is Phase.OPEN and self.probing)


@dataclass(frozen=True, slots=True)
class SetOut:
    """A mail is about to be sent there; only while `admits`. Exactly one of the next four follows."""


@dataclass(frozen=True, slots=True)
class Served:
    """A real delivery: the server relayed the mail for at least one recipient."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The server was not at fault, yet relayed nothing (refused the mail, or wants it later)."""

    era: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The mail came back without a word on the server: cancelled, or throttled."""

    era: int


@dataclass(frozen=True, slots=True)
class Faulted:
    """Server's fault."""

    era: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeStarted:
    """Exactly one of the next three follows."""


@dataclass(frozen=True, slots=True)
class ProbeSucceeded:
    pass


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeAbandoned:
    """Cancelled before it had a result."""


@dataclass(frozen=True, slots=True)
class ProbeWanted:
    """An operator asks: one probe at once."""


Event = (
    SetOut
    | Served
    | Answered
    | Withdrawn
    | Faulted
    | ProbeStarted
    | ProbeSucceeded
    | ProbeFailed
    | ProbeAbandoned
    | ProbeWanted
)


@dataclass(frozen=True, slots=True)
class Opened:
    """No mail goes there any more. To be told; `ProbeAt` comes with it."""

    reason: str


@dataclass(frozen=True, slots=True)
class ProbeAt:
    """Look at `probe_due` at this time; replaces an earlier one."""

    at: float


@dataclass(frozen=True, slots=True)
class WakeOne:
    """One deferred mail may go first."""


@dataclass(frozen=True, slots=True)
class Closed:
    """To be told; all deferred mails are woken, spread over `SPREAD_SECONDS`."""


Action = Opened | ProbeAt | WakeOne | Closed
Stepped = tuple[CircuitState, tuple[Action, ...]]


def admits(state: CircuitState) -> bool:
    """A mail may be sent there now, which `SetOut` then tells before anything else can happen."""
    return state.phase is Phase.CLOSED or state.phase is Phase.FIRST_AWAITED


def probe_due(state: CircuitState, now: float, probe_seconds: float = 0) -> bool:
    """A probe is to be started. `probe_seconds`: how often also servers that are not open are probed, up to a fifth
    sooner; 0: never."""
    if state.probing:
        return False
    match state.phase:
        case Phase.OPEN:
            return now >= state.next_probe_at
        case Phase.CLOSED | Phase.FIRST_AWAITED:
            quiet_until = state.served_at + QUIET_SECONDS
            last = max(state.since, state.probed_at)
            return probe_seconds > 0 and now >= max(quiet_until, last + probe_seconds * (1 - JITTER * state.chance))
        case Phase.FIRST_OUT:
            return False


def wait(waits: int, jitter: float) -> float:
    """Seconds to the next probe: 10 s x 2^waits, at most 300 s, less up to a fifth. `jitter` is in [0, 1)."""
    return min(FIRST_WAIT << min(waits, 10), LONGEST_WAIT) * (1 - JITTER * jitter)


def step(state: CircuitState, event: Event, now: float, jitter: float) -> Stepped:
    """The state after `event`, and what is to be done. `jitter` in [0, 1) is chance, used if a wait begins.

    ValueError: a mail set out that was not admitted, or probes were not told one at a time.
    """
    match event:
        case SetOut():
            if not admits(state):
                raise ValueError(f"a mail set out while the circuit was {state.phase.value}")
            if state.phase is Phase.CLOSED:
                return state, ()
            return replace(state, phase=Phase.FIRST_OUT, since=now), ()
        case Served():
            return _close(replace(state, faults=0, probe_faults=0, waits=0, served_at=now), now)
        case Answered(era):
            if era != state.era or state.phase not in (Phase.CLOSED, Phase.FIRST_OUT):
                return state, ()
            return _close(replace(state, faults=0, probe_faults=0), now)
        case Withdrawn(era):
            if era != state.era or state.phase is not Phase.FIRST_OUT:
                return state, ()
            return replace(state, phase=Phase.FIRST_AWAITED, since=now), (WakeOne(),)
        case Faulted(era, reason):
            if era != state.era or state.phase not in (Phase.CLOSED, Phase.FIRST_OUT):
                return state, ()
            return _fault(state, reason, now, jitter)
        case ProbeStarted():
            if state.probing:
                raise ValueError("a second probe started")
            return replace(state, probing=True, probed_at=now, chance=jitter), ()
        case ProbeWanted():
            if state.phase is not Phase.OPEN or state.probing:
                return state, ()
            return replace(state, next_probe_at=now), (ProbeAt(now),)
        case ProbeSucceeded() | ProbeFailed() | ProbeAbandoned():
            if not state.probing:
                raise ValueError("a probe ended that had not started")
            return _probed(replace(state, probing=False), event, now, jitter)


def _probed(
    state: CircuitState, event: ProbeSucceeded | ProbeFailed | ProbeAbandoned, now: float, jitter: float
) -> Stepped:
    """The one probe has ended."""
    is_open = state.phase is Phase.OPEN
    match event:
        case ProbeSucceeded():
            if state.phase is Phase.CLOSED:
                # Only a mail takes faults of mails back: a greeting is less than they were about.
                return replace(state, faults=state.faults - state.probe_faults, probe_faults=0), ()
            if not is_open:
                return state, ()
            return replace(state, phase=Phase.FIRST_AWAITED, since=now, next_probe_at=inf), (WakeOne(),)
        case ProbeFailed(reason):
            if not is_open:
                return _fault(replace(state, probe_faults=state.probe_faults + 1), reason, now, jitter)
            return _await_probe(replace(state, reason=reason), state.waits, now, jitter)
        case ProbeAbandoned():
            return _await_probe(state, state.waits - 1, now, jitter) if is_open else (state, ())


def _fault(state: CircuitState, reason: str, now: float, jitter: float) -> Stepped:
    """A fault that counts. Before the first mail nobody took back those that opened: for it, one is enough."""
    state = replace(state, faults=state.faults + 1, reason=reason)
    if state.faults < FAULTS_TO_OPEN:
        return state, ()
    state = replace(state, phase=Phase.OPEN, since=now, era=state.era + 1)
    state, actions = _await_probe(state, state.waits, now, jitter)
    return state, (Opened(reason), *actions)


def _await_probe(state: CircuitState, waits: int, now: float, jitter: float) -> Stepped:
    """The wait number `waits` begins."""
    at = now + wait(waits, jitter)
    return replace(state, waits=waits + 1, next_probe_at=at), (ProbeAt(at),)


def _close(state: CircuitState, now: float) -> Stepped:
    if state.phase is Phase.CLOSED:
        return state, ()
    return replace(state, phase=Phase.CLOSED, since=now, next_probe_at=inf), (Closed(),)
