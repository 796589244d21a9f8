"""Header fields and bodies that surgery writes. Whatever the arguments, no line ends where none should.

Standards: RFC 5322 section 2.2; RFC 2045 section 6; RFC 2047 section 2; RFC 2183; RFC 2231.
"""

import re
from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from posthouse.core.examination import NAME_LENGTH, CannotEdit

COLUMNS = 76
MIME_VERSION = b"MIME-Version: 1.0\r\n"
_LONGEST = 990
"""Octets of a line that has no blank to be folded at."""
_NAME = re.compile(r"[!-9;-~]{1,70}\Z")
_TYPE = re.compile(r"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+/[!#$%&'*+.^_`{|}~0-9A-Za-z-]+(?:;[ -~]*)?\Z")
_WORD_OCTETS = 45
"""Of UTF-8 in one encoded word: 60 characters of base64 and 12 around them."""
_ESCAPED = re.compile(rb"[^\t !-<>-~]")
_PARAMETER = re.compile(rb"[a-z0-9*_-]{1,60}\Z")
_PRINTABLE = re.compile(rb"[ -~]{1,600}\Z")
_HAZARD = re.compile(rb"\.|--|From ")
_LINE_OCTETS = 57
"""That make a line of base64."""
_PARAMETER_CHARACTERS = 55


def plain_line(text: str) -> str:
    """`text` on one line: white space becomes a blank, other characters without a glyph become `?`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def added_field(name: str, value: str) -> bytes:
    """A header field with CRLF, folded to 76 columns; RFC 2047 where it is not ASCII, or looks as if it were.

    Raises CannotEdit for a name that is none (RFC 5322 section 3.6.8), or one that says how the mail is to be read.
    """
    if not _NAME.match(name):
        raise CannotEdit(f"{plain_line(name)[:80]!r} is no name of a header field.")
    if name.lower().startswith("content-") or name.lower() == "mime-version":
        raise CannotEdit(f"A header field {name} would change how the mail is read.")
    value = plain_line(value).strip()
    words = value.split(" ")
    if not value.isascii() or "=?" in value or any(len(word) > _LONGEST for word in words):
        words = list(_encoded_words(value))
    return _folded(name, words)


def type_fields(declared: str, disposition: str, name: str, encoding: str) -> list[tuple[str, bytes]]:
    """Content-Type, Content-Disposition (if `disposition`) and Content-Transfer-Encoding (if `encoding`): names in
    lower case, whole fields.

    Raises CannotEdit if `declared` is not `type/subtype`, with parameters or without.
    """
    if not _TYPE.match(declared):
        raise CannotEdit(f"{plain_line(declared)[:80]!r} is no media type.")
    name = plain_line(name).strip()[:NAME_LENGTH]
    fields = [("content-type", _folded("Content-Type", _joined([*declared.split("; "), *_parameter("name", name)])))]
    if disposition:
        words = _joined([disposition, *_parameter("filename", name)])
        fields.append(("content-disposition", _folded("Content-Disposition", words)))
    return [*fields, encoding_field(encoding)] if encoding else fields


def encoding_field(encoding: str) -> tuple[str, bytes]:
    """Content-Transfer-Encoding, name and field."""
    return "content-transfer-encoding", _folded("Content-Transfer-Encoding", [encoding])


def with_charset(declared: str, parameters: Iterable[tuple[bytes, bytes]], charset: str) -> bytes:
    """A Content-Type field with another charset; its other parameters stay, as far as they are ASCII."""
    words = [declared, f"charset={charset}"]
    for name, value in parameters:
        if name.partition(b"*")[0] == b"charset" or not _PARAMETER.match(name) or not _PRINTABLE.match(value):
            continue
        text = value.decode("ascii")
        words += [f"{name.decode('ascii')}={text}"] if name.endswith(b"*") else _parameter(name.decode("ascii"), text)
    return _folded("Content-Type", _joined(words))


def base64_body(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Base64 in lines of 76 characters with CRLF between them, none at the end; piece by piece."""
    held = b""
    begun = False
    for piece in pieces:
        held += piece
        whole = len(held) - len(held) % _LINE_OCTETS
        if whole:
            yield _base64_lines(held[:whole], begun)
            begun, held = True, held[whole:]
    if held:
        yield _base64_lines(held, begun)


