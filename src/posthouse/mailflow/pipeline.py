"""THE LINE: what happens to a mail from the final dot to its next hop, one function a stage.

received -> loop check -> policy -> [scan before acceptance] -> spool, durable -> 250 -> [scan] -> delivery -> history

What a rule has scanned is stored at `Stage.SCAN`, where no delivery finds it; `scanning` takes it from there. A rule
with `when = "before-accept"` has its mail judged before the reply to the final dot, within its deadline; past it the
mail is accepted and scanned as any other.

`Pipeline` is the `ports.Reception` of the receiver. Every refusal is a reply; whatever goes wrong inside is
451 4.3.0 with an id that the log repeats (design section 3, internal trouble).
"""

import errno
from collections.abc import Callable

from posthouse.core import trace
from posthouse.core.envelope import Envelope, Recipient, SessionFacts
from posthouse.core.inventory import Inventory
from posthouse.core.mail import Content, Mail, MailId, MailRecipient, Stage, TrailEntry
from posthouse.core.policy import Decision, reasons_json
from posthouse.core.smtp_reply import Reply, reply
from posthouse.mailflow.before_accept import BeforeAccept, Early, deadline
from posthouse.mailflow.delivery import Delivery
from posthouse.mailflow.scanning import Scanning
from posthouse.ports import ContentSink, ReceivedContent, Tools
from posthouse.settings import NodeSettings
from posthouse.telemetry import logger

log = logger("pipeline")

NO_POLICY = reply(550, "5.7.1", "No policy for recipient")
SPACE_SHORT = reply(452, "4.3.1", "Space is short, try again later")
LOOP = reply(554, "5.4.6", "Too many Received fields, this mail loops")
POLICY_CHANGED = reply(451, "4.3.0", "The policy changed during the transaction, try again")


