"""The server session without I/O: states, replies, limits, content, chunking."""

import pytest

from posthouse.core.limits import Limits
from posthouse.core.smtp_data import Newlines
from posthouse.core.smtp_reply import Reply, reply
from posthouse.core.smtp_server import Ended, MailOffered, StartTlsAsked, XclientGiven
from support.receiving import QUEUED, Dialogue, assert_wire_form, chunked, converse, new_session

EHLO = b"EHLO t.example\r\n"
MAIL = b"MAIL FROM:<a@sender.example>\r\n"
RCPT = b"RCPT TO:<you@inside.example>\r\n"
BEGIN = EHLO + MAIL + RCPT
SMUGGLED = b"MAIL FROM:<smuggled@victim.example>\r\nRCPT TO:<you@inside.example>\r\nDATA\r\n\r\nbad\r\n"


def said(
    octets: bytes,
    *,
    starttls: bool = False,
    tls_required: bool = False,
    tls_active: bool = False,
    xclient: bool = False,
) -> Dialogue:
    offers = {"starttls": starttls, "tls_required": tls_required, "tls_active": tls_active, "xclient": xclient}
    return converse([octets], new_session(offers=offers))


def test_mail_goes_through_with_its_whole_envelope() -> None:
    seen = said(
        EHLO + b"MAIL FROM:<a@sender.example> RET=HDRS ENVID=x BODY=8BITMIME\r\n" + RCPT
        + b"RCPT TO:<two@inside.example> NOTIFY=NEVER\r\nDATA\r\nA: b\r\n\r\n..x\r\n.\r\nQUIT\r\n"
    )  # fmt: skip
    assert seen.codes == [250, 250, 250, 250, 354, 250, 221]
    assert seen.ended
    (mail,) = seen.mails
    assert (mail.envelope.reverse_path, mail.envelope.ret, mail.envelope.envid) == ("a@sender.example", "HDRS", "x")
    assert [r.address for r in mail.envelope.recipients] == ["you@inside.example", "two@inside.example"]
    assert mail.envelope.recipients[1].notify == "NEVER"
    assert (mail.wire, mail.size, mail.header) == (b"A: b\r\n\r\n..x\r\n.\r\n", 12, b"A: b\r\n")


@pytest.mark.parametrize("content", [b"DATA\r\nx\r\n.\r\n", b"BDAT 1 LAST\r\nx"], ids=["data", "bdat"])
@pytest.mark.parametrize("answer", [QUEUED, reply(451, "4.3.0", "no")], ids=["taken", "refused"])
def test_second_mail_of_a_session_has_its_own_envelope(content: bytes, answer: Reply) -> None:
    second = b"MAIL FROM:<b@sender.example> SIZE=7\r\nRCPT TO:<two@inside.example>\r\n"
    seen = converse([BEGIN + content + RCPT + second + content], answer=answer)
    assert [code for code in seen.codes if code != 354] == [250, 250, 250, answer.code, 503, 250, 250, answer.code]
    assert [(m.envelope.reverse_path, [r.address for r in m.envelope.recipients]) for m in seen.mails] == [
        ("a@sender.example", ["you@inside.example"]),
        ("b@sender.example", ["two@inside.example"]),
    ]


def test_ehlo_offers_what_the_design_names_and_no_more() -> None:
    plain = said(EHLO).replies
    for keyword in (
        b"PIPELINING",
        b"SIZE 1048576",
        b"8BITMIME",
        b"ENHANCEDSTATUSCODES",
        b"DSN",
        b"SMTPUTF8",
        b"CHUNKING",
    ):
        assert b"250-" + keyword in plain or b"250 " + keyword in plain
    for keyword in (b"STARTTLS", b"XCLIENT", b"AUTH", b"BINARYMIME"):
        assert keyword not in plain
    assert b"STARTTLS" in said(EHLO, starttls=True).replies
    assert b"STARTTLS" not in said(EHLO, starttls=True, tls_active=True).replies
    assert b"XCLIENT" in said(EHLO, xclient=True).replies


def test_helo_answers_one_line() -> None:
    assert said(b"HELO t.example\r\n").replies.endswith(b"250 mx.example\r\n")


