"""Octets of others as a download: never shown, never run, and with a name that cannot break the header.

Standards: RFC 6266 section 4.3 (Content-Disposition); RFC 8187 section 3.2 (names beyond ASCII).
"""

from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import quote

from starlette.responses import StreamingResponse

from posthouse.ports import ContentUnreadable, SecretUnreadable
from posthouse.web.problems import Problem

_LONGEST = 150
DOWNLOAD: dict[str, object] = {
    "description": "The octets, as an attachment",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
"""For OpenAPI."""


def download(octets: Iterator[bytes], name: str) -> StreamingResponse:
    """`octets` is iterated in a thread; if it raises, the answer ends before its end."""
    headers = {
        "Content-Disposition": disposition(name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "no-store",
    }
    return StreamingResponse(octets, media_type="application/octet-stream", headers=headers)


def begun(octets: Iterator[bytes]) -> Iterator[bytes]:
    """The same, its first piece read already: what cannot be read at all is told while that is possible.

    Raises Problem 503.
    """
    try:
        first = next(octets, b"")
    except (ContentUnreadable, SecretUnreadable) as error:
        raise unreadable(error) from error
    return _after(first, octets)


def disposition(name: str) -> str:
    """Of a Content-Disposition field."""
    cut = "".join(char if char.isprintable() and char not in '/\\:*?"<>|%' else "_" for char in name)[:_LONGEST]
    cut = cut.strip(". ") or "part"
    ascii_only = "".join(char if char.isascii() else "_" for char in cut)
    told = f'attachment; filename="{ascii_only}"'
    return told if cut == ascii_only else f"{told}; filename*=UTF-8''{quote(cut.encode('utf-8', 'replace'), safe='')}"


def unreadable(why: Exception) -> Problem:
    """503: it may be that only this node cannot."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"The content cannot be had: {why}.")


def _after(first: bytes, octets: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from octets
