"""Notices in the body of a text part: where they stand, and in which charset and encoding.

The octets stay and the notice is put between them, if the body is sent as it is (7bit, 8bit) and its charset has the
characters of the notice; else the body is encoded anew, in its own charset or in UTF-8. A body that cannot be read
without doubt takes no notice: `noticed` says so, and the notice needs a part of its own.
Standards: RFC 2045 section 6; RFC 3676 section 4.4 (format=flowed).
"""

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from posthouse.core.examination import AddNotice, Position
from posthouse.core.mime.charset import codec
from posthouse.core.mime.html_place import end_place, head_place
from posthouse.core.mime.written import base64_body, quoted_printable

_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_ASCII_LIKE = frozenset(
    {
        *("ascii", "utf-8", "koi8-r", "koi8-u", "tis-620", "cp437", "cp850", "cp852", "cp855", "cp866", "cp874"),
        *(f"iso8859-{number}" for number in range(1, 17)),
        *(f"cp125{number}" for number in range(9)),
        *(
            "gb2312",
            "gbk",
            "gb18030",
            "big5",
            "big5hkscs",
            "cp950",
            "euc_kr",
            "cp949",
            "euc_jp",
            "shift_jis",
            "cp932",
        ),
    }
)
"""Octets below 128 mean ASCII, and `<` and `>` are never part of another character."""
_OTHERS = frozenset(
    {
        *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-7", "hz"),
        *("iso2022_jp", "iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_3", "iso2022_kr"),
    }
)
_NO_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n|\Z)")
_LONGEST_LINE = 998
_LARGE = 1024 * 1024
"""Octets from which on base64 is used: quoted-printable costs by the line."""
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class TextBody:
    """The body of a text part as it stands in the mail."""

    octets: bytes
    html: bool
    charset: str
    encoding: str
    flowed: bool = False
    """RFC 3676: lines that end in a blank go on in the next one."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """A body with notices: octets put into it, or a new body."""

    put: tuple[tuple[int, bytes], ...] = ()
    """Offset in the old body, octets; ascending."""
    octets: bytes | None = None
    """The new body, encoded; no line begins with a dot, none is a delimiter."""
    encoding: str = ""
    """Of the new body."""
    charset: str = ""
    """Of the new body; empty if it stays."""


def noticed(body: TextBody, notices: Sequence[AddNotice]) -> Noticed | None:
    """The body with all `notices`, those at one position in their order; None if it cannot take them safely."""
    octets = _decoded(body.octets, body.encoding)
    charset = _codec(body.charset)
    if octets is None or charset is None:
        return None
    if charset in _OTHERS:
        return _recoded(body, octets, charset, notices)
    newline = _newline(b"\n" in octets, b"\r\n" in octets)
    mark = len(_UTF8_MARK) if octets.startswith(_UTF8_MARK) else 0
    places = _places(octets.decode("latin-1"), mark) if body.html else (mark, len(octets))
    ends_line = octets.endswith(b"\n") or len(octets) == mark
    put = []
    for place, text in zip(places, _blocks(body, notices, newline, len(octets) > mark, ends_line), strict=True):
        try:
            coded = text.encode(charset)
        except UnicodeEncodeError:
            return _recoded(body, octets, charset, notices)
        if coded:
            put.append((place, coded))
    put.sort(key=lambda entry: entry[0])
    if body.encoding in _AS_IT_IS and _fits(octets, put, body.encoding):
        return Noticed(put=tuple(put))
    return _encoded(_spliced(octets, put), body.encoding)


def _fits(octets: bytes, put: Sequence[tuple[int, bytes]], encoding: str) -> bool:
    """No line is too long or could be a delimiter, and there is nothing of 8 bits where nothing was before."""
    ascii_only = encoding != "8bit" and encoding != "binary" and octets.isascii()
    for place, coded in put:
        lines = coded.split(b"\r\n")
        if any(len(line) > _LONGEST_LINE or line.startswith(b"--") for line in lines) or b"\n" in b"".join(lines):
            return False
        if octets.startswith(b"--", place) or (ascii_only and not coded.isascii()):
            return False
    return True


def _recoded(body: TextBody, octets: bytes, charset: str, notices: Sequence[AddNotice]) -> Noticed | None:
    """In the same charset if it has all characters and gives the old text back as it was, else in UTF-8."""
    try:
        text = octets.decode(charset)
    except UnicodeError:
        return None
    newline = _newline("\n" in text, "\r\n" in text)
    mark = 1 if text.startswith("\ufeff") else 0
    places = _places(text, mark) if body.html else (mark, len(text))
    ends_line = text.endswith("\n") or len(text) == mark
    blocks = _blocks(body, notices, newline, len(text) > mark, ends_line)
    put = sorted(zip(places, blocks, strict=True), key=lambda entry: entry[0])
    (first, one), (second, two) = put
    new = text[:first] + one + text[first:second] + two + text[second:]
    try:
        if text.encode(charset) == octets:
            return _encoded(new.encode(charset), body.encoding)
    except UnicodeError:
        pass
    return _encoded(new.encode(), body.encoding, charset="utf-8")


def _encoded(octets: bytes, encoding: str, charset: str = "") -> Noticed:
    if encoding == "base64" or len(octets) > _LARGE:
        return Noticed(octets=b"".join(base64_body((octets,))), encoding="base64", charset=charset)
    return Noticed(octets=quoted_printable(octets), encoding="quoted-printable", charset=charset)


def _places(html: str, mark: int) -> tuple[int, int]:
    return max(mark, head_place(html)), max(mark, end_place(html))


def _blocks(
    body: TextBody, notices: Sequence[AddNotice], newline: str, any_text: bool, ends_line: bool
) -> tuple[str, str]:
    """What is put at head and end, with the line ends that keep it apart from the text and from the other."""
    head = [notice for notice in notices if notice.position is Position.HEAD]
    end = [notice for notice in notices if notice.position is Position.END]
    if body.html:
        return _html(head, newline), _html(end, newline)
    before, behind = _text(body, head, newline), _text(body, end, newline)
    if before and any_text:
        before += newline
    if behind and (any_text or before):
        behind = ("" if ends_line else newline) + newline + behind
    return before, behind


def _html(notices: Sequence[AddNotice], newline: str) -> str:
    """In ASCII: HTML can name every other character, whatever its charset."""
    lines = [line for notice in notices for line in _clean(notice.html).strip().splitlines()]
    lines = [line.encode("ascii", "xmlcharrefreplace").decode("ascii") for line in lines]
    return newline + newline.join(lines) + newline if lines else ""


def _text(body: TextBody, notices: Sequence[AddNotice], newline: str) -> str:
    return newline.join(newline.join([*text_lines(one.text, flowed=body.flowed), ""]) for one in notices)


def text_lines(text: str, *, flowed: bool = False) -> list[str]:
    """The lines of a notice as they stand in a text."""
    lines = _clean(text).strip("\n").splitlines()
    if not flowed:
        return lines
    stripped = [line.rstrip(" ") for line in lines]
    return [f" {line}" if line.startswith((" ", ">", "From ")) else line for line in stripped]


def _newline(any_line: bool, standard: bool) -> str:
    return "\n" if any_line and not standard else "\r\n"


def _spliced(octets: bytes, put: Sequence[tuple[int, bytes]]) -> bytes:
    pieces = []
    at = 0
    for place, coded in put:
        pieces += [octets[at:place], coded]
        at = place
    return b"".join([*pieces, octets[at:]])


def _decoded(octets: bytes, encoding: str) -> bytes | None:
    """Without the encoding; None if readers may differ on it."""
    if encoding in _AS_IT_IS:
        return octets
    if encoding == "base64":
        try:
            return binascii.a2b_base64(octets.translate(None, b"\r\n\t "), strict_mode=True)
        except binascii.Error:
            return None
    if encoding == "quoted-printable":
        return None if _NO_ESCAPE.search(octets) else binascii.a2b_qp(octets)
    return None


def _codec(charset: str) -> str | None:
    """Its name in Python, if it is one of those that we write."""
    name = codec(charset)
    return name if name in _ASCII_LIKE or name in _OTHERS else None


def _clean(text: str) -> str:
    """Without control characters and lone surrogates, which no charset of mail has."""
    if text.isprintable():
        return text
    return _CONTROL.sub("?", text)


def like_ascii(charset: str) -> bool:
    """Octets below 128 mean ASCII in it."""
    return codec(charset) in _ASCII_LIKE
