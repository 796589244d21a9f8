"""Name to addresses, address to connection; what the network says to it as sentences, once for delivery and TEST."""

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import TypeVar

from posthouse.clients.smtp_connection import SmtpConnection

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of this machine that say nothing about the server."""
_SENTENCES = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EMFILE: "too many open files here",
    errno.ENFILE: "too many open files here",
    errno.EADDRNOTAVAIL: "no free local port",
}
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

Connection = TypeVar("Connection", bound=SmtpConnection)


class NoConnection(Exception):
    """The text is one sentence; `blame`: it is the server's fault."""

    def __init__(self, why: str, status: str = "4.4.1", blame: bool = True) -> None:
        super().__init__(why)
        self.status = status
        self.blame = blame


async def resolve(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host, in the order in which they are tried. Raises NoConnection."""
    if _is_address(host):
        return [host]
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise NoConnection("name not resolved in time", "4.4.3") from error
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno not in _UNKNOWN_NAME:
            raise NoConnection("name cannot be resolved at present", "4.4.3") from error
        raise NoConnection("name not found", "4.4.4") from error
    except OSError as error:
        raise NoConnection(sentence_of(error), blame=error.errno not in _OURS) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def connect(
    factory: Callable[[], Connection], address: str, port: int, seconds: float, *, told_seconds: float
) -> Connection:
    """A connection to one address. Raises NoConnection; `told_seconds` is the time that its sentence tells."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            transport, connection = await asyncio.get_running_loop().create_connection(factory, address, port)
    except TimeoutError as error:
        raise NoConnection(f"no answer to connect within {told_seconds:g} s") from error
    except OSError as error:
        raise NoConnection(sentence_of(error), blame=error.errno not in _OURS) from error
    if (connected := transport.get_extra_info("socket")) is not None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connected(end_of(*connected.getsockname()[:2]), end_of(address, port))
    return connection


def end_of(address: str, port: int) -> str:
    """One end of a connection, for the trail."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@lru_cache(maxsize=1024)
def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def sentence_of(error: OSError) -> str:
    """What the system says of a connection, as people read it."""
    if error.errno in _SENTENCES:
        return _SENTENCES[error.errno]
    return (error.strerror or str(error) or type(error).__name__).lower()
