"""THE LINE: what happens to a mail from the final dot to its next hop, one function a stage.

received -> loop check -> policy -> (scan: not built yet) -> spool, durable -> 250 -> delivery -> history

`Pipeline` is the `ports.Reception` of the receiver. Every refusal is a reply; whatever goes wrong inside is
451 4.3.0 with an id that the log repeats (design section 3, internal trouble).
"""

import errno
from collections.abc import Callable

from posthouse.core import trace
from posthouse.core.envelope import Envelope, Recipient, SessionFacts
from posthouse.core.inventory import Inventory
from posthouse.core.mail import Content, Mail, MailId, MailRecipient, TrailEntry
from posthouse.core.policy import Decision, reasons_json
from posthouse.core.smtp_reply import Reply, reply
from posthouse.mailflow.delivery import Delivery
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

    def __init__(self, tools: Tools, settings: NodeSettings, inventory: Inventory, delivery: Delivery) -> None:
        self._tools = tools
        self._delivery = delivery
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
        self._tools.spool.accept(
            mail,
            self._trail(mail, content, decisions),
            lambda error: self._stored(mail, error, done),
            lambda: self._delivery.begin_early(mail),
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
        return self._delivery.admit(
            Mail(
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
        )

    def _received_field(self, session: SessionFacts, envelope: Envelope, mail_id: MailId, now: float) -> bytes:
        return trace.received_field(
            session, self.settings.hostname, mail_id, tuple(r.address for r in envelope.recipients), now
        )

    def _recipient(self, seq: int, offered: Recipient, decision: Decision, version: int, now: float) -> MailRecipient:
        own = self.settings.own_mail
        rule = decision.rule
        profile = rule.relay_profile if rule is not None else (own.profile if own else "")
        return MailRecipient(
            seq=seq,
            address=decision.address,
            rule=rule.name if rule is not None else "",
            profile=profile,
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

    def _stored(self, mail: Mail, error: Exception | None, done: Callable[[Reply], None]) -> None:
        """After the commit: 250, and the mail goes on in memory."""
        if error is not None:
            self._delivery.withdraw(mail)
            done(self._trouble(mail, error))
            return
        self.received += 1
        done(Reply(250, (f"queued as {mail.id}",), "2.0.0"))
        self._delivery.enqueue(mail)

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
