"""Name to addresses, address to connection; what the network says to it as sentences, once for delivery and TEST."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Generic, TypeVar

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
Opened = TypeVar("Opened")


class NoConnection(Exception):
    """The text is one sentence; `blame`: it is the server's fault; `tried`: what each address said."""

    def __init__(self, why: str, status: str = "4.4.1", blame: bool = True) -> None:
        super().__init__(why)
        self.status = status
        self.blame = blame
        self.tried: tuple[str, ...] = ()

    @classmethod
    def refused(cls, error: OSError) -> "NoConnection":
        """What the system said."""
        return cls(sentence_of(error), blame=error.errno not in _OURS)


@dataclass(frozen=True, slots=True)
class FirstConnected(Generic[Opened]):
    """The first of some addresses that could be connected to."""

    connection: Opened
    address: str
    tried: tuple[str, ...]
    """Those before it, each with its sentence."""


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
        raise NoConnection.refused(error) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def connect(
    factory: Callable[[], Connection], port: int, address: str, seconds: float, *, told_seconds: float | None = None
) -> Connection:
    """A connection to one address. Raises NoConnection; `told_seconds` is the time that its sentence tells, if it is
    not `seconds`."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            transport, connection = await asyncio.get_running_loop().create_connection(factory, address, port)
    except TimeoutError as error:
        raise no_answer(seconds if told_seconds is None else told_seconds) from error
    except OSError as error:
        raise NoConnection.refused(error) from error
    if (connected := transport.get_extra_info("socket")) is not None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connected(end_of(*connected.getsockname()[:2]), end_of(address, port))
    return connection


def no_answer(seconds: float) -> NoConnection:
    """Nobody answered to connect."""
    return NoConnection(f"no answer to connect within {round(seconds, 1):g} s")


async def first_connected(
    addresses: Sequence[str], open_one: Callable[[str, float], Awaitable[Opened]], seconds: float
) -> FirstConnected[Opened]:
    """Tries the addresses in order; each gets an equal share of the time that is left.

    `open_one` takes an address and its share in seconds and raises NoConnection; what the last one raised is raised
    here where none can be connected to.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    failure = NoConnection("name not found", "4.4.4")
    tried: list[str] = []
    for index, address in enumerate(addresses):
        share = max(0.0, end - loop.time()) / (len(addresses) - index)
        try:
            return FirstConnected(await open_one(address, share), address, tuple(tried))
        except NoConnection as error:
            failure = error
            tried.append(f"{address}: {error}")
    failure.tried = tuple(tried)
    raise failure


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
