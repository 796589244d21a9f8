"""Kept idle connections of all server profiles of a worker: carries out what `core.pool` decides.

A connection belongs to one profile at one revision, so an edit of TLS settings, login or certificate retires it, and
two logins never share one. Nothing here waits; a timer disconnects what expires.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from posthouse.clients.server_use import ServerUse
from posthouse.clients.smtp_connection import SmtpConnection
from posthouse.core.pool import Cache, ConnectionPool, NoPool
from posthouse.core.profile import ServerProfile


@dataclass(slots=True)
class PoolCounts:
    """What a pool has done since the worker began, or since the profile was edited."""

    kept: int = 0
    full: int = 0
    """Given back and disconnected: the pool was full, or the connection worn."""
    expired: int = 0
    closed: int = 0
    """By the server, while idle."""


@dataclass(slots=True)
class _ProfilePool:
    revision: int
    cache: Cache[SmtpConnection]
    counts: PoolCounts = field(default_factory=PoolCounts)


class SmtpPools:
    """`share` gives this worker's part of a per-node number."""

    def __init__(self, share: Callable[[int], int]) -> None:
        self._share = share
        self._pools: dict[str, _ProfilePool] = {}
        self._revisions: dict[str, int] | None = None
        """Of the profiles in force; None until `retire` has told."""
        self._uses: dict[tuple[str, str], ServerUse] = {}
        """By profile and server."""
        self._left: frozenset[tuple[str, str]] = frozenset()
        """Profiles and servers that are to be left alone."""
        self._timer: asyncio.TimerHandle | None = None

    def acquire(self, profile: ServerProfile, server: str, certificate: str = "") -> SmtpConnection | None:
        """A connection that is fit as far as can be seen; the latest used one. `certificate`: the file of the digital
        ID in force, if the profile shows one; connections with a former one are disconnected."""
        pool = self._pool(profile)
        while pool is not None and (connection := pool.cache.acquire(server)) is not None:
            if connection.digital_id != certificate:
                _disconnect([connection])
                continue
            if connection.take():
                self.use(profile.name, server).reused += 1
                return connection
            pool.counts.closed += 1
            connection.abort()
        return None

    def give_back(self, profile: ServerProfile, server: str, connection: SmtpConnection) -> None:
        """The communication over an idle `connection` completed: it is kept, or disconnected."""
        pool = self._pool(profile)
        if pool is None or (self._left and (profile.name, server) in self._left):
            connection.quit()
            return
        now = asyncio.get_running_loop().time()
        gone = pool.cache.give_back(
            server, connection, now, opened_at=connection.opened_at, messages=connection.mails
        )
        if gone:
            pool.counts.full += 1
            _disconnect(gone)
            return
        pool.counts.kept += 1
        connection.keep(lambda unfit: self._unfit(pool, unfit))
        self._arm(pool.cache.next_expiry())

    def retire(self, profiles: Mapping[str, ServerProfile]) -> None:
        """The inventory changed: connections of profiles that were edited or removed are disconnected."""
        self._uses = {
            (name, server): use
            for (name, server), use in self._uses.items()
            if name in profiles and server in profiles[name].server_texts
        }
        self._revisions = {name: profile.revision for name, profile in profiles.items()}
        for name, pool in list(self._pools.items()):
            profile = profiles.get(name)
            if profile is None or profile.revision != pool.revision:
                del self._pools[name]
                _disconnect(pool.cache.clear())

    def counts(self, name: str) -> tuple[int, PoolCounts]:
        """How many connections of a profile are kept idle, and what its pool has done."""
        pool = self._pools.get(name)
        return (pool.cache.idle, pool.counts) if pool is not None else (0, PoolCounts())

    def idle_to(self, name: str, server: str) -> int:
        """How many connections of a profile to one server are kept idle."""
        pool = self._pools.get(name)
        return pool.cache.idle_to(server) if pool is not None else 0

    def leave(self, servers: Collection[tuple[str, str]]) -> None:
        """These servers of profiles, and no others, are drained: what is kept is disconnected, nothing more is."""
        fresh = frozenset(servers)
        for name, server in fresh - self._left:
            if (pool := self._pools.get(name)) is not None:
                _disconnect(pool.cache.drop(server))
        self._left = fresh

    def facts(self, name: str, server: str) -> dict[str, object]:
        """For the live row of one server of a profile."""
        use = self.use(name, server)
        pool = {"idle": self.idle_to(name, server), **use.facts()}
        return {"pool": pool, "times": use.times(), "certificate": use.certificate}

    def use(self, name: str, server: str) -> ServerUse:
        """To be counted in, and read, for one server of a profile."""
        use = self._uses.get((name, server))
        if use is None:
            use = self._uses[name, server] = ServerUse()
        return use

    def close(self) -> None:
        """Disconnects everything, for the end of the process."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pool in self._pools.values():
            _disconnect(pool.cache.clear())
        self._pools.clear()

    def _pool(self, profile: ServerProfile) -> _ProfilePool | None:
        """The pool of a profile; None for one that has been edited, renamed or removed: its connections are not
        kept."""
        if self._revisions is not None and self._revisions.get(profile.name) != profile.revision:
            return None
        pool = self._pools.get(profile.name)
        if pool is not None and pool.revision == profile.revision:
            return pool
        if pool is not None:
            if pool.revision > profile.revision:
                return None
            _disconnect(pool.cache.clear())
        cache: Cache[SmtpConnection]
        if profile.pool.enabled:
            cache = ConnectionPool(profile.pool, self._share(profile.pool.connections))
        else:
            cache = NoPool()
        pool = self._pools[profile.name] = _ProfilePool(profile.revision, cache)
        return pool

    @staticmethod
    def _unfit(pool: _ProfilePool, connection: SmtpConnection) -> None:
        if pool.cache.remove(connection):
            pool.counts.closed += 1
        connection.abort()

    # --- expiry -------------------------------------------------------------------------------------------

    def _arm(self, due: float | None) -> None:
        """One timer for all pools, at the first expiry."""
        if due is None or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for pool in self._pools.values():
            expired = pool.cache.expire(now)
            pool.counts.expired += len(expired)
            _disconnect(expired)
            self._arm(pool.cache.next_expiry())


def _disconnect(connections: Iterable[SmtpConnection]) -> None:
    for connection in connections:
        connection.quit()
