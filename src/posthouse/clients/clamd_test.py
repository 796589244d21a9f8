"""TEST of a clamd (`ports.ServerTester`): PING, VERSION, and that it finds EICAR; each over a connection of its own.

Standards: clamd(8); design 2.11.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from posthouse.clients.clamd_command import ask, open_streams, reached
from posthouse.clients.tested_addresses import Listeners, addresses_to_test, connected_to_test
from posthouse.core.clamd_reply import NOT_CLAMD, eicar_facts, pong, version_facts
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import Inquiry, StageName, StageResult, Told, failed, unheard

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
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        """ports.ServerTester.test. All goes to the first address that answers."""
        to = profile.servers[profile.server_texts.index(server)]
        end = asyncio.get_running_loop().time() + seconds
        stages: list[StageResult] = []
        addresses = [to.path]
        if to.host:
            resolved, addresses = await addresses_to_test(to.host, to.port, self._listeners, seconds)
            stages.append(resolved)
            told(stages)
            if not addresses:
                return tuple(stages)
        left = end - asyncio.get_running_loop().time()
        connected, first = await connected_to_test(addresses, partial(_connect, to.port), left)
        stages.append(connected)
        told(stages)
        if first is None:
            return tuple(stages)
        first.connection.close()
        for name, command, read in _ASKED:
            if name is StageName.EICAR:
                read = partial(eicar_facts, database="database" not in stages[-1].detail)
            stages.append(await _asked(name, command, read, (first.address, to.port), end))
            told(stages)
            if not stages[-1].ok:
                break
        return tuple(stages)


async def _connect(port: int, address: str, seconds: float) -> asyncio.StreamWriter:
    """Raises NoConnection."""
    _, writer = await reached(open_streams(address, port), address, port, seconds)
    return writer


async def _asked(
    name: StageName, command: bytes, read: Callable[[str], Facts], to: tuple[str, int], end: float
) -> StageResult:
    """One command and its reply."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    said = f"C: {command.partition(bytes(1))[0].decode()}"
    try:
        async with asyncio.timeout_at(end):
            reply = await ask(command, await open_streams(*to))
    except TimeoutError:
        return failed(name, loop.time() - began, "no reply within the time of the test", transcript=(said,))
    except (OSError, EOFError):
        return failed(name, loop.time() - began, "connection lost before the reply", transcript=(said,))
    facts, fault = read(reply)
    took = loop.time() - began
    # Of what is no clamd nothing is repeated.
    transcript = (said,) if fault == NOT_CLAMD else (said, f"S: {reply}")
    if fault:
        return failed(name, took, fault, facts, transcript)
    return StageResult(name, True, took, facts, transcript)
