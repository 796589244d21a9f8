"""Edits carried out on whole contents, as the examiner does it, and what is left of their parts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP

from posthouse.core.examination import Edit, ExaminationLimits, Place
from posthouse.core.mime.part import Part
from posthouse.core.mime.surgery import edit
from posthouse.core.mime.tree import tree
from posthouse.core.mime.wire import unstuffed
from support.contents import stuffed

LIMITS = ExaminationLimits()


@dataclass(frozen=True)
class File:
    """A file beside the edits, read in pieces."""

    octets: bytes
    piece: int = 1000

    @property
    def size(self) -> int:
        return len(self.octets)

    def pieces(self) -> Iterator[bytes | memoryview]:
        for start in range(0, len(self.octets), self.piece):
            yield memoryview(self.octets)[start : start + self.piece]


class Made:
    """What the examiner makes, in memory."""

    def __init__(self) -> None:
        self.octets = bytearray(b"made before")

    def __call__(self, pieces: Iterable[bytes]) -> Place:
        start = len(self.octets)
        for piece in pieces:
            self.octets += piece
        return Place(True, start, len(self.octets))


def materialised(wire: bytes, made: bytes | bytearray, pieces: Iterable[Place | bytes]) -> bytes:
    """The octets that the pieces name."""
    return b"".join(
        piece if isinstance(piece, bytes) else bytes((made if piece.made else wire)[piece.start : piece.end])
        for piece in pieces
    )


def edited_wire(wire: bytes, edits: Iterable[Edit], files: Iterable[bytes] = ()) -> bytes:
    """The new content in wire form, without the final dot; AssertionError if it is not in wire form."""
    plain = unstuffed(wire)
    made = Made()
    pieces = edit(plain, tree(plain.octets, LIMITS), list(edits), [File(one) for one in files], made).pieces
    new = materialised(wire, made.octets, pieces)
    assert not new or new.endswith(b"\r\n")
    for line in new.split(b"\r\n"):
        assert line[:1] != b"." or line[:2] == b"..", line
    if b"\r" not in wire.replace(b"\r\n", b"") and b"\n" not in wire.replace(b"\r\n", b""):
        assert b"\r" not in new.replace(b"\r\n", b"")
        assert b"\n" not in new.replace(b"\r\n", b"")
    return new


def edited(content: bytes, *edits: Edit, files: Iterable[bytes] = ()) -> bytes:
    """The new plain content."""
    assert not content or content.endswith(b"\r\n")
    return unstuffed(edited_wire(stuffed(content) + b".\r\n", edits, files)).octets


def parts(octets: bytes) -> Iterator[Part]:
    """All parts as most readers see them, the root first."""
    todo = [tree(octets, LIMITS)]
    while todo:
        part = todo.pop()
        yield part
        todo += reversed(part.parts)


def part_octets(octets: bytes) -> dict[str, bytes]:
    """Header and body of each leaf, by path."""
    return {part.path: octets[part.start : part.end] for part in parts(octets) if not part.parts}


def parsed(octets: bytes) -> EmailMessage:
    """By Python's `email`, as a second opinion."""
    message = message_from_bytes(octets, policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def child(octets: bytes, number: int) -> EmailMessage:
    """A part of the root, by Python's `email`."""
    part = list(parsed(octets).iter_parts())[number]
    assert isinstance(part, EmailMessage)
    return part


def decoded(part: Message) -> bytes:
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return octets


def leaves(message: Message) -> list[tuple[str, bytes]]:
    """Type and decoded octets of each leaf, by Python's `email`."""
    found = []
    for part in message.walk():
        if not part.is_multipart():
            found.append((part.get_content_type(), decoded(part)))
    return found
