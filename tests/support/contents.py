"""Contents that a relay may easily spoil, and what stands in front of them when they arrive."""

import random
import re

_FIELD = re.compile(rb"([!-9;-~]+):[^\r\n]*\r?\n(?:[ \t][^\r\n]*\r?\n)*")
_OUR_RECEIVED = re.compile(
    rb"Received: (?:[^\r\n]|\r?\n[ \t])*?\bby mx\.test\b(?:[^\r\n]|\r?\n[ \t])*?\bid ([0-9A-Za-z._-]+)"
)


def awkward(subject: str = "awkward", lines: int = 0) -> bytes:
    """A content with dots, blank lines, 8-bit octets, tabs, trailing blanks and a line of 998 octets; then `lines`
    further lines of 80 octets from a fixed seed. Ends in CRLF."""
    noise = random.Random(lines)
    parts = [
        b"Subject: " + subject.encode() + b"\r\n",
        b"Message-ID: <" + subject.encode() + b"@content.test>\r\n",
        b"X-Folded: one\r\n\ttwo  \r\n three\r\n",
        b"From: a@sender.test\r\nTo: b@ours.example\r\n\r\n",
        b".\r\n..\r\n...\r\n.leading dot\r\n",
        b"\r\n\r\ntrailing blanks \t \r\n",
        b"8bit \xe4\xf6\xfc\xff\x80 utf-8 \xc3\xa4\r\n",
        b"From the start of a line\r\n",
        b"l" * 998 + b"\r\n",
    ]
    parts += [noise.randbytes(39).hex().encode() + b"\r\n" for _ in range(lines)]
    parts.append(b"last line, then one that is empty\r\n\r\n")
    return b"".join(parts)


def stuffed(content: bytes) -> bytes:
    """As a client sends it, less the final dot: lines that begin with a dot get another (RFC 5321 4.5.2)."""
    return re.sub(rb"(^|\r\n)\.", rb"\1..", content)


def fields_in_front(arrived: bytes, content: bytes) -> list[str]:
    """Names of the header fields put before `content`. AssertionError if it did not arrive octet for octet."""
    assert arrived.endswith(content), (len(arrived), len(content), arrived[:2000], arrived[-300:])
    names, at, end = [], 0, len(arrived) - len(content)
    while at < end:
        field = _FIELD.match(arrived, at, end)
        assert field, arrived[at:end]
        names.append(field[1].decode())
        at = field.end()
    return names


def queue_id(arrived: bytes) -> str:
    """The mail's id in our own Received field."""
    found = _OUR_RECEIVED.search(arrived)
    assert found, arrived[:1000]
    return found[1].decode()
