"""Small pieces of mail that we write ourselves: folded fields, text parts, base64.

Standards: RFC 5322 sections 2.1.1, 2.2.3; RFC 2045 section 6; RFC 2047 section 2.
"""

from binascii import b2a_base64

_WIDTH = 78
_WORD_OCTETS = 42
"""Of one encoded word, which may have 75 characters in all."""
_LONGEST = 900
"""Octets of a line without a blank to fold at; it is broken there by force."""


def one_line(text: str) -> str:
    """`text` on one line: control characters and the like become `?`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def field(name: str, value: str) -> str:
    """A header field with CRLF, folded at blanks to 78 characters where it can be, never above 998 octets."""
    lines: list[str] = []
    line = f"{name}:"
    for word in one_line(value).split():
        while len(word.encode()) > _LONGEST:
            lines.append(line)
            cut = _LONGEST // 4
            line, word = " " + word[:cut], word[cut:]
        if (lines or line != f"{name}:") and len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    return "\r\n".join(lines) + "\r\n"


def encoded_word(text: str) -> str:
    """`text` for a field's value: as it is if ASCII, else as encoded words with a blank between (RFC 2047)."""
    if text.isascii():
        return text
    words, chunk = [], ""
    for char in text:
        if len((chunk + char).encode()) > _WORD_OCTETS:
            words.append(chunk)
            chunk = ""
        chunk += char
    return " ".join(f"=?utf-8?b?{b2a_base64(word.encode(), newline=False).decode()}?=" for word in [*words, chunk])


def encoded_base64(octets: bytes) -> bytes:
    """Base64 in lines of 76 characters, each with CRLF."""
    return b"".join(
        b2a_base64(octets[start : start + 57], newline=False) + b"\r\n" for start in range(0, len(octets), 57)
    )


def encoded_text(text: str, *, utf8: bool) -> tuple[str, str]:
    """Header fields and body of a text/plain part; `utf8`: more than ASCII may stand in it as it is."""
    if text.isascii():
        return "Content-Type: text/plain; charset=us-ascii\r\n", text
    if utf8:
        return "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", text
    header = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n"
    return header, encoded_base64(text.encode()).decode()
