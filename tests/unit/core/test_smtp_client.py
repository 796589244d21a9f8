"""The client session without any network: states, patience, transcript."""

import pytest

from posthouse.core.envelope import Body, Recipient
from posthouse.core.limits import Limits
from posthouse.core.outcome import Result, ServerAnswer, Stage
from posthouse.core.smtp_client import ClientSession, Phase
from posthouse.core.smtp_command import Capabilities, mail_command, rcpt_command, read_capabilities, writable
from posthouse.core.smtp_opening import Security
from posthouse.core.smtp_reply import Reply
from posthouse.core.transcript import LONGEST_LINE, MOST_LINES, Transcript
from support.servers import CONTENT, transaction

EHLO = b"250-next\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250 DSN\r\n"


def session(ehlo: bytes = EHLO, limits: Limits | None = None) -> ClientSession:
    """Greeted and idle."""
    made = ClientSession("mx1.example", limits or Limits())
    made.receive(b"220 next\r\n")
    assert made.output() == b"EHLO mx1.example\r\n"
    made.receive(ehlo)
    assert made.idle
    return made


def answer_of(made: ClientSession) -> ServerAnswer:
    answer = made.take_answer()
    assert answer is not None
    return answer


def test_transaction_may_be_begun_before_the_greeting() -> None:
    made = ClientSession("mx1.example", Limits())
    made.begin(transaction("bob@x"))
    assert made.output() == b""
    made.receive(b"220 next\r\n" + EHLO)
    assert made.output() == (
        b"EHLO mx1.example\r\nMAIL FROM:<sender@client.example> SIZE=%d\r\nRCPT TO:<bob@x>\r\nDATA\r\n"
        % transaction("bob@x").size
    )


def test_a_greeting_in_clear_where_tls_comes_first_says_that_there_is_none() -> None:
    made = ClientSession("mx1.example", Limits(), Security(implicit=True))
    made.begin(transaction("bob@x"))
    made.receive(b"220 next\r\n")
    answer = answer_of(made)
    assert (answer.fault, answer.recipients[0].stage) == ("the server does not speak TLS here", Stage.TLS)
    assert made.output() == b""


def test_the_transcript_of_the_opening_belongs_to_the_first_mail_only() -> None:
    made = session()
    for number, greeted in ((1, True), (2, False)):
        made.begin(transaction("bob@x"))
        made.output()
        made.receive(b"550 no\r\n503 no\r\n503 no\r\n")
        answer = answer_of(made)
        assert ("S: 220 next" in answer.transcript) == greeted
        assert answer.mail_number == number


def test_whole_course_of_a_mail() -> None:
    made = session()
    made.begin(transaction("bob@x"))
    made.output()
    made.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert made.phase is Phase.CONTENT
    assert made.take_answer() is None
    made.dot_leaves(len(CONTENT))
    made.receive(b"250 2.0.0 taken\r\n")
    assert answer_of(made).recipients[0].result is Result.RELAYED
    assert made.idle
    made.quit()
    assert made.output() == b"QUIT\r\n"


def test_patience_fits_what_is_waited_for() -> None:
    limits = Limits(
        greeting_seconds=1, command_reply_seconds=2, data_reply_seconds=3, block_seconds=4, final_dot_seconds=5
    )
    made = ClientSession("mx1.example", limits)
    seen = [made.patience]
    made.receive(b"220 next\r\n")
    seen.append(made.patience)
    made.receive(EHLO)
    made.begin(transaction("bob@x"))
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        seen.append(made.patience)
        made.receive(reply)
    seen.append(made.patience)
    made.dot_leaves(1)
    seen.append(made.patience)
    assert seen == [1, 1, 2, 2, 3, 4, 5]


def test_octets_of_a_partial_reply_are_no_step_forward() -> None:
    made = ClientSession("mx1.example", Limits())
    made.receive(b"220-slow\r\n220-slow")
    assert made.replies == 0
    made.receive(b"er\r\n220 done\r\n")
    assert made.replies == 1


@pytest.mark.parametrize("name", ["", "mx1\r\nQUIT", "mx 1", "mx<1"])
def test_host_name_that_cannot_stand_in_ehlo_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="EHLO"):
        ClientSession(name, Limits())


def test_transaction_begun_on_an_ended_connection_learns_why_it_ended() -> None:
    made = ClientSession("mx1.example", Limits())
    made.receive(b"554 5.7.1 not you\r\n")
    made.begin(transaction("bob@x"))
    assert answer_of(made).fault == "at greeting: 554 5.7.1 not you"
    gone = ClientSession("mx1.example", Limits())
    gone.lost("connection reset")
    gone.begin(transaction("bob@x"))
    assert answer_of(gone).fault == "connection reset before the greeting"


def test_refusal_of_the_content_leaves_rset_before_the_next_mail() -> None:
    made = session()
    made.begin(transaction("bob@x"))
    made.output()
    made.receive(b"250 ok\r\n250 ok\r\n451 4.3.0 no\r\n")
    assert answer_of(made).recipients[0].result is Result.TRANSIENT
    assert made.phase is Phase.SETTLING
    assert made.output() == b"RSET\r\n"
    made.receive(b"250 ok\r\n")
    assert made.idle


