"""An SMTP reply: code, enhanced status code, text; and the parser that reads replies off the wire.

Standards: RFC 5321 section 4.2; RFC 3463; RFC 2034.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z")
_LINE_SHOWN = 200
"""Characters of a malformed line that go into the fault."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; `lines` hold the text without codes. `status` is `5.7.1` or empty."""

    code: int
    lines: tuple[str, ...]
    status: str = ""

    @property
    def text(self) -> str:
        """`550 5.7.1 No policy for recipient`: one line for logs, trail and people."""
        head = f"{self.code} {self.status} " if self.status else f"{self.code} "
        return head + " / ".join(self.lines)

    def encode(self) -> bytes:
        """Octets on the wire; the enhanced status code on every line (RFC 2034 section 4)."""
        status = f"{self.status} " if self.status else ""
        last = len(self.lines) - 1
        if last == 0:
            return f"{self.code} {status}{self.lines[0]}\r\n".encode()
        return "".join(
            f"{self.code}{' ' if i == last else '-'}{status}{line}\r\n" for i, line in enumerate(self.lines)
        ).encode("utf-8")


def reply(code: int, status: str, text: str) -> Reply:
    """A one-line reply."""
    return Reply(code, (text,), status)


class ReplyParser:
    """Replies out of octets in any chunking.

    Lenient where servers are sloppy (LF alone ends a line, text may be absent, any text encoding), strict where
    a mistake would shift replies against commands: three digits from 200 to 599, then blank, hyphen or nothing,
    one code throughout a reply, `limit` octets at most for all lines of a reply. What breaks that sets `fault`
    (one sentence) for good; replies before it are still returned, octets after it are not read.
    Control characters in texts become `?`, so that no log, trail or DSN can be spoilt by them.
    """

    __slots__ = ("_code", "_limit", "_lines", "_octets", "_partial", "fault")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial: list[bytes] = []
        """An unfinished line."""
        self._octets = 0
        """Of the reply so far, unfinished line included."""
        self._lines: list[str] = []
        self._code = 0
        self.fault = ""

    @property
    def amid(self) -> bool:
        """A reply has begun and is not finished."""
        return bool(self._partial or self._lines)

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that `octets` complete."""
        replies: list[Reply] = []
        if self.fault:
            return replies
        lines = octets.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if not self._octets and len(line) < self._limit and (known := _single(line)) is not None:
                replies.append(known)
                continue
            if self._partial:
                self._octets += len(line) + 1
                self._partial.append(line)
                line = b"".join(self._partial)
                self._partial.clear()
            else:
                self._octets += len(line) + 1
            if self._octets > self._limit or not self._take(line, replies):
                break
        else:
            if rest:
                self._partial.append(rest)
                self._octets += len(rest)
        if self._octets > self._limit and not self.fault:
            self.fault = f"reply of more than {self._limit} octets"
        return replies

    def _take(self, line: bytes, replies: list[Reply]) -> bool:
        """One line without LF; False when it is malformed."""
        code = line[:3]
        mark = line[3:4]
        if not (code.isdigit() and b"200" <= code <= b"599" and mark in (b" ", b"-", b"\r", b"")):
            self.fault = f"malformed reply {_printable(line[:_LINE_SHOWN].decode('utf-8', 'replace').rstrip())!r}"
            return False
        text = line[4:].rstrip(b"\r").decode("utf-8", "replace")
        if not text.isprintable():
            text = _printable(text)
        number = int(code)
        if self._lines and number != self._code:
            self.fault = f"malformed reply: {self._code} and {number} in one"
            return False
        if mark == b"-":
            self._code = number
            self._lines.append(text)
            return True
        if self._lines:
            lines = (*self._lines, text)
            self._lines.clear()
        else:
            lines = (text,)
        replies.append(_with_status(number, lines))
        self._octets = 0
        return True


@lru_cache(maxsize=512)
def _single(line: bytes) -> Reply | None:
    """A reply of one well-formed line, else None; servers say the same few things again and again."""
    if len(line) > _LINE_SHOWN or line[3:4] != b" " or not (line[:3].isdigit() and b"200" <= line[:3] <= b"599"):
        return None
    text = line[4:].rstrip(b"\r").decode("utf-8", "replace")
    return _with_status(int(line[:3]), (text if text.isprintable() else _printable(text),))


def _with_status(code: int, lines: tuple[str, ...]) -> Reply:
    """Takes the enhanced status code off the lines; its class is that of the reply code (RFC 2034 section 4:
    they agree; where a server lets them disagree, the reply code is what it means)."""
    given, _, text = lines[0].partition(" ")
    if 300 <= code <= 399 or not _STATUS.match(given):
        return Reply(code, lines)
    if len(lines) == 1:
        lines = (text.lstrip(" "),)
    else:
        lines = tuple([line.removeprefix(given).lstrip(" ") if _begins(line, given) else line for line in lines])
    return Reply(code, lines, f"{code // 100}{given[1:]}")


def _begins(line: str, status: str) -> bool:
    return line == status or line.startswith(status + " ")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
