"""Design section 3, line by line: what each failure of a next hop means, with servers that really fail so."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, InlineOctets
from posthouse.core.outcome import Result, ServerAnswer, Stage, Transaction
from posthouse.lab.sink import Sink, SinkOptions
from posthouse.lab.sink_rules import parse_rule
from support.servers import LOOPS, Peer, Script, closed_port, deaf_port, profile, run, scripted, transaction

QUICK = Limits(
    connect_seconds=1,
    greeting_seconds=1,
    command_reply_seconds=1,
    data_reply_seconds=1,
    block_seconds=1,
    final_dot_seconds=1,
)


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def relay(server: str, mail: Transaction, limits: Limits | None = None) -> ServerAnswer:
    return await SmtpRelay("mx1.example", limits or Limits()).send(profile(server), server, mail, lambda: True)


def through_sink(
    loop: str, *rules: str, recipients: tuple[str, ...] = ("bob@ours.example",)
) -> tuple[ServerAnswer, Sink]:
    """One mail to a sink that keeps these rules."""

    async def go() -> tuple[ServerAnswer, Sink]:
        async with Sink(SinkOptions(rules=tuple(parse_rule(rule) for rule in rules))) as sink:
            answer = await relay(f"smtp://127.0.0.1:{sink.port}", transaction(*recipients))
            await sink.quiet()
            return answer, sink

    return run(loop, go())


def through_script(
    loop: str, script: Script, mail: Transaction | None = None, limits: Limits | None = None
) -> ServerAnswer:
    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            return await relay(next_hop.server, mail or transaction(), limits)

    return run(loop, go())


def results(answer: ServerAnswer) -> list[Result]:
    return [recipient.result for recipient in answer.recipients]


# --- the server's fault ----------------------------------------------------------------------------------


def test_refused_connection_is_the_servers_fault(loop: str) -> None:
    with closed_port() as port:
        answer = run(loop, relay(f"smtp://127.0.0.1:{port}", transaction("a@x.example", "b@x.example")))
    assert results(answer) == [Result.SERVER_FAULT] * 2
    assert answer.fault == "connection refused"
    assert not answer.greeted


def test_no_answer_to_connect_is_the_servers_fault(loop: str) -> None:
    with deaf_port() as port:
        answer = run(loop, relay(f"smtp://127.0.0.1:{port}", transaction(), QUICK))
    assert results(answer) == [Result.SERVER_FAULT]
    assert answer.fault == "no answer to connect within 1 s"


def test_unknown_name_is_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> ServerAnswer:
        async def unknown(*args: object, **kwargs: object) -> object:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        return await relay("smtp://nowhere.example:25", transaction())

    answer = asyncio.run(go())
    assert results(answer) == [Result.SERVER_FAULT]
    assert answer.fault == "name not found"


def test_every_address_of_a_name_is_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> ServerAnswer:
        async with Sink() as sink:  # listens on 127.0.0.1 only

            async def two(*args: object, **kwargs: object) -> list[tuple[object, ...]]:
                kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
                return [(*kind, ("127.0.0.2", sink.port)), (*kind, ("127.0.0.1", sink.port))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
            return await relay(f"smtp://two.example:{sink.port}", transaction())

    assert results(asyncio.run(go())) == [Result.RELAYED]


def test_silent_server_is_at_fault_after_the_time_for_its_greeting(loop: str) -> None:
    async def go() -> ServerAnswer:
        async with Sink(SinkOptions(black_hole=True)) as sink:
            return await relay(f"smtp://127.0.0.1:{sink.port}", transaction(), QUICK)

    answer = run(loop, go())
    assert results(answer) == [Result.SERVER_FAULT]
    assert answer.fault == "no greeting within 1 s"


@pytest.mark.parametrize("stage", ["EHLO", "MAIL", "RCPT", "DATA"])
def test_no_reply_before_the_final_dot_is_the_servers_fault(loop: str, stage: str) -> None:
    async def go() -> ServerAnswer:
        async with Sink(SinkOptions(rules=(parse_rule(f"{stage}=hang"),))) as sink:
            return await relay(f"smtp://127.0.0.1:{sink.port}", transaction(), QUICK)

    answer = run(loop, go())
    assert results(answer) == [Result.SERVER_FAULT]
    assert answer.fault == f"no reply to {stage} within 1 s"


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "content"])
@pytest.mark.parametrize("how", ["drop", "close"])
def test_connection_lost_before_the_final_dot_is_the_servers_fault(loop: str, stage: str, how: str) -> None:
    if stage == "content":
        # Small content leaves in one write with its dot; of larger content the end waits for the way to be clear.
        async def script(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            await peer.expect("MAIL", "RCPT", "DATA")
            peer.say("250 ok", "250 ok", "354 go")
            await peer.octets(1000)
            peer.reset() if how == "drop" else peer.close()

        large = Content(InlineOctets(b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * 200_000 + b".\r\n"))
        answer = through_script(loop, script, transaction(content=large))
    else:
        answer, sink = through_sink(loop, f"{stage}={how}")
        assert not sink.mails
    assert results(answer) == [Result.SERVER_FAULT]
    assert answer.fault.startswith(("connection lost", "connection reset"))


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
def test_421_anywhere_is_the_servers_fault(loop: str, stage: str) -> None:
    answer, _ = through_sink(loop, f"{stage}=421 4.3.2 going down", recipients=("a@x.example", "b@x.example"))
    assert results(answer) == [Result.SERVER_FAULT] * 2
    assert "421 4.3.2 going down" in answer.fault


@pytest.mark.parametrize("greeting", ["554 5.7.1 go away", "450 4.3.2 not now", "354 what"])
def test_greeting_other_than_2yz_is_the_servers_fault(loop: str, greeting: str) -> None:
    answer, _ = through_sink(loop, f"greeting={greeting}")
    assert results(answer) == [Result.SERVER_FAULT]
    assert greeting in answer.fault
    assert not answer.greeted


def test_5yz_to_ehlo_falls_back_to_helo(loop: str) -> None:
    answer, sink = through_sink(loop, "EHLO=502 5.5.1 unknown")
    assert results(answer) == [Result.RELAYED]
    assert [command.split(" ")[0] for command in sink.sessions[0].commands[:3]] == ["EHLO", "HELO", "MAIL"]


def test_5yz_to_ehlo_and_helo_is_the_servers_fault(loop: str) -> None:
    answer, _ = through_sink(loop, "EHLO=502 5.5.1 unknown", "HELO=550 5.7.1 no")
    assert results(answer) == [Result.SERVER_FAULT]
    assert "550 5.7.1 no" in answer.fault


@pytest.mark.parametrize("reply", ["503 5.5.1 sequence", "530 5.7.0 authenticate", "538 5.7.11 encrypt first"])
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "dot"])
def test_503_530_538_are_the_servers_fault(loop: str, stage: str, reply: str) -> None:
    answer, _ = through_sink(loop, f"{stage}={reply}")
    assert results(answer) == [Result.SERVER_FAULT]
    assert reply in answer.fault


def test_must_issue_starttls_is_the_servers_fault_whatever_its_code(loop: str) -> None:
    answer, _ = through_sink(loop, "MAIL=550 5.7.0 Must issue a STARTTLS command first")
    assert results(answer) == [Result.SERVER_FAULT]


def test_503_that_follows_from_a_refused_mail_is_no_result_of_its_own(loop: str) -> None:
    answer, _ = through_sink(loop, "MAIL=550 5.7.1 not from you", "RCPT=503 no", "DATA=503 no")
    assert results(answer) == [Result.PERMANENT]
    assert answer.recipients[0].reply == "550 5.7.1 not from you"
    assert not answer.fault


def test_malformed_reply_is_the_servers_fault(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL")
        peer.say("HTTP/1.1 400 Bad Request")
        await peer.end()

    answer = through_script(loop, script)
    assert results(answer) == [Result.SERVER_FAULT]
    assert "malformed reply 'HTTP/1.1 400 Bad Request'" in answer.fault


def test_endless_reply_is_the_servers_fault(loop: str) -> None:
    async def script(peer: Peer) -> None:
        peer.say_octets(b"220-" + b"x" * 5000)
        await peer.end()

    answer = through_script(loop, script, limits=Limits(reply_octets=4096))
    assert answer.fault == "reply of more than 4096 octets"


# --- the message's transient fault -----------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["MAIL", "DATA", "dot"])
@pytest.mark.parametrize("reply", ["451 4.3.0 try later", "452 4.3.1 disk full"])
def test_4yz_to_mail_data_or_final_dot_goes_on_to_the_next_server(loop: str, stage: str, reply: str) -> None:
    answer, _ = through_sink(loop, f"{stage}={reply}", recipients=("a@x.example", "b@x.example"))
    assert results(answer) == [Result.TRANSIENT] * 2
    assert answer.recipients[1].reply == reply
    assert not answer.fault


def test_4yz_to_rcpt_leaves_that_recipient_to_the_schedule(loop: str) -> None:
    answer, sink = through_sink(
        loop, "RCPT:a@*=450 4.2.0 greylisted", recipients=("a@x.example", "b@x.example", "c@x.example")
    )
    assert results(answer) == [Result.LATER, Result.RELAYED, Result.RELAYED]
    assert sink.mails[0].recipients == ("b@x.example", "c@x.example")


@pytest.mark.parametrize("reply", ["452 4.5.3 too many", "552 5.5.3 too many"])
def test_452_or_552_to_the_first_rcpt_leaves_it_to_the_schedule(loop: str, reply: str) -> None:
    answer, _ = through_sink(loop, f"RCPT={reply}")
    assert results(answer) == [Result.LATER]
    assert answer.recipients[0].status == ("4.5.3")


@pytest.mark.parametrize("code", ["452 4.5.3", "552 5.5.3"])
def test_452_or_552_after_an_accepted_rcpt_opens_a_further_transaction_at_once(loop: str, code: str) -> None:
    answer, sink = through_sink(
        loop, f"RCPT:b@*:1={code} too many", f"RCPT:c@*:1={code} too many", recipients=("a@x", "b@x", "c@x")
    )
    assert results(answer) == [Result.RELAYED] * 3
    assert [mail.recipients for mail in sink.mails] == [("a@x",), ("b@x", "c@x")]
    assert len(sink.sessions) == 1


def test_transient_fault_takes_along_those_told_to_come_again(loop: str) -> None:
    answer, sink = through_sink(loop, "RCPT:b@*:1=452 4.5.3 many", "dot=451 4.3.0 no", recipients=("a@x", "b@x"))
    assert results(answer) == [Result.TRANSIENT, Result.TRANSIENT]
    assert len(sink.mails) == 1


# --- permanent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize("reply", ["550 5.7.1 no", "554 5.6.0 no", "501 5.5.4 no"])
def test_other_5yz_is_permanent(loop: str, stage: str, reply: str) -> None:
    answer, _ = through_sink(loop, f"{stage}={reply}")
    assert results(answer) == [Result.PERMANENT]
    assert answer.recipients[0].reply == reply
    assert answer.recipients[0].status == reply.split()[1]
    assert not answer.fault
    assert any(reply in line for line in answer.transcript)


def test_552_to_mail_is_permanent(loop: str) -> None:
    assert results(through_sink(loop, "MAIL=552 5.3.4 too large")[0]) == [Result.PERMANENT]


def test_refusal_of_one_recipient_does_not_touch_the_others(loop: str) -> None:
    answer, sink = through_sink(
        loop, "RCPT:a@*=550 5.1.1 unknown", "RCPT:c@*=450 4.2.1 later", recipients=("a@x", "b@x", "c@x")
    )
    assert results(answer) == [Result.PERMANENT, Result.RELAYED, Result.LATER]
    assert [recipient.stage for recipient in answer.recipients] == [Stage.RCPT, Stage.FINAL_DOT, Stage.RCPT]
    assert sink.mails[0].recipients == ("b@x",)


def test_data_refused_after_all_rcpt_were_refused_is_no_result_of_its_own(loop: str) -> None:
    answer, sink = through_sink(loop, "RCPT=450 4.2.1 later", "DATA=554 5.5.1 no valid recipients")
    assert results(answer) == [Result.LATER]
    assert answer.recipients[0].reply == "450 4.2.1 later"
    assert not sink.mails


@pytest.mark.parametrize("after_dot", ["554 5.5.1 no recipients", "250 2.0.0 taken"])
def test_354_without_accepted_recipient_gets_a_lone_dot_and_its_reply_is_ignored(loop: str, after_dot: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "550 5.1.1 unknown", "354 go")
        await peer.expect(".", "RSET")
        assert peer.heard[-2] == "."
        peer.say(after_dot, "250 reset")
        await peer.expect("QUIT")

    answer = through_script(loop, script)
    assert results(answer) == [Result.PERMANENT]
    assert answer.recipients[0].reply == "550 5.1.1 unknown"


def test_connection_is_not_kept_when_rset_after_a_lone_dot_fails(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "550 5.1.1 unknown", "354 go")
        await peer.expect(".", "RSET")
        peer.say("554 no", "500 no")
        assert await peer.end() == b""

    assert results(through_script(loop, script)) == [Result.PERMANENT]


# --- uncertain -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drop", "close"])
def test_connection_lost_after_the_final_dot_is_uncertain(loop: str, how: str) -> None:
    answer, sink = through_sink(loop, f"dot={how}")
    assert results(answer) == [Result.UNCERTAIN]
    assert not answer.fault
    assert len(sink.mails) == 1
    assert "after the final dot, before its reply" in answer.recipients[0].reply


def test_no_reply_to_the_final_dot_is_uncertain(loop: str) -> None:
    async def go() -> ServerAnswer:
        async with Sink(SinkOptions(rules=(parse_rule("dot=hang"),))) as sink:
            return await relay(f"smtp://127.0.0.1:{sink.port}", transaction(), QUICK)

    answer = run(loop, go())
    assert results(answer) == [Result.UNCERTAIN]
    assert answer.recipients[0].reply == "no reply to final dot within 1 s"


@pytest.mark.parametrize("reply", ["354 more", "what?"])
def test_absurd_reply_to_the_final_dot_is_uncertain(loop: str, reply: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.content()
        peer.say(reply)
        assert await peer.end() == b""

    assert results(through_script(loop, script)) == [Result.UNCERTAIN]


def test_only_recipients_of_the_mail_whose_dot_left_are_uncertain(loop: str) -> None:
    answer, _ = through_sink(
        loop,
        "RCPT:no@*=550 5.1.1 no",
        "RCPT:again@*:1=452 4.5.3 many",
        "dot=drop",
        recipients=("no@x", "yes@x", "again@x"),
    )
    assert results(answer) == [Result.PERMANENT, Result.UNCERTAIN, Result.SERVER_FAULT]


def test_uncertain_in_a_further_transaction_leaves_the_first_relayed(loop: str) -> None:
    answer, _ = through_sink(loop, "RCPT:b@*:1=452 4.5.3 many", "dot:b@*=drop", recipients=("a@x", "b@x"))
    assert results(answer) == [Result.RELAYED, Result.UNCERTAIN]


# --- the lease -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True])
def test_mail_that_may_not_be_finished_gets_no_final_dot_and_no_blame(loop: str, awaited: bool) -> None:
    async def no() -> bool:
        await asyncio.sleep(0)
        return False

    may_finish: Callable[[], object] = no if awaited else lambda: False

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        assert b"\r\n.\r\n" not in await peer.end()

    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            return await SmtpRelay("mx1.example", Limits()).send(
                profile(next_hop.server),
                next_hop.server,
                transaction(),
                may_finish,  # type: ignore[arg-type]
            )

    answer = run(loop, go())
    assert results(answer) == [Result.SERVER_FAULT]
    assert answer.fault == ""
