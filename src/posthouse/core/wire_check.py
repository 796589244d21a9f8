"""Looks at a content in wire form while it is written: nothing in it may end it early or be read as another line end.

Standards: RFC 5321 sections 2.3.8 and 4.5.2.
"""

from posthouse.core.wire_form import plain_form

_UNFINISHED = (b"\r\n.", b"\r\n", b"\r")
"""What cannot be judged without the octets that follow."""


class NotWireForm(ValueError):
    """A line is not dot-stuffed, or there is a bare CR or LF."""


class WireCheck:
    """Given all octets but the final dot, piece by piece; linear, whatever the pieces are."""

    def __init__(self, header_octets: int) -> None:
        """`header_octets`: how much of the header is kept at most."""
        self._header_octets = header_octets
        self._beginning = bytearray()
        self._in_header = True
        self._tail = b"\r\n"
        """As if a line had ended before the first."""
        self._octets = 0
        self._stuffed = 0

    def pass_on(self, octets: bytes) -> None:
        """Raises NotWireForm."""
        self._octets += len(octets)
        if self._in_header:
            self._gather(octets)
        seen = self._tail + octets
        self._tail = next((end for end in _UNFINISHED if seen.endswith(end)), b"")
        judged = seen[: len(seen) - len(self._tail)]
        lines = judged.count(b"\r\n")
        if not lines == judged.count(b"\r") == judged.count(b"\n"):
            raise NotWireForm("there is a bare CR or LF")
        stuffed = judged.count(b"\r\n..")
        if stuffed != judged.count(b"\r\n."):
            raise NotWireForm("a line is not dot-stuffed")
        self._stuffed += stuffed

    def finish(self) -> bytes:
        """What is to be added to end the last line: CRLF or nothing. Raises NotWireForm."""
        if self._tail == b"\r\n":
            return b""
        self.pass_on(b"\r\n")
        return b"\r\n"

    @property
    def size(self) -> int:
        """Octets so far as RFC 1870 counts them: unstuffed."""
        return self._octets - self._stuffed

    @property
    def header(self) -> bytes:
        """The header section, unstuffed, without the empty line that ends it."""
        return plain_form(bytes(self._beginning), whole=False)

    def _gather(self, octets: bytes) -> None:
        looked = max(0, len(self._beginning) - 3)
        self._beginning += octets[: self._header_octets - len(self._beginning)]
        if self._beginning.startswith(b"\r\n"):
            end = 0
        elif (found := self._beginning.find(b"\r\n\r\n", looked)) >= 0:
            end = found + 2
        else:
            end = self._header_octets
        if end < len(self._beginning) or end == self._header_octets == len(self._beginning):
            del self._beginning[end:]
            self._in_header = False
