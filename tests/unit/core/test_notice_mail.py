"""Notices: well-formed mail whatever stands in it, and none to the senders of automatic mail."""

import email
import email.message
import email.policy

import pytest

from posthouse.core.notice_mail import NoticeMail, is_automatic, notice_mail
from posthouse.core.wire_form import plain_form


def made(**given: object) -> NoticeMail:
    values: dict[str, object] = {
        "sender": "postmaster@ours.example",
        "to": "you@ours.example",
        "subject": "Stopped",
        "text": "A mail was stopped.\nAsk us.",
        "hostname": "mx.ours.example",
        "notice_id": "01notice",
        "now": 1_764_072_000.0,
        **given,
    }
    return notice_mail(**values)  # type: ignore[arg-type]


def parsed(notice: NoticeMail) -> email.message.EmailMessage:
    message = email.message_from_bytes(plain_form(notice.octets), policy=email.policy.default)
    assert message.defects == []
    return message


def body(notice: NoticeMail) -> str:
    """With lines that end in LF."""
    return str(parsed(notice).get_content()).replace("\r\n", "\n")


def test_a_notice_says_from_whom_to_whom_and_that_a_program_sent_it() -> None:
    notice = made()
    message = parsed(notice)
    assert message["From"] == "Mail gateway <postmaster@ours.example>"
    assert message["To"] == "you@ours.example"
    assert (message["Subject"], notice.subject) == ("Stopped", "Stopped")
    assert message["Date"] == "Tue, 25 Nov 2025 12:00:00 +0000"
    assert (message["Message-ID"], notice.message_id) == ("<01notice@mx.ours.example>",) * 2
    assert message["Auto-Submitted"] == "auto-generated"
    assert body(notice) == "A mail was stopped.\nAsk us.\n"


def test_it_is_in_wire_form_and_its_size_is_that_of_the_mail() -> None:
    notice = made(text=".dot\n\n..\nend")
    assert notice.octets.endswith(b"\r\n.\r\n")
    assert b"\r\n..dot\r\n" in notice.octets
    assert notice.size == len(plain_form(notice.octets))
    assert body(notice) == ".dot\n\n..\nend\n"


def test_other_than_ascii_is_encoded_for_an_ascii_address_and_stands_as_it_is_for_another() -> None:
    notice = made(subject="Gestoppt: Größe", text="Grüße")
    assert notice.octets.isascii()
    assert (parsed(notice)["Subject"], body(notice)) == ("Gestoppt: Größe", "Grüße\n")
    notice = made(to="jörg@ours.example", subject="Größe", text="Grüße")
    assert "Subject: Größe".encode() in notice.octets
    assert (parsed(notice)["Subject"], body(notice)) == ("Größe", "Grüße\n")


def test_no_value_makes_a_header_field_of_its_own() -> None:
    notice = made(subject="a\r\nBcc: x@evil.example", to="you@ours.example\r\nX: y", sender="p@o.example\r\nZ: y")
    assert {"Bcc", "X", "Z"} & set(parsed(notice).keys()) == set()
    assert notice.subject == "a??Bcc: x@evil.example"


@pytest.mark.parametrize(
    "field",
    [
        *("Auto-Submitted: auto-replied", "auto-submitted:auto-generated", "Auto-Submitted: NOTHING"),
        *("Precedence: bulk", "PRECEDENCE:  junk", "Precedence: list", "List-Id: <x.example>"),
    ],
)
def test_a_mail_of_a_program_or_a_list_is_automatic(field: str) -> None:
    assert is_automatic(f"From: a@b.example\r\n{field}\r\nSubject: x".encode())


@pytest.mark.parametrize(
    "header",
    [
        *("", "Auto-Submitted: no", "auto-submitted:No", "Precedence: first-class", "X-Auto-Submitted: yes"),
        *("Subject: Precedence: bulk", "Subject: x List-Id: y"),
    ],
)
def test_other_mail_is_not(header: str) -> None:
    assert not is_automatic(f"From: a@b.example\r\n{header}".encode())


def test_notices_are_themselves_automatic() -> None:
    assert is_automatic(made().octets)
