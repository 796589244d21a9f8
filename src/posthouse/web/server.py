"""The console process: the app, and uvicorn run in-process on sockets that somebody else has bound."""

import asyncio
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from posthouse.web import (
    audit,
    certificates,
    config,
    drains,
    explanations,
    failed,
    health,
    inventory,
    keys,
    mails,
    profile_tests,
    profiles,
    quarantine,
    queue,
    replays,
    rules,
    users,
)
from posthouse.web.connections import HEAD_SECONDS, ConsoleConnection
from posthouse.web.gate import BODY_OCTETS, Gate, HostList
from posthouse.web.heavy import Heavy
from posthouse.web.openapi import tell_by_examples
from posthouse.web.problems import Json, install
from posthouse.web.tools import WebTools
from posthouse.web.viewing import Viewing

PREFIX = "/api/v1"

_ROUTERS = (
    inventory.router,
    explanations.router,
    replays.router,
    profile_tests.router,
    profiles.router,
    mails.router,
    quarantine.reading,
    quarantine.bodies,
    quarantine.releasing,
    quarantine.steering,
    failed.reading,
    failed.bodies,
    failed.steering,
    queue.router,
    queue.steering,
    rules.reading,
    rules.changing,
    config.reading,
    config.changing,
    keys.reading,
    keys.changing,
    drains.router,
    certificates.reading,
    certificates.changing,
    users.reading,
    users.changing,
    audit.router,
)


def create_app(tools: WebTools) -> FastAPI:
    """REST under /api/v1 and the three addresses without login."""
    app = FastAPI(
        title="posthouse",
        version=tools.version,
        summary="An email security gateway: mails, queue, quarantine, server profiles, rules.",
        description=(
            "Send an API key as `Authorization: Bearer KEY`. Faults are problem details (RFC 9457) with "
            "`errors: [{field, value, rule, remedy}]`. Lists are `{items, next}`; give `next` back for the next page."
        ),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        redirect_slashes=False,
    )
    app.state.tools = tools
    app.state.queue_numbers = health.QueueNumbers(tools)
    app.state.test_rate = profile_tests.new_rate()
    app.state.drain_rate = drains.new_rate()
    app.state.heavy = Heavy()
    app.state.viewing = Viewing()
    install(app)
    app.include_router(health.router)
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX)
    tell_by_examples(app)
    app.add_middleware(Gate, hosts=HostList(tools.settings.console, tools.hosts), limit=BODY_OCTETS)
    return app


async def serve(
    app: FastAPI,
    bound: socket.socket,
    *,
    on_ready: Callable[[], None],
    stop: asyncio.Event,
    grace_seconds: int = 3,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serves on a bound socket until `stop` is set, by the caller or by SIGTERM or SIGINT where this is the main
    thread; open requests then have `grace_seconds`.

    `on_ready` is called once requests are answered. Nothing is written to stdout. `tls`: HTTPS instead of HTTP.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = uvicorn.Config(
        app,
        loop="none",
        http=ConsoleConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=500,
        timeout_graceful_shutdown=grace_seconds,
    )
    settings.load()
    settings.ssl = tls
    server = _Server(settings)
    serving = asyncio.create_task(server.serve([bound]))
    stopping = asyncio.create_task(stop.wait())
    try:
        if await server.begun(serving):
            on_ready()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to `serve`, waits for no handshake for long, and tells when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._started = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which would give a handshake a minute."""
        config = self.config
        seconds = HEAD_SECONDS if config.ssl is not None else None

        def connection() -> ConsoleConnection:
            return ConsoleConnection(config, self.server_state, {})

        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                connection, sock=each, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=seconds
            )
            for each in sockets or ()
        ]
        self.started = True
        self._started.set()

    async def begun(self, serving: "asyncio.Task[None]") -> bool:
        """True once requests are answered; False if `serving` ended before."""
        waiting = asyncio.create_task(self._started.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return self._started.is_set()
