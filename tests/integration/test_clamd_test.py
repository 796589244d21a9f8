"""TEST of a clamd against servers that answer as clamd does when it is well, and when it is not."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from posthouse.clients.clamd_test import ClamdTester
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import ProfileResult, StageResult, result_json
from posthouse.core.service_type import ServiceType
from posthouse.core.uri import Specification, parse_specification
from posthouse.mailflow.profile_test import ProfileTest
from support.servers import LOOPS, closed_port, deaf_port, run

EICAR_MD5 = "44d88612fea8a8f36de82e1278abb02f"
VERSION = "ClamAV 1.0.7/27411/Mon Oct 14 08:52:40 2024"
CANARY = "canary-of-another-service"


@dataclass
class Clamd:
    """Answers one command per connection, as clamd does; a test may have it answer something else."""

    ping: str = "PONG"
    version: str = VERSION
    finds: str = "stream: Win.Test.EICAR_HDB-1 FOUND"
    silent_at: str = ""
    commands: list[str] = field(default_factory=list)
    scanned: bytes = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            command = (await reader.readuntil(b"\0"))[1:-1].decode()
            self.commands.append(command)
            if command == "INSTREAM":
                while size := int.from_bytes(await reader.readexactly(4), "big"):
                    self.scanned += await reader.readexactly(size)
            if command == self.silent_at:
                await reader.read()
            else:
                answers = {"PING": self.ping, "VERSION": self.version, "INSTREAM": self.finds}
                writer.write(answers[command].encode() + b"\0")
        except asyncio.IncompleteReadError:  # a connection that was only tried
            pass
        finally:
            writer.close()


@asynccontextmanager
async def served(clamd: Clamd, socket: str = "") -> AsyncIterator[str]:
    """Its specification."""
    if socket:
        server = await asyncio.start_unix_server(clamd, socket)
        specification = f"clamd://{socket}"
    else:
        server = await asyncio.start_server(clamd, "127.0.0.1", 0)
        specification = f"clamd://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield specification
    finally:
        server.close()


async def try_out(server: str, seconds: float = 10.0, listeners: tuple[tuple[str, int], ...] = ()) -> ProfileResult:
    specification = parse_specification(server, ServiceType.CLAMAV)
    assert isinstance(specification, Specification)
    profile = ServerProfile("av", ServiceType.CLAMAV, (specification,), server_texts=(str(specification),))
    result = await ProfileTest({ServiceType.CLAMAV: ClamdTester(listeners)}, seconds=seconds).run(profile)
    assert CANARY not in str(result_json(result))
    return result


def against(loop: str, clamd: Clamd, socket: str = "", seconds: float = 10.0) -> ProfileResult:
    async def go() -> ProfileResult:
        async with served(clamd, socket) as specification:
            return await try_out(specification, seconds)

    return run(loop, go())


def stages(result: ProfileResult) -> list[tuple[str, bool]]:
    (server,) = result.servers
    return [(stage.name.value, stage.ok) for stage in server.stages]


def last(result: ProfileResult) -> StageResult:
    assert not result.ok
    return result.servers[0].stages[-1]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("by_socket", [False, True])
def test_a_clamd_that_is_well(loop: str, by_socket: bool, tmp_path: Path) -> None:
    clamd = Clamd()
    result = against(loop, clamd, str(tmp_path / "clamd.ctl") if by_socket else "")
    assert result.ok
    ladder = [] if by_socket else [("resolve", True)]
    assert stages(result) == [*ladder, *((name, True) for name in ("connect", "ping", "version", "eicar"))]
    assert clamd.commands == ["PING", "VERSION", "INSTREAM"]
    assert hashlib.md5(clamd.scanned).hexdigest() == EICAR_MD5
    version, eicar = result.servers[0].stages[-2:]
    assert version.detail == {"scanner": "1.0.7", "signatures": 27411, "signatures_of": "Mon Oct 14 08:52:40 2024"}
    assert eicar.detail == {"found": "Win.Test.EICAR_HDB-1"}
    assert eicar.transcript == ("C: zINSTREAM", "S: stream: Win.Test.EICAR_HDB-1 FOUND")


@pytest.mark.parametrize(
    ("clamd", "stage", "fault", "advice"),
    [
        (Clamd(ping=f"HTTP/1.1 400 {CANARY}"), "ping", "did not answer as clamd", "is no clamd"),
        (Clamd(ping=CANARY * 100), "ping", "did not answer as clamd", "is no clamd"),
        (
            Clamd(version="ClamAV 1.0.7", finds="stream: OK"),
            "eicar",
            "clamd has no signatures of ClamAV",
            "without its signatures",
        ),
        (Clamd(version=f"220 {CANARY}"), "version", "did not answer as clamd", "clamd's log"),
        (Clamd(finds="stream: OK"), "eicar", "EICAR was not found", "Run freshclam"),
        (Clamd(finds="INSTREAM size limit exceeded. ERROR"), "eicar", "size limit exceeded", "StreamMaxLength"),
        (Clamd(finds=f"<{CANARY}>"), "eicar", "did not answer as clamd", "clamd's log"),
    ],
)
def test_a_clamd_that_is_not(loop: str, clamd: Clamd, stage: str, fault: str, advice: str) -> None:
    found = last(against(loop, clamd))
    assert found.name == stage
    assert fault in found.fault
    assert advice in found.advice
    replies = {"ping": clamd.ping, "version": clamd.version, "eicar": clamd.finds}
    commands = {"ping": "zPING", "version": "zVERSION", "eicar": "zINSTREAM"}
    said = f"C: {commands[stage]}"
    assert found.transcript == ((said,) if CANARY in replies[stage] else (said, f"S: {replies[stage]}"))


def test_a_clamd_with_signatures_of_ones_own_only_is_good_and_spoken_of(loop: str) -> None:
    """As a real one answers that has no database of freshclam, and finds EICAR by a signature made here."""
    result = against(loop, Clamd(version="ClamAV 1.4.6", finds="stream: Local.Eicar.UNOFFICIAL FOUND"))
    assert result.ok
    version = result.servers[0].stages[-2]
    assert version.detail == {"scanner": "1.4.6", "database": "none of ClamAV"}
    assert "Run freshclam" in version.advice


@pytest.mark.parametrize(("command", "stage"), [("PING", "ping"), ("INSTREAM", "eicar")])
def test_a_clamd_that_does_not_answer(loop: str, command: str, stage: str) -> None:
    found = last(against(loop, Clamd(silent_at=command), seconds=0.3))
    assert (found.name, found.fault) == (stage, "no reply within the time of the test")
    assert "clamd's log" in found.advice
    assert found.transcript == (f"C: z{command}",)


def test_no_clamd_there(loop: str, tmp_path: Path) -> None:
    with closed_port() as port:
        refused = last(run(loop, try_out(f"clamd://127.0.0.1:{port}")))
    with deaf_port() as port:
        deaf = last(run(loop, try_out(f"clamd://127.0.0.1:{port}", 0.3)))
    missing = last(run(loop, try_out(f"clamd://{tmp_path}/none.ctl")))
    assert [(each.name.value, each.fault.partition(" within")[0]) for each in (refused, deaf, missing)] == [
        ("connect", "connection refused"),
        ("connect", "no answer to connect"),
        ("connect", f"socket {tmp_path}/none.ctl: no such file or directory"),
    ]
    assert "LocalSocket" in missing.advice
    assert "TCPSocket" in refused.advice


def test_addresses_are_looked_at_as_for_smtp(loop: str) -> None:
    assert last(run(loop, try_out("clamd://169.254.169.254"))).name == "resolve"
