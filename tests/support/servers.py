"""Next hops that follow a script word by word, over real sockets: for what a proper server never does.

A script is a coroutine over `Peer`. An assertion that fails in a script fails the test at the end of the block.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import uvloop

from posthouse.core.envelope import Body, Recipient
from posthouse.core.mail import Content, InlineOctets
from posthouse.core.outcome import Transaction
from posthouse.core.profile import ServerProfile, parse_profile

T = TypeVar("T")
LOOPS = ("asyncio", "uvloop")
CONTENT = b"Subject: test\r\n\r\nfirst line\r\n..dot\r\n.\r\n"
"""Wire form."""
PREFIX = b"Received: from client\r\n\tby mx1.example; Tue, 24 Nov 2026 22:00:00 +0000\r\n"


def run(loop: str, coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs it on the named kind of event loop; connections that it closed get their turn to end."""

    async def whole() -> T:
        result = await coroutine
        for _ in range(10):
            await asyncio.sleep(0)
        return result

    if loop == "uvloop":
        return uvloop.run(whole())
    return asyncio.run(whole())


def transaction(
    *recipients: str | Recipient, content: Content | None = None, size: int | None = None, **changes: Any
) -> Transaction:
    """A plain one; `changes` replace its fields."""
    content = content or Content(InlineOctets(CONTENT))
    fields: dict[str, Any] = {
        "reverse_path": "sender@client.example",
        "recipients": tuple(
            r if isinstance(r, Recipient) else Recipient(r) for r in recipients or ("bob@ours.example",)
        ),
        "prefix": PREFIX,
        "content": content,
        "size": len(PREFIX) + content.source.size if size is None else size,
        "body": Body.UNSTATED,
        "smtputf8": False,
        "ret": "",
        "envid": "",
    }
    return Transaction(**{**fields, **changes})


def profile(*servers: str, revision: int = 0, **settings: Any) -> ServerProfile:
    """A server profile with these servers."""
    document = {"name": "exchange", "type": "smtp", "servers": list(servers), **settings}
    parsed, faults = parse_profile(document, "p")
    assert parsed is not None, faults
    return replace(parsed, revision=revision)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.heard: list[str] = []
        """Commands, without CRLF."""

    def say(self, *lines: str) -> None:
        """Replies, each with CRLF, in one write."""
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())

    def say_octets(self, octets: bytes) -> None:
        self._writer.write(octets)

    async def expect(self, *verbs: str) -> None:
        """The next commands begin so."""
        for verb in verbs:
            line = (await self._reader.readline()).decode().rstrip("\r\n")
            self.heard.append(line)
            assert line.startswith(verb), f"{verb} expected, {line!r} came"

    async def greet(self, *extensions: str) -> None:
        """Greeting and EHLO."""
        self.say("220 scripted ESMTP")
        await self.expect("EHLO ")
        lines = ["scripted", *extensions]
        self.say(*(f"250{'-' if i < len(lines) - 1 else ' '}{line}" for i, line in enumerate(lines)))

    async def content(self) -> bytes:
        """Octets up to and with CRLF.CRLF."""
        return await self._reader.readuntil(b"\r\n.\r\n")

    async def octets(self, count: int) -> bytes:
        return await self._reader.readexactly(count)

    async def end(self) -> bytes:
        """What still comes before the client closes."""
        try:
            return await self._reader.read(1 << 20)
        except ConnectionError:
            return b""

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Ends with RST."""
        connected = self._writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Scripted:
    """A server at work."""

    port: int = 0
    peers: list[Peer] = field(default_factory=list)

    @property
    def server(self) -> str:
        """Its canonical specification."""
        return f"smtp://127.0.0.1:{self.port}"


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[Scripted]:
    """Each connection follows the next script; at the end of the block all must have been followed to their end."""
    done = Scripted()
    left = list(scripts)
    running: list[asyncio.Future[None]] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        done.peers.append(peer)
        assert left, "a further connection that no script expects"
        running.append(asyncio.ensure_future(_follow(left.pop(0), peer, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    done.port = server.sockets[0].getsockname()[1]
    try:
        yield done
        assert not left, f"{len(left)} scripts had no connection"
        async with asyncio.timeout(20):
            await asyncio.gather(*running)
    finally:
        server.close()
        for task in running:
            task.cancel()


async def _follow(script: Script, peer: Peer, writer: asyncio.StreamWriter) -> None:
    try:
        await script(peer)
        if not writer.is_closing():
            writer.write_eof()
            while await peer.end():  # until the client has closed its end too
                pass
    finally:
        writer.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of loopback that refuses connections as long as the block lasts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose SYNs are dropped: its queue of connections is full and nobody takes them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            yield address[1]
        finally:
            for one in waiting:
                one.close()
