"""Whatever a server says to a session of clamd, and in whatever pieces: only a proper reply is a verdict."""

import asyncio
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from posthouse.clients.clamd_session import UNDER_WAY, ClamdSession
from posthouse.core.scan import Found, Verdict
from posthouse.scan_ports import Asked
from support.scanning import asked

ITEMS = 12
_SAID = st.one_of(
    st.builds(
        lambda number, text, end: f"{number}: {text}{end}".encode(),
        st.integers(0, ITEMS + 1),
        st.sampled_from(
            [
                "stream: OK",
                "stream: Bad FOUND",
                "stream: OK FOUND",
                "INSTREAM size limit exceeded. ERROR",
                "OK",
                "PONG",
            ]
        ),
        st.sampled_from(["\0", "\0", "\0", "\n", "", " \0"]),
    ),
    st.sampled_from([b"\0", b"stream: OK\0", b"COMMAND READ TIMED OUT\n", b": stream: OK\0", b"\0\0"]),
    st.binary(max_size=20),
)


class Wire(asyncio.Transport):
    """Takes what is written; closing it ends the protocol, as a real one does."""

    def __init__(self, protocol: ClamdSession) -> None:
        super().__init__()
        self._protocol = protocol
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


@given(st.lists(_SAID, max_size=20), st.integers(1, 40))
def test_only_a_proper_reply_is_a_verdict(said: list[bytes], piece: int) -> None:
    octets = b"".join(said)
    found: dict[int, Found] = {}

    def answered(item: Asked, verdict: Found) -> None:
        assert item.number not in found, "answered twice"
        found[item.number] = verdict

    async def go() -> tuple[ClamdSession, deque[Asked]]:
        session = ClamdSession(asyncio.get_running_loop())
        wire = Wire(session)
        session.connection_made(wire)
        waiting = deque(asked(*(b"item %d" % number for number in range(ITEMS))))
        showing = asyncio.ensure_future(session.show(waiting, answered))
        for start in range(0, len(octets), piece):
            await asyncio.sleep(0)
            if wire.closed:
                break
            session.data_received(octets[start : start + piece])
        await asyncio.sleep(0)
        if not wire.closed and not showing.done():
            wire.abort()
        async with asyncio.timeout(10):
            await showing
        session.abort()
        return session, waiting

    session, waiting = asyncio.run(go())
    assert {item.number for item in waiting} | found.keys() == set(range(ITEMS))
    assert len(waiting) + len(found) == ITEMS
    for number, verdict in found.items():
        if verdict.verdict is Verdict.CLEAN:
            assert b"%d: stream: OK\0" % (number + 1) in octets
        assert number < UNDER_WAY + len(found)
    if waiting:
        assert not session.fit


def test_proper_replies_are_verdicts() -> None:
    """So that the property above says something."""
    found: list[tuple[int, Verdict]] = []

    async def go() -> None:
        session = ClamdSession(asyncio.get_running_loop())
        session.connection_made(Wire(session))
        showing = asyncio.ensure_future(
            session.show(deque(asked(b"a", b"b")), lambda item, one: found.append((item.number, one.verdict)))
        )
        await asyncio.sleep(0)
        session.data_received(b"2: stream: Bad FOUND\x001: stre")
        session.data_received(b"am: OK\0")
        async with asyncio.timeout(10):
            await showing
        assert session.fit
        session.abort()

    asyncio.run(go())
    assert found == [(1, Verdict.BLOCKED), (0, Verdict.CLEAN)]