@pytest.mark.parametrize(
    ("octets", "codes"),
    [
        (MAIL, [503]),
        (EHLO + RCPT, [250, 503]),
        (EHLO + MAIL + MAIL, [250, 250, 503]),
        (EHLO + b"DATA\r\n", [250, 503]),
        (EHLO + MAIL + b"DATA\r\n", [250, 250, 554]),
        (BEGIN + EHLO + b"DATA\r\n", [250, 250, 250, 250, 503]),
        (BEGIN + b"RSET\r\nDATA\r\n", [250, 250, 250, 250, 503]),
        (BEGIN + b"BDAT 1\r\nxDATA\r\n", [250, 250, 250, 250, 503]),
        (BEGIN + b"BDAT 1\r\nx" + RCPT, [250, 250, 250, 250, 503]),
        (BEGIN + b"BDAT 1\r\nx" + MAIL, [250, 250, 250, 250, 503]),
        (b"NOOP\r\nnoop x\r\nRSET\r\nHELP\r\n", [250, 250, 250, 214]),
        (b"VRFY root\r\n", [252]),
        (b"AUTH PLAIN AAAA\r\nFOO\r\nXCLIENT ADDR=127.0.0.1\r\nSTARTTLS\r\n", [502, 500, 550, 502]),
        (b"EHLO\r\nHELO a b\r\nEHLO " + b"a" * 490 + b"\r\n", [501, 501, 501]),
        (b"RSET x\r\nQUIT x\r\n", [501, 501]),
        (b"EHLO a\x1b\r\nNO\0OP\r\nNO\rOP\r\n", [501, 500, 500]),
        (b"EHLO t\nMAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\r\n", [500]),
        (EHLO + b'MAIL FROM:<"a\r\nRCPT TO:<evil@outside.example>\r\n"@b.example>\r\n', [250, 501, 503, 500]),
    ],
)  # fmt: skip
def test_command_is_answered_by_state_and_syntax(octets: bytes, codes: list[int]) -> None:
    seen = said(octets)
    assert seen.codes == codes
    assert not seen.mails


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"Subject: x", b"Host: x"]
)
def test_what_is_not_smtp_is_dropped_at_first_sight(line: bytes) -> None:
    seen = said(line + b"\r\n" + BEGIN)
    assert seen.ended
    assert seen.codes == [554]


def test_tls_hello_on_a_clear_text_port_is_dropped_without_a_word() -> None:
    seen = said(b"\x16\x03\x01\x02\x00\x01")
    assert seen.ended
    assert seen.codes == []


def test_body_sent_behind_a_refused_data_is_never_run_as_commands() -> None:
    seen = said(EHLO + MAIL + b"DATA\r\nRSET\r\n" + MAIL + RCPT)
    assert seen.codes == [250, 250, 554]
    assert seen.ended


def test_refused_recipient_is_not_in_the_envelope() -> None:
    seen = converse(
        [BEGIN + b"RCPT TO:<no@outside.example>\r\nDATA\r\nx\r\n.\r\n"], admit=lambda a: a.endswith("@inside.example")
    )
    assert seen.codes == [250, 250, 250, 550, 354, 250]
    assert [r.address for r in seen.mails[0].envelope.recipients] == ["you@inside.example"]


def test_refused_mail_opens_no_transaction() -> None:
    smtp = new_session()
    smtp.greet()
    smtp.receive(EHLO + MAIL + RCPT)
    assert isinstance(smtp.next_event(), MailOffered)
    smtp.answer(reply(452, "4.3.1", "full"))
    assert smtp.next_event() is None
    assert [line[:3] for line in smtp.data_to_send().split(b"\r\n")[-3:]] == [b"452", b"503", b""]


def test_nothing_is_looked_at_while_an_event_is_unanswered() -> None:
    smtp = new_session()
    smtp.greet()
    smtp.receive(EHLO + MAIL + RCPT)
    assert isinstance(smtp.next_event(), MailOffered)
    assert smtp.next_event() is None
    assert smtp.buffered == len(RCPT)


# --- TLS and XCLIENT -------------------------------------------------------------------------------------


def test_required_tls_refuses_all_but_five_commands() -> None:
    seen = said(
        EHLO + MAIL + RCPT + b"DATA\r\nRSET\r\nVRFY x\r\nHELO t\r\nNOOP\r\nQUIT\r\n", starttls=True, tls_required=True
    )
    assert seen.codes == [250, 530, 530, 530, 530, 530, 250, 250, 221]


def test_bdat_refused_for_lack_of_tls_is_read_and_not_run() -> None:
    octets = EHLO + b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"
    seen = converse([octets], new_session(offers={"starttls": True, "tls_required": True}))
    assert seen.codes == [250, 530, 250]
    assert not seen.ended


