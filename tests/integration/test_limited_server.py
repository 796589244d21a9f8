"""Next hops that want less of us, or come and go: nothing fails, no try is wrongly used up, no DSN is made."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.backlog_drill import send
from support.processes import Node, inventory_for, serving
from support.server_drill import events
from support.waiting import eventually

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
def running(handler: Handler) -> Iterator[int]:
    """Its port; in a thread of this process."""
    ready, facts = threading.Event(), list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]()

    async def run() -> None:
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


def tries(node: Node) -> set[object]:
    mails = node.get("mails?limit=200")["items"]
    assert isinstance(mails, list)
    return {(r["state"], r["tries"]) for one in mails for r in one["recipients"]}


@pytest.mark.timeout(180)
def test_a_server_that_allows_three_connections_teaches_the_limit_and_no_mail_fails(tmp_path: Path) -> None:
    server = LimitedServer(3)
    with running(server) as port, serving(tmp_path, inventory_for(port)) as node:
        send(node.port, "you@ours.example", 100)
        eventually(lambda: server.taken == 100, "all mails", 120)
        node.wait_empty()
        assert tries(node) == {("relayed", 0)}
        halved = [line["limit"] for line in events(node, "limit of open transactions")]
        assert halved
        assert min(int(str(limit)) for limit in halved) <= 3
        assert not list(events(node, "circuit opened"))
