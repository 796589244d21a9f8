"""Operators' acts on kept mail: release, forward, rescan, pin, delete.

Each act is one commit with the trail of the kept mail, fenced by its lease and by the number of the command, so that
a mail is released once however many workers hear of it. What leaves is a mail of its own, with its own history: it
passes no rule and no scan (design section 3, "Own mail"), keeps the reverse-path, and gets no DSN.

A release leaves by the server profile that its recipients had, for that is where the mail would have gone; ADR 0012
tells why it is not `own_mail.profile`.
Source: issue 6, items 6 and 7.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from posthouse.core.disposition import Action
from posthouse.core.envelope import SessionFacts
from posthouse.core.fields import name_key
from posthouse.core.inventory import Inventory
from posthouse.core.kept_act import KeptAct, KeptOptions, options_of
from posthouse.core.mail import (
    GONE,
    Content,
    Mail,
    MailId,
    MailRecipient,
    RecipientState,
    Stage,
    TrailEntry,
    content_size,
)
from posthouse.core.rule import Rule
from posthouse.core.scan_section import ACTIONS, OnFailed, OnVerdict, Where
from posthouse.mailflow.delivery import Delivery
from posthouse.mailflow.judging import Judge, Judged
from posthouse.mailflow.recording import record
from posthouse.ports import Acted, ContentUnreadable, Findings, Kept, Outcome, QueueCommand, SecretUnreadable, Tools
from posthouse.scan_ports import ExaminationFailed, ExaminerUnavailable
from posthouse.settings import NodeSettings
from posthouse.telemetry import logger

log = logger("kept")

_OURS = SessionFacts("", 0, "", "", "posthouse")


class CannotAct(Exception):
    """Why it was not done; one sentence, which goes into the trail."""


_NOT_DONE = (CannotAct, ExaminationFailed, ExaminerUnavailable, ContentUnreadable, SecretUnreadable, OSError)


class KeptMail:
    """One worker's; `inventory` and `settings` are swapped whole on reload."""

    def __init__(
        self, tools: Tools, judge: Judge, delivery: Delivery, settings: NodeSettings, inventory: Inventory
    ) -> None:
        self._tools, self._judge, self._delivery = tools, judge, delivery
        self.settings = settings
        self.inventory = inventory

    async def command(self, command: QueueCommand) -> Acted:
        """On the mails that the command names and this worker has."""
        act, options = KeptAct(command.kind), options_of(command.target)
        done: list[MailId] = []
        for mail_id in command.mails:
            kept = await self._tools.spool.take_kept(mail_id, command.id)
            if kept is None:
                continue
            try:
                if await self._act(act, kept, options, command):
                    done.append(mail_id)
            except BaseException:
                await self._tools.spool.give_back(mail_id)
                raise
        return Acted(len(done), tuple(done))

    async def _act(self, act: KeptAct, kept: Kept, options: KeptOptions, command: QueueCommand) -> bool:
        with ExitStack() as loose:
            try:
                match act:
                    case KeptAct.RELEASE:
                        outcome = await self._release(kept, options, command.by, loose)
                    case KeptAct.FORWARD:
                        outcome = await self._forward(kept, options, command.by, loose)
                    case KeptAct.RESCAN:
                        outcome = await self._rescan(kept, options, command.by, loose)
                    case KeptAct.PIN | KeptAct.UNPIN:
                        outcome = self._pin(kept, command.by, pinned=act is KeptAct.PIN)
                    case KeptAct.DELETE:
                        outcome = self._delete(kept, command.by)
            except _NOT_DONE as why:
                log.warning("not done", act=act.value, id=kept.mail.id, why=str(why))
                detail: dict[str, object] = {"by": command.by, "act": act.value, "why": str(why)}
                await self._record(Outcome(kept.mail, trail=(self._entry("refused", detail),)), command)
                return False
            return await self._record(outcome, command)

    async def _record(self, outcome: Outcome, command: QueueCommand) -> bool:
        own = tuple([(self._delivery.admit(mail), trail) for mail, trail in outcome.generated])
        stored = await record(self._tools.spool, replace(outcome, generated=own, command=command.id))
        for mail, _ in own:
            if stored:
                self._delivery.enqueue(mail)
            else:
                self._delivery.withdraw(mail)
        return stored

    # --- the acts ----------------------------------------------------------------------------------------

    async def _release(self, kept: Kept, options: KeptOptions, by: str, loose: ExitStack) -> Outcome:
        wanted = {name_key(address) for address in options.to}
        to = [
            r
            for r in kept.mail.recipients
            if r.state is RecipientState.QUARANTINED and (not wanted or name_key(r.address) in wanted)
        ]
        if not to:
            raise CannotAct("none of its recipients is in quarantine")
        content = await self._original(kept, loose)
        if options.cleaned:
            content = await self._cleaned(kept, content, loose)
        recipients = [(r.address, self._profile(r)) for r in to]
        made, trail = self._mail(kept.mail, content, kept.mail.reverse_path, recipients, "release", by)
        detail: dict[str, object] = {
            "by": by,
            "mail": made.id,
            "recipients": [r.seq for r in to],
            "cleaned": options.cleaned,
            "reason": options.reason,
        }
        entry = self._entry("quarantine-released", detail)
        return Outcome(kept.mail, trail=(entry,), generated=((made, (trail,)),))

    async def _forward(self, kept: Kept, options: KeptOptions, by: str, loose: ExitStack) -> Outcome:
        own = self.settings.own_mail
        if own is None:
            raise CannotAct("the setting own_mail is not set: mail that posthouse makes cannot leave")
        content = await self._original(kept, loose)
        recipients = [(address, own.profile) for address in options.to]
        made, trail = self._mail(kept.mail, content, own.sender, recipients, "forward", by)
        detail: dict[str, object] = {"by": by, "mail": made.id, "to": list(options.to), "reason": options.reason}
        return Outcome(kept.mail, trail=(self._entry("quarantine-forwarded", detail),), generated=((made, (trail,)),))

    async def _rescan(self, kept: Kept, options: KeptOptions, by: str, loose: ExitStack) -> Outcome:
        rule = self._rule(kept)
        assert rule.scan is not None
        passwords = tuple(dict.fromkeys([*options.passwords, *rule.scan.passwords]))
        tried = replace(rule, vault=None, scan=replace(rule.scan, passwords=passwords))
        judged = await self._judged(kept, await self._original(kept, loose), tried, loose)
        disposition = judged.disposition
        detail: dict[str, object] = {
            "by": by,
            "verdict": disposition.verdict.value,
            "why": disposition.why,
            "rule": rule.name,
        }
        entries = (*judged.trail, self._entry("rescanned", detail))
        findings = Findings(scans=judged.scans)
        clean = disposition.action is Action.DELIVER and not disposition.strip and not disposition.marked
        if not (options.release_if_clean and clean):
            return Outcome(kept.mail, trail=entries, findings=findings)
        released = await self._release(kept, KeptOptions(reason="clean when scanned again"), by, loose)
        return replace(released, trail=(*entries, *released.trail), findings=findings)

    def _pin(self, kept: Kept, by: str, *, pinned: bool) -> Outcome:
        if kept.quarantine is None:
            raise CannotAct("it is not in quarantine")
        row = replace(kept.quarantine, pinned=pinned)
        entry = self._entry("pinned" if pinned else "unpinned", {"by": by})
        return Outcome(kept.mail, trail=(entry,), findings=Findings(quarantine=row))

    def _delete(self, kept: Kept, by: str) -> Outcome:
        return Outcome(kept.mail, trail=(self._entry("forgotten", {"by": by}),), forget=True)

    # --- what they need ----------------------------------------------------------------------------------

    async def _original(self, kept: Kept, loose: ExitStack) -> Content:
        """As received, without its seal; for the next commit to claim, else `loose` has it go."""
        sealed = next((each for each in kept.mail.contents if each.sealed and each != GONE), None)
        if sealed is None:
            raise CannotAct("its content is not in quarantine")
        content = await self._tools.spool.unseal(sealed)
        loose.callback(self._tools.spool.discard, content)
        return content

    async def _cleaned(self, kept: Kept, content: Content, loose: ExitStack) -> Content:
        """Less all that the rule's scanners find bad now."""
        rule = self._rule(kept)
        assert rule.scan is not None
        strip = dict.fromkeys(ACTIONS.values(), OnVerdict.STRIP)
        scan = replace(
            rule.scan, on=strip, on_failed=OnFailed.RETRY, on_errors={}, quarantine=Where.INTERNAL, notices=()
        )
        judged = await self._judged(kept, content, replace(rule, scan=scan, vault=None), loose)
        if judged.disposition.action is not Action.DELIVER:
            raise CannotAct(f"it cannot be cleaned: {judged.disposition.why}")
        return judged.content or content

    async def _judged(self, kept: Kept, content: Content, rule: Rule, loose: ExitStack) -> Judged:
        mail = replace(kept.mail, contents=(content,))
        addresses = [r.address for r in kept.mail.recipients]
        examined = await self._judge.examine(content)
        try:
            judged = await self._judge.judge(mail, rule, addresses, examined, self.inventory, may_reject=False)
            loose.callback(judged.release)
            return judged
        finally:
            examined.close()

    def _rule(self, kept: Kept) -> Rule:
        """The one that quarantined it, as it is now, whether enabled or not."""
        name = kept.quarantine.rule if kept.quarantine is not None else kept.mail.recipients[0].rule
        rule = next((r for r in self.inventory.policy.rules if name_key(r.name) == name_key(name)), None)
        if rule is None or rule.scan is None:
            raise CannotAct(f"the security rule {name} is gone, or scans nothing now")
        return rule

    def _profile(self, recipient: MailRecipient) -> str:
        """Where the mail would have gone; if that is gone, by that of own mail."""
        own = self.settings.own_mail
        known = self.inventory.next_hop(recipient.profile)
        if known is not None:
            return known.name
        if own is None:
            raise CannotAct(f"the server profile {recipient.profile} is gone, and own_mail is not set")
        return own.profile

    def _mail(
        self,
        original: Mail,
        content: Content,
        reverse_path: str,
        recipients: Sequence[tuple[str, str]],
        kind: str,
        by: str,
    ) -> tuple[Mail, TrailEntry]:
        now = self._tools.clock.now()
        rows = [
            MailRecipient(seq, address, "", profile, stage=Stage.RELAY, due_at=now, notify="NEVER")
            for seq, (address, profile) in enumerate(recipients)
        ]
        made = replace(
            original,
            id=self._tools.new_mail_id(),
            received_at=now,
            session=_OURS,
            reverse_path=reverse_path,
            contents=(content,),
            recipients=tuple(rows),
            ret="",
            envid="",
            own=True,
        )
        if content.source != original.contents[0].source:
            made = replace(made, size=content_size(replace(original, contents=(original.contents[0], content)), 1))
        return made, TrailEntry(now, "generated", {"kind": kind, "for": original.id, "by": by})

    def _entry(self, kind: str, detail: dict[str, object]) -> TrailEntry:
        return TrailEntry(self._tools.clock.now(), kind, detail)