class Pipeline:
    """One worker's line; `inventory` and `settings` are swapped whole on reload."""

    def __init__(
        self, tools: Tools, settings: NodeSettings, inventory: Inventory, delivery: Delivery, scanning: Scanning
    ) -> None:
        self._tools = tools
        self._delivery = delivery
        self._scanning = scanning
        self._before = BeforeAccept(scanning, tools.clock)
        self.settings = settings
        self.inventory = inventory
        self.received = 0

    # --- what the receiver asks (ports.Reception) ----------------------------------------------------

    def begin(self, session: SessionFacts) -> Reply | None:
        """Refuses new mail while space is short; the queue goes on (design section 3)."""
        largest = max(listener.max_size for listener in self.settings.listeners)
        if self._tools.spool.free_octets() < max(self.settings.limits.free_octets, 2 * largest):
            log.warning("space is short, mail is put off", client=session.client_address)
            return SPACE_SHORT
        return None

    def admit(self, session: SessionFacts, reverse_path: str, address: str) -> Reply | None:
        """First security rule that matches; none: 550 5.7.1."""
        decision = self._decide(session, reverse_path, address)
        return None if decision.rule is not None or decision.own_postmaster else NO_POLICY

    def open_content(self) -> ContentSink:
        return self._tools.spool.open_content()

    def accept(
        self, session: SessionFacts, envelope: Envelope, content: ReceivedContent, done: Callable[[Reply], None]
    ) -> None:
        """The line itself, up to the spool; `_stored` goes on after the commit."""
        refusal = self._loop_check(content)
        if refusal is None:
            decisions = [
                self._decide(session, envelope.reverse_path, recipient.address) for recipient in envelope.recipients
            ]
            if any(decision.rule is None and not decision.own_postmaster for decision in decisions):
                refusal = POLICY_CHANGED
        if refusal is not None:
            done(refusal)
            return
        mail = self._build(session, envelope, content, decisions)
        trail = self._trail(mail, content, decisions)
        seconds = deadline([decision.rule for decision in decisions])
        if seconds is None:
            self._store(Early(mail, tuple(trail)), done)
        else:
            self._before.judge(mail, trail, seconds, lambda early: self._store(early, done))

    def _store(self, early: Early, done: Callable[[Reply], None]) -> None:
        """Into the spool; from the commit on the mail is ours, or refused with a reply."""
        mail = self._scanning.admit(self._delivery.admit(early.mail))
        self._tools.spool.accept(
            mail,
            early.trail,
            lambda error: self._stored(mail, early, error, done),
            lambda: self._delivery.begin_early(mail),
            early.findings,
        )

    # --- stages ----------------------------------------------------------------------------------------

    def _loop_check(self, content: ReceivedContent) -> Reply | None:
        """RFC 5321 section 6.3."""
        return LOOP if trace.count_received(content.header) > self.settings.limits.received_fields else None

    def _decide(self, session: SessionFacts, reverse_path: str, address: str) -> Decision:
        own = self.settings.own_mail
        return self.inventory.policy.resolve(
            session.client_address, reverse_path, address, own.postmaster if own else None
        )

    def _build(
        self, session: SessionFacts, envelope: Envelope, content: ReceivedContent, decisions: list[Decision]
    ) -> Mail:
        now = self._tools.clock.now()
        mail_id = self._tools.new_mail_id()
        contents = [content.content]
        if not session.trusted:
            cuts = trace.spoofed_fields(content.header, self.settings.hostname)
            if cuts:
                contents.append(Content(content.content.source, cuts))
        version = len(contents) - 1
        recipients = tuple(
            self._recipient(seq, offered, decision, version, now)
            for seq, (offered, decision) in enumerate(zip(envelope.recipients, decisions, strict=True))
        )
        return Mail(
            id=mail_id,
            received_at=now,
            session=session,
            reverse_path=envelope.reverse_path,
            body=envelope.body,
            smtputf8=envelope.smtputf8,
            ret=envelope.ret,
            envid=envelope.envid,
            trace_field=self._received_field(session, envelope, mail_id, now),
            contents=tuple(contents),
            recipients=recipients,
            size=content.size,
            subject=trace.header_value(content.header, "Subject"),
            message_id=trace.header_value(content.header, "Message-ID"),
        )

    def _received_field(self, session: SessionFacts, envelope: Envelope, mail_id: MailId, now: float) -> bytes:
        return trace.received_field(
            session, self.settings.hostname, mail_id, tuple(r.address for r in envelope.recipients), now
        )

    def _recipient(self, seq: int, offered: Recipient, decision: Decision, version: int, now: float) -> MailRecipient:
        own = self.settings.own_mail
        rule = decision.rule
        profile = rule.relay_profile if rule is not None else (own.profile if own else "")
        # Mail to our own postmaster that no rule matches is scanned by the strictest of all (design section 3).
        examines = rule if rule is not None else self.inventory.policy.strictest_scan
        return MailRecipient(
            seq=seq,
            address=decision.address,
            rule=examines.name if examines is not None else "",
            profile=profile,
            stage=Stage.SCAN if examines is not None and examines.examined else Stage.RELAY,
            version=version,
            due_at=now,
            notify=offered.notify,
            orcpt=offered.orcpt,
        )

    def _trail(self, mail: Mail, content: ReceivedContent, decisions: list[Decision]) -> list[TrailEntry]:
        received: dict[str, object] = {"reply": f"250 2.0.0 queued as {mail.id}"}
        if content.normalised:
            received["normalised"] = content.normalised
        if len(mail.contents) > 1:
            received["removed_octets"] = [list(cut) for cut in mail.contents[1].cuts]
        matched: dict[str, object] = {
            "recipients": [
                {
                    "seq": recipient.seq,
                    "address": recipient.address,
                    "rule": recipient.rule,
                    "profile": recipient.profile,
                    "reasons": reasons_json(decision),
                }
                for recipient, decision in zip(mail.recipients, decisions, strict=True)
            ]
        }
        return [TrailEntry(mail.received_at, "received", received), TrailEntry(mail.received_at, "matched", matched)]

    def _stored(self, mail: Mail, early: Early, error: Exception | None, done: Callable[[Reply], None]) -> None:
        """After the commit: 250, and the mail goes on in memory; or the reply that the scan called for."""
        early.release()
        if error is not None:
            self._delivery.withdraw(mail)
            self._scanning.withdraw(mail)
            for content in mail.contents[1:]:
                self._tools.spool.discard(content)
            done(self._trouble(mail, error))
            return
        if early.refusal is not None:
            done(early.refusal)
        else:
            self.received += 1
            done(Reply(250, (f"queued as {mail.id}",), "2.0.0"))
        self._delivery.enqueue(mail)
        self._scanning.enqueue(mail)
        for own, trail in early.generated:
            self._store_own(self._delivery.admit(own), trail)

    def _store_own(self, own: Mail, trail: list[TrailEntry]) -> None:
        """A notice about a mail that is stored by now."""

        def stored(error: Exception | None) -> None:
            if error is None:
                self._delivery.enqueue(own)
                return
            log.error("notice not stored", id=own.id, error=repr(error))
            self._delivery.withdraw(own)

        self._tools.spool.accept(own, trail, stored)

    def _trouble(self, mail: Mail, error: Exception) -> Reply:
        log.error("mail not stored", id=mail.id, error=repr(error))
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                return SPACE_SHORT
            if "full" in str(cause):  # SQLite says so in words only
                return SPACE_SHORT
            cause = cause.__cause__
        return reply(451, "4.3.0", f"Internal trouble, try again later (id {mail.id})")
