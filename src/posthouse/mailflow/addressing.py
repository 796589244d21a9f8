"""Address a profile's servers in preference order until one does the service.

The walk follows the failure table of design section 3 (what each result means is decided in `core/reply.py`):
a server's fault or the message's transient fault leads to the next server, a permanent reply ends the walk for
that recipient, a 4yz to RCPT waits for the schedule, and a lost reply to the final dot gets one more try at once
on a fresh connection to the same server and goes no further in this attempt.
"""

from dataclasses import dataclass

from posthouse.core.envelope import Recipient
from posthouse.core.mail import AttemptRow, MailRecipient, content_size
from posthouse.core.outcome import RecipientResult, Result, ServerAnswer, Stage, Transaction
from posthouse.core.profile import ServerProfile
from posthouse.mailflow.active import Parcel
from posthouse.mailflow.servers import LoginUnderWay, NotNow, Servers, Ticket
from posthouse.ports import Clock, MayFinish, Relay

DUPLICATE = "possible duplicate"
_GOES_ON = (Result.SERVER_FAULT, Result.TRANSIENT, Result.THROTTLED)
"""What leads to the next server."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Where the walk left one recipient."""

    result: RecipientResult
    server: str
    """Canonical specification of the server that gave the result; empty if none was addressed."""
    dsn_offered: bool = False


@dataclass(frozen=True, slots=True)
class Walked:
    """What a walk yielded."""

    settled: dict[int, Settled]
    """By recipient seq; every recipient of the parcel is in it."""
    attempts: tuple[AttemptRow, ...]
    served_by: str = ""
    """The server that did the service, for round robin; empty if none did."""
    passed_over: tuple[tuple[str, str], ...] = ()
    """Servers that could not be addressed now, each with the reason."""

    @property
    def nowhere(self) -> bool:
        """No server was addressed, for none could be: nothing has happened to the mail."""
        return bool(self.passed_over) and not self.attempts


class Walk:
    """One delivery attempt of one parcel over the servers of its profile."""

    def __init__(
        self,
        relay: Relay,
        clock: Clock,
        parcel: Parcel,
        servers: Servers,
        profile: ServerProfile | None,
        order: tuple[str, ...],
        may_finish: MayFinish,
    ) -> None:
        """`profile` None: there is none of that name any more, so nothing can be addressed."""
        self._relay, self._clock, self._parcel, self._servers = relay, clock, parcel, servers
        self._passed_over: list[tuple[str, str]] = []
        self._profile, self._order, self._may_finish = profile, order if profile is not None else (), may_finish
        self._settled: dict[int, Settled] = {}
        self._attempts: list[AttemptRow] = []
        self._served_by = ""

    async def run(self) -> Walked:
        """Goes on until every recipient is settled or the order is exhausted."""
        pending = self._parcel.recipients
        for server in self._order:
            assert self._profile is not None
            leave = self._servers.set_out(self._profile, server)
            if isinstance(leave, LoginUnderWay):
                leave = await self._servers.set_out_later(self._profile, server)
            if isinstance(leave, NotNow):
                self._passed_over.append((server, leave.why))
                continue
            try:
                pending = await self._address(server, pending, leave)
            finally:
                leave.withdraw()
            if not pending:
                break
        for recipient in pending:
            if recipient.seq not in self._settled:
                self._settled[recipient.seq] = Settled(self._unaddressed(), "")
        return Walked(self._settled, tuple(self._attempts), self._served_by, tuple(self._passed_over))

    def _unaddressed(self) -> RecipientResult:
        if self._passed_over:
            server, why = self._passed_over[0]
            return RecipientResult(Result.WAITS, f"no server may be addressed now; {server}: {why}", "4.3.2")
        return RecipientResult(Result.SERVER_FAULT, "the profile has no server to address", "4.4.4")

    async def _address(
        self, server: str, pending: tuple[MailRecipient, ...], leave: Ticket
    ) -> tuple[MailRecipient, ...]:
        """Addresses one server; returns the recipients that go on to the next."""
        marks = (DUPLICATE,) if any(r.uncertain_at for r in pending) else ()
        answer = await self._send(server, pending, marks, leave)
        lost = tuple(
            recipient
            for recipient, result in zip(pending, answer.recipients, strict=True)
            if result.result is Result.UNCERTAIN
        )
        if lost:  # one more try at once, on a fresh connection to the same server
            second = await self._send(server, lost, (DUPLICATE,), leave, fresh=True)
            for recipient, result in zip(lost, second.recipients, strict=True):
                if result.result in (*_GOES_ON, Result.LATER):
                    # Nobody knows whether the first try arrived: this recipient stays uncertain.
                    held = RecipientResult(Result.UNCERTAIN, result.reply, result.status, Stage.FINAL_DOT)
                    self._settled[recipient.seq] = Settled(held, server)
        return tuple(recipient for recipient in pending if self._settled[recipient.seq].result.result in _GOES_ON)

    async def _send(
        self,
        server: str,
        recipients: tuple[MailRecipient, ...],
        marks: tuple[str, ...],
        leave: Ticket,
        *,
        fresh: bool = False,
    ) -> ServerAnswer:
        """One transaction with one server, kept as an attempt row."""
        assert self._profile is not None
        mail = self._parcel.mail
        started, clock = self._clock.now(), self._clock.monotonic()
        answer = await self._relay.send(
            self._profile,
            server,
            Transaction(
                reverse_path=mail.reverse_path,
                recipients=tuple([Recipient(r.address, r.notify, r.orcpt) for r in recipients]),
                prefix=mail.trace_field,
                content=mail.contents[self._parcel.version],
                size=content_size(mail, self._parcel.version) + len(mail.trace_field),
                body=mail.body,
                smtputf8=mail.smtputf8,
                ret=mail.ret,
                envid=mail.envid,
            ),
            self._may_finish,
            fresh=fresh or leave.tries_login,
            logged_in=leave.login_accepted if leave.tries_login else None,
        )
        if fresh or not any(r.result is Result.UNCERTAIN for r in answer.recipients):
            answer = leave.tell(answer)  # an uncertain outcome is told when its further try is over
        for recipient, result in zip(recipients, answer.recipients, strict=True):
            self._settled[recipient.seq] = Settled(result, server, answer.dsn_offered)
        if not answer.fault and answer.recipients[0].result is not Result.THROTTLED:
            self._served_by = server
        outcome = _outcome(answer)
        marks = (*marks, *answer.marks)
        self._attempts.append(
            AttemptRow(
                started_at=started,
                seconds=self._clock.monotonic() - clock,
                profile=self._parcel.profile,
                server=server,
                order=self._order,
                outcome=outcome,
                summary=answer.fault or answer.recipients[0].reply,
                replies=tuple(
                    [
                        (recipient.seq, result.result.value, result.reply)
                        for recipient, result in zip(recipients, answer.recipients, strict=True)
                    ]
                ),
                transcript=answer.transcript if outcome != "relayed" or marks else (),
                marks=marks,
                way=answer.way,
                mail_number=answer.mail_number,
            )
        )
        return answer


def _outcome(answer: ServerAnswer) -> str:
    """The attempt in one word."""
    results = {result.result for result in answer.recipients}
    return next(iter(results)).value if len(results) == 1 else "mixed"
