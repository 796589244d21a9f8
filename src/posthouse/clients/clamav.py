"""Scanning by clamd (`scan_ports.Scanner`): all items of a mail over one session, sessions kept for the next mail.

Standards: clamd(8); design sections 2.1 and 3.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from posthouse.clients.clamd_command import addresses_of, ask_server, reached
from posthouse.clients.clamd_session import LOST, Answered, ClamdSession
from posthouse.clients.connecting import NoConnection, first_connected
from posthouse.core.clamd_reply import GARBAGE, ServerFault, pong
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.core.uri import Specification
from posthouse.scan_ports import Asked, ScanAnswer, Scanned, ScanOrder

SESSIONS = 10
"""Open at one server, per worker, as many as clamd has threads (MaxThreads); a mail waits for one in its time."""
KEPT_SECONDS = 5.0
"""How long an idle session is kept. clamd closes it after its IdleTimeout (30 s)."""


@dataclass
class _Server:
    """Sessions at one server."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SESSIONS))
    idle: list[ClamdSession] = field(default_factory=list)
    """The most recently used one last."""


class ClamdScanner:
    """`connect_seconds`: for the addresses of a server together."""

    def __init__(self, connect_seconds: float = 10.0, kept_seconds: float = KEPT_SECONDS) -> None:
        self._connect_seconds = connect_seconds
        self._kept_seconds = kept_seconds
        self._servers: dict[str, _Server] = {}
        self._open: set[ClamdSession] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def scan(
        self, profile: ServerProfile, server: str, order: ScanOrder, items: Sequence[Asked], seconds: float
    ) -> ScanAnswer:
        """scan_ports.Scanner.scan. Items of equal octets are shown once. Raises ContentUnreadable, if an item is."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        end = began + seconds
        to = profile.servers[profile.server_texts.index(server)]
        same: dict[str, list[Asked]] = {}
        for asked in items:
            same.setdefault(_key(asked), []).append(asked)
        results: dict[int, Scanned] = {}

        def answered(asked: Asked, found: Found) -> None:
            scanned = Scanned(found)
            for each in same[_key(asked)]:
                results[each.number] = scanned

        fault: ServerFault | None
        if (state := self._servers.get(server)) is None:
            state = self._servers[server] = _Server()
        try:
            async with asyncio.timeout_at(end):
                await state.free.acquire()
        except TimeoutError:
            fault = ServerFault(Failure.BUSY, f"no session became free within {seconds:g} s")
        else:
            waiting = deque(first[0] for first in same.values())
            try:
                fault = await self._show(state, to, waiting, answered, end)
            except TimeoutError:
                fault = ServerFault(Failure.TIMEOUT, f"no verdict within {seconds:g} s")
            except NoConnection as error:
                fault = ServerFault(Failure.UNREACHABLE, str(error))
            finally:
                state.free.release()
        took = loop.time() - began
        if fault is None:
            return ScanAnswer(results, seconds=took)
        if fault is GARBAGE:
            # A server that has lost count may have told of another item: only what is bad is believed.
            results = {number: one for number, one in results.items() if one.found.verdict is not Verdict.CLEAN}
        return ScanAnswer(results, fault.sentence, fault.failure, seconds=took)

    async def probe(self, profile: ServerProfile, server: str, seconds: float) -> str:
        """scan_ports.Scanner.probe: PING over a connection of its own."""
        to = profile.servers[profile.server_texts.index(server)]
        try:
            return pong(await ask_server(b"zPING\0", to, seconds))
        except TimeoutError:
            return f"no reply to PING within {seconds:g} s"
        except NoConnection as error:
            return str(error)
        except (OSError, EOFError):
            return LOST.sentence

    async def close(self) -> None:
        """Mails that are being scanned lose their session."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for session in tuple(self._open):
            self._drop(session)

    # --- sessions ----------------------------------------------------------------------------------------

    async def _show(
        self, server: _Server, to: Specification, waiting: deque[Asked], answered: Answered, end: float
    ) -> ServerFault | None:
        """Shows all that waits over as many sessions as it takes, one after the other: clamd ends one in the middle
        of an item that is too large for it. Raises NoConnection, TimeoutError, ContentUnreadable."""
        while waiting:
            if self._closed:
                return LOST
            session = self._kept(server)
            kept = session is not None
            if session is None:
                session = await self._connected(to, end)
            try:
                async with asyncio.timeout_at(end):
                    await session.show(waiting, answered)
            finally:
                self._give_back(server, session)
            if session.fault is None:
                continue
            if not kept or session.heard or session.fault is GARBAGE:
                return session.fault
            # It was stale, and so may be the others: clamd was restarted. Once more, over a fresh one.
            while server.idle:
                self._drop(server.idle.pop())
        return None

    def _kept(self, server: _Server) -> ClamdSession | None:
        while server.idle:
            session = server.idle.pop()
            if session.take():
                return session
            self._drop(session)
        return None

    async def _connected(self, to: Specification, end: float) -> ClamdSession:
        loop = asyncio.get_running_loop()
        end = min(end, loop.time() + self._connect_seconds)

        async def open_one(address: str, share: float) -> ClamdSession:
            session = ClamdSession(loop)
            if to.port:
                opening = loop.create_connection(lambda: session, address, to.port)
            else:
                opening = loop.create_unix_connection(lambda: session, address)
            await reached(opening, address, to.port, share)
            return session

        addresses = await addresses_of(to, end - loop.time())
        session = (await first_connected(addresses, open_one, end - loop.time())).connection
        self._open.add(session)
        return session

    def _give_back(self, server: _Server, session: ClamdSession) -> None:
        if self._closed or not session.fit:
            self._drop(session)
            return
        session.idle_since = asyncio.get_running_loop().time()
        server.idle.append(session)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._kept_seconds, self._expire)

    def _expire(self) -> None:
        """Closes what was idle for too long; comes again as long as anything is idle."""
        loop = asyncio.get_running_loop()
        self._timer = None
        oldest = loop.time()
        for server in self._servers.values():
            for session in [one for one in server.idle if loop.time() - one.idle_since >= self._kept_seconds]:
                server.idle.remove(session)
                self._drop(session)
            oldest = min([oldest, *(one.idle_since for one in server.idle)])
        if any(server.idle for server in self._servers.values()):
            self._timer = loop.call_at(oldest + self._kept_seconds, self._expire)

    def _drop(self, session: ClamdSession) -> None:
        self._open.discard(session)
        session.abort()


def _key(asked: Asked) -> str:
    """Equal for equal octets."""
    return asked.item.sha256 or f"item {asked.number}"
