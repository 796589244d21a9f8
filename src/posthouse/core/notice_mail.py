"""A notice: a short text that posthouse sends about a mail it has scanned. Pure.

Standards: RFC 5322; RFC 3834 section 5 (Auto-Submitted).
"""

import re
from dataclasses import dataclass

from posthouse.core.dsn import date
from posthouse.core.mime_text import encoded_text, encoded_word, field, one_line
from posthouse.core.wire_form import wire_form

_AUTOMATIC = re.compile(rb"^(?:auto-submitted:(?!\s*no\b)|precedence:\s*(?:bulk|junk|list)|list-id:)", re.I | re.M)


@dataclass(frozen=True, slots=True)
class NoticeMail:
    """Ready to be stored."""

    octets: bytes
    """Wire form."""
    size: int
    subject: str
    message_id: str


def notice_mail(
    *, sender: str, to: str, subject: str, text: str, hostname: str, notice_id: str, now: float
) -> NoticeMail:
    """`sender`: `own_mail.from`; `text`: lines end in LF."""
    message_id = f"<{notice_id}@{hostname}>"
    utf8 = not to.isascii()
    body_header, body = encoded_text("\r\n".join(text.rstrip("\n").split("\n")) + "\r\n", utf8=utf8)
    shown = one_line(subject)
    head = (
        field("From", f"Mail gateway <{one_line(sender)}>")
        + field("To", f"<{one_line(to)}>")
        + field("Subject", shown if utf8 else encoded_word(shown))
        + field("Date", date(now))
        + field("Message-ID", message_id)
        + "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
    )
    octets = f"{head}{body_header}\r\n{body}".encode()
    return NoticeMail(wire_form(octets), len(octets), shown, message_id)


def is_automatic(header: bytes) -> bool:
    """The mail is an answer of a program, or of a list: its sender gets no notice (RFC 3834 section 2)."""
    return _AUTOMATIC.search(header) is not None
