"""How the two ends of an examiner's socket speak: a head, a JSON document, octets in band, and descriptors.

One question at a time, one answer to each. The descriptors of a frame come with its first octets (SCM_RIGHTS). The
parent trusts nothing that the child says: each length has a bound.
"""

import array
import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

HEAD = struct.Struct(">III")
"""Octets of the document, octets in band, descriptors."""
DOCUMENT_OCTETS = 16 * 1024 * 1024
IN_BAND_OCTETS = 256 * 1024
"""What is longer goes as a descriptor."""
BAND_OCTETS = 2 * IN_BAND_OCTETS
"""Of one frame: a content and the files beside it."""
DESCRIPTORS = 2
_READ_OCTETS = 256 * 1024


class OutOfForm(ValueError):
    """What came is no frame, or no document, of ours; the text completes "it answered ..."."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    document: bytes
    band: bytes | memoryview = b""
    descriptors: tuple[int, ...] = ()

    def head(self) -> bytes:
        return HEAD.pack(len(self.document), len(self.band), len(self.descriptors))


def document_of(frame: Frame) -> object:
    """The parsed JSON of a frame. Raises OutOfForm."""
    try:
        return json.loads(frame.document)
    except (ValueError, RecursionError) as error:
        raise OutOfForm("what is no JSON") from error


def written(document: object) -> bytes:
    """JSON as it goes into a frame."""
    return json.dumps(document, separators=(",", ":")).encode()


class FrameReader:
    """Puts one frame together from what is read, piece by piece. Octets past its end are out of form."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._length = 0
        """Of the whole frame, once its head is there."""

    @property
    def empty(self) -> bool:
        return not self._buffer and not self._descriptors

    def feed(self, octets: bytes, descriptors: Sequence[int]) -> Frame | None:
        """The frame when it is whole; its descriptors are the caller's then. Raises OutOfForm."""
        self._descriptors += descriptors
        self._buffer += octets
        if len(self._descriptors) > DESCRIPTORS:
            raise OutOfForm("with too many descriptors")
        if not self._length:
            if len(self._buffer) < HEAD.size:
                return None
            document, band, _ = HEAD.unpack_from(self._buffer)
            if document > DOCUMENT_OCTETS or band > BAND_OCTETS:
                raise OutOfForm("more than it may")
            self._length = HEAD.size + document + band
        if len(self._buffer) < self._length:
            return None
        if len(self._buffer) > self._length:
            raise OutOfForm("more than it was asked")
        return self._whole()

    def _whole(self) -> Frame:
        document, _, descriptors = HEAD.unpack_from(self._buffer)
        if descriptors != len(self._descriptors):
            raise OutOfForm("with another number of descriptors than it told")
        view = bytes(self._buffer)
        frame = Frame(view[HEAD.size : HEAD.size + document], view[HEAD.size + document :], tuple(self._descriptors))
        self._buffer, self._descriptors, self._length = bytearray(), [], 0
        return frame

    def leave(self) -> tuple[int, ...]:
        """The descriptors of a frame that never became whole: to be closed."""
        left, self._descriptors = tuple(self._descriptors), []
        return left


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """What is there, with its descriptors (close-on-exec); no octets at the end. Raises OSError, OutOfForm."""
    octets, ancillary, flags, _ = end.recvmsg(
        _READ_OCTETS, socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if flags & socket.MSG_CTRUNC:
        for descriptor in descriptors:
            socket.close(descriptor)
        raise OutOfForm("with too many descriptors")
    return octets, list(descriptors)


def send_some(end: socket.socket, frame: Frame) -> memoryview:
    """Sends the beginning with the descriptors; what is left is to be sent after it. Raises OSError."""
    parts = [frame.head(), frame.document, frame.band]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", frame.descriptors))]
    sent = end.sendmsg(parts, rights if frame.descriptors else [])
    if sent == sum(map(len, parts)):
        return memoryview(b"")
    return memoryview(b"".join(parts))[sent:]
