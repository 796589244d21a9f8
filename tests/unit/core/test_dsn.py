"""DSNs, read by the standard library's mail parser."""

from dataclasses import replace
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

import pytest

from posthouse.core.dsn import FULL_OCTETS, Dsn, DsnKind, DsnRecipient, Original, build, wanted
from posthouse.core.envelope import Body, Recipient
from posthouse.core.wire_form import plain_form, wire_form

RECEIVED = 1_795_000_000.0
MAIL = b"From: ann@client.example\r\nSubject: hello\r\n\r\nbody\r\n.dot\r\n"
ORIGINAL = Original("ann@client.example", RECEIVED, wire_form(MAIL), whole=True)
BOB = DsnRecipient(
    Recipient("bob@ours.example"), "550 5.1.1 no such user", "5.1.1", "smtp://mail.ours.example:25", RECEIVED + 60
)


def make(
    kind: DsnKind = DsnKind.FAILURE,
    original: Original = ORIGINAL,
    *recipients: DsnRecipient,
    until: float | None = None,
    boundary: str = "b0undary",
) -> Dsn | None:
    return build(
        kind,
        original,
        recipients or (BOB,),
        hostname="mx1.example",
        sender="postmaster@ours.example",
        dsn_id="ID1",
        boundary=boundary,
        now=RECEIVED + 100,
        will_retry_until=until,
    )


def parsed(dsn: Dsn | None) -> EmailMessage:
    """Also checks what holds for every DSN."""
    assert dsn is not None
    plain = plain_form(dsn.octets)
    assert wire_form(plain) == dsn.octets
    assert dsn.size == len(plain)
    assert b"\n" not in plain.replace(b"\r\n", b"")
    assert b"\r" not in plain.replace(b"\r\n", b"")
    assert max(map(len, plain.split(b"\r\n"))) <= 998
    assert plain.isascii() or dsn.envelope.body is Body.EIGHT_BIT
    message = BytesParser(policy=policy.SMTP).parsebytes(plain)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["MIME-Version"] == "1.0"
    assert len(list(message.iter_parts())) == 3
    for part in message.walk():
        assert part.defects == []
    return message


def parts(message: EmailMessage) -> list[EmailMessage]:
    found = []
    for part in message.iter_parts():
        assert isinstance(part, EmailMessage)
        found.append(part)
    return found


def groups(message: EmailMessage) -> list[EmailMessage]:
    """The field groups of the second part."""
    payload = parts(message)[1].get_payload()
    assert isinstance(payload, list)
    return [group for group in payload if isinstance(group, EmailMessage)]


def test_failure_dsn_tells_people_and_programs() -> None:
    dsn = make()
    message = parsed(dsn)
    assert dsn is not None
    assert message["From"] == "Mail delivery <postmaster@ours.example>"
    assert message["To"] == "ann@client.example"
    assert message["Message-ID"] == "<ID1@mx1.example>" == dsn.message_id
    assert message["Subject"] == dsn.subject == "Your mail could not be delivered"
    assert message["Date"].datetime.timestamp() == RECEIVED + 100
    assert message.get_param("report-type") == "delivery-status"
    text, status, returned = parts(message)
    shown = text.get_content()
    for words in ("bob@ours.example", "550 5.1.1 no such user", "mail.ours.example said", "will not be tried again"):
        assert words in shown
    assert status.get_content_type() == "message/delivery-status"
    about_mail, about_bob = groups(message)
    assert about_mail["Reporting-MTA"] == "dns; mx1.example"
    assert about_mail["Arrival-Date"]
    assert about_mail["Original-Envelope-Id"] is None
    assert dict(about_bob.items()) == {
        "Final-Recipient": "rfc822; bob@ours.example",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mail.ours.example",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": about_bob["Last-Attempt-Date"],
    }
    assert returned.get_content_type() == "text/rfc822-headers"
    assert returned.get_content() == "From: ann@client.example\r\nSubject: hello\r\n"


def test_dsn_goes_from_the_null_reverse_path_and_asks_for_no_dsn_itself() -> None:
    dsn = make()
    assert dsn is not None
    assert dsn.envelope.reverse_path == ""
    assert dsn.envelope.recipients == (Recipient("ann@client.example", notify="NEVER"),)


def test_no_dsn_goes_to_the_null_reverse_path() -> None:
    assert make(DsnKind.FAILURE, replace(ORIGINAL, reverse_path="")) is None


