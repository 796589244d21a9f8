"""The connection pool on real sockets: what is kept, for how long, and what a server may do to it meanwhile."""

import asyncio
import contextlib
import fcntl
import socket
import termios
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.clients.smtp_connection import RESET_SECONDS
from posthouse.core.histogram import quantile, samples
from posthouse.core.limits import Limits
from posthouse.core.outcome import Probed, Result, ServerAnswer
from posthouse.core.profile import ServerProfile
from posthouse.lab.sink import Sink, SinkOptions
from support.servers import LOOPS, Peer, Scripted, profile, run, scripted, transaction

POOL: dict[str, object] = {"enabled": True}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pooled(server: str, *, revision: int = 0, **pool: object) -> ServerProfile:
    return profile(server, revision=revision, pool={**POOL, **pool})


class Gateway:
    """A relay and the mails it is given."""

    def __init__(self) -> None:
        self.relay = SmtpRelay("mx1.example", Limits())

    async def send(
        self, by: ServerProfile, address: str = "bob@ours.example", *, fresh: bool = False
    ) -> ServerAnswer:
        server = by.server_texts[0]
        return await self.relay.send(by, server, transaction(address), lambda: True, fresh=fresh)

    def idle(self, by: ServerProfile) -> int:
        return self.relay.pools.counts(by.name)[0]


def with_sink(
    loop: str, work: Callable[[Gateway, Sink, str], Awaitable[None]], options: SinkOptions | None = None
) -> None:
    async def go() -> None:
        async with Sink(options) as sink:
            gateway = Gateway()
            await work(gateway, sink, f"smtp://127.0.0.1:{sink.port}")
            gateway.relay.close()

    run(loop, go())


def with_scripts(loop: str, work: Callable[[Gateway, Scripted], Awaitable[None]], *scripts: "Script") -> None:
    async def go() -> None:
        async with scripted(*scripts) as next_hop:
            gateway = Gateway()
            await work(gateway, next_hop)
            gateway.relay.close()

    run(loop, go())


Script = Callable[[Peer], Awaitable[None]]


