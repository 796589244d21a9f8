"""A small sender (`posthouse send`): N generated mails or .eml files over some sessions, with counts.

Written apart from our own SMTP client so that it is a counterpart. With a ledger every 250 is on disk, synced,
before it is counted: what a durability test needs.
"""

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_REPLY_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class SendOptions:
    """What `posthouse send` takes."""

    host: str = "127.0.0.1"
    port: int = 2525
    count: int = 1
    """Generated mails; of no meaning when `files` are given."""
    size: int = 4096
    """Octets of a generated mail, about."""
    sessions: int = 1
    """Connections at a time."""
    per_session: int = 0
    """Mails per connection, then a new one; 0: no limit."""
    reverse_path: str = "sender@client.example"
    recipients: tuple[str, ...] = ("recipient@ours.example",)
    files: tuple[Path, ...] = ()
    """Sent as they are; a file without any CRLF gets CRLF for LF."""
    ledger: Path | None = None
    """Appended: `Message-ID<TAB>queue id`, a line for every 250."""
    helo: str = "client.example"
    tag: str = ""
    """Goes into each generated Message-ID, to tell runs apart; empty: the present time."""


@dataclass(slots=True)
class SendResult:
    """What came of it."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Count per reply (its first line)."""
    broken: Counter[str] = field(default_factory=Counter)
    """Count per reason, of mails whose connection failed."""
    seconds: float = 0.0
    ids: list[tuple[str, str]] = field(default_factory=list)
    """Message-ID and queue id of each accepted mail."""

    @property
    def done(self) -> int:
        return self.accepted + self.refused.total() + self.broken.total()


@dataclass(frozen=True, slots=True)
class _Item:
    message_id: str
    content: bytes


class _Refused(Exception):
    """A reply that ends this mail."""


async def send(options: SendOptions, progress: Callable[[int, int], None] | None = None) -> SendResult:
    """Sends all; never raises for what the network does. `progress` gets (done, total)."""
    items = _items(options)
    total = len(items)
    result = SendResult()
    ledger = None
    if options.ledger is not None:
        ledger = os.open(options.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    started = time.monotonic()

    def accepted(item: _Item, queue_id: str) -> None:
        if ledger is not None:
            os.write(ledger, f"{item.message_id}\t{queue_id}\n".encode())
            os.fsync(ledger)
        result.accepted += 1
        result.ids.append((item.message_id, queue_id))

    async def work() -> None:
        while items:
            client = _Client(options)
            item: _Item | None = None
            try:
                await client.open()
                sent = 0
                while items and not (options.per_session and sent >= options.per_session):
                    item = items.popleft()
                    try:
                        accepted(item, await client.send(item.content))
                    except _Refused as refusal:
                        result.refused[str(refusal)] += 1
                    item = None
                    sent += 1
                    if progress is not None:
                        progress(result.done, total)
            except (OSError, EOFError, TimeoutError, _Refused) as error:
                if item is None and not items:
                    return
                if item is None:
                    items.popleft()
                result.broken[str(error) or type(error).__name__] += 1
                if progress is not None:
                    progress(result.done, total)
            finally:
                await client.close()

    try:
        await asyncio.gather(*(work() for _ in range(max(1, min(options.sessions, total)))))
    finally:
        if ledger is not None:
            os.close(ledger)
    result.seconds = time.monotonic() - started
    return result


def _items(options: SendOptions) -> deque[_Item]:
    if options.files:
        return deque(_from_file(path) for path in options.files)
    tag = options.tag or f"{time.time_ns():x}"
    line = b"The quick brown fox jumps over the lazy dog, and the mail goes through.\r\n"
    items: deque[_Item] = deque()
    for number in range(options.count):
        message_id = f"<{number}.{tag}@{options.helo}>"
        header = (
            f"From: <{options.reverse_path}>\r\nTo: <{options.recipients[0]}>\r\nSubject: mail {number}\r\n"
            f"Message-ID: {message_id}\r\n\r\n"
        ).encode()
        items.append(_Item(message_id, header + line * max(1, (options.size - len(header)) // len(line))))
    return items


def _from_file(path: Path) -> _Item:
    octets = path.read_bytes()
    if b"\r\n" not in octets:
        octets = octets.replace(b"\n", b"\r\n")
    header = octets.partition(b"\r\n\r\n")[0]
    message_id = next(
        (
            line.partition(b":")[2].strip().decode("utf-8", "replace")
            for line in header.split(b"\r\n")
            if line.lower().startswith(b"message-id:")
        ),
        path.name,
    )
    return _Item(message_id.replace("\t", " "), octets)


class _Client:
    def __init__(self, options: SendOptions) -> None:
        self._options = options
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._pipelining = False

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._options.host, self._options.port)
        await self._expect("2")
        self._writer.write(f"EHLO {self._options.helo}\r\n".encode())
        self._pipelining = "PIPELINING" in (await self._expect("2")).upper().split()

    async def send(self, content: bytes) -> str:
        """Returns the queue id. A refusal leaves the connection fit for the next mail."""
        assert self._writer is not None
        options = self._options
        commands = [f"MAIL FROM:<{options.reverse_path}>\r\n".encode()]
        commands += [f"RCPT TO:<{recipient}>\r\n".encode() for recipient in options.recipients]
        commands.append(b"DATA\r\n")
        replies: list[str] = []
        if self._pipelining:
            self._writer.write(b"".join(commands))
            replies = [await self._reply() for _ in commands]
        else:
            for command in commands:
                self._writer.write(command)
                replies.append(await self._reply())
                if command is commands[0] and not replies[0].startswith("2"):
                    break
        go_ahead = replies[-1].startswith("3")
        refusal = next((reply for reply in replies if reply[0] in "45"), "")
        taken = any(reply.startswith("2") for reply in replies[1:])
        if not go_ahead or not taken:
            if go_ahead:
                self._writer.write(b".\r\n")
                await self._reply()
            self._writer.write(b"RSET\r\n")
            await self._expect("2")
            raise _Refused(refusal)
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        self._writer.write(stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n")
        await self._writer.drain()
        final = await self._expect("2")
        return final.rpartition("queued as ")[2].split()[0] if "queued as " in final else ""

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.write(b"QUIT\r\n")
            self._writer.close()

    async def _expect(self, first: str) -> str:
        reply = await self._reply()
        if not reply.startswith(first):
            raise _Refused(reply)
        return reply

    async def _reply(self) -> str:
        """The reply, its lines joined by blanks."""
        assert self._reader is not None
        lines: list[str] = []
        async with asyncio.timeout(_REPLY_SECONDS):
            while True:
                line = await self._reader.readline()
                if not line:
                    raise EOFError("connection lost")
                text = line.decode("utf-8", "replace").rstrip()
                lines.append(text if not lines else text[4:])
                if text[3:4] != "-":
                    return lines[0][:3] + " " + " ".join([lines[0][4:], *lines[1:]])
