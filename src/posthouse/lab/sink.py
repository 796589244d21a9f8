"""A recording next hop that misbehaves on request (`posthouse sink`): for tests, demo and curious operators.

Written apart from our own SMTP server, line by line, so that it is a counterpart and no mirror. Bounded: line
length, content size and what is kept in memory.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posthouse.lab.sink_rules import Rule, RuleBook

EXTENSIONS = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")
_LINE_OCTETS = 65536
_IDLE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """What `posthouse sink` takes."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: the system chooses; `Sink.port` tells."""
    hostname: str = "sink.example"
    out: Path | None = None
    """Folder for each mail as .eml (content as received, unstuffed) and .json (the rest)."""
    rules: tuple[Rule, ...] = ()
    without: frozenset[str] = frozenset()
    """Extensions not offered: PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, DSN, SMTPUTF8, SIZE."""
    helo_only: bool = False
    """EHLO is refused with 502."""
    recipients: int = 0
    """RCPT accepted per transaction, further ones get 452 4.5.3; 0: no limit."""
    delay: float = 0.0
    """Seconds before each reply."""
    read_pause: float = 0.0
    """Seconds between reads of content (64 KiB each): a slow next hop."""
    black_hole: bool = False
    """Accepts connections and says nothing."""
    max_size: int = 52428800
    """Octets of content; beyond: 552."""
    keep: int = 10000
    """Mails and sessions kept in memory, the newest."""
    keep_content: bool = True
    """Keep octets in memory, not only size and hash."""


@dataclass(frozen=True, slots=True)
class RecordedMail:
    """One mail as it came."""

    session: int
    number: int
    """Counts mails of this sink, from 1."""
    helo: str
    reverse_path: str
    mail_parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    """Forward-paths that were accepted."""
    rcpt_parameters: tuple[tuple[str, ...], ...]
    raw: bytes
    """As on the wire, without the final dot and its CRLF; empty if content is not kept."""
    octets: bytes
    """Unstuffed."""
    size: int
    sha256: str
    """Of the unstuffed octets."""
    reply: str
    """What the final dot got: a reply, `drop`, `close` or `hang`."""
    at: float
    """Epoch seconds."""

    @property
    def accepted(self) -> bool:
        """250 was said."""
        return self.reply.startswith("2")

    def facts(self) -> dict[str, object]:
        """JSON without the content."""
        return {
            "number": self.number,
            "session": self.session,
            "at": self.at,
            "helo": self.helo,
            "from": self.reverse_path,
            "mail_parameters": list(self.mail_parameters),
            "to": list(self.recipients),
            "rcpt_parameters": [list(parameters) for parameters in self.rcpt_parameters],
            "size": self.size,
            "sha256": self.sha256,
            "reply": self.reply,
        }


@dataclass(slots=True)
class SessionRecord:
    """What one session said to us."""

    number: int
    commands: list[str] = field(default_factory=list)
    """Without CRLF; content is left out. At most 10,000."""
    ended: str = ""
    """`quit`, `lost`, `drop`, `close`, `idle`; empty while open."""


class _End(Exception):
    """The session is over; the text says how."""