def quoted_printable(octets: bytes) -> bytes:
    """RFC 2045 section 6.7, CRLF as line ends. No line begins with a dot, with `--` or with `From `, so that the
    result needs no dot-stuffing and holds no delimiter, whatever the text is."""
    lines = []
    for line in octets.split(b"\r\n"):
        coded = _ESCAPED.sub(lambda found: b"=%02X" % found[0][0], line)
        if coded.endswith((b" ", b"\t")):
            coded = coded[:-1] + b"=%02X" % coded[-1]
        lines.append(_soft_lines(coded))
    return b"\r\n".join(lines)


def _soft_lines(coded: bytes) -> bytes:
    """Soft line breaks that cut no `=XX`, and nothing at the start of a line that means something there."""
    if len(coded) <= COLUMNS and not _HAZARD.match(coded):
        return coded
    lines = []
    at = 0
    while at < len(coded):
        if _HAZARD.match(coded, at):
            piece = b"=%02X" % coded[at]
            at += 1
        else:
            piece = b""
        end = at + COLUMNS - 1 - len(piece)
        if end < len(coded) - 1:
            cut = coded.rfind(b"=", end - 2, end)
            end = cut if cut > at else end
        else:
            end = len(coded)
        lines.append(piece + coded[at:end])
        at = end
    return b"=\r\n".join(lines)


def _base64_lines(octets: bytes, begun: bool) -> bytes:
    """`begun`: there are lines before these."""
    lines = [
        b2a_base64(octets[start : start + _LINE_OCTETS], newline=False)
        for start in range(0, len(octets), _LINE_OCTETS)
    ]
    return (b"\r\n" if begun else b"") + b"\r\n".join(lines)


def _folded(name: str, words: Iterable[str]) -> bytes:
    """Folded between words; a word that fits into no line stands where it comes."""
    lines: list[str] = []
    line = f"{name}:"
    for word in words:
        if len(line) + 1 + len(word) > COLUMNS and line.strip() and len(word) < COLUMNS:
            lines.append(line)
            line = ""
        line += f" {word}"
    # A line of blanks alone would be the end of the header for some readers.
    lines = [line for line in (*lines, line) if line.strip()]
    return "\r\n".join(lines).encode() + b"\r\n"


def _encoded_words(value: str) -> Iterator[str]:
    """RFC 2047 section 2: words of at most 75 characters, none of which cuts a character."""
    octets = bytearray()
    for char in value:
        encoded = char.encode()
        if len(octets) + len(encoded) > _WORD_OCTETS:
            yield _encoded_word(bytes(octets))
            octets.clear()
        octets += encoded
    yield _encoded_word(bytes(octets))


def _encoded_word(octets: bytes) -> str:
    return f"=?utf-8?B?{b2a_base64(octets, newline=False).decode()}?="


def _joined(words: list[str]) -> list[str]:
    return [word + ";" for word in words[:-1]] + words[-1:]


def _parameter(name: str, value: str) -> list[str]:
    """A parameter, in several pieces if it is long and not ASCII (RFC 2231 sections 3 and 4)."""
    if not value:
        return []
    if value.isascii():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return [f'{name}="{escaped}"']
    coded = "utf-8''" + quote(value.encode(), safe="")
    if len(coded) <= _PARAMETER_CHARACTERS:
        return [f"{name}*={coded}"]
    pieces: list[str] = []
    while coded:
        cut = coded.rfind("%", _PARAMETER_CHARACTERS - 2, _PARAMETER_CHARACTERS)
        cut = cut if cut > 0 and len(coded) > _PARAMETER_CHARACTERS else _PARAMETER_CHARACTERS
        pieces.append(f"{name}*{len(pieces)}*={coded[:cut]}")
        coded = coded[cut:]
    return pieces
