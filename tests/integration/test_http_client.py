"""The HTTP client: requests with bodies, answers into files, connections that are reused and retired."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from posthouse.client_tls import TlsSettingsError
from posthouse.clients.http_client import HttpClient, HttpRequest, NoAnswer, NoConnection, TlsFailed, TooSlow
from posthouse.clients.http_clients import HttpClients
from posthouse.core.http_ladder import BROKEN, MOST_OCTETS, TOO_LONG, Answer
from posthouse.core.profile import ServerProfile
from support.http_servers import Request, Response, http_server
from support.servers import LOOPS, closed_port, profile, run
from support.tls_servers import ServerKind, client_digital_id

SECONDS = 15.0
PIECE = bytes(range(256)) * 1024
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class Pieces:
    """scan_ports.Octets."""

    count: int

    @property
    def size(self) -> int:
        return self.count * len(PIECE)

    def pieces(self) -> Iterator[bytes | memoryview]:
        for _ in range(self.count):
            yield memoryview(PIECE)


def core(server: str, revision: int = 0, **settings: Any) -> ServerProfile:
    return profile(server, revision=revision, type="metadefender-core", **settings)


def no_id() -> tuple[str, str]:
    raise AssertionError("no client certificate is asked for")


@asynccontextmanager
async def client_of(server: str, clients: HttpClients | None = None) -> AsyncIterator[HttpClient]:
    clients = clients or HttpClients(no_id)
    async with clients.use(core(server), server) as client:
        yield client
    await clients.close()


async def ask(server: str, request: HttpRequest, seconds: float = SECONDS, **more: object) -> Answer:
    async with client_of(server) as client:
        return await client.send(request, seconds, **more)  # type: ignore[arg-type]


@dataclass
class RawServer:
    """Connections in order, each played by its script; the last script plays all further ones."""

    scripts: list[Script]
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        tasks: set[asyncio.Task[None]] = set()

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            script = self.scripts[min(self.connections, len(self.scripts) - 1)]
            self.connections += 1
            try:
                await script(reader, writer)
            except OSError:
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(play, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def answering(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A proper server for requests without a body."""
        while True:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


async def never() -> None:
    await asyncio.Event().wait()


# --- requests ----------------------------------------------------------------------------------------


def test_a_body_leaves_with_its_length_and_not_in_chunks(loop: str) -> None:
    def respond(request: Request) -> Response:
        return Response(200, {"size": len(request.body)})

    with http_server(respond) as server:
        request = HttpRequest("POST", "/file", {"filename": "a%20b"}, Pieces(5))
        answer = run(loop, ask(server.specification, request))
    (asked,) = server.requests
    assert (answer.status, answer.body) == (200, b'{"size": %d}' % (5 * len(PIECE)))
    assert (asked.method, asked.path, asked.body == PIECE * 5) == ("POST", "/file", True)
    assert (asked.fields["filename"], asked.fields["content-length"]) == ("a%20b", str(5 * len(PIECE)))
    assert "transfer-encoding" not in asked.fields
    assert "cookie" not in asked.fields


def test_a_post_without_a_body_has_the_length_0(loop: str) -> None:
    with http_server(lambda _: Response(200, {})) as server:
        run(loop, ask(server.specification, HttpRequest("POST", "/file/batch")))
    assert server.requests[0].fields["content-length"] == "0"


def test_an_answer_in_the_middle_of_the_request_is_read(loop: str) -> None:
    """Whoever refuses a file by its head reads no more of it."""

    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n{}")
        await never()

    async def act() -> Answer:
        async with RawServer([refusing]).serve() as server:
            return await ask(server, HttpRequest("POST", "/file", body=Pieces(200)))

    assert run(loop, act()).status == 403


def test_a_server_that_reads_nothing_has_a_deadline(loop: str) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await never()

    async def act() -> None:
        async with RawServer([deaf]).serve() as server:
            with pytest.raises(TooSlow):
                await ask(server, HttpRequest("POST", "/file", body=Pieces(200)), 0.2)

    run(loop, act())


# --- answers -----------------------------------------------------------------------------------------


