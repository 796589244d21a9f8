"""The failure table of design section 3, and the reader of replies."""

import pytest

from posthouse.core.outcome import Result, Stage
from posthouse.core.reply import Context, classify, classify_fault, status_of
from posthouse.core.smtp_reply import Reply, ReplyParser

SOME = Context(accepted=1)
NONE = Context(accepted=0)
MAIL_REFUSED = Context(mail_accepted=False)


def said(text: str) -> Reply:
    """The reply of one line."""
    (reply,) = ReplyParser(4096).feed(text.encode() + b"\r\n")
    return reply


TABLE: list[tuple[Stage, str, Context, Result | None]] = [
    (Stage.GREETING, "554 5.7.1 no", NONE, Result.SERVER_FAULT),
    (Stage.GREETING, "451 4.3.0 no", NONE, Result.SERVER_FAULT),
    (Stage.EHLO, "550 no", NONE, Result.SERVER_FAULT),
    (Stage.EHLO, "451 no", NONE, Result.SERVER_FAULT),
    (Stage.RSET, "500 no", NONE, Result.SERVER_FAULT),
    *((stage, "421 4.3.2 bye", SOME, Result.SERVER_FAULT) for stage in Stage),
    (Stage.RCPT, "421 4.3.2 bye", MAIL_REFUSED, Result.SERVER_FAULT),
    (Stage.DATA, "421 4.3.2 bye", NONE, Result.SERVER_FAULT),
    (Stage.MAIL, "503 sequence", NONE, Result.SERVER_FAULT),
    (Stage.RCPT, "503 sequence", NONE, Result.SERVER_FAULT),
    (Stage.RCPT, "503 sequence", MAIL_REFUSED, None),
    (Stage.DATA, "503 sequence", SOME, Result.SERVER_FAULT),
    (Stage.DATA, "503 sequence", NONE, None),
    (Stage.DATA, "503 sequence", MAIL_REFUSED, None),
    (Stage.MAIL, "530 5.7.0 log in", NONE, Result.SERVER_FAULT),
    (Stage.RCPT, "538 5.7.11 encrypt", NONE, Result.SERVER_FAULT),
    (Stage.MAIL, "554 5.7.0 Must issue a STARTTLS command first", NONE, Result.SERVER_FAULT),
    (Stage.MAIL, "451 5.7.0 must issue STARTTLS", NONE, Result.SERVER_FAULT),
    (Stage.MAIL, "451 4.3.0 busy", NONE, Result.TRANSIENT),
    (Stage.MAIL, "452 4.3.1 full", NONE, Result.TRANSIENT),
    (Stage.MAIL, "550 5.7.1 no", NONE, Result.PERMANENT),
    (Stage.MAIL, "552 5.3.4 large", NONE, Result.PERMANENT),
    (Stage.MAIL, "354 what", NONE, Result.SERVER_FAULT),
    (Stage.RCPT, "450 4.2.0 grey", SOME, Result.LATER),
    (Stage.RCPT, "452 4.5.3 many", NONE, Result.LATER),
    (Stage.RCPT, "552 5.5.3 many", NONE, Result.LATER),
    (Stage.RCPT, "452 4.5.3 many", SOME, Result.AGAIN),
    (Stage.RCPT, "552 5.5.3 many", SOME, Result.AGAIN),
    (Stage.RCPT, "550 5.1.1 unknown", SOME, Result.PERMANENT),
    (Stage.RCPT, "550 5.1.1 unknown", MAIL_REFUSED, None),
    (Stage.DATA, "451 4.3.0 busy", SOME, Result.TRANSIENT),
    (Stage.DATA, "451 4.3.0 busy", NONE, None),
    (Stage.DATA, "554 5.5.1 no recipients", NONE, None),
    (Stage.DATA, "554 5.6.0 no", SOME, Result.PERMANENT),
    (Stage.DATA, "250 what", SOME, Result.SERVER_FAULT),
    (Stage.CONTENT, "451 4.3.0 busy", SOME, Result.TRANSIENT),
    (Stage.CONTENT, "552 5.3.4 large", SOME, Result.PERMANENT),
    (Stage.CONTENT, "250 what", SOME, Result.SERVER_FAULT),
    (Stage.FINAL_DOT, "250 2.0.0 taken", SOME, Result.RELAYED),
    (Stage.FINAL_DOT, "354 what", SOME, Result.UNCERTAIN),
    (Stage.FINAL_DOT, "452 4.3.1 full", SOME, Result.TRANSIENT),
    (Stage.FINAL_DOT, "550 5.7.1 spam", SOME, Result.PERMANENT),
    (Stage.FINAL_DOT, "503 sequence", SOME, Result.SERVER_FAULT),
]


@pytest.mark.parametrize(("stage", "text", "context", "expected"), TABLE)
def test_a_reply_means_what_the_failure_table_says(
    stage: Stage, text: str, context: Context, expected: Result | None
) -> None:
    assert classify(stage, said(text), context) is expected


