"""TEST of a server profile: what was asked and what came of it, as values, and their JSON.

Each server has a ladder of stages; the first one that fails is its last.
Standards: seed 3.7 ("Testing the configuration"); design 2.11 and section 4 (`server-profile-tests`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class StageName(StrEnum):
    """Stages in the order of a ladder; with implicit TLS `tls` comes before `greeting`."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    """Once in clear text, and once more after STARTTLS."""
    TLS = "tls"
    """STARTTLS and the handshake, or the handshake alone."""
    AUTH = "auth"
    MAIL = "mail"
    """MAIL and RCPT, then RSET: only where an address is given; never DATA."""
    QUIT = "quit"
    PING = "ping"
    """clamd's, after `connect`; then `version` and `eicar`."""
    VERSION = "version"
    """clamd's and MetaDefender Core's."""
    EICAR = "eicar"
    """The test pattern that every scanner finds."""
    READY = "ready"
    """MetaDefender Core says that it scans; a vault answers at its path."""
    KEY = "key"
    """The API key is accepted."""
    LICENCE = "licence"
    """MetaDefender Core's, where the key may see it."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A mail address to ask the server for."""

    mail_from: str
    """Empty for the null reverse-path."""
    rcpt_to: str


@dataclass(frozen=True, slots=True)
class StageResult:
    """What came of one stage."""

    name: StageName
    ok: bool
    seconds: float
    detail: Mapping[str, object] = field(default_factory=dict)
    """JSON. `fault` is the one sentence that tells why it failed; the rest are facts of the stage."""
    transcript: tuple[str, ...] = ()
    """The dialogue of this stage, bounded, secrets masked."""
    advice: str = ""
    """What a mail administrator can do, one sentence; empty where nothing is to be done."""

    @property
    def fault(self) -> str:
        return str(self.detail.get("fault", ""))


Told = Callable[[Sequence[StageResult]], None]
"""Is told the ladder so far whenever it has changed."""


def unheard(_stages: Sequence[StageResult]) -> None:
    """`Told` where nobody watches."""


@dataclass(frozen=True, slots=True)
class ServerResult:
    """The ladder of one server."""

    server: str
    """Canonical specification."""
    stages: tuple[StageResult, ...]

    @property
    def ok(self) -> bool:
        return all(stage.ok for stage in self.stages)


@dataclass(frozen=True, slots=True)
class ProfileResult:
    """The whole test; a profile is good when each of its servers is."""

    servers: tuple[ServerResult, ...]

    @property
    def ok(self) -> bool:
        return all(server.ok for server in self.servers)


def failed(
    name: StageName,
    seconds: float,
    why: str,
    facts: Mapping[str, object] | None = None,
    transcript: tuple[str, ...] = (),
) -> StageResult:
    """A stage that ends its ladder; `why` is one sentence."""
    return StageResult(name, False, seconds, {"fault": why, **(facts or {})}, transcript)


def result_json(result: ProfileResult) -> dict[str, object]:
    """The JSON of design section 4; seconds to the millisecond."""
    return {
        "ok": result.ok,
        "servers": [server_json(server) for server in result.servers],
    }


def server_json(server: ServerResult) -> dict[str, object]:
    """The ladder of one server, also while it grows."""
    return {"server": server.server, "ok": server.ok, "stages": _stages_json(server.stages)}


def summary_json(profile: str, result: ProfileResult | None, *, as_saved: bool) -> dict[str, object]:
    """What the audit log keeps of a test. Without a result it was cut short: `ok` is null."""
    servers = [
        {"server": each.server, "ok": each.ok, "failed_at": None if each.ok else each.stages[-1].name.value}
        for each in (result.servers if result is not None else ())
    ]
    ok = result.ok if result is not None else None
    return {"server_profile": profile, "as_saved": as_saved, "ok": ok, "servers": servers}


def _stages_json(stages: Sequence[StageResult]) -> list[dict[str, object]]:
    return [
        {
            "name": stage.name.value,
            "ok": stage.ok,
            "seconds": round(stage.seconds, 3),
            "detail": dict(stage.detail),
            "transcript": list(stage.transcript),
            "advice": stage.advice,
        }
        for stage in stages
    ]
