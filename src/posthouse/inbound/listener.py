"""Listeners: bound sockets served by sessions, with the limits on how many there may be."""

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from functools import partial

from posthouse.core.limits import Limits
from posthouse.core.network import Network, parse_client
from posthouse.core.smtp_data import Newlines
from posthouse.core.smtp_server import Offers
from posthouse.inbound.proxied import ProxiedConnection
from posthouse.inbound.session import Session
from posthouse.ports import Clock, Reception
from posthouse.settings import BareNewlines, ListenerSettings, ListenerTls, NodeSettings
from posthouse.telemetry import logger

log = logger("inbound")
_TRUST_CACHE = 10_000


class Listener:
    """One listener; what its sessions need to know."""

    def __init__(
        self, owner: "Listeners", settings: ListenerSettings, name: str, tls_context: ssl.SSLContext | None
    ) -> None:
        self._owner = owner
        self.settings = settings
        self.name = name
        self.tls_context = tls_context
        self.loop = asyncio.get_running_loop()
        self.reception = owner.reception
        self.clock = owner.clock
        self._offers: dict[tuple[bool, bool, bool], Offers] = {}

    def offers(self, trusted: bool, tls_active: bool, xclient: bool) -> Offers:
        """What a session with such a client offers."""
        found = self._offers.get((trusted, tls_active, xclient))
        if found is None:
            settings = self.settings
            newlines = settings.trusted_bare_newlines if trusted else settings.bare_newlines
            found = self._offers[trusted, tls_active, xclient] = Offers(
                max_size=settings.max_size,
                newlines=Newlines.NORMALISE if newlines is BareNewlines.NORMALISE else Newlines.REFUSE,
                starttls=settings.tls in (ListenerTls.STARTTLS_OPTIONAL, ListenerTls.STARTTLS_REQUIRED),
                tls_required=settings.tls is ListenerTls.STARTTLS_REQUIRED,
                tls_active=tls_active,
                xclient=xclient,
            )
        return found

    @property
    def hostname(self) -> str:
        return self._owner.node.hostname

    @property
    def limits(self) -> Limits:
        return self._owner.node.limits

    @property
    def stressed(self) -> bool:
        """Sessions exceed stress_percent: every deadline is short."""
        limits = self._owner.node.limits
        return self._owner.sessions_open * 100 > limits.sessions * limits.stress_percent

    def is_trusted(self, address: str) -> bool:
        return self._owner.is_trusted(address)

    def expects_proxy(self, address: str) -> bool:
        return _within(address, self.settings.proxy_protocol_from)

    def takes_xclient(self, address: str) -> bool:
        return _within(address, self.settings.xclient_from)

    def opened(self, session: Session) -> None:
        self._owner.opened(session)

    def closed(self, session: Session, counted: str) -> None:
        self._owner.closed(session, counted)

    def admit(self, address: str) -> bool:
        return self._owner.admit(address)

    def keep(self, task: asyncio.Task[None]) -> None:
        self._owner.keep(task)


class Listeners:
    """All listeners of one worker."""

    def __init__(
        self,
        *,
        sockets: Sequence[socket.socket],
        settings: NodeSettings,
        reception: Reception,
        tls_contexts: Sequence[ssl.SSLContext | None],
        clock: Clock,
    ) -> None:
        """`sockets` and `tls_contexts` in the order of `settings.listeners`."""
        self.node = settings
        self.reception = reception
        self.clock = clock
        self._sockets = sockets
        self._contexts = tls_contexts
        self._servers: list[asyncio.Server] = []
        self._sessions: set[Session] = set()
        self._per_client: Counter[str] = Counter()
        self._trusted: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied = asyncio.Event()
        self._draining = False
        self.sessions_accepted = 0

    @property
    def sessions_open(self) -> int:
        return len(self._sessions)

    async def start(self) -> None:
        """Begins to accept."""
        loop = asyncio.get_running_loop()
        for bound, settings, context in zip(self._sockets, self.node.listeners, self._contexts, strict=True):
            host, port = bound.getsockname()[:2]
            name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            proxied = bool(settings.proxy_protocol_from)
            implicit = settings.tls is ListenerTls.IMPLICIT and not proxied
            listener = Listener(self, settings, name, context)
            self._servers.append(
                await loop.create_server(
                    partial(ProxiedConnection if proxied else Session, listener),
                    sock=bound,
                    backlog=1024,
                    ssl=context if implicit else None,
                    ssl_handshake_timeout=self.node.limits.tls_handshake_seconds if implicit else None,
                )
            )
            log.info("listening", listener=name, tls=settings.tls.value)

    def reload(self, settings: NodeSettings) -> None:
        """New limits, trusted clients and hostname for what comes next; open sessions are not touched."""
        self.node = settings
        self._trusted.clear()

    async def drain(self, seconds: float) -> None:
        """Accepts no more, ends idle sessions with 421, lets open transactions end for at most `seconds`."""
        self._draining = True
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()  # handshakes and PROXY headers; no transaction can be open there
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self._sessions:
            for session in list(self._sessions):
                if session.idle or loop.time() >= deadline:
                    session.shut_down()
            if loop.time() >= deadline:
                break
            self._emptied.clear()
            try:
                await asyncio.wait_for(self._emptied.wait(), min(0.1, max(0.0, deadline - loop.time())))
            except TimeoutError:
                continue

    # --- what sessions tell -------------------------------------------------------------------------------

    def opened(self, session: Session) -> None:
        self._sessions.add(session)
        self.sessions_accepted += 1

    def closed(self, session: Session, counted: str) -> None:
        self._sessions.discard(session)
        if counted:
            self._per_client[counted] -= 1
            if self._per_client[counted] <= 0:
                del self._per_client[counted]
        if not self._sessions:
            self._emptied.set()

    def admit(self, address: str) -> bool:
        """Counts a session of this client; False if there are too many."""
        limits = self.node.limits
        if (
            self._draining
            or len(self._sessions) > limits.sessions
            or self._per_client[address] >= limits.sessions_per_client
        ):
            log.warning("session refused", client=address, open=len(self._sessions))
            return False
        self._per_client[address] += 1
        return True

    def is_trusted(self, address: str) -> bool:
        known = self._trusted.get(address)
        if known is None:
            if len(self._trusted) >= _TRUST_CACHE:
                self._trusted.clear()
            known = self._trusted[address] = _within(address, self.node.trusted_clients)
        return known

    def keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _within(address: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return False
    client = parse_client(address)
    return client is not None and any(client in network for network in networks)
