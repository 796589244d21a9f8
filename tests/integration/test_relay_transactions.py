"""Whole transactions through the SMTP client: pipelining, parameters, content of every kind, real octets."""

import asyncio
import os
import tracemalloc
from collections.abc import Awaitable
from pathlib import Path

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.clients.smtp_connection import SmtpConnection
from posthouse.core.envelope import Body, Recipient
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.core.outcome import Result, ServerAnswer, Transaction
from posthouse.core.wire_form import plain_form, wire_form
from posthouse.lab.sink import Sink, SinkOptions
from posthouse.lab.sink_rules import parse_rule
from support.servers import CONTENT, LOOPS, PREFIX, Peer, profile, run, scripted, transaction


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def to_sink(loop: str, mail: Transaction, options: SinkOptions | None = None) -> tuple[ServerAnswer, Sink]:
    async def go() -> tuple[ServerAnswer, Sink]:
        async with Sink(options) as sink:
            server = f"smtp://127.0.0.1:{sink.port}"
            answer = await SmtpRelay("mx1.example", Limits()).send(profile(server), server, mail, lambda: True)
            await sink.quiet()
            return answer, sink

    return run(loop, go())


def results(answer: ServerAnswer) -> list[Result]:
    return [recipient.result for recipient in answer.recipients]


def test_mail_arrives_octet_for_octet_behind_its_trace_field(loop: str) -> None:
    answer, sink = to_sink(loop, transaction("bob@ours.example"))
    assert results(answer) == [Result.RELAYED]
    assert answer.recipients[0].reply == "250 2.0.0 taken as 1"
    assert answer.greeted
    assert answer.dsn_offered
    assert sink.mails[0].octets == PREFIX + plain_form(CONTENT)
    assert sink.mails[0].raw == PREFIX + CONTENT.removesuffix(b".\r\n")


def test_empty_content_is_a_mail_too(loop: str) -> None:
    answer, sink = to_sink(loop, transaction(content=Content(InlineOctets(b".\r\n")), prefix=b""))
    assert results(answer) == [Result.RELAYED]
    assert sink.mails[0].octets == b""


def test_mail_rcpt_and_data_go_in_one_write_where_pipelining_is_offered(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "RCPT", "DATA")  # no reply in between
        peer.say("250 ok", "250 ok", "250 ok", "354 go")
        await peer.content()
        peer.say("250 taken")
        await peer.expect("QUIT")

    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            return await SmtpRelay("mx1.example", Limits()).send(
                profile(next_hop.server), next_hop.server, transaction("a@x.example", "b@x.example"), lambda: True
            )

    assert results(run(loop, go())) == [Result.RELAYED] * 2


def test_commands_go_one_by_one_without_pipelining(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for verb, reply in (("MAIL", "250 ok"), ("RCPT", "550 no"), ("RCPT", "250 ok"), ("DATA", "354 go")):
            await peer.expect(verb)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer.octets(1), 0.05)
            peer.say(reply)
        await peer.content()
        peer.say("250 taken")
        await peer.expect("QUIT")

    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            return await SmtpRelay("mx1.example", Limits()).send(
                profile(next_hop.server), next_hop.server, transaction("a@x.example", "b@x.example"), lambda: True
            )

    assert results(run(loop, go())) == [Result.PERMANENT, Result.RELAYED]


