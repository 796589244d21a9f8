"""Content between plain form and wire form (dot-stuffed, CRLF.CRLF at its end).

Standards: RFC 5321 section 4.5.2.
"""


def wire_form(content: bytes) -> bytes:
    """Wire form of plain `content` without bare CR or LF; a last line without CRLF gets one."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if stuffed and not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return stuffed + b".\r\n"


def plain_form(wire: bytes, *, whole: bool = True) -> bytes:
    """Plain content of a wire form; `whole=False`: of its beginning, which has no final dot."""
    if whole:
        wire = wire.removesuffix(b".\r\n")
    plain = wire.replace(b"\r\n..", b"\r\n.")
    return plain[1:] if plain.startswith(b".") else plain


def header_is_ascii(beginning: bytes) -> bool:
    """The header section holds only ASCII, so that it needs no SMTPUTF8 (RFC 6532). `beginning`: of the content."""
    return beginning.isascii() or beginning.partition(b"\r\n\r\n")[0].isascii()


class PlainPieces:
    """`plain_form` of a wire form that comes piece by piece; any dot at the start of a line goes."""

    _HELD = 5
    """Octets at the end that may be the final dot with the CRLF before it."""

    def __init__(self) -> None:
        self._held = b"\r\n"
        """What stands before the first line, as far as dots go; never given out."""
        self._skip = len(self._held)

    def feed(self, piece: bytes) -> bytes:
        """What is plain by now."""
        octets = self._held + piece
        end = max(len(octets) - self._HELD, 0)
        for back in (2, 1):
            # Not in the midst of CRLF and dot.
            if end >= back and octets[end - back : end - back + 3] == b"\r\n.":
                end -= back
                break
        self._held = octets[end:]
        return self._plain(octets[:end])

    def end(self) -> bytes:
        """The rest, without the final dot."""
        octets, self._held = self._held, b""
        if octets.endswith(b"\r\n.\r\n"):
            octets = octets[:-3]
        return self._plain(octets)

    def _plain(self, octets: bytes) -> bytes:
        plain = octets.replace(b"\r\n.", b"\r\n")
        skipped = min(self._skip, len(plain))
        self._skip -= skipped
        return plain[skipped:]
