"""A next hop, in a thread of this process, that takes few connections at a time, and one that comes and goes."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LimitedServer:
    """Takes mail over at most `most` connections at a time; the others are told so in the greeting."""

    def __init__(self, most: int) -> None:
        self.most, self.open, self.turned_away, self.taken = most, 0, 0, 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.open >= self.most:
            self.turned_away += 1
            writer.write(b"421 4.7.0 Too many connections from your address\r\n")
            await writer.drain()
            writer.close()
            return
        self.open += 1
        try:
            writer.write(b"220 limited\r\n")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-limited\r\n250 PIPELINING\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    await asyncio.sleep(0.01)
                    self.taken += 1
                    writer.write(b"250 2.0.0 taken\r\n")
                elif verb == b"QUIT":
                    break
                else:
                    writer.write(b"250 2.0.0 ok\r\n")
                await writer.drain()
        finally:
            self.open -= 1
            writer.close()


@contextmanager
def running(handler: Handler, bound: socket.socket | None = None) -> Iterator[int]:
    """Its port; in a thread of this process. `bound`: a socket that refused connections until now."""
    ready, facts = threading.Event(), list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]()

    async def run() -> None:
        if bound is not None:
            server = await asyncio.start_server(handler, sock=bound.dup())
        else:
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
        stop = asyncio.Event()
        facts.append((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(20)
    loop, stop, port = facts[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


@contextmanager
def flapping(handler: Handler, up: float, down: float, seconds: float) -> Iterator[int]:
    """Its port. It listens for `up` seconds and is gone for `down` with all connections; after `seconds` it stays."""
    ready, end, ports = threading.Event(), threading.Event(), list[int]()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        began, port = loop.time(), 0
        open_now: set[asyncio.StreamWriter] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            open_now.add(writer)
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                open_now.discard(writer)

        while not end.is_set():
            server = await asyncio.start_server(connected, "127.0.0.1", port)
            if not port:
                port = server.sockets[0].getsockname()[1]
                ports.append(port)
                ready.set()
            until = loop.time() + up
            while not end.is_set() and (loop.time() < until or loop.time() - began > seconds):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            server.close()
            for writer in list(open_now):
                writer.transport.abort()
            if not end.is_set():
                await asyncio.sleep(down)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield ports[0]
    finally:
        end.set()
        thread.join(20)
