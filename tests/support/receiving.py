"""For tests of the receiver: a reception in memory, a driver of the sans-I/O session, a check of wire form."""

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from posthouse.core.envelope import Envelope, SessionFacts
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, InlineOctets
from posthouse.core.smtp_data import Newlines
from posthouse.core.smtp_reply import Reply, reply
from posthouse.core.smtp_server import (
    ContentEnded,
    ContentOctets,
    ContentRefused,
    ContentStarted,
    Ended,
    MailOffered,
    Offers,
    RecipientOffered,
    ServerSession,
)
from posthouse.ports import ReceivedContent

QUEUED = reply(250, "2.0.0", "queued as 01TEST")
RELAY_DENIED = reply(550, "5.7.1", "No policy for recipient")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


def assert_wire_form(wire: bytes) -> None:
    """No bare CR or LF, CRLF.CRLF only at the end, every line that begins with a dot stuffed."""
    assert not _BARE.search(wire), wire
    assert wire == b".\r\n" or wire.endswith(b"\r\n.\r\n"), wire
    lines = wire[:-3].split(b"\r\n")
    assert all(not line.startswith(b".") or line.startswith(b"..") for line in lines), wire


def unstuffed(wire: bytes) -> bytes:
    """The content that a wire form carries."""
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in wire[:-3].split(b"\r\n"))


@dataclass
class Taken:
    """One mail that a session handed over."""

    envelope: Envelope
    wire: bytes
    size: int
    header: bytes
    normalised: int


@dataclass
class Dialogue:
    """What came of feeding a session."""

    replies: bytes = b""
    mails: list[Taken] = field(default_factory=list)
    ended: bool = False
    refused: int = 0
    """Contents thrown away."""
    open_sink: bool = False

    @property
    def codes(self) -> list[int]:
        """Of every reply after the greeting."""
        return [int(line[:3]) for line in self.replies.split(b"\r\n")[1:] if line[3:4] == b" "]


def new_session(
    newlines: Newlines = Newlines.REFUSE,
    limits: Limits | None = None,
    max_size: int = 1 << 20,
    offers: Mapping[str, bool] | None = None,
) -> ServerSession:
    """A session that has not greeted yet."""
    return ServerSession("mx.example", limits or Limits(), Offers(max_size, newlines, **(offers or {})))


def converse(
    pieces: Iterable[bytes],
    session: ServerSession | None = None,
    admit: Callable[[str], bool] = lambda address: True,
    answer: Reply = QUEUED,
) -> Dialogue:
    """Feeds pieces to a session and answers its events at once."""
    smtp = session or new_session()
    smtp.greet()
    seen = Dialogue()
    wire: list[bytes] = []
    for piece in pieces:
        smtp.receive(piece)
        while (event := smtp.next_event()) is not None:
            match event:
                case MailOffered():
                    smtp.answer(None)
                case RecipientOffered(recipient):
                    smtp.answer(None if admit(recipient.address) else RELAY_DENIED)
                case ContentStarted():
                    assert not seen.open_sink, "a second content was begun within the first"
                    wire, seen.open_sink = [], True
                case ContentOctets(octets):
                    assert seen.open_sink
                    wire.append(octets)
                case ContentRefused():
                    seen.open_sink = False
                    seen.refused += 1
                case ContentEnded(envelope, size, header, normalised):
                    assert seen.open_sink
                    seen.open_sink = False
                    seen.mails.append(Taken(envelope, b"".join(wire), size, header, normalised))
                    smtp.answer(answer)
                case Ended():
                    seen.ended = True
        seen.replies += smtp.data_to_send()
    return seen


def chunked(octets: bytes, seed: int) -> list[bytes]:
    """The octets cut at random; the same cuts for the same seed."""
    chance = random.Random(seed)
    if len(octets) < 2:
        return [octets]
    cuts = sorted(chance.sample(range(1, len(octets)), min(len(octets) - 1, chance.randint(1, 40))))
    return [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]


class MemorySink:
    """Keeps content in memory; `failing` refuses as a full disk does."""

    def __init__(self, failing: bool = False) -> None:
        self.pieces: list[bytes] = []
        self.released = False
        self._failing = failing

    def write(self, octets: bytes) -> None:
        if self._failing:
            raise OSError(28, "No space left on device")
        self.pieces.append(octets)

    def close(self, *, size: int, header: bytes, normalised: int) -> ReceivedContent:
        return ReceivedContent(Content(InlineOctets(b"".join(self.pieces))), size, header, normalised)

    def release(self) -> None:
        self.released = True


@dataclass
class MemoryReception:
    """A `ports.Reception` that takes everything unless told otherwise."""

    answer: Reply | None = QUEUED
    """None: the test answers later, through `waiting`."""
    refusal: Reply | None = None
    sink_fails: bool = False
    error: Exception | None = None
    """Raised at `raises`."""
    raises: str = ""
    mails: list[tuple[SessionFacts, Envelope, ReceivedContent]] = field(default_factory=list)
    sinks: list[MemorySink] = field(default_factory=list)
    waiting: list[Callable[[Reply], None]] = field(default_factory=list)

    def _raise(self, where: str) -> None:
        if self.error is not None and self.raises == where:
            raise self.error

    def begin(self, session: SessionFacts) -> Reply | None:
        self._raise("begin")
        return self.refusal

    def admit(self, session: SessionFacts, reverse_path: str, address: str) -> Reply | None:
        self._raise("admit")
        return None

    def open_content(self) -> MemorySink:
        self._raise("open_content")
        self.sinks.append(MemorySink(self.sink_fails))
        return self.sinks[-1]

    def accept(
        self, session: SessionFacts, envelope: Envelope, content: ReceivedContent, done: Callable[[Reply], None]
    ) -> None:
        self._raise("accept")
        self.mails.append((session, envelope, content))
        if self.answer is None:
            self.waiting.append(done)
        else:
            done(self.answer)
