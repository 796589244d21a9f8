"""TEST of a clamd (`ports.ServerTester`): PING, VERSION, and that it finds EICAR; each over a connection of its own.

Standards: clamd(8); design 2.11.
"""

import asyncio
from collections.abc import Callable

from posthouse.clients.connecting import sentence_of
from posthouse.clients.tested_addresses import Listeners, addresses_to_test
from posthouse.core.clamd_reply import eicar_facts, pong, version_facts
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import Inquiry, StageName, StageResult, failed

_REPLY_OCTETS = 1024
# In two parts, so that no scanner finds it here.
_EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_STREAM = b"zINSTREAM\0" + len(_EICAR).to_bytes(4, "big") + _EICAR + bytes(4)

Facts = tuple[dict[str, object], str]
_ASKED: tuple[tuple[StageName, bytes, Callable[[str], Facts]], ...] = (
    (StageName.PING, b"zPING\0", lambda reply: ({}, pong(reply))),
    (StageName.VERSION, b"zVERSION\0", version_facts),
    (StageName.EICAR, _STREAM, eicar_facts),
)


class ClamdTester:
    """`listeners` are the addresses and ports where this node listens."""

    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float
    ) -> tuple[StageResult, ...]:
        """ports.ServerTester.test. All goes to the first address that answers."""
        to = profile.servers[profile.server_texts.index(server)]
        end = asyncio.get_running_loop().time() + seconds
        stages: list[StageResult] = []
        addresses = [to.path]
        if to.host:
            resolved, addresses = await addresses_to_test(to.host, to.port, self._listeners, seconds)
            stages.append(resolved)
        address = await _connected(addresses, to.port, end, stages)
        if address is None:
            return tuple(stages)
        for name, command, read in _ASKED:
            stages.append(await _asked(name, command, read, (address, to.port), end))
            if not stages[-1].ok:
                break
        return tuple(stages)


async def _connected(addresses: list[str], port: int, end: float, stages: list[StageResult]) -> str | None:
    """The first address that can be connected to, and the stage `connect`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    tried: list[str] = []
    fault = ""
    for index, address in enumerate(addresses):
        share = (end - loop.time()) / (len(addresses) - index)
        try:
            async with asyncio.timeout(share):
                _, writer = await _open(address, port)
        except TimeoutError:
            fault = f"no answer to connect within {share:.2g} s"
        except OSError as error:
            fault = f"socket {address}: {sentence_of(error)}" if not port else sentence_of(error)
        else:
            writer.close()
            facts: dict[str, object] = {"address": address, **({"tried": tried} if tried else {})}
            stages.append(StageResult(StageName.CONNECT, True, loop.time() - began, facts))
            return address
        tried.append(f"{address}: {fault}")
    if addresses:
        stages.append(failed(StageName.CONNECT, loop.time() - began, fault, {"tried": tried}))
    return None


async def _asked(
    name: StageName, command: bytes, read: Callable[[str], Facts], to: tuple[str, int], end: float
) -> StageResult:
    """One command and its reply."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    said = f"C: {command.partition(bytes(1))[0].decode()}"
    try:
        async with asyncio.timeout_at(end):
            reply = await _reply(command, *to)
    except TimeoutError:
        return failed(name, loop.time() - began, "no reply within the time of the test")
    except (OSError, EOFError):
        return failed(name, loop.time() - began, "connection lost before the reply")
    facts, fault = read(reply)
    took = loop.time() - began
    if fault:
        return failed(name, took, fault, facts)
    return StageResult(name, True, took, facts, (said, f"S: {reply}"))


async def _reply(command: bytes, address: str, port: int) -> str:
    reader, writer = await _open(address, port)
    try:
        writer.write(command)
        octets = await reader.readuntil(b"\0")
    except asyncio.LimitOverrunError:
        octets = b""  # too long for any reply of clamd
    finally:
        writer.close()
    return octets.rstrip(b"\0\n").decode("ascii", "replace")


async def _open(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Port 0: `address` is the path of a socket."""
    if port:
        return await asyncio.open_connection(address, port, limit=_REPLY_OCTETS)
    return await asyncio.open_unix_connection(address, limit=_REPLY_OCTETS)
