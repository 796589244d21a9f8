"""The REST app on a real socket, served by our own `web.server.serve` in a thread."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from posthouse.web.server import serve
from support.rest import Rest


@contextmanager
def served(rest: Rest, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of the console, `http://127.0.0.1:PORT`, or `https` with TLS."""
    bound = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        await serve(rest.app(), bound, on_ready=ready.set, stop=stop, tls=tls)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    try:
        assert ready.wait(20), "the console did not start"
        yield f"{'https' if tls else 'http'}://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        loop, stop = ends[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        bound.close()
        assert not thread.is_alive(), "the console did not end"
