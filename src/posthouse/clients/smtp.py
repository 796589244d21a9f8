"""The SMTP client: hands one transaction to one server (`ports.Relay`).

Over a kept connection where the profile's pool has one, else over a fresh one. What the network does to us is
translated into sentences here, once; nothing of it is ever raised.
Standards: RFC 5321 sections 3.1-3.3, 4.5.3.2.
"""

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import lru_cache, partial
from ipaddress import ip_address

from posthouse.client_tls import TlsSettingsError
from posthouse.clients.smtp_connection import SmtpConnection
from posthouse.clients.smtp_pool import SmtpPools
from posthouse.clients.way import DigitalId, Way, no_key, way_to
from posthouse.core.limits import Limits
from posthouse.core.outcome import Probed, RecipientResult, Result, ServerAnswer, Stage, Transaction
from posthouse.core.profile import ServerProfile
from posthouse.ports import MayFinish, SecretUnreadable, Unseal

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of this machine that say nothing about the server."""
_SENTENCES = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EMFILE: "too many open files here",
    errno.ENFILE: "too many open files here",
    errno.EADDRNOTAVAIL: "no free local port",
}
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class _NoConnection(Exception):
    """`blame`: it is the server's fault."""

    def __init__(self, why: str, status: str = "4.4.1", blame: bool = True) -> None:
        super().__init__(why)
        self.status = status
        self.blame = blame


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
        kept = None if fresh else self.pools.acquire(profile, server)
        if kept is not None:
            answer = await self._transact(profile, server, kept, transaction, may_finish)
            if not answer.fault or answer.mail_accepted:
                return answer
            self.pools.use(profile.name, server).stale += 1
        try:
            way = way_to(profile, server, self._digital_id, self._unseal)
        except (TlsSettingsError, SecretUnreadable) as error:
            return _unreached(transaction, _NoConnection(str(error), "4.3.5", blame=False))
        answer = await self._over(way, profile, server, transaction, may_finish, logged_in)
        if way.security.clear_allowed and way.policy is not None and _stopped_at(answer) is Stage.TLS:
            answer = await self._over(way.in_clear(), profile, server, transaction, may_finish)
        return answer

    async def probe(self, profile: ServerProfile, server: str, *, whole: bool, login: bool) -> Probed:
        """ports.Relay.probe: greeting and EHLO; `whole`: STARTTLS and EHLO, too, and AUTH if `login`; QUIT."""
        try:
            way = way_to(profile, server, self._digital_id, self._unseal)
            if not whole:
                way = way.greeting_only()
            elif not login:
                way = way.without_login()
            connection = await self._connect(way)
        except (TlsSettingsError, SecretUnreadable) as error:
            return Probed(str(error), blame=False)
        except _NoConnection as error:
            return Probed(str(error), error.blame)
        self.pools.use(profile.name, server).opened += 1
        try:
            return Probed(await connection.opened())
        finally:
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
        try:
            connection = await self._connect(way)
        except _NoConnection as error:
            return _unreached(transaction, error)
        use = self.pools.use(profile.name, server)
        use.opened += 1
        use.fresh += 1
        if logged_in is not None:
            await self._log_in(connection, logged_in)
        return await self._transact(profile, server, connection, transaction, may_finish)

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

    async def _connect(self, way: Way) -> SmtpConnection:
        """Tries every address of the host in order; each gets its share of `connect_seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.connect_seconds
        addresses = await self._resolve(loop, way.host, way.port)
        failure = _NoConnection("name not found", "4.4.4")
        for index, address in enumerate(addresses):
            share = (end - loop.time()) / (len(addresses) - index)
            try:
                return await self._open(loop, address, way, share)
            except _NoConnection as error:
                failure = error
        raise failure

    async def _open(self, loop: asyncio.AbstractEventLoop, address: str, way: Way, seconds: float) -> SmtpConnection:
        factory = partial(SmtpConnection, self._hostname, self._limits, loop, way, self._alive)
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                transport, connection = await loop.create_connection(factory, address, way.port)
        except TimeoutError as error:
            raise _NoConnection(f"no answer to connect within {self._limits.connect_seconds} s") from error
        except OSError as error:
            raise _NoConnection(_sentence(error), blame=error.errno not in _OURS) from error
        if (connected := transport.get_extra_info("socket")) is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.connected(_end(*connected.getsockname()[:2]), _end(address, way.port))
        return connection

    async def _resolve(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[str]:
        if _is_address(host):
            return [host]
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise _NoConnection("name not resolved in time", "4.4.3") from error
        except (socket.gaierror, UnicodeError) as error:
            if isinstance(error, socket.gaierror) and error.errno not in _UNKNOWN_NAME:
                raise _NoConnection("name cannot be resolved at present", "4.4.3") from error
            raise _NoConnection("name not found", "4.4.4") from error
        except OSError as error:
            raise _NoConnection(_sentence(error), blame=error.errno not in _OURS) from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _end(address: str, port: int) -> str:
    """One end of a connection, for the trail."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _sentence(error: OSError) -> str:
    if error.errno in _SENTENCES:
        return _SENTENCES[error.errno]
    return (error.strerror or str(error) or type(error).__name__).lower()


def _stopped_at(answer: ServerAnswer) -> Stage | None:
    """The stage of the server's fault; None if there was none."""
    return answer.recipients[0].stage if answer.fault else None


def _unreached(transaction: Transaction, error: _NoConnection) -> ServerAnswer:
    result = RecipientResult(Result.SERVER_FAULT, str(error), error.status, Stage.CONNECT)
    return ServerAnswer(
        recipients=(result,) * len(transaction.recipients),
        fault=str(error) if error.blame else "",
        transcript=(f"[{error}]",),
    )