def test_loss_after_the_answer_changes_nothing() -> None:
    made = session()
    made.begin(transaction("bob@x"))
    made.output()
    made.receive(b"250 ok\r\n550 no\r\n503 no\r\n")
    assert answer_of(made).recipients[0].result is Result.PERMANENT
    made.lost("connection lost")
    made.timed_out()
    assert made.take_answer() is None
    assert made.phase is Phase.UNFIT


def test_data_refused_for_good_still_lets_those_told_to_come_again_have_their_turn() -> None:
    made = session()
    made.begin(transaction("a@x", "b@x"))
    made.output()
    made.receive(b"250 ok\r\n250 ok\r\n452 4.5.3 many\r\n554 5.6.0 no\r\n")
    assert made.output().splitlines()[0::2] == [b"RSET", b"RCPT TO:<b@x>"]
    made.receive(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    made.dot_leaves(1)
    made.receive(b"250 ok\r\n")
    assert [one.result for one in answer_of(made).recipients] == [Result.PERMANENT, Result.RELAYED]


def test_those_told_to_come_again_wait_when_the_connection_cannot_serve_them() -> None:
    made = session()
    made.begin(transaction("a@x", "b@x"))
    made.receive(b"250 ok\r\n250 ok\r\n452 4.5.3 many\r\n354 go\r\n")
    made.receive(b"552 5.3.4 large\r\n")
    assert [one.result for one in answer_of(made).recipients] == [Result.PERMANENT, Result.LATER]


@pytest.mark.parametrize("dot_unsent", [True, False])
def test_timeout_with_the_dot_in_our_buffer_is_the_servers_fault(dot_unsent: bool) -> None:
    made = session()
    made.begin(transaction("a@x"))
    made.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    made.dot_leaves(1)
    made.timed_out(dot_unsent=dot_unsent)
    expected = Result.SERVER_FAULT if dot_unsent else Result.UNCERTAIN
    assert answer_of(made).recipients[0].result is expected


def test_acceptance_before_the_dot_has_left_is_not_believed() -> None:
    made = session()
    made.begin(transaction("a@x"))
    made.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    made.dot_leaves(1)
    made.dot_held_up()
    made.receive(b"250 2.0.0 taken\r\n")
    assert answer_of(made).recipients[0].result is Result.SERVER_FAULT


# --- commands --------------------------------------------------------------------------------------------


def test_capabilities_are_read_from_ehlo() -> None:
    plain = ("next hi", "pipelining", "Size 1000", "8BITMIME", "SMTPUTF8", "DSN", "X-NONSENSE a b", "")
    secure = ("STARTTLS", "AUTH PLAIN login XOAUTH2", "AUTH=LOGIN")
    assert read_capabilities(Reply(250, plain + secure)) == Capabilities(
        pipelining=True,
        eight_bit=True,
        smtputf8=True,
        dsn=True,
        starttls=True,
        auth=frozenset({"PLAIN", "LOGIN", "XOAUTH2"}),
        size=True,
        size_limit=1000,
    )


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE x", "SIZE -1", "SIZE ٣", "SIZE " + "9" * 30])
def test_size_without_a_usable_number_is_no_limit(size: str) -> None:
    offered = read_capabilities(Reply(250, ("next", size)))
    assert offered.size
    assert offered.size_limit == 0


def test_first_line_of_ehlo_is_no_capability() -> None:
    assert not read_capabilities(Reply(250, ("PIPELINING",))).pipelining


@pytest.mark.parametrize(
    "address", ["a@x.example", '"a b"@x.example', '"a\\"b"@x', "josé@x", "a@[IPv6:::1]", "postmaster", "a+b=c@x"]
)
def test_proper_address_is_writable(address: str) -> None:
    assert writable(address)


@pytest.mark.parametrize(
    "address",
    ["", "a b@x", "a@x>", "<a@x", "a@x\r\n", "a\n@x", '"a@x', '"a\r"@x', '"a"b@x', "a\x7f@x", "a\x85@x", "\ud800@x"],
)
def test_address_that_could_end_the_command_is_not(address: str) -> None:
    assert not writable(address)


def test_values_that_could_add_a_parameter_are_left_out() -> None:
    offered = Capabilities(dsn=True)
    line = rcpt_command(Recipient("a@x", "NEVER SIZE=1", "rfc822;a b"), offered)
    assert line == b"RCPT TO:<a@x>\r\n"
    for envid in ("a b", "a\r\nRSET", "a=b", "é"):
        line = mail_command("", offered, size=1, body=Body.UNSTATED, smtputf8=False, ret="ALL", envid=envid)
        assert line == b"MAIL FROM:<>\r\n"


# --- transcript ------------------------------------------------------------------------------------------


def test_transcript_is_bounded_in_lines_and_length() -> None:
    kept = Transcript()
    kept.client("EHLO first")
    for number in range(5000):
        kept.commands([b"RCPT TO:<%d@x>\r\n" % number])
        kept.server(Reply(250, ("y" * 1000,)))
    kept.note("connection lost")
    lines = kept.lines()
    assert len(lines) <= MOST_LINES
    assert lines[0] == "C: EHLO first"
    assert lines[-1] == "[connection lost]"
    assert any("lines left out" in line for line in lines)
    assert max(map(len, lines)) <= LONGEST_LINE


def test_transcript_tells_of_content_by_size_only() -> None:
    kept = Transcript()
    kept.content(4096)
    kept.server(Reply(250, ("first", "last"), "2.0.0"))
    assert kept.lines() == ("C: [4096 octets of content]", "S: 250-2.0.0 first", "S: 250 2.0.0 last")