def test_an_answer_goes_into_a_file(loop: str, tmp_path: Path) -> None:
    octets = PIECE * 8
    path = tmp_path / "sanitized"
    with http_server(lambda _: Response(200, octets=octets)) as server, path.open("wb") as file:
        answer = run(
            loop, ask(server.specification, HttpRequest("GET", "/x"), most_octets=len(octets), sink=file.write)
        )
    assert (answer.status, answer.body, answer.whole) == (200, b"", True)
    assert path.read_bytes() == octets


def test_a_file_that_is_longer_than_it_may_be_is_not_whole(loop: str) -> None:
    got: list[bytes] = []
    with http_server(lambda _: Response(200, octets=PIECE * 8)) as server:
        limit = len(PIECE) * 8 - 1
        answer = run(loop, ask(server.specification, HttpRequest("GET", "/x"), most_octets=limit, sink=got.append))
    assert not answer.whole
    assert sum(map(len, got)) <= limit


def test_only_a_200_goes_into_the_file(loop: str) -> None:
    got: list[bytes] = []
    with http_server(lambda _: Response(404, {"err": "none"})) as server:
        answer = run(loop, ask(server.specification, HttpRequest("GET", "/x"), sink=got.append))
    assert (answer.body, got) == (b'{"err": "none"}', [])


def test_frames_of_tiny_chunks_do_not_get_round_the_bound_of_a_file(loop: str) -> None:
    async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1;" + b"x" * 4000 + b"\r\na\r\n")
            await writer.drain()

    async def act() -> None:
        async with RawServer([flooding]).serve() as server:
            with pytest.raises(NoAnswer, match=TOO_LONG):
                await ask(server, HttpRequest("GET", "/x"), most_octets=MOST_OCTETS, sink=lambda _: None)

    run(loop, act())


def test_a_connection_lost_within_a_file(loop: str) -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + PIECE)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def act() -> None:
        async with RawServer([breaking]).serve() as server:
            with pytest.raises(NoAnswer, match=BROKEN):
                await ask(server, HttpRequest("GET", "/x"), most_octets=1 << 20, sink=lambda _: None)

    run(loop, act())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError("of the file system")])
def test_a_file_that_cannot_be_written_is_no_fault_of_the_server(loop: str, error: OSError) -> None:
    def full(_: bytes) -> None:
        raise error

    with http_server(lambda _: Response(200, {})) as server, pytest.raises(type(error), match=str(error.args[-1])):
        run(loop, ask(server.specification, HttpRequest("GET", "/x"), sink=full))


# --- connections -------------------------------------------------------------------------------------


def test_a_connection_is_reused(loop: str) -> None:
    async def act(server: str) -> None:
        clients = HttpClients(no_id)
        for _ in range(3):
            async with clients.use(core(server), server) as client:
                await client.get("/version", {}, SECONDS)
        await clients.close()

    with http_server(lambda _: Response(200, {})) as server:
        run(loop, act(server.specification))
    assert len({request.port for request in server.requests}) == 1


def test_a_kept_connection_that_proves_closed_costs_a_fresh_one_and_nothing_else(loop: str) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.readuntil(b"\r\n\r\n")  # and no answer

    async def act() -> tuple[int, int]:
        raw = RawServer([once])
        raw.scripts.append(raw.answering)
        async with raw.serve() as server, client_of(server) as client:
            for _ in range(2):
                answer = await client.get("/version", {}, SECONDS)
            return answer.status, raw.connections

    assert run(loop, act()) == (200, 2)


def test_a_server_that_closes_without_an_answer_is_not_asked_again_and_again(loop: str) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def act() -> int:
        raw = RawServer([mute])
        async with raw.serve() as server:
            with pytest.raises(NoAnswer):
                await ask(server, HttpRequest("POST", "/file/batch"))
        return raw.connections

    assert run(loop, act()) == 1


