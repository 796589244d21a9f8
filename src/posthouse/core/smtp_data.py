"""Content of a mail off the wire: DATA until CRLF.CRLF, BDAT by counted octets; both yield one wire form.

Wire form: dot-stuffed, every line ends in CRLF, the whole ends in CRLF.CRLF. A reader is fed whole buffers and
searches them whole, never line by line. Octets that may be the start of something that goes on in the next
buffer (at most `CRLF . CR`) are held back, so that every piece is looked at by itself:

    held + buffer -> piece | new held        a piece never ends inside CRLF, nor between a line end and a dot

The first piece begins with a virtual CRLF, since the first line is the start of a line too.

Only CRLF.CRLF ends DATA. A bare CR or LF makes the content refused (550 5.6.11, read to its end) or is made CRLF,
by `bare_newlines`; whatever was stuffed by the client is unstuffed first and stuffed anew after it, so that no
dot-stuffing hides in what the client took for a line end. NUL octets pass as they are.
Standards: RFC 5321 sections 2.3.8, 4.1.1.4, 4.5.2; RFC 3030; RFC 1870 section 6.
"""

from enum import Enum

from posthouse.core.envelope import too_big
from posthouse.core.smtp_reply import Reply, reply

BARE_NEWLINE = reply(550, "5.6.11", "Bare CR or LF in content (RFC 5321 section 2.3.8)")
HEADER_TOO_LONG = reply(554, "5.6.0", "Header section too long")
_END = b"\r\n.\r\n"
_STARTS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
"""What may be the start of `_END` at the end of a buffer, longest first."""
_LINE_ENDS = (b"\r\n", b"\r")
_FINAL_DOT = b".\r\n"
_STRIDES_FROM = 16 * 1024
"""Octets; a smaller piece is counted as quickly."""


class Newlines(Enum):
    """What a bare CR or LF in content leads to."""

    REFUSE = "refuse"
    NORMALISE = "normalise"


class ContentReader:
    """What DATA and BDAT share. Mutable, for speed; one per content."""

    __slots__ = (
        "_header",
        "_header_limit",
        "_header_octets",
        "_held",
        "_in_header",
        "_max_size",
        "_newlines",
        "_seam",
        "_virtual",
        "ended",
        "fault",
        "normalised",
        "size",
    )

    def __init__(self, max_size: int, header_limit: int, newlines: Newlines) -> None:
        self.ended = False
        """The whole content has been read."""
        self.fault: Reply | None = None
        """Why the content is refused; the rest is read and thrown away."""
        self.size = 0
        """Octets unstuffed, without the final dot (RFC 1870)."""
        self.normalised = 0
        """How many bare CR or LF were made CRLF."""
        self._max_size = max_size
        self._header_limit = header_limit
        self._newlines = newlines
        self._held = b"\r\n"
        self._virtual = 2
        """Octets of the virtual CRLF at the start of the next piece."""
        self._in_header = True
        self._header: list[bytes] = []
        self._header_octets = 0
        self._seam = b"\r\n"
        """The last two octets before the next piece, while the end of the header section is looked for."""

    @property
    def header(self) -> bytes:
        """The header section, unstuffed, without the empty line that ends it."""
        return self._header[0] if len(self._header) == 1 else b"".join(self._header)

    def refuse(self, fault: Reply) -> None:
        """Throws away the rest of the content and answers `fault` at its end."""
        if self.fault is None:
            self.fault = fault
        self._header.clear()
        self._in_header = False

    def _wire(self, piece: bytes, stuffed: bool) -> bytes:
        """The wire form of a piece that begins with `_virtual` octets not to be kept.

        `stuffed`: the piece is as DATA carries it, else as BDAT does.
        """
        skip, self._virtual = self._virtual, 0
        dots = piece.count(b"\r\n.") if b"." in piece else 0
        bare = _bare_newlines(piece)
        if not bare and (not dots or (stuffed and dots == piece.count(b"\r\n.."))):
            wire = piece[skip:] if skip else piece
            if self._in_header:
                plain = piece.replace(b"\r\n..", b"\r\n.")[skip:] if dots else wire
                self._scan_header(plain)
            self.size += len(wire) - dots
        else:
            plain = piece.replace(b"\r\n.", b"\r\n") if stuffed and dots else piece
            if bare:
                if self._newlines is Newlines.REFUSE:
                    self.refuse(BARE_NEWLINE)
                    return b""
                self.normalised += bare
                plain = plain.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            wire = plain.replace(b"\r\n.", b"\r\n..")[skip:]
            if self._in_header:
                self._scan_header(plain[skip:])
            self.size += len(plain) - skip
        if self.size > self._max_size:
            self.refuse(too_big(self._max_size))
        return b"" if self.fault is not None else wire

    def _scan_header(self, plain: bytes) -> None:
        """Keeps the header section until the empty line."""
        if self._seam == b"\r\n" and plain.startswith(b"\r\n"):
            self._in_header = False
            return
        at = plain.find(b"\r\n\r\n")
        if at >= 0:
            plain = plain[: at + 2]
            self._in_header = False
        elif plain:
            self._seam = plain[-2:]
        self._header.append(plain)
        self._header_octets += len(plain)
        if self._header_octets > self._header_limit:
            self.refuse(HEADER_TOO_LONG)

    def _split_held(self, buffer: bytes, starts: tuple[bytes, ...]) -> bytes:
        """The piece that can be looked at now; keeps the rest for the next buffer."""
        for start in starts:
            if buffer.endswith(start):
                self._held = buffer[-len(start) :]
                return buffer[: -len(start)]
        if self._newlines is Newlines.NORMALISE and buffer.endswith(b"\n"):
            self._held = b"\n"
            return buffer[:-1]
        self._held = b""
        return buffer


