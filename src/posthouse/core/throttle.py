"""Throttle: a server that works and wants less of us. Its adaptive limit, and how to tell; and logins left alone.

| Event | Limit |
| --- | --- |
| `Throttled`, of a session begun since the last halving | half, rounded down, at least 1 |
| `Throttled`, of an older session | unchanged: that many at once were the reason for the last halving |
| `Taken`, fewer than `limit` of them since the last change, or less than 10 s after it | unchanged |
| `Taken`, else | 1 more, up to the ceiling |

The limit belongs to the endpoint, whichever profiles name it. A throttled mail goes on to the next server; where none
is left it waits by `retry.next_wait`, which uses up no try. Nothing counts toward a circuit.
Source: design section 3 (Throttle), section 2 item 7 (logins); RFC 3463; RFC 4954 section 6.
"""

from dataclasses import dataclass, replace
from math import inf

from posthouse.core.outcome import Stage
from posthouse.core.smtp_reply import Reply

HOLD_SECONDS = 10
"""The limit grows no sooner after its last change, so from 1 to 20 in no less than 190 s."""
WORKED_SECONDS = 60
LOGIN_LOCK_SECONDS = 900

CODES = frozenset({421, 450, 451, 452})
STAGES = frozenset({Stage.GREETING, Stage.EHLO, Stage.MAIL})
"""Never RCPT, where the same replies are about the recipient (greylisting, a full mailbox)."""
OUTRIGHT = (
    "too many connections",
    "too many concurrent",
    "too many open connections",
    "too many sessions",
    "too many smtp sessions",
    "too many simultaneous",
    "number of concurrent",
    "concurrent connections",
    "concurrency limit",
    "connection limit",
    "connection rate",
    "rate limit",
    "submission rate",
    "too much mail",
)
"""In lower case; say it whatever the status: Exim sends none, Exchange sends 4.4.2 with its submission rate."""
VAGUE = (
    "throttl",
    "server busy",
    "too busy",
    "overload",
    "high load",
    "load too high",
    "exceeded threshold",
    "unusual rate",
)
"""Say it only with 4.3.2 or 4.7.x. Those alone do not: 4.7.x is greylisting too, 4.3.2 a server that shuts down."""

LOGIN_REFUSED = frozenset({534, 535})
"""Replies to AUTH after which the login is left alone at that endpoint: accounts get locked."""


@dataclass(frozen=True, slots=True)
class LimitState:
    """How many mail transactions may be open at one endpoint; on each worker its share of the node's limit."""

    limit: int
    """In [1, ceiling]."""
    ceiling: int
    """This worker's share of `transactions_per_server`, at least 1."""
    generation: int = 0
    """Noted when a session begins, or begins a transaction; given back if it is throttled."""
    taken: int = 0
    """Mails since the last change of the limit; counted only below the ceiling."""
    changed_at: float = -inf


@dataclass(frozen=True, slots=True)
class Throttled:
    """`is_throttle` held, and so did `worked_recently`."""

    generation: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The server did its service for a mail."""


Event = Throttled | Taken


@dataclass(frozen=True, slots=True)
class Halved:
    """To be told."""

    limit: int


@dataclass(frozen=True, slots=True)
class Raised:
    """To be told; one transaction more may begin."""

    limit: int


Action = Halved | Raised


def unthrottled(ceiling: int) -> LimitState:
    """The limit as it is at first. ValueError if `ceiling` is below 1."""
    if ceiling < 1:
        raise ValueError(f"no transaction at all would be allowed: {ceiling}")
    return LimitState(ceiling, ceiling)


def has_room(state: LimitState, in_use: int) -> bool:
    """One transaction more may begin. `in_use`: those open, which may exceed a limit just halved."""
    return in_use < state.limit


def step(state: LimitState, event: Event, now: float) -> tuple[LimitState, tuple[Action, ...]]:
    """The state after `event`, and what is to be done. `now`: seconds of the caller's one clock."""
    match event:
        case Taken():
            if state.limit >= state.ceiling:
                return state, ()
            taken = state.taken + 1
            if taken < state.limit or now - state.changed_at < HOLD_SECONDS:
                return replace(state, taken=taken), ()
            limit = state.limit + 1
            return replace(state, limit=limit, taken=0, changed_at=now), (Raised(limit),)
        case Throttled(generation):
            if generation != state.generation:
                return state, ()
            limit = max(1, state.limit // 2)
            halved = replace(state, limit=limit, generation=generation + 1, taken=0, changed_at=now)
            return halved, (Halved(limit),) if limit < state.limit else ()


def is_throttle(stage: Stage, reply: Reply) -> bool:
    """The reply says that we are too many or too fast. Only if `worked_recently` does that make it a throttle."""
    if stage not in STAGES or reply.code not in CODES:
        return False
    text = " ".join(reply.lines).lower()
    if any(words in text for words in OUTRIGHT):
        return True
    vague_counts = reply.status == "4.3.2" or reply.status.startswith("4.7.")
    return vague_counts and any(words in text for words in VAGUE)


def worked_recently(served_at: float, others_working: bool, now: float) -> bool:
    """The endpoint works for us: another session has an open transaction there, or one was served in the last 60 s.

    Otherwise it is no throttle: 421 is the server's fault and 45x a transient fault.
    """
    return others_working or now - served_at <= WORKED_SECONDS


@dataclass(frozen=True, slots=True)
class LoginLock:
    """A login that got 534 or 535 at an endpoint: not tried there for 15 min, unless the profile is edited.

    Revisions grow over all profiles, so an older one of another profile with the same login is no edit.

    Who hears of a TEST that passed forgets the lock.
    """

    locked_at: float
    revision: int
    """Of the profile, when it was locked."""

    @property
    def until(self) -> float:
        return self.locked_at + LOGIN_LOCK_SECONDS

    def holds(self, now: float, revision: int) -> bool:
        """`revision`: of the profile now."""
        return revision <= self.revision and now < self.until
