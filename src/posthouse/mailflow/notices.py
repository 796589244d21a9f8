"""Which DSNs an attempt calls for, as own mail ready to be stored in the same commit.

Failure for recipients that ended without delivery, delay once, relayed for SUCCESS where the next hop lacks DSN
(RFC 3461 section 5.2). None for own mail and none to the null reverse-path. Without the setting `own_mail` the DSN
is stored as a failed email, so that nothing is lost silently (design section 3, "Own mail").
"""

from collections.abc import Mapping
from dataclasses import replace

from posthouse.core import dsn, retry
from posthouse.core.dsn import Dsn, DsnKind, DsnRecipient, Original
from posthouse.core.envelope import Recipient, SessionFacts
from posthouse.core.mail import (
    Content,
    FileOctets,
    InlineOctets,
    Mail,
    MailRecipient,
    RecipientState,
    TrailEntry,
)
from posthouse.mailflow.addressing import Settled
from posthouse.ports import Tools
from posthouse.settings import NodeSettings

Generated = tuple[Mail, list[TrailEntry]]

_OURS = SessionFacts("", 0, "", "", "posthouse")
# Enough for any header that a DSN returns; a whole mail is returned only up to dsn.FULL_OCTETS.
_BEGINNING = 2 * dsn.FULL_OCTETS
_NO_OWN_MAIL = "the setting own_mail is not set: mail that posthouse makes cannot leave"


class Notices:
    """Made anew for each outcome; holds no state."""

    def __init__(self, settings: NodeSettings, tools: Tools) -> None:
        self._settings = settings
        self._tools = tools

    def called_for(
        self, mail: Mail, changed: tuple[MailRecipient, ...], settled: Mapping[int, Settled], now: float
    ) -> tuple[list[Generated], tuple[MailRecipient, ...], list[TrailEntry]]:
        """The DSNs, the recipients with `delay_told` brought up to date, and the trail of `mail`."""
        limits = self._settings.limits
        if now - mail.received_at >= limits.delay_seconds:  # told now, or never to be told
            told = tuple([replace(r, delay_told=True) if r.state is RecipientState.QUEUED else r for r in changed])
        else:
            told = changed
        if mail.own:
            return [], told, []
        delayed = {
            r.seq
            for r in changed
            if r.state is RecipientState.QUEUED
            and retry.delay_due(r.notify, r.delay_told, now, mail.received_at, limits)
        }
        groups = (
            (DsnKind.FAILURE, [r for r in changed if r.state is RecipientState.FAILED]),
            (DsnKind.DELAY, [r for r in changed if r.seq in delayed]),
            (
                DsnKind.RELAYED,
                [r for r in changed if r.state is RecipientState.RELAYED and not settled[r.seq].dsn_offered],
            ),
        )
        generated: list[Generated] = []
        trail: list[TrailEntry] = []
        for kind, about in groups:
            made = self._build(kind, mail, about, settled, now) if about else None
            if made is not None:
                own = self._own_mail(made, now)
                generated.append((own, [TrailEntry(now, "generated", {"kind": kind.value, "for": mail.id})]))
                detail: dict[str, object] = {
                    "kind": kind.value,
                    "mail": own.id,
                    "recipients": [r.seq for r in about if dsn.wanted(kind, r.notify)],
                }
                trail.append(TrailEntry(now, "dsn", detail))
            elif about and kind is DsnKind.FAILURE:
                why = "null reverse-path" if not mail.reverse_path else "NOTIFY does not ask for it"
                trail.append(TrailEntry(now, "dsn", {"kind": kind.value, "none": why}))
        return generated, told, trail

    def _build(
        self, kind: DsnKind, mail: Mail, about: list[MailRecipient], settled: Mapping[int, Settled], now: float
    ) -> Dsn | None:
        if not mail.reverse_path or not any(dsn.wanted(kind, r.notify) for r in about):
            return None
        own = self._settings.own_mail
        octets, whole = beginning(mail)
        return dsn.build(
            kind,
            Original(mail.reverse_path, mail.received_at, octets, whole, mail.ret, mail.envid, mail.smtputf8),
            [
                DsnRecipient(
                    Recipient(r.address, r.notify, r.orcpt),
                    settled[r.seq].result.reply,
                    settled[r.seq].result.status,
                    settled[r.seq].server,
                    now,
                )
                for r in about
            ],
            hostname=self._settings.hostname,
            sender=own.sender if own else f"postmaster@{self._settings.hostname}",
            dsn_id=self._tools.new_mail_id(),
            boundary=f"{int(self._tools.random() * 16**12):012x}",
            now=now,
            will_retry_until=mail.received_at + self._settings.limits.lifetime_seconds,
        )

    def _own_mail(self, made: Dsn, now: float) -> Mail:
        own = self._settings.own_mail
        recipients = tuple(
            MailRecipient(
                seq=seq,
                address=recipient.address,
                rule="",
                profile=own.profile if own else "",
                state=RecipientState.ACTIVE if own else RecipientState.FAILED,
                due_at=now,
                notify=recipient.notify,
                detail="" if own else _NO_OWN_MAIL,
            )
            for seq, recipient in enumerate(made.envelope.recipients)
        )
        return Mail(
            id=self._tools.new_mail_id(),
            received_at=now,
            session=_OURS,
            reverse_path=made.envelope.reverse_path,
            body=made.envelope.body,
            smtputf8=made.envelope.smtputf8,
            ret=made.envelope.ret,
            envid=made.envelope.envid,
            trace_field=b"",
            contents=(Content(InlineOctets(made.octets)),),
            recipients=recipients,
            size=made.size,
            subject=made.subject,
            message_id=made.message_id,
            own=True,
        )


def beginning(mail: Mail) -> tuple[bytes, bool]:
    """The content as received, or its beginning with the header section; True if that is all of it."""
    match mail.contents[0].source:
        case InlineOctets(octets):
            return octets[:_BEGINNING], len(octets) <= _BEGINNING
        case FileOctets(path, _):
            with open(path, "rb") as file:
                return file.read(_BEGINNING), False