class DataReader(ContentReader):
    """Content of DATA, from the first octet after our 354."""

    __slots__ = ()

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Reads `data` from `start`; returns content in wire form (may be empty) and where it stopped.

        It stops before the end of `data` only when the content has ended. After a fault nothing is returned.
        """
        held = self._held
        if self._virtual and held == b"\r\n" and not data.startswith(b".", start):
            self._virtual = 0  # no dot to look at: spares a copy of the usual case
            held = b""
        buffer = held + data[start:] if held or start else data
        end = buffer.find(_END) if b"." in buffer else -1
        if end < 0:
            stop = len(data)
            piece = self._split_held(buffer, _STARTS)
        else:
            stop = len(data) - (len(buffer) - end - len(_END))
            piece = buffer[: end + 2]
            self.ended = True
        if self.fault is not None:
            return b"", stop
        wire = self._wire(piece, True) if piece or self.ended else b""
        if self.ended and self.fault is None:
            wire += _FINAL_DOT
        return wire, stop


class BdatReader(ContentReader):
    """Content of one or more BDAT commands."""

    __slots__ = ("_last", "remaining")

    def __init__(self, max_size: int, header_limit: int, newlines: Newlines) -> None:
        super().__init__(max_size, header_limit, newlines)
        self._last = False
        self.remaining = 0
        """Octets of the present BDAT still to come."""

    def begin(self, octets: int, last: bool) -> None:
        """A BDAT command: so many octets follow."""
        self.remaining = octets
        self._last = last

    def feed(self, data: bytes, start: int) -> tuple[bytes, int]:
        """As `DataReader.feed`; stops where the present BDAT ends, and ends the content there if it is the last."""
        stop = min(len(data), start + self.remaining)
        self.remaining -= stop - start
        ending = self._last and not self.remaining
        if self.fault is not None:
            self.ended = ending
            return b"", stop
        buffer = self._held + data[start:stop]
        if ending:
            self.ended = True
            self._held = b""
            piece = buffer
            if not piece.endswith((b"\r", b"\n")):
                piece += b"\r\n"
        else:
            piece = self._split_held(buffer, _LINE_ENDS)
        wire = self._wire(piece, False) if piece or self.ended else b""
        if self.ended and self.fault is None:
            wire += _FINAL_DOT
        return wire, stop


def _bare_newlines(piece: bytes) -> int:
    """How many CR and LF are not of a pair."""
    if len(piece) < _STRIDES_FROM:
        return piece.count(b"\r") + piece.count(b"\n") - 2 * piece.count(b"\r\n")
    if _paired_in_strides(piece):
        return 0
    # A header section or a boundary in it: looked at in halves, what is before and after it is quick again.
    middle = len(piece) // 2
    if piece[middle - 1 : middle + 1] == b"\r\n":
        middle += 1
    return _bare_newlines(piece[:middle]) + _bare_newlines(piece[middle:])


def _paired_in_strides(piece: bytes) -> bool:
    """Whether all lines but the first and the last are of one length, as base64 has them, and no CR or LF is in one.

    Ten times as quick as counting, of which a large attachment consists otherwise.
    """
    first = piece.find(b"\r\n")
    stride = piece.find(b"\r\n", first + 2) - first
    if first < 0 or stride < 0 or len(piece[first : first + 8 * stride : stride].strip(b"\r")):
        return False  # the next few lines tell already
    returns = piece[first::stride]
    count = len(returns)
    if returns != b"\r" * count or piece[first + 1 :: stride] != b"\n" * count:
        return False
    rest = bytearray(piece)
    rest[first::stride] = rest[first + 1 :: stride] = bytes(count)
    return b"\r" not in rest and b"\n" not in rest