class Sink:
    """Start it, send to it, look at `mails` and `sessions`."""

    def __init__(self, options: SinkOptions | None = None, on_mail: Callable[[RecordedMail], None] | None = None):
        self.options = options or SinkOptions()
        self.mails: deque[RecordedMail] = deque(maxlen=self.options.keep)
        self.sessions: deque[SessionRecord] = deque(maxlen=self.options.keep)
        self.count = 0
        """Mails that reached their final dot."""
        self._opened = 0
        self._book = RuleBook(self.options.rules)
        self._on_mail = on_mail
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def accepted(self) -> list[RecordedMail]:
        """Mails that got a 250."""
        return [mail for mail in self.mails if mail.accepted]

    def misbehave(self, rules: Sequence[Rule]) -> None:
        """From now on these rules hold, and only these."""
        self._book = RuleBook(rules)

    async def start(self) -> None:
        if self.options.out is not None:
            self.options.out.mkdir(parents=True, exist_ok=True)
        self._server = await asyncio.start_server(
            self._serve, self.options.host, self.options.port, limit=_LINE_OCTETS, backlog=512
        )

    async def stop(self) -> None:
        """Closes listener and sessions."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def quiet(self) -> None:
        """Returns once no session is open."""
        while self._open:
            await asyncio.wait(self._open)

    async def __aenter__(self) -> "Sink":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self._opened += 1
        record = SessionRecord(self._opened)
        self.sessions.append(record)
        try:
            await _Session(self, self._book, record, reader, writer).run()
        except _End as end:
            record.ended = str(end)
        except TimeoutError:
            record.ended = "idle"
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
            record.ended = "lost"
        finally:
            self._open.discard(task)
            if record.ended in ("quit", "close"):
                writer.close()
            else:
                writer.transport.abort()

    def record(self, mail: RecordedMail) -> None:
        """Keeps, writes and reports one mail."""
        self.mails.append(mail)
        if self.options.out is not None:
            path = self.options.out / f"{mail.number:06}"
            path.with_suffix(".eml").write_bytes(mail.octets)
            path.with_suffix(".json").write_text(json.dumps(mail.facts(), ensure_ascii=False) + "\n", "utf-8")
        if self._on_mail is not None:
            self._on_mail(mail)


class _Session:
    def __init__(
        self,
        sink: Sink,
        book: RuleBook,
        record: SessionRecord,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._sink, self._options, self._book, self._record = sink, sink.options, book, record
        self._reader, self._writer = reader, writer
        self._helo = ""
        self._rest = b""
        self._forget()

    def _forget(self) -> None:
        self._reverse_path: str | None = None
        self._mail_parameters: tuple[str, ...] = ()
        self._accepted: list[tuple[str, tuple[str, ...]]] = []

    async def run(self) -> None:
        if self._options.black_hole:
            await self._reader.read()
            raise _End("lost")
        await self._answer("greeting", f"220 {self._options.hostname} ESMTP sink")
        while True:
            line = await self._line()
            if len(self._record.commands) < 10000:
                self._record.commands.append(line)
            verb, _, argument = line.partition(" ")
            match verb.upper():
                case "EHLO":
                    self._helo = argument
                    await self._answer("EHLO", "502 5.5.1 not here" if self._options.helo_only else self._offer())
                case "HELO":
                    self._helo = argument
                    await self._answer("HELO", f"250 {self._options.hostname}")
                case "MAIL":
                    await self._mail(argument)
                case "RCPT":
                    await self._rcpt(argument)
                case "DATA":
                    await self._data()
                case "RSET":
                    self._forget()
                    await self._answer("RSET", "250 2.0.0 forgotten")
                case "NOOP":
                    await self._say("250 2.0.0 yes")
                case "QUIT":
                    await self._answer("QUIT", "221 2.0.0 bye")
                    raise _End("quit")
                case _:
                    await self._say("502 5.5.1 what?")

    # --- commands ----------------------------------------------------------------------------------------

    def _offer(self) -> str:
        words = [word for word in EXTENSIONS if word not in self._options.without]
        if "SIZE" not in self._options.without:
            words.append(f"SIZE {self._options.max_size}")
        lines = [self._options.hostname, *words]
        return "\r\n".join(f"250{'-' if i < len(lines) - 1 else ' '}{line}" for i, line in enumerate(lines))

    async def _mail(self, argument: str) -> None:
        if self._reverse_path is not None:
            await self._say("503 5.5.1 one at a time")
            return
        path, parameters = _path(argument)
        if (await self._answer("MAIL", "250 2.1.0 sender ok")).startswith("2"):
            self._reverse_path, self._mail_parameters = path, parameters

    async def _rcpt(self, argument: str) -> None:
        if self._reverse_path is None:
            await self._say("503 5.5.1 MAIL first")
            return
        path, parameters = _path(argument)
        limit = self._options.recipients
        usual = (
            "452 4.5.3 too many recipients" if limit and len(self._accepted) >= limit else "250 2.1.5 recipient ok"
        )
        if (await self._answer("RCPT", usual, (path,))).startswith("2"):
            self._accepted.append((path, parameters))

    async def _data(self) -> None:
        paths = [path for path, _ in self._accepted]
        usual = "354 go ahead" if paths else "554 5.5.1 no valid recipients"
        if not (await self._answer("DATA", usual, paths or ("",))).startswith("3"):
            return
        raw = await self._content(paths)
        octets = raw.replace(b"\r\n..", b"\r\n.")
        if octets.startswith(b"."):
            octets = octets[1:]
        self._sink.count += 1
        number = self._sink.count
        if not paths:
            reply = "554 5.5.1 no valid recipients"
        elif len(raw) > self._options.max_size:
            reply = "552 5.3.4 too long"
        else:
            reply = self._book.action("dot", paths) or f"250 2.0.0 taken as {number}"
        keep = self._options.keep_content
        mail = RecordedMail(
            session=self._record.number,
            number=number,
            helo=self._helo,
            reverse_path=self._reverse_path or "",
            mail_parameters=self._mail_parameters,
            recipients=tuple(paths),
            rcpt_parameters=tuple(parameters for _, parameters in self._accepted),
            raw=raw if keep else b"",
            octets=octets if keep or self._options.out is not None else b"",
            size=len(octets),
            sha256=hashlib.sha256(octets).hexdigest(),
            reply=reply,
            at=time.time(),
        )
        self._sink.record(mail)
        self._forget()
        await self._act(reply)

    async def _content(self, paths: list[str]) -> bytes:
        """Octets up to CRLF.CRLF, without `.CRLF`. What goes beyond the size limit is read and thrown away."""
        action = self._book.action("content", paths or ("",))
        got = bytearray()
        if action is not None:
            await self._read()
            await self._act(action)
        data = b"\r\n" + self._rest
        self._rest = b""
        while True:
            end = data.find(b"\r\n.\r\n")
            if end >= 0:
                got += data[: end + 2]
                self._rest = data[end + 5 :]
                return bytes(got[2:])
            if len(got) <= self._options.max_size + 2:
                got += data[:-4]
            data = data[-4:] + await self._read()
            if self._options.read_pause:
                await asyncio.sleep(self._options.read_pause)

    # --- octets ------------------------------------------------------------------------------------------

    async def _read(self) -> bytes:
        async with asyncio.timeout(_IDLE_SECONDS):
            data = await self._reader.read(65536)
        if not data:
            raise _End("lost")
        return data

    async def _line(self) -> str:
        while b"\n" not in self._rest:
            if len(self._rest) > _LINE_OCTETS:
                raise _End("close")
            self._rest += await self._read()
        line, _, self._rest = self._rest.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    async def _answer(self, stage: str, usual: str, paths: Sequence[str] = ("",)) -> str:
        """Says what the rules want, else `usual`; returns what was said."""
        said = self._book.action(stage, paths) or usual
        await self._act(said)
        return said

    async def _act(self, action: str) -> None:
        match action:
            case "drop" | "close":
                raise _End(action)
            case "hang":
                while True:
                    await self._read()
            case _:
                await self._say(action)
                if action.startswith("421"):
                    raise _End("close")

    async def _say(self, reply: str) -> None:
        if self._options.delay:
            await asyncio.sleep(self._options.delay)
        self._writer.write(reply.encode() + b"\r\n")
        if b"\n" not in self._rest:
            await self._writer.drain()


def _path(argument: str) -> tuple[str, tuple[str, ...]]:
    """Path and parameters of `FROM:<...> A=B` or `TO:<...>`."""
    begin, end = argument.find("<"), argument.rfind(">")
    if begin < 0 or end < begin:
        path, _, rest = argument.partition(":")[2].strip().partition(" ")
        return path, tuple(rest.split())
    return argument[begin + 1 : end], tuple(argument[end + 1 :].split())


async def run_sink(options: SinkOptions, on_start: Callable[[int], None]) -> None:
    """`posthouse sink`: tells its port, then prints each mail as a JSON line until cancelled."""

    def show(mail: RecordedMail) -> None:
        sys.stdout.write(json.dumps(mail.facts(), ensure_ascii=False) + "\n")
        sys.stdout.flush()

    async with Sink(options, show) as sink:
        on_start(sink.port)
        await asyncio.get_running_loop().create_future()
