"""The connection pool with servers nobody here wrote: on and off, full, expired, asked by RSET, closed by them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from posthouse.clients.server_use import ServerUse
from posthouse.clients.smtp import SmtpRelay
from posthouse.clients.smtp_pool import PoolCounts
from posthouse.core.limits import Limits
from posthouse.core.outcome import Result, ServerAnswer
from posthouse.core.profile import ServerProfile
from support.peers import exim, postfix, smtp_sink
from support.recording import Recorder, recording_sink
from support.servers import profile, run, transaction


@pytest.fixture(params=["postfix", "exim", "smtp-sink"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    match request.param:
        case "postfix":
            with recording_sink(Recorder()) as sink, postfix(sink.port) as peer:
                yield f"smtp://127.0.0.1:{peer.port}"
        case "exim":
            with exim() as peer:
                yield f"smtp://127.0.0.1:{peer.port}"
        case _:
            with smtp_sink(dump=False) as peer:
                yield f"smtp://127.0.0.1:{peer.port}"


def with_relay(by: ServerProfile, work: Callable[[SmtpRelay], Awaitable[None]]) -> tuple[PoolCounts, ServerUse]:
    """What the pool of the profile has done, and what the connections to its server were used for."""

    async def go() -> tuple[PoolCounts, ServerUse]:
        relay = SmtpRelay("mx1.example", Limits())
        await work(relay)
        counts, use = relay.pools.counts(by.name)[1], relay.pools.use(by.name, by.server_texts[0])
        relay.close()
        return counts, use

    return run("uvloop", go())


async def send(relay: SmtpRelay, by: ServerProfile, mails: int = 1) -> None:
    for _ in range(mails):
        answer: ServerAnswer = await relay.send(by, by.server_texts[0], transaction("b@ours.example"), lambda: True)
        assert [r.result for r in answer.recipients] == [Result.RELAYED], answer


def test_one_connection_serves_mail_after_mail_and_none_is_kept_when_the_pool_is_off(server: str) -> None:
    on, off = profile(server, name="on", pool={"enabled": True}), profile(server, name="off")
    assert with_relay(on, lambda relay: send(relay, on, 5))[1] == ServerUse(fresh=1, reused=4, opened=1)
    counts, use = with_relay(off, lambda relay: send(relay, off, 2))
    assert (counts, use) == (PoolCounts(full=2), ServerUse(fresh=2, opened=2))


def test_each_answers_rset_before_a_mail_on_a_kept_connection(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.clients.smtp_connection.RESET_SECONDS", -1.0)
    by = profile(server, pool={"enabled": True})
    assert with_relay(by, lambda relay: send(relay, by, 4))[0] == PoolCounts(kept=4)


def test_a_pool_of_one_keeps_one_of_four(server: str) -> None:
    by = profile(server, pool={"enabled": True, "connections": 1})

    async def work(relay: SmtpRelay) -> None:
        await asyncio.gather(*(send(relay, by) for _ in range(4)))
        assert relay.pools.counts(by.name)[0] == 1

    assert with_relay(by, work)[0] == PoolCounts(kept=1, full=3)


def test_what_is_not_reused_within_a_second_is_disconnected(server: str) -> None:
    by = profile(server, pool={"enabled": True, "expiry_seconds": 1})

    async def work(relay: SmtpRelay) -> None:
        await send(relay, by)
        async with asyncio.timeout(10):
            while relay.pools.counts(by.name)[0]:  # noqa: ASYNC110  # the pool has no event of its own for it
                await asyncio.sleep(0.01)
        await send(relay, by)

    assert with_relay(by, work)[0] == PoolCounts(kept=2, expired=1)