def test_equal_arguments_give_equal_octets() -> None:
    assert make() == make()


@pytest.mark.parametrize(
    ("notify", "failure", "delay", "relayed"),
    [
        ("", True, True, False),
        ("NEVER", False, False, False),
        ("FAILURE", True, False, False),
        ("SUCCESS", False, False, True),
        ("SUCCESS,FAILURE,DELAY", True, True, True),
        ("DELAY", False, True, False),
    ],
)
def test_notify_is_honoured(notify: str, failure: bool, delay: bool, relayed: bool) -> None:
    recipient = replace(BOB, recipient=Recipient("bob@ours.example", notify))
    for kind, wants in ((DsnKind.FAILURE, failure), (DsnKind.DELAY, delay), (DsnKind.RELAYED, relayed)):
        assert wanted(kind, notify) is wants
        assert (make(kind, ORIGINAL, recipient) is not None) is wants


def test_recipients_that_want_none_are_not_mentioned() -> None:
    never = DsnRecipient(Recipient("secret@ours.example", "NEVER"), "550 5.1.1 no")
    dsn = make(DsnKind.FAILURE, ORIGINAL, BOB, never)
    assert len(groups(parsed(dsn))) == 2
    assert dsn is not None
    assert b"secret" not in dsn.octets


def test_delay_dsn_says_that_nothing_need_be_done_and_until_when() -> None:
    waiting = replace(BOB, reply="connection refused", status="5.4.1")
    message = parsed(make(DsnKind.DELAY, ORIGINAL, waiting, until=RECEIVED + 432000))
    about = groups(message)[1]
    assert about["Action"] == "delayed"
    assert about["Status"] == "4.4.1"
    assert about["Will-Retry-Until"]
    assert about["Diagnostic-Code"] == "x-posthouse; connection refused"
    assert "need not do anything" in parts(message)[0].get_content()


def test_relayed_dsn_says_that_the_next_hop_does_not_report() -> None:
    recipient = DsnRecipient(Recipient("bob@ours.example", "SUCCESS"), "250 2.0.0 taken", "", "smtp://10.0.0.1:25")
    message = parsed(make(DsnKind.RELAYED, ORIGINAL, recipient))
    about = groups(message)[1]
    assert about["Action"] == "relayed"
    assert about["Status"] == "2.0.0"
    assert about["Remote-MTA"] == "dns; [10.0.0.1]"


def test_address_of_ipv6_is_a_literal() -> None:
    message = parsed(make(DsnKind.FAILURE, ORIGINAL, replace(BOB, server="smtp://[2001:db8::1]:25")))
    assert groups(message)[1]["Remote-MTA"] == "dns; [IPv6:2001:db8::1]"


def test_envid_and_orcpt_are_given_back_decoded() -> None:
    recipient = replace(BOB, recipient=Recipient("bob@ours.example", "FAILURE", "rfc822;robert+40his+2Bx.example"))
    message = parsed(make(DsnKind.FAILURE, replace(ORIGINAL, envid="order+3D7"), recipient))
    about_mail, about_bob = groups(message)
    assert about_mail["Original-Envelope-Id"] == "order=7"
    assert about_bob["Original-Recipient"] == "rfc822; robert@his+x.example"


def test_xtext_and_replies_cannot_add_fields() -> None:
    recipient = DsnRecipient(
        Recipient("bob@ours.example", "", "rfc822;x+0D+0AAction:+20delivered"), "550 no\r\nAction: delivered", "5.0.0"
    )
    message = parsed(make(DsnKind.FAILURE, replace(ORIGINAL, envid="a+0D+0A+0D+0AX:+20y"), recipient))
    assert len(groups(message)) == 2
    assert groups(message)[1].get_all("Action") == ["failed"]