async def eventually(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not met():  # noqa: ASYNC110  # what it waits for has no event of its own
            await asyncio.sleep(0.01)


def relayed(answer: ServerAnswer) -> bool:
    return [r.result for r in answer.recipients] == [Result.RELAYED] and not answer.fault


def timed(facts: dict[str, Any]) -> dict[str, int]:
    """How many times of each kind were measured, each of them a plausible one."""
    counts = {name: {int(number): count for number, count in f.items()} for name, f in facts["times"].items()}
    assert all((quantile(of, 1.0) or 0.0) < 5 for of in counts.values())
    return {name: samples(of) for name, of in counts.items()}


async def take(peer: Peer, *, reset: bool = False) -> None:
    """One mail transaction, replies as a proper server gives them."""
    if reset:
        await peer.expect("RSET")
    await peer.expect("MAIL", "RCPT", "DATA")
    peer.say(*(["250 reset"] if reset else []), "250 ok", "250 ok", "354 go")
    await peer.content()
    peer.say("250 2.0.0 taken")


# --- the seed's five rules ---------------------------------------------------------------------------------


def test_without_a_pool_each_mail_has_a_connection_of_its_own(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        for _ in range(3):
            assert relayed(await gateway.send(profile(server)))
        assert len(sink.sessions) == 3
        assert gateway.idle(profile(server)) == 0

    with_sink(loop, work)


def test_with_a_pool_mails_one_after_the_other_share_one_connection(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        for _ in range(5):
            assert relayed(await gateway.send(pooled(server)))
        assert len(sink.sessions) == 1
        assert gateway.idle(pooled(server)) == 1
        pools = gateway.relay.pools
        facts = pools.facts("exchange", server)
        counted = {"idle": 1, "fresh": 1, "reused": 4, "stale": 0, "opened": 1, "tls": 0, "tls_saved": 0}
        assert (facts["pool"], facts["certificate"]) == (counted, None)
        assert timed(facts) == {"connect": 1, "tls": 0, "transaction": 5}
        assert await gateway.relay.probe(pooled(server), server, whole=False, login=True) == Probed()
        facts = pools.facts("exchange", server)
        assert (facts["pool"], timed(facts)["connect"]) == ({**counted, "opened": 2}, 2)
        pools.retire({})
        assert pools.facts("exchange", server)["pool"] == dict.fromkeys(counted, 0)

    with_sink(loop, work)


def test_a_server_that_is_left_alone_keeps_no_connection_and_others_keep_theirs(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        by = pooled(server)
        async with Sink() as other:
            second = f"smtp://127.0.0.1:{other.port}"
            both = profile(server, second, pool={**POOL})
            for to in (server, second):
                assert relayed(await gateway.relay.send(both, to, transaction("b@ours.example"), lambda: True))
            assert gateway.idle(both) == 2
            gateway.relay.pools.leave({(by.name, server)})
            assert gateway.relay.pools.idle_to(by.name, server) == 0
            await eventually(lambda: sink.sessions[0].ended == "quit")
            assert relayed(await gateway.send(both))  # one that was under way ends as usual
            assert gateway.relay.pools.idle_to(by.name, server) == 0
            assert gateway.relay.pools.idle_to(by.name, second) == 1
            gateway.relay.pools.leave(())
            assert relayed(await gateway.send(both))
            assert gateway.idle(both) == 2

    with_sink(loop, work)


def test_mails_at_the_same_time_never_wait_for_the_pool_and_a_full_pool_disconnects(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        by = pooled(server, connections=1)
        answers = await asyncio.gather(*(gateway.send(by) for _ in range(4)))
        assert all(relayed(answer) for answer in answers)
        assert len(sink.sessions) == 4
        assert gateway.idle(by) == 1
        assert gateway.relay.pools.counts(by.name)[1].full == 3

    with_sink(loop, work)


def test_a_timer_disconnects_what_was_not_reused_in_time(loop: str) -> None:
    quits = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.expect("QUIT")
        quits.set()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server, expiry_seconds=1)
        assert relayed(await gateway.send(by))
        assert gateway.idle(by) == 1
        async with asyncio.timeout(10):
            await quits.wait()
        assert gateway.idle(by) == 0
        assert gateway.relay.pools.counts(by.name)[1].expired == 1

    with_scripts(loop, work, script)


def test_a_later_profile_with_a_shorter_expiry_is_not_held_up_by_the_timer_of_another(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        long, short = (
            pooled(server, expiry_seconds=600),
            profile(server, name="short", pool=POOL | {"expiry_seconds": 1}),
        )
        await gateway.send(long)
        await gateway.send(short)
        await eventually(lambda: gateway.idle(short) == 0)
        assert gateway.idle(long) == 1

    with_sink(loop, work)


# --- what is not kept --------------------------------------------------------------------------------------


def test_a_connection_that_served_max_messages_is_not_kept(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        by = pooled(server, max_messages=2)
        for _ in range(5):
            assert relayed(await gateway.send(by))
        assert len(sink.sessions) == 3

    with_sink(loop, work)


def test_after_a_refused_mail_the_connection_is_reset_and_kept(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        by = pooled(server)
        refused = await gateway.send(by, "rcpt-550@ours.example")
        assert [r.result for r in refused.recipients] == [Result.PERMANENT]
        await eventually(lambda: gateway.idle(by) == 1)
        assert relayed(await gateway.send(by))
        assert len(sink.sessions) == 1

    with_sink(loop, work)


def test_a_connection_is_not_kept_after_a_421(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        by = pooled(server)
        answer = await gateway.send(by, "dot-421@ours.example")
        assert answer.fault
        assert gateway.idle(by) == 0

    with_sink(loop, work)


# --- between uses ------------------------------------------------------------------------------------------


def test_a_server_that_closes_an_idle_connection_costs_nothing(loop: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        peer.close()

    async def second(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server)
        assert relayed(await gateway.send(by))
        await eventually(lambda: gateway.idle(by) == 0)
        assert relayed(await gateway.send(by))
        assert gateway.relay.pools.counts(by.name)[1].closed == 1

    with_scripts(loop, work, first, second)


@pytest.mark.parametrize("said", ["421 4.4.2 idle too long", "250 2.0.0 stray", "220"])
def test_a_reply_nobody_asked_for_makes_an_idle_connection_unfit(loop: str, said: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        peer.say(said)
        await peer.end()

    async def second(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server)
        assert relayed(await gateway.send(by))
        await eventually(lambda: gateway.idle(by) == 0)
        assert relayed(await gateway.send(by))

    with_scripts(loop, work, first, second)


def test_octets_that_wait_unread_in_the_socket_make_it_unfit(loop: str) -> None:
    """The loop has had no turn to read them when the connection is to be reused."""
    speak, spoken = threading.Event(), threading.Event()

    def serve(listening: socket.socket) -> None:
        with listening, listening.accept()[0] as connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 x\r\n")
            lines.readline()
            connection.sendall(b"250-x\r\n250 PIPELINING\r\n")
            while not lines.readline().startswith(b"DATA"):
                pass
            connection.sendall(b"250 ok\r\n250 ok\r\n354 go\r\n")
            while lines.readline() != b".\r\n":
                pass
            connection.sendall(b"250 taken\r\n")
            speak.wait(10)
            connection.sendall(b"421 4.3.2 going down\r\n")
            while fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)) != bytes(4):
                time.sleep(0.001)  # not acknowledged yet by the other end's kernel
            spoken.set()
            with contextlib.suppress(ConnectionError):
                lines.read()

    listening = socket.create_server(("127.0.0.1", 0))
    server = f"smtp://127.0.0.1:{listening.getsockname()[1]}"
    thread = threading.Thread(target=serve, args=(listening,))
    thread.start()

    async def go() -> None:
        gateway, by = Gateway(), pooled(server)
        assert relayed(await gateway.send(by))
        assert gateway.idle(by) == 1
        speak.set()
        assert spoken.wait(10)
        assert gateway.relay.pools.acquire(by, server) is None
        assert gateway.relay.pools.counts(by.name)[1].closed == 1

    run(loop, go())
    thread.join(10)


def test_a_connection_that_was_idle_for_a_while_is_asked_by_rset_in_the_same_write(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posthouse.clients.smtp_connection.RESET_SECONDS", -1.0)

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await take(peer, reset=True)
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server)
        assert relayed(await gateway.send(by))
        assert relayed(await gateway.send(by))

    with_scripts(loop, work, script)


def test_a_connection_reused_at_once_is_not_reset(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await take(peer)
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server)
        assert relayed(await gateway.send(by))
        assert relayed(await gateway.send(by))

    assert RESET_SECONDS == 1.0
    with_scripts(loop, work, script)


# --- a connection that was stale ----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["closes", "resets", "421", "says nothing sensible"])
def test_a_stale_connection_costs_one_silent_try_and_blames_nobody(loop: str, end: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.expect("MAIL")
        match end:
            case "closes":
                peer.close()
            case "resets":
                peer.reset()
            case "421":
                peer.say("421 4.4.2 you were idle for too long")
            case _:
                peer.say("what?")
        await peer.end()

    async def second(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server)
        assert relayed(await gateway.send(by))
        answer = await gateway.send(by)
        assert relayed(answer)
        assert gateway.relay.pools.use(by.name, by.server_texts[0]).stale == 1

    with_scripts(loop, work, first, second)


def test_a_fault_after_mail_was_accepted_is_the_servers_on_a_reused_connection_too(loop: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("250 ok", "421 4.3.2 going down")
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server)
        assert relayed(await gateway.send(by))
        answer = await gateway.send(by)
        assert answer.fault == "at RCPT: 421 4.3.2 going down"
        assert gateway.idle(by) == 0

    with_scripts(loop, work, first)


def test_a_refusal_over_a_reused_connection_stands(loop: str) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.expect("MAIL", "RCPT", "DATA")
        peer.say("550 5.7.1 no", "503 bad", "503 bad")
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server)
        assert relayed(await gateway.send(by))
        answer = await gateway.send(by)
        assert [r.result for r in answer.recipients] == [Result.PERMANENT]

    with_scripts(loop, work, first)


def test_a_further_try_after_an_uncertain_one_takes_no_kept_connection(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        by = pooled(server)
        await gateway.send(by)
        await gateway.send(by, fresh=True)
        assert len(sink.sessions) == 2
        assert gateway.idle(by) == 2

    with_sink(loop, work)


# --- whose connection it is --------------------------------------------------------------------------------


def test_an_edit_of_the_profile_retires_its_connections_at_once(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        by, edited = pooled(server, revision=1), pooled(server, revision=2)
        await gateway.send(by)
        gateway.relay.pools.retire({edited.name: edited})
        assert gateway.idle(by) == 0
        await gateway.send(edited)
        assert len(sink.sessions) == 2

    with_sink(loop, work)


def test_a_connection_in_use_during_an_edit_is_not_kept_afterwards(loop: str) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL")
        reached.set()
        await go_on.wait()
        await peer.expect("RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.content()
        peer.say("250 taken")
        await peer.expect("QUIT")

    async def other(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by, edited = pooled(next_hop.server, revision=1), pooled(next_hop.server, revision=2)
        sending = asyncio.ensure_future(gateway.send(by))
        await reached.wait()
        gateway.relay.pools.retire({edited.name: edited})
        assert relayed(await gateway.send(edited))
        go_on.set()
        assert relayed(await sending)
        assert gateway.idle(edited) == 1

    with_scripts(loop, work, script, other)


@pytest.mark.parametrize("removed", [False, True])
def test_a_connection_in_use_is_not_kept_for_a_profile_that_is_edited_or_gone(loop: str, removed: bool) -> None:
    """Also while no mail goes by the profile as it is now."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await peer.expect("MAIL")
        reached.set()
        await go_on.wait()
        await peer.expect("RCPT", "DATA")
        peer.say("250 ok", "250 ok", "354 go")
        await peer.content()
        peer.say("250 taken")
        await peer.expect("QUIT")

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by, edited = pooled(next_hop.server, revision=1), pooled(next_hop.server, revision=2)
        sending = asyncio.ensure_future(gateway.send(by))
        await reached.wait()
        gateway.relay.pools.retire({} if removed else {edited.name: edited})
        go_on.set()
        assert relayed(await sending)
        assert gateway.idle(by) == 0

    with_scripts(loop, work, script)


def test_profiles_that_name_one_server_never_share_a_connection(loop: str) -> None:
    async def work(gateway: Gateway, sink: Sink, server: str) -> None:
        one, two = profile(server, name="one", pool=POOL), profile(server, name="two", pool=POOL)
        for _ in range(2):
            await gateway.send(one)
            await gateway.send(two)
        assert len(sink.sessions) == 2

    with_sink(loop, work)


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "content", "final dot"])
def test_wherever_a_delivery_is_cancelled_nothing_is_lost_from_the_pool(loop: str, stage: str) -> None:
    reached = asyncio.Event()

    async def stuck(peer: Peer) -> None:
        if stage == "greeting":
            reached.set()
            await peer.end()
            return
        if stage == "EHLO":
            peer.say("220 x")
            await peer.expect("EHLO")
            reached.set()
            await peer.end()
            return
        await peer.greet("PIPELINING")
        if stage == "MAIL":
            await peer.expect("MAIL")
        else:
            await peer.expect("MAIL", "RCPT", "DATA")
            peer.say("250 ok", "250 ok", "354 go")
            if stage == "final dot":
                await peer.content()
        reached.set()
        await peer.end()

    async def good(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await take(peer)
        await take(peer)
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = pooled(next_hop.server, connections=1)
        sending = asyncio.ensure_future(gateway.send(by))
        await reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert gateway.idle(by) == 0
        assert relayed(await gateway.send(by))
        assert gateway.idle(by) == 1
        assert relayed(await gateway.send(by))

    with_scripts(loop, work, stuck, good)


def test_a_delivery_cancelled_within_the_tls_handshake_leaves_nothing_behind(loop: str) -> None:
    reached = asyncio.Event()

    async def stuck(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        await peer.expect("STARTTLS")
        peer.say("220 go")
        assert (await peer.octets(1)) == b"\x16"  # the client's hello; it is never answered
        reached.set()
        await peer.end()
        await peer.end()

    async def work(gateway: Gateway, next_hop: Scripted) -> None:
        by = profile(next_hop.server, tls="starttls-required")
        sending = asyncio.ensure_future(gateway.send(by))
        await reached.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        gateway.relay.close()
        assert not gateway.relay._alive

    with_scripts(loop, work, stuck)
