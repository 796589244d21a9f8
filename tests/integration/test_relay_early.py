"""A lone mail's envelope over a real connection while its commit is under way; the end of its content after it."""

import asyncio
from dataclasses import replace

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.envelope import Envelope, Recipient
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, InlineOctets, RecipientState
from posthouse.core.smtp_reply import Reply
from posthouse.mailflow.delivery import Delivery
from posthouse.mailflow.pipeline import Pipeline
from posthouse.ports import ReceivedContent
from posthouse.telemetry import DeliveryLog
from support.flow import Flow, flow, inventory, mail
from support.scan_flow import line
from support.servers import LOOPS, Peer, profile, run, scripted

YOU = "you@ours.example"
SMALL = b"Subject: x\r\n\r\nsmall\r\n.\r\n"
LARGE = b"Subject: x\r\n\r\n" + b"large enough for several pieces\r\n" * 6000 + b".\r\n"
"""Content that leaves in more than one write."""


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def over(server: str) -> tuple[Flow, Pipeline]:
    """A flow whose commits wait for the test, with the real SMTP client."""
    made = flow()
    made.spool.commits = []
    made.tools = replace(made.tools, relay=SmtpRelay("mx1.example", Limits()))
    ours = inventory()
    ours = replace(ours, profiles={"exchange": profile(server)})
    made.delivery = Delivery(made.tools, made.settings, ours, 20, DeliveryLog("test"))
    return made, line(made, ours)


def offer(pipeline: Pipeline, content: bytes) -> list[Reply]:
    one = mail(YOU, octets=content)
    said: list[Reply] = []
    pipeline.accept(
        one.session,
        Envelope(one.reverse_path, (Recipient(YOU, "", ""),), one.body, False, "", ""),
        ReceivedContent(Content(InlineOctets(content)), one.size, b"Subject: x\r\n"),
        said.append,
    )
    return said


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_the_content_ends_after_the_commit(loop: str, content: bytes) -> None:
    async def go() -> None:
        asked, taken = asyncio.Event(), asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.greet("PIPELINING")
            await peer.expect("MAIL ", "RCPT ", "DATA")
            peer.say("250 ok", "250 ok", "354 go on")
            asked.set()
            received = b""
            while not received.endswith(content):
                more = await peer.end()
                assert more, "closed before the end of the content"
                received += more
            taken.set()
            peer.say("250 taken")
            await peer.expect("QUIT")

        async with scripted(script) as next_hop:
            made, pipeline = over(next_hop.server)
            said = offer(pipeline, content)
            await asyncio.wait_for(asked.wait(), 20)
            for _ in range(50):
                await asyncio.sleep(0)
            assert (taken.is_set(), said) == (False, [])
            assert made.spool.commits is not None
            made.spool.commits.pop()(None)
            await asyncio.wait_for(made.settle(), 20)
            assert [reply.code for reply in said] == [250]
            assert made.states() == {YOU: RecipientState.RELAYED}

    run(loop, go())


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_after_a_failed_commit_the_next_hop_never_sees_the_end(loop: str, content: bytes) -> None:
    async def go() -> None:
        asked = asyncio.Event()
        received = b""

        async def script(peer: Peer) -> None:
            nonlocal received
            await peer.greet("PIPELINING")
            await peer.expect("MAIL ", "RCPT ", "DATA")
            peer.say("250 ok", "250 ok", "354 go on")
            asked.set()
            while more := await peer.end():
                received += more

        async with scripted(script) as next_hop:
            made, pipeline = over(next_hop.server)
            said = offer(pipeline, content)
            await asyncio.wait_for(asked.wait(), 20)
            assert made.spool.commits is not None
            made.spool.commits.pop()(OSError("disk"))
            await asyncio.wait_for(made.settle(), 20)
            assert [reply.code for reply in said] == [451]
            assert (made.spool.outcomes, made.delivery.in_memory) == ([], 0)
        assert b"\r\n.\r\n" not in received

    run(loop, go())
