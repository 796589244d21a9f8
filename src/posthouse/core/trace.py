"""Trace fields: our Received field, the count of those before it, spoofed verdict fields, one field for people.

The functions that read take a header section as `ports.ReceivedContent.header` has it: unstuffed, every line
ending in CRLF, without the empty line that ends it. They search it whole, never line by line.
Standards: RFC 5321 sections 4.4 and 6.3; RFC 3848; RFC 6531 section 3.7.3; RFC 8601 section 2.2.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.header import decode_header
from functools import lru_cache

from posthouse.core.envelope import SessionFacts

MAX_VALUE = 2000
"""Characters of a field's value that people get to see."""
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HELO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z|\[[0-9A-Za-z.:]+\]\Z")
_NOT_COMMENT = re.compile(r"[^A-Za-z0-9._:/+= \[\]-]")
_VERDICTS = (b"x-metadefender-", b"x-md-")
_RESULTS = b"authentication-results"


def received_field(session: SessionFacts, hostname: str, mail_id: str, recipients: Sequence[str], at: float) -> bytes:
    """Our Received field, CRLF-terminated, folded so that no line exceeds 998 octets; `at` is epoch seconds.

    `for` is given only to a single recipient, so that no recipient learns of another.
    """
    address = session.client_address
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    if _HELO.match(session.helo):
        source = f"{session.helo} ({literal})"
    else:
        source = f"{literal} (HELO {_comment(session.helo)})" if session.helo else literal
    lines = [
        f"Received: from {source}",
        f"by {hostname} (posthouse) with {session.protocol} id {mail_id}",
    ]
    if session.tls:
        lines.append(f"({_comment(session.tls)})")
    if len(recipients) == 1:
        lines.append(f"for <{recipients[0]}>")
    return f"{_FOLD.join(lines)};{_FOLD}{_date(int(at))}\r\n".encode()


_FOLD = "\r\n\t"


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    """RFC 5322 date-time; the cache serves every mail of the same second."""
    moment = _EPOCH + timedelta(seconds=second)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day} {_MONTHS[moment.month - 1]} {moment.year} "
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02} +0000"
    )


def _comment(text: str) -> str:
    """Text of others that may stand in a comment: no parenthesis, quote or control character survives."""
    return _NOT_COMMENT.sub("?", text[:255])


def count_received(header: bytes) -> int:
    """How many Received fields there are (RFC 5321 section 6.3)."""
    return sum(1 for _ in _fields(header, header.lower(), b"received"))


def header_value(header: bytes, name: str) -> str:
    """The first field of that name as people read it: unfolded, decoded, one line, cut; empty if there is none.

    Never raises; what cannot be decoded shows as it is.
    """
    for start, end in _fields(header, header.lower(), name.lower().encode()):
        raw = header[start:end]
        text = raw[raw.index(b":") + 1 :][: 4 * MAX_VALUE].decode("utf-8", "replace")
        text = text.replace("\r\n", "")
        if "=?" in text:
            text = _decoded(text)
        if not text.isprintable():
            text = "".join(char if char.isprintable() else " " for char in text)
        return text.strip()[:MAX_VALUE]
    return ""


def _decoded(text: str) -> str:
    """RFC 2047 encoded words; the standard library raises many kinds of errors for hostile ones."""
    try:
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "ascii", "replace")
            for part, charset in decode_header(text)
        )
    except Exception:
        return text


def spoofed_fields(header: bytes, hostname: str) -> tuple[tuple[int, int], ...]:
    """Fields that only we may write: `X-Metadefender-*`, `X-MD-*`, and `Authentication-Results` with our id.

    Half-open octet ranges, whole lines with their continuations, sorted and disjoint, **of the wire form**:
    a line that begins with a dot is one octet longer there, and these are added. So they serve as
    `Content.cuts` although `header` is unstuffed.
    """
    low = header.lower()
    ranges: list[tuple[int, int]] = []
    for prefix in _VERDICTS:
        ranges += _lines(low, prefix)
    if _RESULTS in low:
        ours = hostname.lower().rstrip(".").encode()
        ranges += [
            (start, end)
            for start, end in _fields(header, low, _RESULTS)
            if _authserv_id(low[low.index(b":", start) + 1 : end]) == ours
        ]
    if not ranges:
        return ()
    ranges.sort()
    first = 1 if header.startswith(b".") else 0
    return tuple(
        (start + dots, end + dots) for start, end in ranges for dots in (first + header.count(b"\r\n.", 0, start),)
    )


def _lines(low: bytes, prefix: bytes) -> list[tuple[int, int]]:
    """Ranges of the fields whose line begins with `prefix`."""
    found = [(0, _field_end(low, 0))] if low.startswith(prefix) else []
    needle = b"\r\n" + prefix
    at = low.find(needle)
    while at >= 0:
        end = _field_end(low, at + 2)
        found.append((at + 2, end))
        at = low.find(needle, end - 2)
    return found


def _fields(header: bytes, low: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    """Ranges of the fields of exactly that name; blanks before the colon are the obsolete form (RFC 5322 4.5)."""
    for start, end in _lines(low, name):
        if header[start + len(name) : end].lstrip(b" \t")[:1] == b":":
            yield start, end


def _field_end(header: bytes, start: int) -> int:
    """Where the field that starts at `start` ends: after the CRLF that no blank follows."""
    at = header.find(b"\r\n", start)
    while at >= 0 and header[at + 2 : at + 3] in (b" ", b"\t"):
        at = header.find(b"\r\n", at + 2)
    return len(header) if at < 0 else at + 2


def _authserv_id(value: bytes) -> bytes:
    """The authserv-id of a lower-cased Authentication-Results value: after comments, a token or quoted string."""
    depth = 0
    at = 0
    while at < len(value):
        octet = value[at]
        if octet == 0x5C and depth:
            at += 1
        elif octet == 0x28:
            depth += 1
        elif octet == 0x29 and depth:
            depth -= 1
        elif not depth and octet not in b" \t\r\n":
            break
        at += 1
    rest = value[at : at + 1024]
    if rest.startswith(b'"'):
        closing = re.match(rb'"((?:[^"\\]|\\.)*)"', rest, re.DOTALL)
        token = re.sub(rb"\\(.)", rb"\1", closing.group(1), flags=re.DOTALL) if closing else rest[1:]
    else:
        token = re.split(rb"[ \t\r\n;(]", rest, maxsplit=1)[0]
    return token.strip().rstrip(b".")
