"""Takes mail that is to be scanned, has it judged, records what comes of it, and hands on what is to be delivered.

A mail waits in memory, in the line of the scan profiles that its rules name; a line whose scanner has no server that
may be asked stands still, and nothing is written for it. What does not fit stays in the database at `Stage.SCAN`:
that alone keeps it from being relayed, whatever becomes of this process. One mail that ends its examiner costs that
examiner, not the flow.
Source: design section 3; issue 6, items 4, 5 and 10.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from posthouse.core.announcements import Case
from posthouse.core.disposition import Action, Disposition
from posthouse.core.fields import name_key
from posthouse.core.inventory import Inventory
from posthouse.core.mail import (
    InlineOctets,
    Mail,
    MailRecipient,
    RecipientState,
    Stage,
    TrailEntry,
)
from posthouse.core.outcome import RecipientResult, Result
from posthouse.core.rule import Rule
from posthouse.core.scan import Verdict
from posthouse.core.scan_section import When
from posthouse.mailflow.addressing import Settled
from posthouse.mailflow.delivery import Delivery
from posthouse.mailflow.judgement_rows import Rows, put_off, rows_of, with_sealed
from posthouse.mailflow.judging import Judge, Judged
from posthouse.mailflow.notices import Generated, Notices
from posthouse.mailflow.recording import record
from posthouse.mailflow.scan_notices import ScanNotices
from posthouse.mailflow.settling import ends_and_deferrals, settled
from posthouse.ports import Age, ContentUnreadable, Outcome, QueueCommand, SecretUnreadable, Tools
from posthouse.scan_ports import ExaminationFailed, ExaminerUnavailable, ScanProfiles
from posthouse.settings import NodeSettings
from posthouse.telemetry import DeliveryLog, logger

log = logger("scanning")

TICK_SECONDS = 1.0
OLD_TICKS = 60
SHARE = 4
"""Mail that waits to be scanned holds at most one part of so many of a worker's memory."""
REFILL_MAILS = 100
LATER_SECONDS = 60.0
"""So long mail of a line that stands still stays in the database, when others are due."""

Line = tuple[str, ...]
"""Scan profiles, in order: mails with the same ones wait for the same scanners."""
Judgement = tuple[Judged, Sequence[MailRecipient]]
"""Of one rule, with the recipients that it is for."""


@dataclass(slots=True)
class _Waiting:
    mails: deque[Mail] = field(default_factory=deque)
    octets: int = 0


