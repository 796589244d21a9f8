"""Fakes for tests of the flow: one fake clock, a spool in memory, a relay that answers from a script."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from posthouse.core.envelope import Body, SessionFacts
from posthouse.core.inventory import Inventory, build_inventory
from posthouse.core.mail import Content, InlineOctets, Mail, MailId, MailRecipient, RecipientState, TrailEntry
from posthouse.core.outcome import Probed, RecipientResult, Result, ServerAnswer, Transaction
from posthouse.core.profile import ServerProfile
from posthouse.mailflow.delivery import Delivery
from posthouse.ports import Acted, Age, ContentSink, Done, Findings, Kept, Outcome, QueueCommand, Tools
from posthouse.settings import NodeSettings, OwnMail
from posthouse.telemetry import DeliveryLog

A, B, C = "smtp://10.0.0.1:25", "smtp://10.0.0.2:25", "smtp://10.0.0.3:25"
OWN = OwnMail("exchange", "postmaster@ours.example", "admin@ours.example")


@dataclass
class FakeClock:
    """Stands still until a test moves it."""

    at: float = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@dataclass
class MemorySpool:
    """Keeps what the flow stores; commits at once unless `errors` says otherwise."""

    accepted: list[tuple[Mail, tuple[TrailEntry, ...]]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    waiting: list[Mail] = field(default_factory=list)
    woken: list[tuple[frozenset[str], float, int | None]] = field(default_factory=list)
    """What `wake` was asked: profiles, seconds, most."""
    acted: list[QueueCommand] = field(default_factory=list)
    wake_errors: list[Exception] = field(default_factory=list)
    space: int = 1 << 40
    commits: list[Done] | None = None
    """With a list, each mail's commit is under way until the test calls what is in it."""
    renewals: list[bool] = field(default_factory=list)
    """The lease must be renewed so many times; what comes of each."""

    found: list[tuple[MailId, Findings]] = field(default_factory=list)
    unscanned: list[Mail] = field(default_factory=list)
    kept: dict[MailId, Kept] = field(default_factory=dict)
    leased: set[MailId] = field(default_factory=set)
    """What `take_kept` has given away."""
    obeyed: dict[MailId, int] = field(default_factory=dict)
    discarded: list[Content] = field(default_factory=list)

    def accept(
        self,
        mail: Mail,
        trail: Sequence[TrailEntry],
        done: Done,
        alone: Callable[[], None] = lambda: None,
        findings: Findings | None = None,
    ) -> None:
        if self.commits is not None:
            self.commits.append(done)
            alone()
            return
        if self.errors:
            done(self.errors.pop(0))
            return
        self.accepted.append((mail, tuple(trail)))
        if findings is not None:
            self.found.append((mail.id, findings))
        done(None)

    def record(self, outcome: Outcome, done: Done) -> None:
        if self.errors:
            done(self.errors.pop(0))
            return
        self.outcomes.append(outcome)
        if outcome.findings is not None:
            self.found.append((outcome.mail.id, outcome.findings))
        if outcome.command:
            self.obeyed[outcome.mail.id] = outcome.command
        if outcome.forget:
            self.kept.pop(outcome.mail.id, None)
        self.leased.discard(outcome.mail.id)
        done(None)

    async def seal(self, content: Content) -> Content:
        return replace(content, sealed=True)

    async def unseal(self, content: Content) -> Content:
        return replace(content, sealed=False)

    def discard(self, content: Content) -> None:
        self.discarded.append(content)

    async def take_unscanned(self, now: float, limit: int, octets: int, age: Age | None = None) -> list[Mail]:
        taken, self.unscanned = self.unscanned[:limit], self.unscanned[limit:]
        return taken

    async def take_kept(self, mail_id: MailId, command: int) -> Kept | None:
        if mail_id in self.leased or self.obeyed.get(mail_id, 0) >= command or mail_id not in self.kept:
            return None
        self.leased.add(mail_id)
        return self.kept[mail_id]

    async def give_back(self, mail_id: MailId) -> None:
        self.leased.discard(mail_id)

    def open_content(self) -> ContentSink:
        raise NotImplementedError

    async def take_due(self, profile: str, now: float, limit: int, octets: int, age: Age | None = None) -> list[Mail]:
        taken = [m for m in self.waiting if m.recipients[0].profile == profile][:limit]
        self.waiting = [m for m in self.waiting if m not in taken]
        return taken

    async def next_due(self) -> Mapping[str, float]:
        return {m.recipients[0].profile: 0.0 for m in self.waiting}

    async def wake(self, profiles: Collection[str], now: float, seconds: float, most: int | None = None) -> int:
        if self.wake_errors:
            raise self.wake_errors.pop(0)
        self.woken.append((frozenset(profiles), seconds, most))
        return 0

    async def take_back(self, now: float) -> int:
        return 0

    def lease_fresh(self) -> bool:
        return not self.renewals

    async def renew(self) -> bool:
        return self.renewals.pop(0)

    def free_octets(self) -> int:
        return self.space

    async def act(self, command: QueueCommand, now: float) -> Acted:
        self.acted.append(command)
        return Acted(0)

    async def purge(self, now: float, failed_seconds: float) -> int:
        return 0

    async def close(self) -> None:
        return None


def result(kind: Result, reply: str = "", status: str = "") -> RecipientResult:
    return RecipientResult(kind, reply or kind.value, status)