def test_ret_full_returns_the_whole_mail_up_to_its_limit() -> None:
    full = replace(ORIGINAL, ret="FULL")
    returned = parts(parsed(make(DsnKind.FAILURE, full)))[2]
    assert returned.get_content_type() == "message/rfc822"
    assert b"\r\n\r\nbody\r\n.dot\r\n" in returned.as_bytes(policy=policy.SMTP)
    line = b"x" * 70 + b"\r\n"
    body = line * (FULL_OCTETS // len(line) + 1)
    for other in (
        replace(full, octets=wire_form(MAIL + body)),
        replace(full, whole=False, octets=wire_form(MAIL).removesuffix(b".\r\n")),
        replace(full, octets=wire_form(MAIL + b"x" * 2000 + b"\r\n")),
        replace(full, ret="HDRS"),
        replace(full, ret=""),
    ):
        assert parts(parsed(make(DsnKind.FAILURE, other)))[2].get_content_type() == "text/rfc822-headers"
    assert parts(parsed(make(DsnKind.DELAY, full)))[2].get_content_type() == "text/rfc822-headers"


def test_whole_mail_with_8bit_content_is_returned_as_it_is() -> None:
    octets = wire_form("Subject: x\r\n\r\nGrüße\r\n".encode())
    dsn = make(DsnKind.FAILURE, replace(ORIGINAL, ret="FULL", octets=octets))
    returned = parts(parsed(dsn))[2]
    assert dsn is not None
    assert dsn.envelope.body is Body.EIGHT_BIT
    assert returned["Content-Transfer-Encoding"] == "8bit"
    assert "Grüße".encode() in dsn.octets


def test_8bit_header_is_made_7bit_safe() -> None:
    octets = wire_form("Subject: Grüße\r\n\r\nbody\r\n".encode())
    dsn = make(DsnKind.FAILURE, replace(ORIGINAL, octets=octets))
    returned = parts(parsed(dsn))[2]
    assert dsn is not None
    assert dsn.octets.isascii()
    assert dsn.envelope.body is Body.SEVEN_BIT
    assert returned.get_content() == "Subject: Grüße\r\n"


def test_smtputf8_mail_gets_the_global_types() -> None:
    original = Original(
        "josé@client.example", RECEIVED, wire_form("Subject: Grüße\r\n\r\nx\r\n".encode()), True, smtputf8=True
    )
    dsn = make(DsnKind.FAILURE, original, DsnRecipient(Recipient("żaneta@ours.example"), "550 5.1.1 nie ma", "5.1.1"))
    message = parsed(dsn)
    assert dsn is not None
    assert dsn.envelope.smtputf8
    assert [part.get_content_type() for part in parts(message)[1:]] == [
        "message/global-delivery-status",
        "message/global-headers",
    ]
    assert "Final-Recipient: utf-8; żaneta@ours.example".encode() in dsn.octets


def test_8bit_reply_does_not_make_a_plain_dsn_8bit() -> None:
    dsn = make(DsnKind.FAILURE, ORIGINAL, replace(BOB, reply="550 5.1.1 użytkownik nieznany"))
    message = parsed(dsn)
    assert dsn is not None
    assert dsn.octets.isascii()
    assert "użytkownik" in parts(message)[0].get_content()
    assert groups(message)[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 u?ytkownik nieznany"


def test_long_replies_and_headers_stay_within_the_line_limit() -> None:
    octets = wire_form(b"Subject: " + b"y" * 5000 + b"\r\n" + b"X: z\r\n" * 20_000 + b"\r\nbody\r\n")
    for reply in ("550 " + "x" * 60_000, "550 " + "word " * 10_000, "550 " + "ü" * 60_000):
        for utf8 in (False, True):
            original = replace(ORIGINAL, octets=octets, smtputf8=utf8)
            dsn = make(DsnKind.FAILURE, original, replace(BOB, reply=reply))
            parsed(dsn)
            assert dsn is not None
            assert dsn.size < FULL_OCTETS + 12_000


def test_mail_without_header_and_content_that_holds_the_boundary_are_returned_unharmed() -> None:
    empty = parts(parsed(make(DsnKind.FAILURE, replace(ORIGINAL, octets=b".\r\n"))))[2]
    assert empty.get_content().strip() == ""
    body = b"Subject: x\r\n\r\n--b0undary\r\nContent-Type: text/plain\r\n\r\n--b0undary--\r\n"
    message = parsed(make(DsnKind.FAILURE, replace(ORIGINAL, ret="FULL", octets=wire_form(body))))
    assert b"--b0undary--" in parts(message)[2].as_bytes()


@pytest.mark.parametrize("status", ["", "x", "5.1", "2.1.5"])
def test_status_that_does_not_fit_is_replaced(status: str) -> None:
    message = parsed(make(DsnKind.FAILURE, ORIGINAL, replace(BOB, status=status)))
    assert groups(message)[1]["Status"][0] in "45"