class Scanning:
    """One worker's; `inventory` and `settings` are swapped whole on reload."""

    def __init__(
        self,
        tools: Tools,
        judge: Judge,
        scanners: ScanProfiles,
        delivery: Delivery,
        settings: NodeSettings,
        inventory: Inventory,
        results: DeliveryLog,
    ) -> None:
        self._tools, self._judge, self._scanners, self._delivery = tools, judge, scanners, delivery
        self.settings = settings
        self.inventory = inventory
        self._results = results
        self._notices = ScanNotices(settings, tools)
        self._lines: dict[Line, _Waiting] = {}
        self._held = 0
        self._held_octets = 0
        self._running: set[asyncio.Task[None]] = set()
        self._backlog = False
        """More may be due in the database than memory took."""
        self._refilling = False
        self._stopping = False
        self.scanned = 0
        self.bad = 0

    def reload(self, settings: NodeSettings) -> None:
        self.settings = self._judge.settings = self._notices.settings = settings

    # --- new mail ----------------------------------------------------------------------------------------

    def admit(self, mail: Mail) -> Mail:
        """Before the commit: what memory has no room for waits in the database."""
        if not _to_scan(mail):
            return mail
        octets = _octets(mail)
        if self._has_room(self._line(mail), octets):
            self._hold(1, octets)
            return mail
        self._backlog = True
        return replace(mail, recipients=tuple([_waiting(r) if _is_to_scan(r) else r for r in mail.recipients]))

    def withdraw(self, mail: Mail) -> None:
        """The commit failed: gives back what `admit` took."""
        if _to_scan(mail):
            self._hold(-1, -_octets(mail))

    def enqueue(self, mail: Mail) -> None:
        """The commit is durable."""
        if _to_scan(mail):
            self._put(mail)
            self._start()

    def _has_room(self, line: Line, octets: int) -> bool:
        """No line holds more than half, so that a dead scanner does not stop the others."""
        limits, waiting = self.settings.limits, self._lines.get(line)
        most, most_octets = max(1, limits.memory_mails // SHARE), limits.memory_octets // SHARE
        if self._held >= most or self._held_octets + octets > most_octets:
            return False
        if waiting is None or not waiting.mails:
            return True
        return len(waiting.mails) < max(1, most // 2) and waiting.octets + octets <= most_octets // 2

    def _hold(self, mails: int, octets: int) -> None:
        self._held += mails
        self._held_octets += octets

    def _put(self, mail: Mail) -> None:
        waiting = self._lines.setdefault(self._line(mail), _Waiting())
        waiting.mails.append(mail)
        waiting.octets += _octets(mail)

    def _line(self, mail: Mail) -> Line:
        names: list[str] = []
        for name in dict.fromkeys(r.rule for r in _to_scan(mail)):
            rule = self._rule(name)
            if rule is not None and rule.scan is not None:
                names += rule.scan.profiles
        return tuple(dict.fromkeys(names))

    def _rule(self, name: str) -> Rule | None:
        """As it is now."""
        key = name_key(name)
        return next((rule for rule in self.inventory.policy.rules if name_key(rule.name) == key), None)

    # --- the loop ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Looks for mail that is to be scanned until cancelled."""
        turn = 0
        while True:
            try:
                self._start()
                await self._refill()
                turn += 1
                if turn % OLD_TICKS == 0:
                    await self._look_for_old()
            except Exception as error:
                log.error("mail to be scanned not looked for", error=repr(error))
            await asyncio.sleep(TICK_SECONDS)

    def _start(self) -> None:
        """Lines take turns."""
        while len(self._running) < self.settings.limits.scans and not self._stopping:
            line = next((line for line, waiting in self._lines.items() if waiting.mails and self._may_go(line)), None)
            if line is None:
                break
            waiting = self._lines.pop(line)
            mail = waiting.mails.popleft()
            waiting.octets -= _octets(mail)
            if waiting.mails:
                self._lines[line] = waiting  # at the end
            task = asyncio.get_running_loop().create_task(self._scan(mail))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._start()

    def _may_go(self, line: Line) -> bool:
        """Every scanner has a server that may be asked. One that the inventory does not have fails at once, as the
        rule says."""
        profiles = [self.inventory.profiles.get(name) for name in line]
        return all(profile is None or self._scanners.admits(profile) for profile in profiles)

    async def _refill(self) -> None:
        """Takes due mail from the database; what waits for a line that stands still goes back for a while, so that
        others get their turn."""
        if self._refilling or self._stopping:
            return
        limits = self.settings.limits
        room = max(1, limits.memory_mails // SHARE) - self._held
        octets = limits.memory_octets // SHARE - self._held_octets
        if room <= 0 or octets <= 0:
            return
        self._refilling = True
        try:
            asked = min(room, REFILL_MAILS)
            taken = await self._tools.spool.take_unscanned(self._tools.clock.now(), asked, octets)
            self._backlog = len(taken) == asked
            for mail in taken:
                line = self._line(mail)
                if self._may_go(line) or (not self._backlog and self._has_room(line, _octets(mail))):
                    self._hold(1, _octets(mail))
                    self._put(mail)
                else:
                    await self._back(mail, self._tools.clock.now() + LATER_SECONDS)
        finally:
            self._refilling = False
        self._start()

    async def _back(self, mail: Mail, due_at: float) -> None:
        back = tuple([replace(_waiting(r), due_at=due_at) for r in _to_scan(mail)])
        await record(self._tools.spool, Outcome(mail, back))

    async def _look_for_old(self) -> None:
        """Senders are owed the delay DSN, and the failure DSN at the end, also of mail that cannot be scanned now."""
        now, limits = self._tools.clock.now(), self.settings.limits
        age = Age(untold_before=now - limits.delay_seconds, before=now - limits.lifetime_seconds)
        old = self._take_out(lambda mail: _is_old(mail, age))
        old += await self._tools.spool.take_unscanned(now, REFILL_MAILS, limits.memory_octets // SHARE, age)
        for mail in old:
            found = Settled(RecipientResult(Result.WAITS, "not scanned yet: no scanner may be asked", "4.3.0"), "")
            changed = tuple([settled(mail, r, found, now, limits) for r in _to_scan(mail)])
            await self._record(_Decided(mail, changed, dict.fromkeys([r.seq for r in changed], found)), now)

    async def stop(self, seconds: float) -> None:
        """Lets scans under way end for at most `seconds`; the rest is taken up again at the next start."""
        self._stopping = True
        running = set(self._running)
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def give_back(self, command: QueueCommand) -> None:
        """Before an operator's hold, reroute or delete: what waits in memory goes to the database, where the command
        finds it."""
        for mail in self._take_out(lambda mail: _concerns(command, mail)):
            await self._back(mail, self._tools.clock.now())

    def _take_out(self, wanted: Callable[[Mail], bool]) -> list[Mail]:
        out: list[Mail] = []
        for waiting in self._lines.values():
            chosen = [mail for mail in waiting.mails if wanted(mail)]
            if chosen:
                kept = [mail for mail in waiting.mails if not wanted(mail)]
                waiting.mails = deque(kept)
                waiting.octets = sum(map(_octets, kept))
                out += chosen
        for mail in out:
            self._hold(-1, -_octets(mail))
        return out

    # --- one mail ----------------------------------------------------------------------------------------

    async def _scan(self, mail: Mail) -> None:
        judgements: list[Judgement] = []
        try:
            try:
                judgements = await self.judgements(mail, may_reject=False)
                decided = await self._decided(mail, judgements)
            except ExaminationFailed as error:
                log.warning("examination failed", id=mail.id, why=str(error))
                decided = self._put_off(mail, str(error), blame=True)
            except (ExaminerUnavailable, ContentUnreadable, SecretUnreadable, OSError) as error:
                log.error("not scanned", id=mail.id, why=str(error))
                decided = self._put_off(mail, str(error), blame=False)
            except Exception as error:
                # A bug of ours: the mail waits as one that cannot be scanned, and is never taken for clean.
                log.exception("scan failed", id=mail.id)
                decided = self._put_off(mail, type(error).__name__, blame=True)
            await self._record(decided, self._tools.clock.now())
        finally:
            for judged, _ in judgements:
                judged.release()
            self._hold(-1, -_octets(mail))

    async def judgements(self, mail: Mail, *, may_reject: bool, before_accept: bool = False) -> list[Judgement]:
        """Of each rule whose recipients are to be scanned; `before_accept`: of those only that want it then. Raises
        as `Judge.judge`."""
        groups: dict[str, list[MailRecipient]] = {}
        for recipient in _to_scan(mail):
            if not before_accept or _wants_it_early(self._rule(recipient.rule)):
                groups.setdefault(recipient.rule, []).append(recipient)
        found: list[Judgement] = []
        examined = await self._judge.examine(mail.contents[_to_scan(mail)[0].version])
        try:
            for name, recipients in groups.items():
                rule = self._rule(name)
                if rule is None:
                    found.append((_rule_gone(name), recipients))
                    continue
                addresses = [recipient.address for recipient in recipients]
                judged = await self._judge.judge(
                    mail, rule, addresses, examined, self.inventory, may_reject=may_reject
                )
                found.append((judged, recipients))
        except BaseException:
            for judged, _ in found:
                judged.release()
            raise
        finally:
            examined.close()
        return found

    async def rows(self, mail: Mail, judgements: Sequence[Judgement], now: float) -> tuple[Rows, list[Generated]]:
        """What is to be stored, and notices. Raises OSError, ContentUnreadable and SecretUnreadable where the
        original cannot be sealed for the quarantine."""
        rows = rows_of(mail, judgements, now, self.settings.limits)
        if rows.kept:
            rows = with_sealed(rows, await self._tools.spool.seal(mail.contents[0]))
        generated: list[Generated] = []
        trail: list[TrailEntry] = []
        for judged, recipients in judgements:
            self.scanned += 1
            self.bad += judged.disposition.verdict is not Verdict.CLEAN
            rule = self._rule(judged.rule)
            if rule is not None and judged.disposition.action is not Action.RETRY:
                addresses = [recipient.address for recipient in recipients]
                made, told = self._notices.called_for(mail, rule, judged, addresses, now)
                generated += made
                trail += told
        return replace(rows, trail=(*rows.trail, *trail)), generated

    async def _decided(self, mail: Mail, judgements: Sequence[Judgement]) -> "_Decided":
        rows, generated = await self.rows(mail, judgements, self._tools.clock.now())
        meant = {recipient.seq for recipient in _to_scan(mail)}
        changed = tuple([recipient for recipient in rows.mail.recipients if recipient.seq in meant])
        return _Decided(rows.mail, changed, rows.settled, rows, tuple(generated))

    def _put_off(self, mail: Mail, why: str, *, blame: bool) -> "_Decided":
        now, limits = self._tools.clock.now(), self.settings.limits
        changed, told = put_off(mail, _to_scan(mail), f"not scanned: {why}", now, limits, blame=blame)
        return _Decided(mail, changed, told)

    async def _record(self, decided: "_Decided", now: float) -> None:
        """One commit, with the DSNs that are called for; what is to be relayed goes on in memory."""
        rows, changed, trail = decided.rows, decided.changed, list[TrailEntry]()
        owed = tuple([r for r in changed if r.seq in decided.told])
        generated = list(decided.generated)
        if rows is not None:
            trail += rows.trail
        if owed:
            trail += ends_and_deferrals(owed, now)
            notices = Notices(self.settings, self._tools)
            dsns, owed, told = notices.called_for(decided.mail, owed, decided.told, now)
            generated, trail = [*generated, *dsns], [*trail, *told]
            by_seq = {r.seq: r for r in owed}
            changed = tuple([by_seq.get(r.seq, r) for r in changed])
        mail = self._delivery.admit(replace(decided.mail, recipients=changed))
        own = tuple([(self._delivery.admit(each), tuple(entries)) for each, entries in generated])
        outcome = Outcome(mail, mail.recipients, trail=tuple(trail), generated=own)
        if rows is not None:
            outcome = replace(outcome, contents=rows.contents, findings=rows.findings)
        self._log(mail, now)
        stored = await record(self._tools.spool, outcome)
        for _, content in () if stored else outcome.contents:
            self._tools.spool.discard(content)
        for each in (mail, *(each for each, _ in own)):
            if stored:
                self._delivery.enqueue(each)
            else:
                self._delivery.withdraw(each)

    def _log(self, mail: Mail, now: float) -> None:
        for recipient in mail.recipients:
            if recipient.stage is Stage.RELAY and recipient.state in (RecipientState.ACTIVE, RecipientState.QUEUED):
                continue
            event = "deferred" if recipient.state is RecipientState.QUEUED else recipient.state.value
            age, why = now - mail.received_at, recipient.detail
            self._results.result(now, mail.id, mail.reverse_path, recipient.address, "none", event, "", age, why)


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is to be recorded of one mail."""

    mail: Mail
    changed: tuple[MailRecipient, ...]
    told: Mapping[int, Settled]
    """Of those that wait or have failed."""
    rows: Rows | None = None
    generated: tuple[Generated, ...] = ()


def _wants_it_early(rule: Rule | None) -> bool:
    return rule is not None and rule.scan is not None and rule.scan.when is When.BEFORE_ACCEPT


def _rule_gone(name: str) -> Judged:
    why = f"its security rule {name} is gone, so that nobody knows how to scan it"
    disposition = Disposition(Action.QUARANTINE, Verdict.FAILED, why, {}, (), False, frozenset({Case.FAILED}))
    return Judged(name, disposition)


def _is_to_scan(recipient: MailRecipient) -> bool:
    return recipient.stage is Stage.SCAN and recipient.state is RecipientState.ACTIVE


def _to_scan(mail: Mail) -> list[MailRecipient]:
    return [recipient for recipient in mail.recipients if _is_to_scan(recipient)]


def _waiting(recipient: MailRecipient) -> MailRecipient:
    return replace(recipient, state=RecipientState.QUEUED)


def _octets(mail: Mail) -> int:
    source = mail.contents[0].source
    return source.size if isinstance(source, InlineOctets) else 0


def _concerns(command: QueueCommand, mail: Mail) -> bool:
    meant = mail.id in command.mails if command.mails else mail.received_at <= command.at
    return meant and (not command.profile or any(r.profile == command.profile for r in mail.recipients))


def _is_old(mail: Mail, age: Age) -> bool:
    return mail.received_at < age.before or (
        mail.received_at < age.untold_before and any(not r.delay_told for r in mail.recipients)
    )