def test_no_data_is_sent_one_by_one_when_every_recipient_is_refused(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for verb, reply in (("MAIL", "250 ok"), ("RCPT", "550 no"), ("RSET", "250 ok")):
            await peer.expect(verb)
            peer.say(reply)
        await peer.expect("QUIT")

    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            return await SmtpRelay("mx1.example", Limits()).send(
                profile(next_hop.server), next_hop.server, transaction(), lambda: True
            )

    assert results(run(loop, go())) == [Result.PERMANENT]


@pytest.mark.parametrize("without", [frozenset(), frozenset({"PIPELINING"})])
def test_next_hop_that_limits_recipients_gets_several_transactions_in_one_session(
    loop: str, without: frozenset[str]
) -> None:
    addresses = [f"r{number}@ours.example" for number in range(5)]
    answer, sink = to_sink(loop, transaction(*addresses), SinkOptions(recipients=2, without=without))
    assert results(answer) == [Result.RELAYED] * 5
    assert [len(mail.recipients) for mail in sink.mails] == [2, 2, 1]
    assert [path for mail in sink.mails for path in mail.recipients] == addresses
    assert len(sink.sessions) == 1


def test_parameters_are_sent_where_their_extension_is_offered(loop: str) -> None:
    mail = transaction(
        Recipient("bob@ours.example", "SUCCESS,FAILURE", "rfc822;bob+40x"),
        "eve@ours.example",
        body=Body.EIGHT_BIT,
        ret="HDRS",
        envid="id+2B1",
        size=1234,
    )
    _, sink = to_sink(loop, mail)
    assert sink.mails[0].mail_parameters == ("SIZE=1234", "BODY=8BITMIME", "RET=HDRS", "ENVID=id+2B1")
    assert sink.mails[0].rcpt_parameters == (("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob+40x"), ())


def test_no_parameters_are_sent_to_a_server_without_extensions(loop: str) -> None:
    mail = transaction(
        Recipient("bob@ours.example", "NEVER", "rfc822;bob"), body=Body.EIGHT_BIT, ret="FULL", envid="id"
    )
    answer, sink = to_sink(loop, mail, SinkOptions(helo_only=True))
    assert results(answer) == [Result.RELAYED]
    assert not answer.dsn_offered
    assert sink.mails[0].mail_parameters == ()
    assert sink.mails[0].rcpt_parameters == ((),)


def test_8bit_content_goes_as_it_is_to_a_server_without_8bitmime_and_is_marked(loop: str) -> None:
    content = Content(InlineOctets(wire_form("Subject: x\r\n\r\nGrüße\r\n".encode())))
    answer, sink = to_sink(loop, transaction(content=content), SinkOptions(without=frozenset({"8BITMIME"})))
    assert results(answer) == [Result.RELAYED]
    assert answer.marks == ("8bit without 8BITMIME",)
    assert sink.mails[0].octets.endswith("Grüße\r\n".encode())


def test_mail_above_the_announced_size_is_refused_without_asking(loop: str) -> None:
    answer, sink = to_sink(loop, transaction(size=5000), SinkOptions(max_size=4999))
    assert results(answer) == [Result.PERMANENT]
    assert answer.recipients[0].status == "5.3.4"
    assert [command.split()[0] for command in sink.sessions[0].commands] == ["EHLO", "QUIT"]


def test_address_that_needs_smtputf8_is_refused_where_it_is_not_offered_and_the_others_go(loop: str) -> None:
    mail = transaction("josé@ours.example", "bob@ours.example", smtputf8=True)
    answer, sink = to_sink(loop, mail, SinkOptions(without=frozenset({"SMTPUTF8"})))
    assert results(answer) == [Result.PERMANENT, Result.RELAYED]
    assert answer.recipients[0].status == "5.6.7"
    answer, sink = to_sink(loop, mail)
    assert results(answer) == [Result.RELAYED] * 2
    assert "SMTPUTF8" in sink.mails[0].mail_parameters


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("header", "needed"), [("Subject: hello", False), ("Subject: Grüße", True)])
def test_smtputf8_is_demanded_only_if_a_header_field_needs_it(
    loop: str, tmp_path: Path, header: str, needed: bool, in_file: bool
) -> None:
    octets = wire_form(f"{header}\r\n\r\nGrüße\r\n".encode())
    content = Content(InlineOctets(octets))
    if in_file:
        (tmp_path / "content").write_bytes(octets)
        content = Content(FileOctets(str(tmp_path / "content"), len(octets)))
    mail = transaction(content=content, smtputf8=True)
    answer, sink = to_sink(loop, mail)
    assert ("SMTPUTF8" in sink.mails[0].mail_parameters) is needed
    answer, sink = to_sink(loop, mail, SinkOptions(without=frozenset({"SMTPUTF8"})))
    assert results(answer) == [Result.PERMANENT if needed else Result.RELAYED]


