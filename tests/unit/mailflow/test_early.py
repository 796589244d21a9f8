"""A lone mail: the next hop hears of it while its commit is under way, and gets the final dot only after it."""

import asyncio

import pytest

from posthouse.core.envelope import Envelope, Recipient
from posthouse.core.mail import Mail, RecipientState
from posthouse.core.smtp_reply import Reply
from posthouse.ports import Done, ReceivedContent
from support.flow import FAULT, PERMANENT, A, B, Flow, flow, inventory, mail
from support.scan_flow import line

YOU = "you@ours.example"


def offered(made: Flow, *addresses: str) -> list[Reply]:
    """A mail through the line; its reply, once there is one."""
    one: Mail = mail(*addresses)
    said: list[Reply] = []
    line(made, inventory()).accept(
        one.session,
        Envelope(one.reverse_path, tuple([Recipient(a, "", "") for a in addresses]), one.body, False, "", ""),
        ReceivedContent(one.contents[0], one.size, b"Subject: x\r\n"),
        said.append,
    )
    return said


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def held(script: dict[str, list[object]] | None = None) -> tuple[Flow, list[Done]]:
    """Commits wait for the test."""
    made = flow(script)  # type: ignore[arg-type]
    commits = made.spool.commits = []
    return made, commits


def test_the_final_dot_waits_for_the_commit() -> None:
    made, commits = held()

    async def go() -> None:
        said = offered(made, YOU)
        await turns()
        assert (made.relay.servers, made.relay.finished, said) == ([A], 0, [])
        commits[0](None)
        await made.settle()
        assert made.relay.finished == 1
        assert [reply.code for reply in said] == [250]

    asyncio.run(go())
    assert made.states() == {YOU: RecipientState.RELAYED}
    assert made.delivery.in_memory == 0
    assert len(made.spool.outcomes) == 1


def test_a_failed_commit_cuts_the_attempt_off_as_if_it_had_never_been() -> None:
    made, commits = held()

    async def go() -> None:
        said = offered(made, YOU)
        await turns()
        commits[0](OSError("disk"))
        await made.settle()
        assert [reply.code for reply in said] == [451]
        assert (made.relay.finished, made.spool.outcomes, made.delivery.in_memory) == (0, [], 0)
        made.spool.commits = None
        await made.run(mail(YOU))
        assert (made.relay.servers, made.relay.finished) == ([A, A], 1)

    asyncio.run(go())


@pytest.mark.parametrize("answer", [PERMANENT, FAULT])
def test_a_result_before_the_commit_is_recorded_after_it(answer: object) -> None:
    made, commits = held({A: [answer], B: [PERMANENT]})

    async def go() -> None:
        offered(made, YOU)
        await turns()
        assert made.spool.outcomes == []
        commits[0](None)
        await made.settle()

    asyncio.run(go())
    assert made.states(0) == {YOU: RecipientState.FAILED}


def test_only_a_lone_mail_begins_early() -> None:
    made, commits = held()
    made.relay.gate = asyncio.Event()

    async def go() -> None:
        for _ in range(3):
            offered(made, YOU)
        await turns()
        assert len(made.relay.fresh) == 1
        for commit in commits:
            commit(None)
        await turns()
        assert len(made.relay.fresh) == 3
        assert made.relay.gate is not None
        made.relay.gate.set()
        await made.settle()

    asyncio.run(go())
    assert (made.relay.finished, made.delivery.in_memory) == (3, 0)


def test_an_attempt_that_broke_before_the_commit_is_made_again_after_it() -> None:
    made, commits = held()
    send, made.relay.send = made.relay.send, broken  # type: ignore[assignment, method-assign]

    async def go() -> None:
        offered(made, YOU)
        await turns()
        made.relay.send = send  # type: ignore[method-assign]
        commits[0](None)
        await made.settle()

    asyncio.run(go())
    assert made.states() == {YOU: RecipientState.RELAYED}
    assert made.delivery.in_memory == 0


async def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a bug")


def test_mail_for_two_next_hops_waits_for_its_commit() -> None:
    made, commits = held()

    async def go() -> None:
        offered(made, YOU, "them@other.example")
        await turns()
        assert made.relay.fresh == []
        commits[0](None)
        await made.settle()

    asyncio.run(go())
    assert made.relay.finished == 2


@pytest.mark.parametrize("holds", [True, False])
def test_a_lease_that_must_be_renewed_after_the_commit_decides(holds: bool) -> None:
    made, commits = held()
    made.spool.renewals = [True] if holds else [False] * 3  # each server is asked for

    async def go() -> None:
        offered(made, YOU)
        await turns()
        commits[0](None)
        await made.settle()

    asyncio.run(go())
    assert made.relay.finished == int(holds)
    assert made.spool.renewals == []
