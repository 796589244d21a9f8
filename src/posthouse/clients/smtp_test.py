"""TEST of an SMTP server (`ports.ServerTester`): resolve and connect as delivery does, then `core.smtp_ladder`.

Each test opens connections of its own and keeps nothing: no pool, no circuit, no lock of a login.
Standards: design 2.6, 2.7, 2.11.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from posthouse.client_tls import CertificateRefused, TlsPolicy, TlsSettingsError, certificate_facts
from posthouse.clients.connecting import connect
from posthouse.clients.smtp_connection import SmtpConnection
from posthouse.clients.tested_addresses import Listeners, addresses_to_test, connected_to_test
from posthouse.clients.way import DigitalId, Way, no_key, way_to
from posthouse.core.limits import Limits
from posthouse.core.outcome import Stage
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import Inquiry, StageName, StageResult, Told, failed, unheard
from posthouse.core.smtp_ladder import LadderSession
from posthouse.ports import SecretUnreadable, Unseal

LAST_WORD_SECONDS = 0.5


class SmtpTester:
    """`hostname` goes into EHLO; `listeners` are the addresses and ports where this node listens."""

    def __init__(
        self,
        hostname: str,
        limits: Limits,
        digital_id: DigitalId,
        listeners: Listeners,
        unseal: Unseal = no_key,
    ) -> None:
        self._hostname, self._limits, self._digital_id = hostname, limits, digital_id
        self._listeners, self._unseal = listeners, unseal

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        """ports.ServerTester.test. Where clear text will do after a failed handshake, the second connection is shown
        as delivery makes it: the `tls` stage holds, marked downgraded, and the ladder goes on from `connect`. Octets
        after the reply to STARTTLS, or a 421 to it, are no failed handshake: delivery sends nothing there then."""
        try:
            way = way_to(profile, server, self._digital_id, self._unseal)
        except TlsSettingsError as error:
            return (failed(StageName.TLS, 0.0, str(error)),)
        except SecretUnreadable as error:
            return (failed(StageName.AUTH, 0.0, str(error)),)
        ladder = _Ladder(self._hostname, self._limits, inquiry, seconds, told)
        resolved, addresses = await addresses_to_test(way.host, way.port, self._listeners, seconds)
        ladder.add(resolved)
        if not addresses:
            return tuple(ladder.stages)
        await ladder.climb(way, addresses)
        clear_will_do = way.policy is not None and way.security.clear_allowed
        if ladder.stopped_at is Stage.TLS and clear_will_do and ladder.left > 0:
            last = ladder.stages[-1]
            facts = {name: value for name, value in last.detail.items() if name != "fault"}
            ladder.stages[-1] = replace(
                last, ok=True, detail={**facts, "downgraded": True, "downgraded_by": last.fault}
            )
            await ladder.climb(way.in_clear(), addresses)
        return tuple(ladder.stages)


class _Ladder:
    """One server's test under way."""

    def __init__(self, hostname: str, limits: Limits, inquiry: Inquiry | None, seconds: float, told: Told) -> None:
        self._hostname, self._limits, self._inquiry, self._seconds = hostname, limits, inquiry, seconds
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + seconds
        self._alive: set[SmtpConnection] = set()
        self._told = told
        self.stages: list[StageResult] = []
        self.stopped_at: Stage | None = None
        """Where delivery would have stopped."""

    @property
    def left(self) -> float:
        """Seconds until the test ends."""
        return self._end - self._loop.time()

    def add(self, stage: StageResult) -> None:
        self.stages.append(stage)
        self._told(self.stages)

    async def climb(self, way: Way, addresses: list[str]) -> None:
        """From `connect` to the end."""
        session = LadderSession(self._hostname, self._limits, way.security, self._inquiry, self._loop.time)
        connection = await self._connect(way, session, addresses)
        if connection is None:
            return
        try:
            async with asyncio.timeout_at(self._end):
                await connection.opened()
        except TimeoutError:
            session.out_of_time(self._seconds)
            connection.abort()
        except asyncio.CancelledError:
            connection.abort()
            raise
        else:
            connection.quit()
        self.stages += session.stages
        self.stopped_at = session.stopped_at
        await self._last_word()

    async def _last_word(self) -> None:
        """Until QUIT has left, or not much longer."""
        end = min(self._end, self._loop.time() + LAST_WORD_SECONDS)
        while self._alive and self._loop.time() < end:  # noqa: ASYNC110  # nobody waits for it but a test
            await asyncio.sleep(0.01)

    async def _connect(self, way: Way, session: LadderSession, addresses: list[str]) -> "_TestedConnection | None":
        """Each address gets its share of the time, as in delivery."""

        def grown() -> None:
            self._told((*self.stages, *session.stages))

        factory = partial(
            _TestedConnection, self._hostname, self._limits, self._loop, way, session, self._alive, grown
        )
        seconds = min(self._limits.connect_seconds, self.left)
        stage, first = await connected_to_test(addresses, partial(connect, factory, way.port), seconds)
        self.add(stage)
        return first.connection if first is not None else None


class _TestedConnection(SmtpConnection):
    """Shows the session the server's certificate, trusted or not."""

    def __init__(
        self,
        hostname: str,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        way: Way,
        session: LadderSession,
        alive: set[SmtpConnection],
        grown: Callable[[], None],
    ) -> None:
        """`grown` is called when the session has got further."""
        super().__init__(hostname, limits, loop, way, alive, session)
        self._ladder = session
        self._grown = grown
        self._known = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._ladder.connection_made()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if len(self._ladder.stages) > self._known:
            self._known = len(self._ladder.stages)
            self._grown()

    def _checked(self, policy: TlsPolicy, shown: ssl.SSLObject) -> str:
        certificate = shown.getpeercert(binary_form=True)
        if certificate:
            self._ladder.facts(**certificate_facts(certificate))
        fault = super()._checked(policy, shown)
        if fault:
            self._ladder.facts(certificate="refused")
        return fault

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, CertificateRefused) and error.certificate:
            self._ladder.facts(certificate="refused", **certificate_facts(error.certificate))
        return super()._sentence(error)