def test_starttls_is_answered_220_and_handed_to_the_shell() -> None:
    smtp = new_session(offers={"starttls": True})
    smtp.greet()
    smtp.receive(EHLO + b"STARTTLS\r\n")
    assert isinstance(smtp.next_event(), StartTlsAsked)
    assert smtp.data_to_send().endswith(b"220 2.0.0 Ready to start TLS\r\n")


def test_octets_behind_starttls_end_the_session() -> None:
    seen = said(EHLO + b"STARTTLS\r\nEHLO evil\r\n" + MAIL + RCPT, starttls=True)
    assert seen.ended
    assert b"Ready to start TLS" not in seen.replies
    assert seen.codes == [250, 554]


def test_second_starttls_is_503() -> None:
    assert said(EHLO + b"STARTTLS\r\n", starttls=True, tls_active=True).codes == [250, 503]


def test_xclient_of_an_allowed_peer_begins_the_session_anew_and_keeps_the_input_behind_it() -> None:
    smtp = new_session(offers={"xclient": True})
    smtp.greet()
    smtp.receive(EHLO + b"XCLIENT ADDR=192.0.2.1 HELO=real.example PROTO=ESMTP\r\nNOOP\r\n")
    event = smtp.next_event()
    assert isinstance(event, XclientGiven)
    assert event.attributes.address == "192.0.2.1"
    assert (smtp.helo, smtp.esmtp) == ("real.example", True)
    assert smtp.data_to_send().split(b"\r\n")[-2].startswith(b"220 ")
    assert smtp.take_input() == b"NOOP\r\n"


# --- content ---------------------------------------------------------------------------------------------


def test_bdat_in_several_parts_makes_one_mail() -> None:
    seen = said(BEGIN + b"BDAT 7\r\nA: b\r\n\rBDAT 3\r\n\n.xBDAT 0 LAST\r\nNOOP\r\n")
    assert seen.codes == [250, 250, 250, 250, 250, 250, 250]
    assert [m.wire for m in seen.mails] == [b"A: b\r\n\r\n..x\r\n.\r\n"]


def test_empty_bdat_last_does_not_hold_up_what_follows() -> None:
    seen = said(BEGIN + b"BDAT 0 LAST\r\n" + MAIL + RCPT + b"DATA\r\n.\r\nQUIT\r\n")
    assert [m.wire for m in seen.mails] == [b".\r\n", b".\r\n"]
    assert seen.ended


def test_bdat_without_a_recipient_is_read_and_not_run() -> None:
    assert said(EHLO + b"BDAT 6\r\nQUIT\r\nNOOP\r\n").codes == [250, 503, 250]
    assert said(EHLO + MAIL + b"BDAT 6 LAST\r\nQUIT\r\n" + RCPT).codes == [250, 250, 554, 250]


@pytest.mark.parametrize(
    "argument", [b"-1 LAST", b"", b"x", b"1 FIRST", b"1 LAST x", b"99999999999999999999", b"1.5"]
)
def test_bdat_of_unknown_size_is_501_and_ends_the_session(argument: bytes) -> None:
    seen = said(BEGIN + b"BDAT " + argument + b"\r\nx\r\n")
    assert seen.codes == [250, 250, 250, 501]
    assert seen.ended


