"""Delivery status notifications: who wants one, and their octets in wire form.

A DSN is a multipart/report of three parts: a text for people, the fields for programs, and the mail it is about
(whole if RET=FULL and at most `FULL_OCTETS`, else its header). Everything is an argument, so equal arguments
give equal octets. No text of others can add a field or a line: controls become `?`, long values are folded.

Seven-bit throughout but for two cases: a whole mail with 8-bit content is returned as it is, and the DSN then
says 8BITMIME; a mail sent with SMTPUTF8 gets the `global` types of RFC 6533.
Standards: RFC 3461 sections 4, 5, 6; RFC 3464; RFC 6522; RFC 6533; RFC 3834 section 5.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from textwrap import wrap

from posthouse.core.envelope import Body, Envelope, Recipient
from posthouse.core.mime_text import encoded_base64, encoded_text, field, one_line
from posthouse.core.wire_form import plain_form, wire_form

FULL_OCTETS = 50 * 1024
"""Longest mail returned whole, and longest header returned."""
_LONGEST_LINE = 998
_REPLY_SHOWN = 700
"""Characters of a reply in the text for people."""
_INDENT = "    "
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\Z")


class DsnKind(StrEnum):
    """What a DSN tells."""

    FAILURE = "failure"
    DELAY = "delay"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class DsnRecipient:
    """One recipient that a DSN is about."""

    recipient: Recipient
    reply: str
    """What the next hop said (`550 5.1.1 no such user`), or a sentence where it said nothing."""
    status: str = ""
    """RFC 3463 code; where absent or of another class than the kind tells, one that fits is used."""
    server: str = ""
    """Canonical specification of the server that said it; empty if none was reached."""
    last_attempt: float | None = None
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class Original:
    """The mail that a DSN is about."""

    reverse_path: str
    received_at: float
    """Epoch seconds."""
    octets: bytes
    """Wire form: all of it, or its beginning with the whole header section."""
    whole: bool
    """`octets` is all of it."""
    ret: str = ""
    envid: str = ""
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Dsn:
    """A DSN ready to be stored as own mail."""

    envelope: Envelope
    octets: bytes
    """Wire form."""
    size: int
    """Octets as RFC 1870 counts them."""
    subject: str
    message_id: str


def wanted(kind: DsnKind, notify: str) -> bool:
    """NOTIFY asks for this kind; without NOTIFY failure and delay are told (RFC 3461 section 4.1)."""
    if not notify:
        return kind is not DsnKind.RELAYED
    asked = {"failure": "FAILURE", "delay": "DELAY", "relayed": "SUCCESS"}[kind.value]
    return asked in notify.upper().split(",")


def build(
    kind: DsnKind,
    original: Original,
    recipients: Iterable[DsnRecipient],
    *,
    hostname: str,
    sender: str,
    dsn_id: str,
    boundary: str,
    now: float,
    will_retry_until: float | None = None,
) -> Dsn | None:
    """The DSN to the reverse-path for those of `recipients` that want this kind; None if there is nobody to tell:
    the null reverse-path, or no recipient wants it.

    `sender`: address of the From field (`own_mail.from`). `dsn_id`: left part of the Message-ID.
    `boundary`: 1-60 characters of `[A-Za-z0-9]`, by chance. `will_retry_until`: for DELAY.
    """
    about = [r for r in recipients if wanted(kind, r.recipient.notify)]
    if not original.reverse_path or not about:
        return None
    subject = _SUBJECT[kind]
    message_id = f"<{dsn_id}@{hostname}>"
    utf8 = original.smtputf8
    returned, eight_bit = _returned(kind, original)
    while boundary.encode() in returned:
        boundary += "x"
    text_header, text = encoded_text(_text(kind, original, about, hostname, will_retry_until), utf8=utf8)
    status = _delivery_status(kind, original, about, hostname, will_retry_until)
    if not utf8:
        status = status.encode("ascii", "replace").decode()
    status_type = "message/global-delivery-status" if utf8 else "message/delivery-status"
    status_header = f"Content-Type: {status_type}\r\n"
    if not status.isascii():
        status_header += "Content-Transfer-Encoding: 8bit\r\n"
    eight_bit = eight_bit or not (status.isascii() and text.isascii())
    head = (
        field("From", f"Mail delivery <{one_line(sender)}>")
        + field("To", f"<{one_line(original.reverse_path)}>")
        + field("Subject", subject)
        + field("Date", date(now))
        + field("Message-ID", message_id)
        + "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        + f"Content-Type: multipart/report; report-type={'global-' if utf8 else ''}delivery-status;\r\n"
        + f'\tboundary="{boundary}"\r\n'
        + ("Content-Transfer-Encoding: 8bit\r\n" if eight_bit else "")
    )
    delimiter = f"--{boundary}\r\n".encode()
    octets = b"".join(
        (
            head.encode() + b"\r\nThis is a delivery status notification in MIME format.\r\n\r\n",
            delimiter + f"{text_header}\r\n{text}\r\n".encode(),
            delimiter + f"{status_header}\r\n{status}\r\n".encode(),
            delimiter + returned + b"\r\n",
            f"--{boundary}--\r\n".encode(),
        )
    )
    envelope = Envelope(
        reverse_path="",
        recipients=(Recipient(original.reverse_path, notify="NEVER"),),
        body=Body.EIGHT_BIT if eight_bit else Body.SEVEN_BIT,
        smtputf8=utf8,
    )
    return Dsn(envelope, wire_form(octets), len(octets), subject, message_id)


def date(at: float) -> str:
    """RFC 5322 date-time in UTC."""
    return format_datetime(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(at)))


# --- first part: for people ------------------------------------------------------------------------------

_SUBJECT = {
    DsnKind.FAILURE: "Your mail could not be delivered",
    DsnKind.DELAY: "Your mail is delayed",
    DsnKind.RELAYED: "Your mail was relayed",
}
_MEANING = {
    DsnKind.FAILURE: "Your mail could not be delivered to the addresses below, and will not be tried again.",
    DsnKind.DELAY: (
        "Your mail has not been delivered to the addresses below yet. You need not do anything:\r\n"
        "it stays in the queue and will be tried again."
    ),
    DsnKind.RELAYED: (
        "Your mail was handed on for the addresses below, to a server that does not report on\r\n"
        "delivery. You will probably hear no more of it."
    ),
}
_HINT = {
    DsnKind.FAILURE: "Check the address and the reason given; if it is unclear to you, ask the postmaster there.",
    DsnKind.DELAY: "",
    DsnKind.RELAYED: "",
}


def _text(kind: DsnKind, original: Original, about: list[DsnRecipient], hostname: str, until: float | None) -> str:
    lines = [f"This is the mail server {hostname}.", "", _MEANING[kind]]
    if kind is DsnKind.DELAY and until is not None:
        lines.append(f"If it cannot be delivered by {date(until)}, you will be told.")
    lines += ["", f"The mail was received {date(original.received_at)}.", ""]
    for entry in about:
        lines.append(f"<{one_line(entry.recipient.address)}>")
        if entry.reply:
            said = f"{_host(entry.server)} said" if entry.server and entry.reply[:3].isdigit() else "reason"
            lines += wrap(
                f"{said}: {one_line(entry.reply)[:_REPLY_SHOWN]}",
                76,
                initial_indent=_INDENT,
                subsequent_indent=_INDENT,
            )
    if _HINT[kind]:
        lines += ["", _HINT[kind]]
    return "\r\n".join(lines) + "\r\n"


# --- second part: for programs ---------------------------------------------------------------------------

_ACTION = {DsnKind.FAILURE: "failed", DsnKind.DELAY: "delayed", DsnKind.RELAYED: "relayed"}
_CLASS = {DsnKind.FAILURE: "45", DsnKind.DELAY: "4", DsnKind.RELAYED: "2"}
_NO_STATUS = {DsnKind.FAILURE: "5.0.0", DsnKind.DELAY: "4.0.0", DsnKind.RELAYED: "2.0.0"}


def _delivery_status(
    kind: DsnKind, original: Original, about: list[DsnRecipient], hostname: str, until: float | None
) -> str:
    """RFC 3464 section 2: a group of fields for the mail, then one for each recipient."""
    groups = [
        (field("Original-Envelope-Id", one_line(decode_xtext(original.envid))) if original.envid else "")
        + field("Reporting-MTA", f"dns; {hostname}")
        + field("Arrival-Date", date(original.received_at))
    ]
    for entry in about:
        group = ""
        if entry.recipient.orcpt:
            group += field("Original-Recipient", _original_recipient(entry.recipient.orcpt))
        group += field("Final-Recipient", _final_recipient(entry.recipient.address, original.smtputf8))
        group += field("Action", _ACTION[kind]) + field("Status", _status(kind, entry.status))
        if entry.server:
            group += field("Remote-MTA", f"dns; {_host(entry.server)}")
        if entry.reply:
            by_reply = entry.reply[:3].isdigit()
            group += field(
                "Diagnostic-Code", f"{'smtp' if by_reply else 'x-posthouse'}; {one_line(entry.reply)[:_LONGEST_LINE]}"
            )
        if entry.last_attempt is not None:
            group += field("Last-Attempt-Date", date(entry.last_attempt))
        if kind is DsnKind.DELAY and until is not None:
            group += field("Will-Retry-Until", date(until))
        groups.append(group)
    return "\r\n".join(groups)


def _status(kind: DsnKind, status: str) -> str:
    """The class fits the action (RFC 3464 section 2.3.4)."""
    if not _STATUS.match(status):
        return _NO_STATUS[kind]
    return status if status[0] in _CLASS[kind] else _CLASS[kind][0] + status[1:]


def _final_recipient(address: str, utf8: bool) -> str:
    address = one_line(address)
    if address.isascii():
        return f"rfc822; {address}"
    if utf8:
        return f"utf-8; {address}"
    escaped = "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in address)
    return f"utf-8; {escaped}"


def _original_recipient(orcpt: str) -> str:
    kind, _, address = orcpt.partition(";")
    return f"{one_line(kind)}; {one_line(decode_xtext(address))}"


def decode_xtext(text: str) -> str:
    """RFC 3461 section 4; what is not xtext stays as it is."""
    return _XTEXT.sub(lambda found: chr(int(found.group(1), 16)), text)


def _host(server: str) -> str:
    """Host of a canonical specification; addresses as literals."""
    host = server.rpartition("//")[2].partition("/")[0].rpartition(":")[0]
    if host.startswith("["):
        return "[IPv6:" + host[1:]
    return f"[{host}]" if host.replace(".", "").isdigit() else host


# --- third part: the mail it is about --------------------------------------------------------------------


def _returned(kind: DsnKind, original: Original) -> tuple[bytes, bool]:
    """The third part with its header; whether it holds 8-bit octets."""
    plain = plain_form(original.octets, whole=original.whole)
    full = kind is DsnKind.FAILURE and original.ret == "FULL" and original.whole and len(plain) <= FULL_OCTETS
    if full and max(map(len, plain.split(b"\r\n"))) <= _LONGEST_LINE:
        ascii_only = plain.isascii()
        content_type = "message/global" if original.smtputf8 and not ascii_only else "message/rfc822"
        return _part(content_type, "" if ascii_only else "8bit", plain), not ascii_only
    head = plain.partition(b"\r\n\r\n")[0] if not plain.startswith(b"\r\n") else b""
    if len(head) > FULL_OCTETS:
        head = head[: head.rfind(b"\r\n", 0, FULL_OCTETS)] if b"\r\n" in head[:FULL_OCTETS] else b""
    lines = [line[:_LONGEST_LINE] for line in head.split(b"\r\n")]
    head = b"\r\n".join(lines) + b"\r\n"
    if head.isascii():
        return _part("text/rfc822-headers", "", head), False
    if original.smtputf8:
        return _part("message/global-headers", "8bit", head), True
    return _part("text/rfc822-headers; charset=utf-8", "base64", encoded_base64(head)), False


def _part(content_type: str, encoding: str, octets: bytes) -> bytes:
    header = f"Content-Type: {content_type}\r\n"
    if encoding:
        header += f"Content-Transfer-Encoding: {encoding}\r\n"
    return header.encode() + b"\r\n" + octets