@pytest.mark.parametrize("then", [2, None])
def test_an_edit_retires_the_connections_of_a_profile(loop: str, then: int | None) -> None:
    """None: the profile is removed."""

    async def act() -> tuple[int, int]:
        raw = RawServer([])
        raw.scripts.append(raw.answering)
        async with raw.serve() as server:
            clients = HttpClients(no_id)
            old, new = core(server, 1), core(server, 2)
            clients.retire({old.name: old})
            async with clients.use(old, server) as client:
                await client.get("/1", {}, SECONDS)
                clients.retire({} if then is None else {new.name: new})
                await client.get("/2", {}, SECONDS)  # under way: ends over the connection that it has
            before = raw.connections
            for _ in range(2):
                async with clients.use(old, server) as client:
                    await client.get("/3", {}, SECONDS)  # an older snapshot: not kept
            after = raw.connections
            if then is not None:
                for _ in range(2):
                    async with clients.use(new, server) as client:
                        await client.get("/4", {}, SECONDS)
            await clients.close()
        assert len(raw.heads) == (6 if then is not None else 4)
        return before, raw.connections - after if then is not None else after

    assert run(loop, act()) == ((1, 1) if then is not None else (1, 3))


def test_a_mail_that_knows_of_an_edit_first_gets_a_connection_of_its_own(loop: str) -> None:
    async def act() -> int:
        raw = RawServer([])
        raw.scripts.append(raw.answering)
        async with raw.serve() as server:
            clients = HttpClients(no_id)
            for revision in (1, 2, 2):
                async with clients.use(core(server, revision), server) as client:
                    await client.get("/version", {}, SECONDS)
            await clients.close()
        return raw.connections

    assert run(loop, act()) == 2


def test_what_connections_were_opened_is_known(loop: str) -> None:
    async def act(profile: ServerProfile) -> dict[str, Any]:
        clients = HttpClients(no_id)
        clients.retire({profile.name: profile})
        for _ in range(3):
            async with clients.use(profile, profile.server_texts[0]) as client:
                await client.get("/version", {}, SECONDS)
        facts = clients.facts(profile.name, profile.server_texts[0])
        clients.retire({})
        assert clients.facts(profile.name, profile.server_texts[0])["pool"] == {"opened": 0, "tls": 0}
        await clients.close()
        return facts

    with http_server(lambda _: Response(200, {}), ServerKind.GOOD) as server:
        facts = run(loop, act(core(server.specification, 1, tls_verify="pinned", tls_pin=server.pin)))
    assert facts["pool"] == {"opened": 1, "tls": 1}
    assert facts["certificate"]["names"]
    assert [sum(facts["times"][kind].values()) for kind in ("connect", "tls")] == [1, 1]


def test_a_client_certificate_is_shown(loop: str, tmp_path: Path) -> None:
    async def act(profile: ServerProfile) -> Answer:
        clients = HttpClients(lambda: client_digital_id(tmp_path))
        async with clients.use(profile, profile.server_texts[0]) as client:
            answer = await client.get("/version", {}, SECONDS)
        await clients.close()
        return answer

    with http_server(lambda _: Response(200, {}), ServerKind.WANTS_CERTIFICATE) as server:
        settings: dict[str, Any] = {"tls_verify": "pinned", "tls_pin": server.pin}
        assert run(loop, act(core(server.specification, client_certificate=True, **settings))).status == 200
        with pytest.raises(TlsFailed):
            run(loop, act(core(server.specification, **settings)))


def test_a_digital_id_that_cannot_be_read_is_told_before_anything_is_sent(loop: str) -> None:
    def unreadable() -> tuple[str, str]:
        raise PermissionError(13, os.strerror(13), "key.pem")

    async def act(profile: ServerProfile) -> None:
        async with HttpClients(unreadable).use(profile, profile.server_texts[0]):
            raise AssertionError("used")

    with pytest.raises(TlsSettingsError, match=r"key\.pem"):
        run(loop, act(core("https://127.0.0.1:1", client_certificate=True)))


def test_nobody_there(loop: str) -> None:
    with closed_port() as port, pytest.raises(NoConnection, match="connection refused"):
        run(loop, ask(f"http://127.0.0.1:{port}", HttpRequest("GET", "/version")))
