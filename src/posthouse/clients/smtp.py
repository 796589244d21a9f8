"""The SMTP client: hands one transaction to one server (`ports.Relay`).

Over a kept connection where the profile's pool has one, else over a fresh one. What the network does to us is
translated into sentences here, once; nothing of it is ever raised.
Standards: RFC 5321 sections 3.1-3.3, 4.5.3.2.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic

from posthouse.client_tls import TlsSettingsError
from posthouse.clients.connecting import NoConnection, connect, first_connected, resolve
from posthouse.clients.server_use import ServerUse
from posthouse.clients.smtp_connection import SmtpConnection
from posthouse.clients.smtp_pool import SmtpPools
from posthouse.clients.way import DigitalId, Way, no_key, way_to
from posthouse.core.limits import Limits
from posthouse.core.outcome import Probed, RecipientResult, Result, ServerAnswer, Stage, Transaction
from posthouse.core.profile import ServerProfile
from posthouse.digital_id.store import DigitalIdUnusable
from posthouse.ports import MayFinish, SecretUnreadable, Unseal


def _no_digital_id() -> tuple[str, str]:
    raise TlsSettingsError("this node has no digital ID")


class SmtpRelay:
    """`hostname` goes into EHLO; `share` gives this worker's part of a per-node number; `digital_id` the files of the
    certificate that servers may ask for."""

    def __init__(
        self,
        hostname: str,
        limits: Limits,
        share: Callable[[int], int] = int,
        digital_id: DigitalId = _no_digital_id,
        unseal: Unseal = no_key,
    ) -> None:
        self._hostname = hostname
        self._limits = limits
        self._digital_id = digital_id
        self._unseal = unseal
        self.pools = SmtpPools(share)
        self._alive: set[SmtpConnection] = set()
        self._settling: set[SmtpConnection] = set()
        """Answered, and still ending a transaction that the server has open."""

    async def send(
        self,
        profile: ServerProfile,
        server: str,
        transaction: Transaction,
        may_finish: MayFinish,
        *,
        fresh: bool = False,
        logged_in: Callable[[], None] | None = None,
    ) -> ServerAnswer:
        """ports.Relay.send. A kept connection that turns out to be stale costs one silent try on a fresh one."""
        kept = None if fresh else self.pools.acquire(profile, server, self._shown(profile))
        if kept is not None:
            use = self.pools.use(profile.name, server)
            answer = await self._transact(profile, server, use, kept, transaction, may_finish)
            if not answer.fault or answer.mail_accepted:
                if kept.tls_seconds:
                    use.tls_saved += 1
                return answer
            use.stale += 1
        try:
            way = way_to(profile, server, self._digital_id, self._unseal)
        except (TlsSettingsError, SecretUnreadable) as error:
            return _unreached(transaction, NoConnection(str(error), "4.3.5", blame=False))
        answer = await self._over(way, profile, server, transaction, may_finish, logged_in)
        if way.security.clear_allowed and way.policy is not None and _stopped_at(answer) is Stage.TLS:
            answer = await self._over(way.in_clear(), profile, server, transaction, may_finish)
        return answer

    def _shown(self, profile: ServerProfile) -> str:
        """The file of the digital ID in force, if the profile shows one. What is wrong with it, `way_to` tells."""
        if not profile.client_certificate:
            return ""
        try:
            return self._digital_id()[0]
        except (TlsSettingsError, DigitalIdUnusable, OSError):
            return ""

    async def probe(self, profile: ServerProfile, server: str, *, whole: bool, login: bool) -> Probed:
        """ports.Relay.probe: greeting and EHLO; `whole`: STARTTLS and EHLO, too, and AUTH if `login`; QUIT."""
        use = self.pools.use(profile.name, server)
        try:
            way = way_to(profile, server, self._digital_id, self._unseal)
            if not whole:
                way = way.greeting_only()
            elif not login:
                way = way.without_login()
            connection = await self._connect(way, use)
        except (TlsSettingsError, SecretUnreadable) as error:
            return Probed(str(error), blame=False)
        except NoConnection as error:
            return Probed(str(error), error.blame)
        try:
            return Probed(await connection.opened())
        finally:
            use.saw(connection.tls_seconds, connection.server_certificate)
            connection.quit()

    async def _over(
        self,
        way: Way,
        profile: ServerProfile,
        server: str,
        transaction: Transaction,
        may_finish: MayFinish,
        logged_in: Callable[[], None] | None = None,
    ) -> ServerAnswer:
        """The transaction over a fresh connection."""
        use = self.pools.use(profile.name, server)
        try:
            connection = await self._connect(way, use)
        except NoConnection as error:
            return _unreached(transaction, error)
        use.fresh += 1
        if logged_in is not None:
            await self._log_in(connection, logged_in)
        answer = await self._transact(profile, server, use, connection, transaction, may_finish)
        use.saw(connection.tls_seconds, connection.server_certificate)
        return answer

    @staticmethod
    async def _log_in(connection: SmtpConnection, logged_in: Callable[[], None]) -> None:
        """Opens the session before its mail is at hand. What stands against it is the answer of the transaction."""
        try:
            if not await connection.opened():
                logged_in()
        except asyncio.CancelledError:
            connection.abort()
            raise

    async def _transact(
        self,
        profile: ServerProfile,
        server: str,
        use: ServerUse,
        connection: SmtpConnection,
        transaction: Transaction,
        may_finish: MayFinish,
    ) -> ServerAnswer:
        """The transaction; afterwards the connection goes back to the pool once it is idle, or is closed."""
        try:
            answer = await connection.transact(transaction, may_finish)
        except asyncio.CancelledError:
            connection.abort()
            raise
        if connection.seconds:
            use.transactions.add(connection.seconds, monotonic())
        if connection.idle:
            self.pools.give_back(profile, server, connection)
        else:
            self._settling.add(connection)
            connection.when_settled(partial(self._settled, profile, server))
        return answer

    def reload(self, hostname: str, limits: Limits) -> None:
        """For connections opened from now on."""
        self._hostname = hostname
        self._limits = limits

    def close(self) -> None:
        """Disconnects what is kept, cuts what is still settling; for the end of the process."""
        self.pools.close()
        for connection in self._settling:
            connection.abort()
        self._settling.clear()

    async def closed(self, seconds: float = 1.0) -> None:
        """After `close`: until the last word of every connection has left, at most so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._alive and loop.time() < end:  # noqa: ASYNC110  # for the end of the process only
            await asyncio.sleep(0.01)

    def _settled(self, profile: ServerProfile, server: str, connection: SmtpConnection) -> None:
        self._settling.discard(connection)
        if connection.idle:
            self.pools.give_back(profile, server, connection)
        else:
            connection.quit()

    async def _connect(self, way: Way, use: ServerUse) -> SmtpConnection:
        """Tries every address of the host in order; each gets its share of `connect_seconds`."""
        began = monotonic()
        seconds = self._limits.connect_seconds
        loop = asyncio.get_running_loop()
        factory = partial(SmtpConnection, self._hostname, self._limits, loop, way, self._alive)
        end = loop.time() + seconds
        addresses = await resolve(way.host, way.port, seconds)
        open_one = partial(connect, factory, way.port, told_seconds=seconds)
        connection = (await first_connected(addresses, open_one, end - loop.time())).connection
        use.opened += 1
        use.connecting.add((now := monotonic()) - began, now)
        return connection


def _stopped_at(answer: ServerAnswer) -> Stage | None:
    """The stage of the server's fault; None if there was none."""
    return answer.recipients[0].stage if answer.fault else None


def _unreached(transaction: Transaction, error: NoConnection) -> ServerAnswer:
    result = RecipientResult(Result.SERVER_FAULT, str(error), error.status, Stage.CONNECT)
    return ServerAnswer(
        recipients=(result,) * len(transaction.recipients),
        fault=str(error) if error.blame else "",
        transcript=(f"[{error}]",),
    )
