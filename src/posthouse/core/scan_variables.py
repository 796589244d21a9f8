"""The values of the variables that disclaimers, header fields and notices may have. Pure.

Names are those of the product we answer to; texts of others are one line, cut.
"""

from collections.abc import Mapping, Sequence

from posthouse.core.disposition import Finding
from posthouse.core.mail import Mail
from posthouse.core.mime_text import one_line
from posthouse.core.scan import Verdict

_LONGEST = 500
_MOST = 20
"""Recipients and findings that are named."""


def variables(
    mail: Mail, recipients: Sequence[str], header: Mapping[str, str], findings: Sequence[Finding]
) -> dict[str, str]:
    """By name. `header`: fields of the mail, decoded (`Examination.header`)."""
    bad = [f for f in findings if f.verdict is not Verdict.CLEAN]
    verdicts = dict.fromkeys(f"{f.verdict.value}: {f.why}" if f.why else f.verdict.value for f in bad)
    values = {
        "email_date": header.get("Date", ""),
        "email_sender": mail.reverse_path or header.get("From", ""),
        "email_recipients": _listed(recipients),
        "email_subject": header.get("Subject", mail.subject),
        "email_message_id": header.get("Message-ID", mail.message_id),
        "origin_ip": mail.session.client_address,
        "scan_verdicts": _listed(list(verdicts)) if verdicts else Verdict.CLEAN.value,
    }
    return {name: one_line(value)[:_LONGEST] for name, value in values.items()}


def _listed(entries: Sequence[str]) -> str:
    shown = ", ".join(entries[:_MOST])
    return f"{shown} and {len(entries) - _MOST} more" if len(entries) > _MOST else shown
