"""The connection pool of one server profile: a cache of kept idle connections, not a bound on open ones.

Nobody waits for it, and it never changes which server is tried. It only decides; whoever calls disconnects what it
returns. The seed's five rules, and where they are:

| Rule | Here |
| --- | --- |
| 1. empty, and a connection is needed: it gets established | `acquire` yields none |
| 2. not full, and the communication completes: the connection is placed into the pool | `give_back` yields none |
| 3. an idle connection is there, and one is needed: it is taken and reused | `acquire` yields the latest used one |
| 4. full, and the communication completes: the connection is disconnected | `give_back` yields it |
| 5. not reused for the configured time: disconnected | `expire`, by a timer at `next_expiry` |

Ours: a connection older than `max_age_seconds`, or that served `max_messages` mails, is not kept when it is given
back; an edit of the profile retires all of its connections.
Standards: seed 3.7 (connection pooling); design section 2.10.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from posthouse.core.profile import Pool

C = TypeVar("C", bound=Hashable)


class Cache(Protocol[C]):
    """What `ConnectionPool` and its null twin `NoPool` do. Times are seconds that never go back."""

    @property
    def idle(self) -> int:
        """How many connections are kept."""

    def idle_to(self, server: str) -> int:
        """How many of them are to this server."""

    def acquire(self, server: str) -> C | None:
        """The connection to this server that was used latest; it is the caller's from now on."""

    def give_back(self, server: str, connection: C, now: float, *, opened_at: float, messages: int) -> tuple[C, ...]:
        """The communication over it completed; what is returned is to be disconnected."""

    def remove(self, connection: C) -> bool:
        """It became unfit while idle (the server closed it, or spoke); False if it is not kept here."""

    def expire(self, now: float) -> tuple[C, ...]:
        """Those not used for `expiry_seconds`; to be disconnected."""

    def next_expiry(self) -> float | None:
        """When `expire` yields the next one; None while nothing is kept."""

    def drop(self, server: str) -> tuple[C, ...]:
        """Those to this server, which is to be left alone; to be disconnected."""

    def clear(self) -> tuple[C, ...]:
        """All of them; to be disconnected."""


@dataclass(frozen=True, slots=True)
class _Kept:
    server: str
    since: float


class ConnectionPool(Generic[C]):
    """`settings` as the profile has them; `connections` is this worker's share of its bound, which may be 0."""

    __slots__ = ("_by_server", "_connections", "_kept", "_settings")

    def __init__(self, settings: Pool, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._kept: dict[C, _Kept] = {}
        """In the order in which they were given back, so the first expires first."""
        self._by_server: dict[str, list[C]] = {}
        """Of each server, the latest used last."""

    @property
    def idle(self) -> int:
        return len(self._kept)

    def idle_to(self, server: str) -> int:
        return len(self._by_server.get(server, ()))

    def acquire(self, server: str) -> C | None:
        idle = self._by_server.get(server)
        if not idle:
            return None
        connection = idle.pop()
        del self._kept[connection]
        return connection

    def give_back(self, server: str, connection: C, now: float, *, opened_at: float, messages: int) -> tuple[C, ...]:
        settings = self._settings
        worn = now - opened_at >= settings.max_age_seconds or 0 < settings.max_messages <= messages
        if worn or len(self._kept) >= self._connections:
            return (connection,)
        self._kept[connection] = _Kept(server, now)
        self._by_server.setdefault(server, []).append(connection)
        return ()

    def remove(self, connection: C) -> bool:
        kept = self._kept.pop(connection, None)
        if kept is None:
            return False
        self._by_server[kept.server].remove(connection)
        return True

    def expire(self, now: float) -> tuple[C, ...]:
        expired = []
        for connection, kept in self._kept.items():
            if now - kept.since < self._settings.expiry_seconds:
                break
            expired.append(connection)
        for connection in expired:
            self.remove(connection)
        return tuple(expired)

    def next_expiry(self) -> float | None:
        for kept in self._kept.values():
            return kept.since + self._settings.expiry_seconds
        return None

    def drop(self, server: str) -> tuple[C, ...]:
        dropped = tuple(self._by_server.pop(server, ()))
        for connection in dropped:
            del self._kept[connection]
        return dropped

    def clear(self) -> tuple[C, ...]:
        all_kept = tuple(self._kept)
        self._kept.clear()
        self._by_server.clear()
        return all_kept


class NoPool(Generic[C]):
    """Connection pooling is off: nothing is kept."""

    __slots__ = ()
    idle = 0

    def idle_to(self, server: str) -> int:
        return 0

    def acquire(self, server: str) -> C | None:
        return None

    def give_back(self, server: str, connection: C, now: float, *, opened_at: float, messages: int) -> tuple[C, ...]:
        return (connection,)

    def remove(self, connection: C) -> bool:
        return False

    def expire(self, now: float) -> tuple[C, ...]:
        return ()

    def next_expiry(self) -> float | None:
        return None

    def drop(self, server: str) -> tuple[C, ...]:
        return ()

    def clear(self) -> tuple[C, ...]:
        return ()