def test_fault_in_a_bdat_ends_the_transaction_and_the_next_bdat_is_read_and_not_run() -> None:
    seen = said(BEGIN + b"BDAT 4\r\na\nb\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert seen.codes == [250, 250, 250, 550, 503, 250]
    assert (seen.mails, seen.refused) == ([], 1)


def test_rset_within_bdat_throws_the_content_away() -> None:
    seen = said(BEGIN + b"BDAT 1\r\nxRSET\r\n" + MAIL + RCPT + b"BDAT 1 LAST\r\ny")
    assert seen.refused == 1
    assert [m.wire for m in seen.mails] == [b"y\r\n.\r\n"]


def test_oversized_content_is_read_on_and_answered_552() -> None:
    octets = BEGIN + b"DATA\r\n" + b"x" * 200 + b"\r\nMAIL FROM:<evil@b.example>\r\n.\r\nNOOP\r\n"
    seen = converse([octets], new_session(max_size=100))
    assert seen.codes == [250, 250, 250, 354, 552, 250]
    assert (seen.mails, seen.refused) == ([], 1)


def test_rejected_mail_is_never_answered_250() -> None:
    seen = converse([BEGIN + b"DATA\r\nx\r\n.\r\n"], answer=reply(550, "5.7.1", "no"))
    assert seen.codes == [250, 250, 250, 354, 550]


def test_connection_that_ends_within_content_leaves_no_mail() -> None:
    seen = said(BEGIN + b"DATA\r\nSubject: cut\r\n\r\nhalf")
    assert (seen.mails, seen.open_sink) == ([], True)


@pytest.mark.parametrize("newlines", list(Newlines))
@pytest.mark.parametrize("bdat", [False, True])
@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n",
     b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n. \r\n", b"\n\n.\n", b"\x0b.\x0b", b"\xe2\x80\xa8.\xe2\x80\xa8"],
)  # fmt: skip
def test_no_smuggling_sequence_makes_a_second_mail(end: bytes, bdat: bool, newlines: Newlines) -> None:
    body = b"From: a@sender.example\r\n\r\nfirst" + end + SMUGGLED
    sent = b"BDAT %d LAST\r\n%s" % (len(body), body) if bdat else b"DATA\r\n" + body + b".\r\n"
    octets = BEGIN + sent + b"QUIT\r\n"
    whole = converse([octets], new_session(newlines))
    assert whole.ended
    assert len(whole.mails) <= 1
    assert len(whole.mails) + whole.refused == 1
    for mail in whole.mails:
        assert_wire_form(mail.wire)
        assert mail.envelope.reverse_path == "a@sender.example"
    if newlines is Newlines.NORMALISE:
        assert len(whole.mails) == 1
    for seed in range(50):
        assert converse(chunked(octets, seed), new_session(newlines)) == whole, seed


# --- limits ----------------------------------------------------------------------------------------------


def test_recipients_past_the_limit_are_452_and_the_mail_goes_on() -> None:
    limits = Limits(recipients=100)
    octets = (
        EHLO + MAIL + b"".join(b"RCPT TO:<r%d@inside.example>\r\n" % n for n in range(103)) + b"DATA\r\nx\r\n.\r\n"
    )
    seen = converse([octets], new_session(limits=limits))
    assert seen.codes[2:105] == [250] * 100 + [452] * 3
    assert len(seen.mails[0].envelope.recipients) == 100


def test_too_many_errors_end_the_session_with_421() -> None:
    seen = converse([b"FOO\r\n" * 50], new_session(limits=Limits(errors=3)))
    assert seen.codes == [500, 500, 500, 500, 421]
    assert seen.ended


def test_too_many_commands_without_a_mail_end_the_session_and_a_mail_starts_the_count_anew() -> None:
    limits = Limits(idle_commands=20)
    seen = converse([b"NOOP\r\n" * 50], new_session(limits=limits))
    assert seen.codes == [250] * 20 + [421]
    mail = MAIL + RCPT + b"DATA\r\nx\r\n.\r\n"
    seen = converse([EHLO + (b"NOOP\r\n" * 15 + mail) * 3], new_session(limits=limits))
    assert len(seen.mails) == 3


@pytest.mark.parametrize("step", [1, 100, 10_000])
def test_overlong_line_is_one_500_and_takes_no_memory(step: int) -> None:
    octets = b"NOOP " + b"x" * 5000 + b"\r\nNOOP\r\n"
    smtp = new_session()
    seen = converse([octets[at : at + step] for at in range(0, len(octets), step)], smtp)
    assert seen.codes == [500, 250]
    assert smtp.buffered == 0


def test_any_number_of_overlong_lines_may_come_in_one_buffer() -> None:
    limits = Limits(command_octets=512, errors=1000)
    octets = (b"NOOP " + b"x" * 600 + b"\r\n") * 1001
    assert converse([octets], new_session(limits=limits)).codes == [500] * 1001 + [421]


def test_line_of_exactly_the_limit_is_taken() -> None:
    limit = Limits().command_octets
    assert said(b"NOOP " + b"x" * (limit - 7) + b"\r\n").codes == [250]
    assert said(b"NOOP " + b"x" * (limit - 6) + b"\r\n").codes == [500]


def test_end_says_its_word_once() -> None:
    smtp = new_session()
    smtp.greet()
    smtp.end(reply(421, "4.3.2", "closing"))
    assert isinstance(smtp.next_event(), Ended)
    assert smtp.next_event() is None
    smtp.receive(EHLO)
    assert smtp.next_event() is None
    assert smtp.data_to_send().endswith(b"421 4.3.2 closing\r\n")