@pytest.mark.parametrize("stage", list(Stage))
def test_loss_is_uncertain_only_after_the_final_dot(stage: Stage) -> None:
    expected = Result.UNCERTAIN if stage is Stage.FINAL_DOT else Result.SERVER_FAULT
    assert classify_fault(stage) is expected


def test_status_is_that_of_the_reply_or_fits_the_result() -> None:
    assert status_of(Result.PERMANENT, said("550 5.1.1 no"), Stage.RCPT) == "5.1.1"
    assert status_of(Result.PERMANENT, said("550 no"), Stage.RCPT) == "5.0.0"
    assert status_of(Result.AGAIN, said("552 5.5.3 many"), Stage.RCPT) == "4.5.3"
    assert status_of(Result.LATER, said("552 many"), Stage.RCPT) == "4.5.3"
    assert status_of(Result.SERVER_FAULT, None, Stage.CONNECT) == "4.4.1"
    assert status_of(Result.UNCERTAIN, None, Stage.FINAL_DOT) == "4.4.2"
    assert status_of(Result.PERMANENT, None, Stage.MAIL) == "5.0.0"
    assert status_of(Result.TRANSIENT, None, Stage.MAIL) == "4.0.0"
    assert status_of(Result.RELAYED, None, Stage.FINAL_DOT) == "2.0.0"


# --- reading replies -------------------------------------------------------------------------------------


def test_enhanced_status_code_is_taken_off_every_line() -> None:
    (reply,) = ReplyParser(4096).feed(b"550-5.7.1 first\r\n550-5.7.1\r\n550 5.7.1 last\r\n")
    assert reply == Reply(550, ("first", "", "last"), "5.7.1")
    assert reply.text == "550 5.7.1 first /  / last"


@pytest.mark.parametrize(
    ("line", "status"),
    [("450 5.1.1 x", "4.1.1"), ("550 2.0.0 x", "5.0.0"), ("250 5.0.0 x", "2.0.0"), ("550 5.7.1", "5.7.1")],
)
def test_class_of_the_status_is_corrected_by_the_reply_code(line: str, status: str) -> None:
    assert said(line).status == status


@pytest.mark.parametrize("line", ["354 5.7.1 x", "250 5.7 x", "250 5.7.1234 x", "250 3.7.1 x", "250 5.7.1x y", "250"])
def test_what_is_no_status_stays_text(line: str) -> None:
    assert said(line).status == ""
    assert said(line).lines == (line[4:],)


@pytest.mark.parametrize("octets", [b"250 ok\n", b"250 ok\r\n", b"250-ok\r\n250 ok\n", b"250\r\n", b"250 \r\n"])
def test_sloppy_line_ends_and_missing_texts_are_read(octets: bytes) -> None:
    parser = ReplyParser(4096)
    assert [reply.code for reply in parser.feed(octets)] == [250]
    assert not parser.fault
    assert not parser.amid


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"600 ok\r\n",
        b"250_ok\r\n",
        b"\r\n",
        b" \r\n",
        b"250-ok\r\n550 no\r\n",
        b"250-ok\r\nok\r\n",
        b"\xb2\xb3\xb4 ok\r\n",
    ],
)
def test_malformed_reply_is_a_fault_and_nothing_after_it_is_read(octets: bytes) -> None:
    parser = ReplyParser(4096)
    assert [reply.code for reply in parser.feed(b"220 hi\r\n" + octets + b"250 ok\r\n")] == [220]
    assert "malformed reply" in parser.fault
    assert parser.feed(b"250 ok\r\n") == []


@pytest.mark.parametrize("octets", [b"250 " + b"x" * 100, b"250-xxxxx\r\n" * 12, b"250 " + b"x" * 97 + b"\r\n"])
def test_reply_is_bounded_whatever_its_lines(octets: bytes) -> None:
    whole = ReplyParser(100)
    assert whole.feed(octets) == []
    assert whole.fault == "reply of more than 100 octets"
    single = ReplyParser(100)
    for index in range(len(octets)):
        assert single.feed(octets[index : index + 1]) == []
    assert single.fault == whole.fault


def test_the_bound_is_per_reply() -> None:
    parser = ReplyParser(100)
    assert len(parser.feed(b"250 xxxxxxxxxxxxxxx\r\n" * 20)) == 20
    assert len(parser.feed(b"250-xxxxxxxxxxxxxxx\r\n250 x\r\n" * 20)) == 20


def test_control_characters_of_a_reply_become_question_marks() -> None:
    assert said("550 a\x1b[2Jb\u2028c\x00").lines == ("a?[2Jb?c?",)


def test_unfinished_reply_is_known_as_such() -> None:
    parser = ReplyParser(4096)
    parser.feed(b"250-ok\r\n")
    assert parser.amid
    assert [reply.lines for reply in parser.feed(b"250 done\r\n2")] == [("ok", "done")]
    assert parser.amid