RELAYED = result(Result.RELAYED, "250 2.0.0 ok", "2.0.0")
FAULT = result(Result.SERVER_FAULT, "connection refused", "4.4.1")
OURS = result(Result.SERVER_FAULT, "the mail is no longer this worker's", "4.3.2")
"""The final dot was not allowed: nobody's fault."""
PERMANENT = result(Result.PERMANENT, "550 5.1.1 no such user", "5.1.1")
TRANSIENT = result(Result.TRANSIENT, "451 4.3.0 busy", "4.3.0")
LATER = result(Result.LATER, "450 4.2.0 greylisted", "4.2.0")
UNCERTAIN = result(Result.UNCERTAIN, "connection lost after the final dot", "4.4.2")


@dataclass
class ScriptedRelay:
    """Answers each server's transactions from a list, one entry a transaction; RELAYED when it is empty."""

    script: dict[str, list[dict[str, RecipientResult] | RecipientResult]] = field(default_factory=dict)
    sent: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)
    probed: list[tuple[str, bool, bool]] = field(default_factory=list)
    probe_faults: dict[str, str] = field(default_factory=dict)
    blame: bool = True
    """Faults of probes are the server's."""
    dsn_offered: bool = False
    gate: asyncio.Event | None = None
    finished: int = 0
    """How many final dots have left."""

    async def send(
        self,
        profile: ServerProfile,
        server: str,
        transaction: Transaction,
        may_finish: Callable[[], bool | Awaitable[bool]],
        *,
        fresh: bool = False,
        logged_in: Callable[[], None] | None = None,
    ) -> ServerAnswer:
        self.fresh.append(fresh)
        if self.gate is not None:
            await self.gate.wait()
        self.sent.append((server, tuple(r.address for r in transaction.recipients)))
        answers = self.script.get(server, [])
        answer = answers.pop(0) if answers else RELAYED
        if answer is RELAYED:
            allowed = may_finish()
            if allowed if isinstance(allowed, bool) else await allowed:
                self.finished += 1
            else:
                answer = OURS
        results = tuple(
            answer if isinstance(answer, RecipientResult) else answer.get(r.address, RELAYED)
            for r in transaction.recipients
        )
        if logged_in is not None and any(r.result is not Result.SERVER_FAULT for r in results):
            logged_in()
        at_fault = answer is not OURS and all(r.result is Result.SERVER_FAULT for r in results)
        return ServerAnswer(results, results[0].reply if at_fault else "", self.dsn_offered, ("S: ...",))

    async def probe(self, profile: ServerProfile, server: str, *, whole: bool, login: bool) -> Probed:
        self.probed.append((server, whole, login))
        return Probed(self.probe_faults.get(server, ""), self.blame)

    @property
    def servers(self) -> list[str]:
        return [server for server, _ in self.sent]


def inventory(preference: str = "failover", servers: Sequence[str] = (A, B, C), revision: int = 1) -> Inventory:
    profiles = [
        {"name": "exchange", "type": "smtp", "servers": list(servers), "preference": preference},
        {"name": "other", "type": "smtp", "servers": [C]},
    ]
    rules = [
        {"name": "inbound", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "exchange"}},
        {"name": "second", "match": {"recipients": ["*@other.example"]}, "relay": {"profile": "other"}},
    ]
    return build_inventory(revision, [(p, 1) for p in profiles], rules)


_numbers = iter(range(1_000_000))


def new_id() -> MailId:
    return MailId(f"mail{next(_numbers):012d}")


def mail(
    *addresses: str, at: float = 1_000_000.0, octets: bytes = b"Subject: x\r\n\r\nx\r\n.\r\n", **more: object
) -> Mail:
    made = Mail(
        id=new_id(),
        received_at=at,
        session=SessionFacts("192.0.2.1", 1234, "client.example", "ESMTP", "127.0.0.1:25"),
        reverse_path="sender@outside.example",
        body=Body.UNSTATED,
        smtputf8=False,
        ret="",
        envid="",
        trace_field=b"Received: from us\r\n",
        contents=(Content(InlineOctets(octets)),),
        recipients=tuple(
            MailRecipient(seq, address, "inbound", "exchange", due_at=at) for seq, address in enumerate(addresses)
        ),
        size=len(octets),
    )
    return replace(made, **more)  # type: ignore[arg-type]


@dataclass
class Flow:
    """A delivery over fakes."""

    clock: FakeClock
    spool: MemorySpool
    relay: ScriptedRelay
    delivery: Delivery
    settings: NodeSettings
    tools: Tools

    async def run(self, *mails: Mail) -> None:
        """Enqueues mails as if just committed and waits until nothing is under way."""
        for one in mails:
            self.delivery.enqueue(self.delivery.admit(one))
        await self.settle()

    async def settle(self) -> None:
        while self.delivery._tasks:
            await asyncio.wait(set(self.delivery._tasks))

    def states(self, outcome: int = -1) -> dict[str, RecipientState]:
        return {r.address: r.state for r in self.spool.outcomes[outcome].recipients}


def flow(
    script: dict[str, list[dict[str, RecipientResult] | RecipientResult]] | None = None,
    *,
    preference: str = "failover",
    settings: NodeSettings | None = None,
    per_server: int = 20,
    random: float = 0.0,
) -> Flow:
    clock, spool, relay = FakeClock(), MemorySpool(), ScriptedRelay(script or {})
    chosen = settings or NodeSettings("mx.ours.example", own_mail=OWN)
    tools = Tools(clock, spool, relay, new_id, lambda: random)
    delivery = Delivery(tools, chosen, inventory(preference), per_server, DeliveryLog("test"))
    return Flow(clock, spool, relay, delivery, chosen, tools)
