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
