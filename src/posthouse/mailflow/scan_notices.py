"""Notices that rules ask for, as own mail ready to be stored with the outcome that they tell of.

Without the setting `own_mail` nobody can be told: the trail says so. Never about own mail, never to the null
reverse-path, not to senders of automatic mail, and not more than `notices_per_hour` to one address.
Source: design section 3 (Own mail); issue 6, item 4.
"""

from collections.abc import Sequence

from posthouse.core.announcements import Addressee, NoticeRule
from posthouse.core.envelope import Body, SessionFacts
from posthouse.core.mail import Content, InlineOctets, Mail, MailRecipient, TrailEntry
from posthouse.core.mime.notice_text import fill
from posthouse.core.notice_mail import is_automatic, notice_mail
from posthouse.core.notice_rate import NoticeRate
from posthouse.core.rule import Rule
from posthouse.mailflow.judging import Judged
from posthouse.mailflow.notices import Generated, beginning
from posthouse.ports import Tools
from posthouse.settings import NodeSettings, OwnMail

_OURS = SessionFacts("", 0, "", "", "posthouse")
NO_OWN_MAIL = "the setting own_mail is not set: mail that posthouse makes cannot leave"


class ScanNotices:
    """One worker's; `settings` are swapped whole on reload."""

    def __init__(self, settings: NodeSettings, tools: Tools) -> None:
        self.settings = settings
        self._tools = tools
        self._rate = NoticeRate(settings.limits.notices_per_hour)

    def called_for(
        self, mail: Mail, rule: Rule, judged: Judged, addresses: Sequence[str], now: float
    ) -> tuple[list[Generated], list[TrailEntry]]:
        """The notices, and the trail of `mail`."""
        if rule.scan is None or mail.own:
            return [], []
        self._rate.most = self.settings.limits.notices_per_hour
        generated: list[Generated] = []
        told: list[object] = []
        for notice in rule.scan.notices:
            if notice.on and not notice.on & judged.disposition.cases:
                continue
            for to in self._addresses(notice, mail, addresses):
                own = self.settings.own_mail
                if own is None:
                    told.append({"to": to, "none": NO_OWN_MAIL})
                elif not self._rate.allows(to, now):
                    told.append({"to": to, "none": "this address has had enough of them in the last hour"})
                else:
                    made = self._made(own, notice, judged, to, now)
                    generated.append((made, [TrailEntry(now, "generated", {"kind": "notice", "for": mail.id})]))
                    told.append({"to": to, "mail": made.id})
        return generated, [TrailEntry(now, "noticed", {"rule": rule.name, "notices": told})] if told else []

    def _addresses(self, notice: NoticeRule, mail: Mail, recipients: Sequence[str]) -> list[str]:
        found: list[str] = []
        for addressee in notice.to:
            match addressee:
                case Addressee.RECIPIENTS:
                    found += recipients
                case Addressee.SENDER:
                    if mail.reverse_path and not is_automatic(beginning(mail)[0].partition(b"\r\n\r\n")[0]):
                        found.append(mail.reverse_path)
                case Addressee.ADMINISTRATORS:
                    own = self.settings.own_mail
                    found += [own.postmaster or own.sender] if own is not None else []
        return list(dict.fromkeys(found))

    def _made(self, own: OwnMail, notice: NoticeRule, judged: Judged, to: str, now: float) -> Mail:
        notice_id = self._tools.new_mail_id()
        made = notice_mail(
            sender=own.sender,
            to=to,
            subject=fill(notice.subject, judged.values),
            text=fill(notice.text, judged.values),
            hostname=self.settings.hostname,
            notice_id=notice_id,
            now=now,
        )
        return Mail(
            id=notice_id,
            received_at=now,
            session=_OURS,
            reverse_path="",
            body=Body.SEVEN_BIT if made.octets.isascii() else Body.EIGHT_BIT,
            smtputf8=not to.isascii(),
            ret="",
            envid="",
            trace_field=b"",
            contents=(Content(InlineOctets(made.octets)),),
            recipients=(MailRecipient(0, to, "", own.profile, due_at=now, notify="NEVER"),),
            size=made.size,
            subject=made.subject,
            message_id=made.message_id,
            own=True,
        )
