"""Scanning before the reply to the final dot, within a deadline; past it the mail is accepted and scanned afterwards.

There is one reply for all recipients: 550 only if every recipient's disposition is reject; else 250, and the copies
that would have been rejected are quarantined. A mail that cannot be scanned now is accepted, and waits for its scan.
Source: design section 3 (`when`, `reject`).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from posthouse.core.disposition import Action
from posthouse.core.mail import Mail, TrailEntry
from posthouse.core.rule import Rule
from posthouse.core.scan_section import When
from posthouse.core.smtp_reply import Reply, reply
from posthouse.mailflow.judging import Judged
from posthouse.mailflow.notices import Generated
from posthouse.mailflow.scanning import Judgement, Scanning
from posthouse.ports import Clock, Findings
from posthouse.telemetry import logger

log = logger("before-accept")

WHY_LENGTH = 200
_DECIDES = (Action.DELIVER, Action.QUARANTINE, Action.DISCARD, Action.REJECT)
"""What is carried out before acceptance; a mail that is to be scanned again, or has failed, is accepted first."""


@dataclass(frozen=True, slots=True)
class Early:
    """A mail as it is to be stored, judged or not."""

    mail: Mail
    trail: tuple[TrailEntry, ...]
    findings: Findings | None = None
    generated: tuple[Generated, ...] = ()
    refusal: Reply | None = None
    """Instead of 250, once history has it."""
    judged: tuple[Judged, ...] = ()

    def release(self) -> None:
        """After the commit, or instead of one."""
        for each in self.judged:
            each.release()


def deadline(rules: Sequence[Rule | None]) -> float | None:
    """The longest that a sender may wait; None if no rule scans before acceptance."""
    seconds = [
        rule.scan.deadline_seconds
        for rule in rules
        if rule is not None and rule.scan is not None and rule.scan.when is When.BEFORE_ACCEPT
    ]
    return float(max(seconds)) if seconds else None


class BeforeAccept:
    """Judges mails that are not stored yet."""

    def __init__(self, scanning: Scanning, clock: Clock, at_once: int) -> None:
        """`at_once`: how many are judged at the same time; waiting for a turn counts towards the deadline."""
        self._turns = asyncio.Semaphore(at_once)
        self._scanning = scanning
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def judge(self, mail: Mail, trail: Sequence[TrailEntry], seconds: float, done: Callable[[Early], None]) -> None:
        """`done` gets the mail once it is judged, or as it was where that takes too long or fails."""
        task = asyncio.get_running_loop().create_task(self._judge(mail, tuple(trail), seconds, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _judge(
        self, mail: Mail, trail: tuple[TrailEntry, ...], seconds: float, done: Callable[[Early], None]
    ) -> None:
        early = Early(mail, trail)
        judgements: list[Judgement] = []
        try:
            async with asyncio.timeout(seconds), self._turns:
                judgements = await self._scanning.judgements(mail, may_reject=True, before_accept=True)
                early = await self._decided(mail, trail, judgements)
        except TimeoutError:
            log.warning("scan not done within the deadline, accepted first", id=mail.id, seconds=seconds)
        except Exception as error:
            log.warning("scan failed, accepted first", id=mail.id, error=str(error))
        if not early.judged:
            for judged, _ in judgements:
                judged.release()
        done(early)

    async def _decided(self, mail: Mail, trail: tuple[TrailEntry, ...], judgements: Sequence[Judgement]) -> Early:
        decided = [each for each in judgements if each[0].disposition.action in _DECIDES]
        rejected = sum(len(of) for judged, of in decided if judged.disposition.action is Action.REJECT)
        if 0 < rejected < len(mail.recipients):
            decided = [(_kept(judged), of) for judged, of in decided]
        rows, generated = await self._scanning.rows(mail, decided, self._clock.now())
        every = rejected == len(mail.recipients)
        refused = _refusal(mail, decided[0][0]) if every else None
        shown = _reply_shown(trail, refused)
        return Early(
            rows.mail,
            (*shown, *rows.trail),
            rows.findings,
            tuple(generated),
            refused,
            tuple(judged for judged, _ in judgements),
        )


def _kept(judged: Judged) -> Judged:
    """Quarantined instead of rejected: another recipient's copy is accepted with the same reply."""
    if judged.disposition.action is not Action.REJECT:
        return judged
    return replace(judged, disposition=replace(judged.disposition, action=Action.QUARANTINE))


def _refusal(mail: Mail, judged: Judged) -> Reply:
    why = "".join(char if char.isascii() and char.isprintable() else "?" for char in judged.disposition.why)
    return reply(550, "5.7.1", f"Rejected: {why[:WHY_LENGTH]} (id {mail.id})")


def _reply_shown(trail: tuple[TrailEntry, ...], refusal: Reply | None) -> tuple[TrailEntry, ...]:
    """The trail tells the reply that was given."""
    if refusal is None:
        return trail
    first = trail[0]
    told = f"{refusal.code} {refusal.status} {refusal.lines[0]}"
    return (replace(first, detail={**first.detail, "reply": told}), *trail[1:])