def test_address_that_would_inject_a_command_never_reaches_the_wire(loop: str) -> None:
    evil = ["a@x>\r\nRSET", "a@x> NOTIFY=NEVER", "a b@x", "a@x\x00", "a@x\u2028", "<a@x"]
    answer, sink = to_sink(loop, transaction(*evil, "bob@ours.example"))
    assert results(answer) == [Result.PERMANENT] * len(evil) + [Result.RELAYED]
    assert sink.sessions[0].commands[2:] == ["RCPT TO:<bob@ours.example>", "DATA", "QUIT"]
    answer, sink = to_sink(loop, transaction(reverse_path="a@x> SIZE=1"))
    assert answer.recipients[0].status == "5.1.7"
    assert len(sink.sessions[0].commands) == 2


@pytest.mark.parametrize("size", [1000, 64 * 1024, 3_000_000])
def test_cut_octets_are_left_out(loop: str, tmp_path: Path, size: int) -> None:
    octets = b"X-MD-A: 1\r\nSubject: x\r\nX-MD-B: 2\r\n\r\n" + b"y" * 70 + b"\r\n" * (size // 2) + b".\r\n"
    cuts = ((0, 11), (23, 34))
    expected = octets[11:23] + octets[34:]
    path = tmp_path / "content"
    path.write_bytes(octets)
    for source in (InlineOctets(octets), FileOctets(str(path), len(octets))):
        answer, sink = to_sink(loop, transaction(content=Content(source, cuts), prefix=b"", size=len(expected)))
        assert results(answer) == [Result.RELAYED]
        assert sink.mails[0].raw + b".\r\n" == expected


def test_content_in_a_file_is_streamed_in_flat_memory(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "content"
    line = b"0123456789" * 7 + b"\r\n"
    octets = line * (20_000_000 // len(line)) + b".\r\n"
    path.write_bytes(octets)
    size = len(octets)
    del octets

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes the mail and keeps nothing, so that only the client's memory is measured."""
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250-hi\r\n250 PIPELINING\r\n")
        for _ in range(3):
            await reader.readline()
        writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
        tail = b""
        while not tail.endswith(b"\r\n.\r\n"):
            tail = (tail + await reader.read(65536))[-5:]
        writer.write(b"250 2.0.0 taken\r\n")
        writer.close()

    async def go() -> tuple[ServerAnswer, int]:
        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        mail = transaction(content=Content(FileOctets(str(path), size)))
        tracemalloc.start()
        answer = await SmtpRelay("mx1.example", Limits()).send(
            profile(f"smtp://127.0.0.1:{port}"), f"smtp://127.0.0.1:{port}", mail, lambda: True
        )
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        server.close()
        return answer, peak

    answer, peak = run(loop, go())
    assert results(answer) == [Result.RELAYED]
    assert peak < 4_000_000


def test_unreadable_content_is_no_fault_of_the_server(loop: str, tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(b"x" * 100)
    for path, size in ((tmp_path / "absent", 100), (short, 600_000)):
        answer, sink = to_sink(loop, transaction(content=Content(FileOctets(str(path), size))))
        assert results(answer) == [Result.SERVER_FAULT]
        assert answer.fault == ""
        assert "content cannot be read here" in answer.recipients[0].reply
        assert not sink.mails


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("552 5.3.4 too large", Result.PERMANENT),
        ("452 4.3.1 disk full", Result.TRANSIENT),
        ("421 4.3.2 closing", Result.SERVER_FAULT),
        ("250 2.0.0 absurd", Result.SERVER_FAULT),
    ],
)
def test_reply_while_content_is_being_sent_ends_the_mail_without_its_dot(
    loop: str, tmp_path: Path, reply: str, expected: Result
) -> None:
    path = tmp_path / "content"
    octets = (b"x" * 78 + b"\r\n") * 400_000 + b".\r\n"
    path.write_bytes(octets)
    asked: list[bool] = []

    def may_finish() -> bool:
        asked.append(True)
        return True

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.octets(10_000)
        peer.say(reply)
        rest = b""
        while piece := await peer.end():
            rest = rest[-5:] + piece
            assert b"\r\n.\r\n" not in rest

    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            mail = transaction(content=Content(FileOctets(str(path), len(octets))))
            return await SmtpRelay("mx1.example", Limits()).send(
                profile(next_hop.server), next_hop.server, mail, may_finish
            )

    answer = run(loop, go())
    assert results(answer) == [expected]
    assert not asked


def test_may_finish_is_asked_before_the_last_piece_and_may_take_its_time(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "content"
    octets = (b"x" * 78 + b"\r\n") * 20_000 + b".\r\n"
    path.write_bytes(octets)
    for content in (Content(InlineOctets(CONTENT)), Content(FileOctets(str(path), len(octets)))):
        asked = 0

        async def later() -> bool:
            nonlocal asked
            await asyncio.sleep(0)
            asked += 1
            return True

        def may_finish() -> Awaitable[bool]:
            return later()

        async def go(mail: Transaction, may_finish: object = may_finish) -> tuple[ServerAnswer, Sink]:
            async with Sink() as sink:
                server = f"smtp://127.0.0.1:{sink.port}"
                answer = await SmtpRelay("mx1.example", Limits()).send(profile(server), server, mail, may_finish)  # type: ignore[arg-type]
                return answer, sink

        answer, sink = run(loop, go(transaction(content=content, prefix=b"")))
        assert results(answer) == [Result.RELAYED]
        assert asked == 1
        assert isinstance(content.source, InlineOctets) or sink.mails[0].size == len(octets) - 3


def test_dot_that_is_still_in_our_buffer_when_the_connection_breaks_is_not_uncertain(loop: str) -> None:
    """The server reads nothing, so the octets that hold the dot never leave: a loss then is the server's fault."""
    content = Content(InlineOctets((b"x" * 78 + b"\r\n") * 800 + b".\r\n"))

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.octets(1)
        peer.reset()

    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            relay = SmtpRelay("mx1.example", Limits())
            return await relay.send(
                profile(next_hop.server),
                next_hop.server,
                transaction(content=content, prefix=PREFIX * 100_000),
                lambda: True,
            )

    assert results(run(loop, go())) == [Result.SERVER_FAULT]


@pytest.mark.parametrize(
    ("reply", "expected"), [("250 2.0.0 absurd", Result.SERVER_FAULT), ("552 5.3.4 large", Result.PERMANENT)]
)
def test_reply_that_overtakes_the_dot_in_our_buffer_keeps_it_from_leaving(
    loop: str, reply: str, expected: Result
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.octets(1)
        peer.say(reply)
        tail = b""
        while piece := await peer.end():
            tail = (tail + piece)[-200_000:]
        assert b"\r\n.\r\n" not in tail

    async def go() -> ServerAnswer:
        async with scripted(script) as next_hop:
            mail = transaction(prefix=PREFIX * 100_000)
            return await SmtpRelay("mx1.example", Limits()).send(
                profile(next_hop.server), next_hop.server, mail, lambda: True
            )

    assert results(run(loop, go())) == [expected]


def test_no_rcpt_is_sent_one_by_one_after_a_refused_mail(loop: str) -> None:
    _, sink = to_sink(loop, transaction(reverse_path="x@x"), SinkOptions(without=frozenset({"PIPELINING"})))
    assert [command.split()[0] for command in sink.sessions[0].commands] == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    options = SinkOptions(without=frozenset({"PIPELINING"}), rules=(parse_rule("MAIL=550 5.7.1 no"),))
    answer, sink = to_sink(loop, transaction(), options)
    assert results(answer) == [Result.PERMANENT]
    assert [command.split()[0] for command in sink.sessions[0].commands] == ["EHLO", "MAIL", "QUIT"]


def test_connection_runs_transaction_after_transaction(loop: str) -> None:
    """What a pool needs: idle after each answer, whatever the answer was."""

    async def go() -> tuple[list[list[Result]], Sink]:
        running = asyncio.get_running_loop()
        seen: list[list[Result]] = []
        async with Sink() as sink:
            _, connection = await running.create_connection(
                lambda: SmtpConnection("mx1.example", Limits(), running), "127.0.0.1", sink.port
            )
            for address in ("a@x", "rcpt-550@x", "b@x", "dot-451@x", "data-554@x", "c@x"):
                seen.append(results(await connection.transact(transaction(address), lambda: True)))
                settled: asyncio.Future[SmtpConnection] = running.create_future()
                connection.when_settled(settled.set_result)
                await settled
                assert connection.idle
            connection.quit()
            return seen, sink

    seen, sink = run(loop, go())
    assert [one[0].value for one in seen] == ["relayed", "permanent", "relayed", "transient", "permanent", "relayed"]
    assert len(sink.sessions) == 1
    assert len(sink.accepted) == 3


@pytest.mark.parametrize("stray", ["421 4.4.2 idle too long", "250 2.0.0 unasked", "25"])
def test_stray_octets_after_the_answer_make_the_connection_unfit(loop: str, stray: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.content()
        peer.say_octets(f"250 taken\r\n{stray}".encode() + (b"\r\n" if len(stray) > 2 else b""))
        assert await peer.end() == b""  # no QUIT, no further transaction

    async def go() -> tuple[ServerAnswer, bool]:
        running = asyncio.get_running_loop()
        async with scripted(script) as next_hop:
            _, connection = await running.create_connection(
                lambda: SmtpConnection("mx1.example", Limits(), running), "127.0.0.1", next_hop.port
            )
            answer = await connection.transact(transaction(), lambda: True)
            idle = connection.idle
            connection.quit()
            return answer, idle

    answer, idle = run(loop, go())
    assert results(answer) == [Result.RELAYED]
    assert not idle


def test_failed_mail_has_its_dialogue_and_a_relayed_one_has_none(loop: str) -> None:
    answer, _ = to_sink(loop, transaction("dot-550@x.example", "b@x.example"))
    assert answer.transcript[0] == "S: 220 sink.example ESMTP sink"
    assert answer.transcript[1] == "C: EHLO mx1.example"
    assert f"C: [{len(PREFIX) + len(CONTENT)} octets of content]" in answer.transcript
    assert answer.transcript[-1].startswith("S: 550 5.0.0")
    answer, _ = to_sink(loop, transaction())
    assert answer.transcript == ()


def test_a_login_is_told_before_the_mail_is_sent_and_cancelling_the_wait_for_it_closes_the_connection(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "TEST_RELAY_PASSWORD", "secret")
    asked, told = asyncio.Event(), asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.greet("PIPELINING", "AUTH PLAIN")
        await peer.expect("AUTH PLAIN ")
        asked.set()
        assert await peer.end() == b""

    async def accepting(peer: Peer) -> None:
        await peer.greet("PIPELINING", "AUTH PLAIN")
        await peer.expect("AUTH PLAIN ")
        peer.say("235 2.7.0 ok")
        await peer.expect("MAIL")
        assert told.is_set()
        peer.say("421 4.3.2 enough")

    async def go() -> None:
        async with scripted(slow, accepting) as next_hop:
            relay = SmtpRelay("mx1.example", Limits())
            password = {"env": "TEST_RELAY_PASSWORD"}
            by = profile(next_hop.server, username="relay", password=password, allow_plaintext_auth=True)

            def send() -> "asyncio.Future[ServerAnswer]":
                return asyncio.ensure_future(
                    relay.send(by, next_hop.server, transaction(), lambda: True, logged_in=told.set)
                )

            first = send()
            await asked.wait()
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert not told.is_set()
            answer = await send()
            assert answer.fault == "at MAIL: 421 4.3.2 enough"
            assert "C: AUTH PLAIN ***" in answer.transcript
            await relay.closed(10)
            assert not relay._alive

    run(loop, go())


def test_cancelled_delivery_closes_its_connection(loop: str) -> None:
    reached = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL")
        reached.set()
        await peer.end()
        assert await peer.end() == b""

    async def go() -> None:
        async with scripted(script) as next_hop:
            relay = SmtpRelay("mx1.example", Limits())
            task = asyncio.ensure_future(
                relay.send(profile(next_hop.server), next_hop.server, transaction(), lambda: True)
            )
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(loop, go())
