"""Charsets: text of a mail as characters, whatever the mail says it is.

Source: RFC 2045 section 5.2 (default), IANA's names as Python knows them.
"""

import codecs

_TEXT_ONLY = frozenset(
    {
        *("base64", "bz2", "hex", "quopri", "uu", "zlib", "rot13", "unicodeescape", "rawunicodeescape", "idna"),
        *("punycode", "undefined", "mbcs", "oem", "charmap"),
    }
)
"""Codecs of Python that are no charsets."""
_PLAIN = frozenset({"", "us-ascii", "ascii", "utf-8", "utf8"})


def codec(charset: str) -> str:
    """Python's name of a charset, empty if it knows none."""
    name = charset.strip(" \t'\"").lower()
    if len(name) > 40 or not name.isascii() or "\x00" in name:
        return ""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    return "" if found.replace("-", "").replace("_", "") in _TEXT_ONLY else found


def decoded(octets: bytes, charset: str) -> str | None:
    """The characters, with U+FFFD for what is none; None if the charset is unknown."""
    name = codec(charset)
    if not name:
        return None
    if name in ("utf-16", "utf-32") and marked(octets) not in ("utf-16", "utf-32"):
        # Big-endian without a mark; but many mean the other order.
        name = marked(octets) or f"{name}-be"
    try:
        return octets.decode(name, "replace")
    except (UnicodeError, ValueError, LookupError):
        return None


def recoded(octets: bytes, charset: str) -> bytes | None:
    """The text in UTF-8; None if it is that already (ASCII, UTF-8), or the charset is unknown."""
    charset = marked(octets) or charset
    if charset.strip().lower() in _PLAIN:
        return None
    text = decoded(octets, charset)
    if text is None:
        return None
    made = text.encode("utf-8", "replace")
    return None if made == octets else made


def marked(octets: bytes) -> str:
    """The charset of its byte order mark, empty without one; of UTF-16 without a mark too, if it is plainly that."""
    head = octets[:64]
    for mark, charset in ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
                          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
        if head.startswith(mark):
            return charset
    if len(head) >= 4 and head[1::2].count(0) * 8 > len(head) * 3:
        return "utf-16-le"
    if len(head) >= 4 and head[0::2].count(0) * 8 > len(head) * 3:
        return "utf-16-be"
    return ""


def recodable(head: bytes, charset: str) -> bool:
    """Whether a text that begins so may be something else than ASCII or UTF-8."""
    return charset.strip().lower() not in _PLAIN or bool(marked(head))
