"""Long-lived HTTP clients of a worker, one for each server of a profile at one revision: connections are reused.

An edit of a profile retires its clients, as `smtp_pool` does: no connection outlives the TLS settings, the
certificate or the server that it was opened with. What is under way ends over the connections that it has.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic

from posthouse.clients.connecting import first_connected, resolve
from posthouse.clients.http_client import HttpClient
from posthouse.clients.http_stream import HttpStream, HttpWay, http_way_to, open_socket, open_stream
from posthouse.clients.server_use import ServerUse
from posthouse.clients.way import DigitalId
from posthouse.core.profile import ServerProfile

CONNECT_SECONDS = 10.0
"""For all addresses of a server together; as long again for the TLS handshake."""
CONNECTIONS = 100
"""Open at once to one server, so that files that take long hold up no short question."""


@dataclass(slots=True)
class _Kept:
    revision: int
    way: HttpWay
    client: HttpClient
    users: int = 0
    retired: bool = False


class HttpClients:
    """`use` gives the client of a server; what nobody uses any more is closed."""

    def __init__(self, digital_id: DigitalId) -> None:
        self._digital_id = digital_id
        self._kept: dict[tuple[str, str], _Kept] = {}
        """By profile and server."""
        self._revisions: dict[str, int] | None = None
        """Of the profiles in force; None until `retire` has told."""
        self._uses: dict[tuple[str, str], ServerUse] = {}
        """By profile and server."""
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def use(self, profile: ServerProfile, server: str) -> AsyncIterator[HttpClient]:
        """The client of a server (canonical text). Raises TlsSettingsError: a fault of this node."""
        kept = self._of(profile, server, http_way_to(profile, server, self._digital_id))
        kept.users += 1
        try:
            yield kept.client
        finally:
            kept.users -= 1
            if kept.retired and not kept.users:
                await kept.client.aclose()

    def retire(self, profiles: Mapping[str, ServerProfile]) -> None:
        """The inventory changed: clients of edited and removed profiles are closed. Within the event loop."""
        self._revisions = {name: profile.revision for name, profile in profiles.items()}
        self._uses = {
            (name, server): use
            for (name, server), use in self._uses.items()
            if name in profiles and server in profiles[name].server_texts
        }
        for (name, server), kept in list(self._kept.items()):
            if self._revisions.get(name) != kept.revision:
                self._let_go(self._kept.pop((name, server)))

    def facts(self, name: str, server: str) -> dict[str, object]:
        """For the live row of one server of a profile; as `smtp_pool` has it, but nothing is kept count of that is
        sent over a connection."""
        use = self._use(name, server)
        return {
            "pool": {"opened": use.opened, "tls": use.tls},
            "times": use.times(),
            "certificate": use.certificate,
        }

    async def close(self) -> None:
        """Ends all connections, for the end of the process; what is under way fails."""
        clients = [kept.client for kept in self._kept.values()]
        self._kept.clear()
        for client in clients:
            await client.aclose()
        await asyncio.gather(*self._closing)

    def _of(self, profile: ServerProfile, server: str, way: HttpWay) -> _Kept:
        """A former revision of a profile gets a client that is not kept."""
        key = profile.name, server
        found = self._kept.get(key)
        if found is not None and (found.revision, found.way) == (profile.revision, way):
            return found
        dial = partial(_dial, way, self._use(profile.name, server))
        made = _Kept(profile.revision, way, HttpClient(way.base, dial, CONNECTIONS))
        in_force = self._revisions is None or self._revisions.get(profile.name) == profile.revision
        if not in_force or (found is not None and found.revision > profile.revision):
            made.retired = True
            return made
        if found is not None:
            self._let_go(found)
        self._kept[key] = made
        return made

    def _use(self, name: str, server: str) -> ServerUse:
        return self._uses.setdefault((name, server), ServerUse())

    def _let_go(self, kept: _Kept) -> None:
        kept.retired = True
        if not kept.users:
            task = asyncio.get_running_loop().create_task(kept.client.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _dial(way: HttpWay, use: ServerUse) -> HttpStream:
    """Raises NoConnection and TlsFailed."""
    began = monotonic()
    addresses = await resolve(way.host, way.port, CONNECT_SECONDS)
    first = await first_connected(addresses, partial(open_socket, way.port), CONNECT_SECONDS)
    connected = monotonic()
    use.opened += 1
    use.connecting.add(connected - began, connected)
    stream = await open_stream(way, first.connection, CONNECT_SECONDS)
    if stream.tls:
        use.saw(monotonic() - connected, stream.certificate)
    return stream
