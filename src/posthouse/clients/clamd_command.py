"""A connection to a clamd, and one command over a connection of its own; for TEST, probe and scan alike.

Standards: clamd(8).
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from posthouse.clients.connecting import NoConnection, first_connected, no_answer, resolve, sentence_of
from posthouse.core.uri import Specification

Opened = TypeVar("Opened")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_REPLY_OCTETS = 1024


async def reached(opening: Awaitable[Opened], address: str, port: int, seconds: float) -> Opened:
    """What `opening` gives. Port 0: `address` is the path of a socket. Raises NoConnection."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            return await opening
    except TimeoutError as error:
        raise no_answer(seconds) from error
    except OSError as error:
        if port:
            raise NoConnection.refused(error) from error
        raise NoConnection(f"socket {address}: {sentence_of(error)}") from error


async def open_streams(address: str, port: int) -> Streams:
    """Port 0: `address` is the path of a socket. Raises OSError."""
    if port:
        return await asyncio.open_connection(address, port, limit=_REPLY_OCTETS)
    return await asyncio.open_unix_connection(address, limit=_REPLY_OCTETS)


async def addresses_of(to: Specification, seconds: float) -> list[str]:
    """Those of its host, or the path of its socket. Raises NoConnection."""
    return await resolve(to.host, to.port, seconds) if to.host else [to.path]


async def ask(command: bytes, streams: Streams) -> str:
    """The reply, empty if it is too long for any of clamd's. Raises OSError, EOFError."""
    reader, writer = streams
    try:
        writer.write(command)
        octets = await reader.readuntil(b"\0")
    except asyncio.LimitOverrunError:
        octets = b""
    finally:
        writer.close()
    return octets.rstrip(b"\0\n").decode("ascii", "replace")


async def ask_server(command: bytes, to: Specification, seconds: float) -> str:
    """The reply of the first address that can be connected to. Raises NoConnection, TimeoutError, EOFError and
    OSError."""

    async def open_one(address: str, share: float) -> Streams:
        return await reached(open_streams(address, to.port), address, to.port, share)

    async with asyncio.timeout(seconds):
        first = await first_connected(await addresses_of(to, seconds), open_one, seconds)
        return await ask(command, first.connection)
