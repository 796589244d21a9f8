"""Attachments go to a vault that does as its documents say, and to one that does not: all, or nothing stays."""

import asyncio
import hashlib
import json
import logging
import os
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from posthouse.clients.vault_chunks import CHUNK_OCTETS
from posthouse.clients.vault_transfer import _TOO_SLOW
from posthouse.clients.vault_upload import MOST_FILES, VaultClient
from posthouse.core.profile import ServerProfile
from posthouse.core.vault_answer import NOT_KEPT
from posthouse.scan_ports import ToUpload, Uploaded, UploadFailed
from support.http_servers import HttpServer, Request, Response, http_server
from support.limited_server import running
from support.servers import LOOPS, closed_port, profile, run
from support.stateful_vault import KEY, OTHER_KEY, StatefulVault
from support.tls_servers import NAME, ServerKind
from support.wire_tap import wire_tap

GROUP = "2b6dea8f-2fed-49f5-a5bb-61c766394f45"
VARIABLE = "TEST_KEY_VAULT_UPLOAD"
MIB = 1024 * 1024
SECONDS = 15.0
STEPS = (
    ("GET", "/transfer"),
    ("GET", "/transfer_file"),
    ("PATCH", "/transfer_file"),
    ("POST", "/transfer_file"),
    ("POST", "/transfer"),
)
LAST = STEPS[-1]
LEFT_BEHIND = "; what the vault had got could not be dropped there"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, VARIABLE, KEY)


@dataclass(frozen=True)
class Given:
    """scan_ports.Octets in pieces of an odd length; `told` is what it says of its length."""

    octets: bytes
    told: int | None = None

    @property
    def size(self) -> int:
        return len(self.octets) if self.told is None else self.told

    def pieces(self) -> Iterator[bytes | memoryview]:
        view = memoryview(self.octets)
        for start in range(0, len(view), 100_003):
            yield view[start : start + 100_003]


def file(name: str = "report.pdf", octets: bytes = b"%PDF-1.7 report", told: int | None = None) -> ToUpload:
    return ToUpload(name, Given(octets, told))


def vault_profile(server: str, **settings: Any) -> ServerProfile:
    return profile(server, type="metadefender-vault", api_key={"env": VARIABLE}, **settings)


def no_id() -> tuple[str, str]:
    raise AssertionError("no client certificate is asked for")


async def upload(
    server: str,
    *files: ToUpload,
    group: str = "",
    days: int = 0,
    seconds: float = SECONDS,
    client: VaultClient | None = None,
    **settings: Any,
) -> tuple[Uploaded, ...]:
    used = client or VaultClient(no_id)
    try:
        return await used.upload(
            vault_profile(server, **settings), group or str(uuid4()), files or [file()], days, seconds
        )
    finally:
        if client is None:
            await used.close()


def failure(loop: str, server: str, *files: ToUpload, **changes: Any) -> UploadFailed:
    """The key is nowhere in what is raised."""
    with pytest.raises(UploadFailed) as raised:
        run(loop, upload(server, *files, **changes))
    told = "".join(traceback.format_exception(raised.value))
    assert KEY not in told
    assert "\n" not in str(raised.value)
    return raised.value


def asked(request: Request) -> tuple[str, str]:
    return request.method, request.path.removeprefix("/vault_rest")


def at(step: tuple[str, str], response: Response) -> Callable[[Request], Response | None]:
    """Answers so to one step, which is not done."""
    return lambda request: response if asked(request) == step else None


def after(step: tuple[str, str], response: Response) -> Callable[[Request, Response], Response]:
    """Answers so to one step after it has been done."""
    return lambda request, done: response if asked(request) == step and done.status == 200 else done


def steps(server: HttpServer) -> list[tuple[str, str]]:
    return [asked(request) for request in server.requests]


# --- as it should be -------------------------------------------------------------------------------------


def test_the_five_steps_octet_for_octet(loop: str) -> None:
    vault = StatefulVault()
    with http_server(vault.answer) as server, wire_tap(server.port) as tap:
        (kept,) = run(loop, upload(f"http://127.0.0.1:{tap.port}", group=GROUP, days=30))
        (written,) = tap.written
        host = f"127.0.0.1:{tap.port}"
    octets = b"%PDF-1.7 report"

    def request(line: str, *fields: str, body: bytes = b"") -> bytes:
        head = [
            f"{line} HTTP/1.1",
            f"Host: {host}",
            *(["Content-Length: 0"] if line.startswith("POST ") else []),
            "Connection: keep-alive",
            "Accept: application/json",
            "Accept-Encoding: identity",
            "User-Agent: posthouse",
            f"Authorization: Bearer {KEY}",
            f"group_id: {GROUP}",
            *fields,
        ]
        return "\r\n".join([*head, "", ""]).encode() + body

    id_field = f"file_id: {kept.file_id}"
    assert bytes(written) == b"".join(
        [
            request("GET /vault_rest/transfer"),
            request(
                "GET /vault_rest/transfer_file",
                "file_name: report.pdf",
                f"file_size: {len(octets)}",
                "transfer_method: Stream",
            ),
            request(
                "PATCH /vault_rest/transfer_file",
                id_field,
                "chunk_offset: 0",
                f"chunk_checksum: {hashlib.md5(octets, usedforsecurity=False).hexdigest()}",
                "Content-Type: application/octet-stream",
                f"Content-Length: {len(octets)}",
                body=octets,
            ),
            request("POST /vault_rest/transfer_file", id_field),
            request("POST /vault_rest/transfer", "expires_after: 30:00:00:00"),
        ]
    )
    assert kept.url == f"http://vault.example:8010/vault_rest/file/{kept.file_id}"
    assert vault.names() == {"report.pdf": octets}
    vault.now = 30 * 86400 - 1
    assert vault.names()
    vault.now += 1
    assert not vault.names()


def test_a_file_of_no_octets(loop: str) -> None:
    vault = StatefulVault()
    with http_server(vault.answer) as server:
        run(loop, upload(server.specification, file("empty.txt", b"")))
        assert steps(server) == list(STEPS)
        assert server.requests[2].fields["content-length"] == "0"
    assert vault.names() == {"empty.txt": b""}


def test_30_mib_in_chunks(loop: str) -> None:
    octets = os.urandom(MIB) * 30
    vault = StatefulVault(hyphens=True)
    with http_server(vault.answer) as server:
        run(loop, upload(server.specification, file("disc.iso", octets)))
        sent = [each for each in server.requests if each.method == "PATCH"]
        assert [len(each.body) for each in sent] == [CHUNK_OCTETS] * 3 + [6 * MIB]
        assert [each.fields["chunk_offset"] for each in sent] == [str(n * CHUNK_OCTETS) for n in range(4)]
        (opened,) = [each.fields for each in server.requests if asked(each) == STEPS[1]]
        assert (opened["transfer_method"], opened["file_size"]) == ("Chunk", str(len(octets)))
    assert vault.names() == {"disc.iso": octets}


def test_two_files_in_one_transfer_and_which_is_which(loop: str) -> None:
    vault = StatefulVault()
    with http_server(vault.answer) as server:
        first, second = run(loop, upload(server.specification, file("a", b"1"), file("a", b"22")))
        assert steps(server) == [STEPS[0], *STEPS[1:4], *STEPS[1:4], LAST]
        assert len({request.port for request in server.requests}) == 1
    assert [vault.files[each.file_id].file.octets for each in (first, second)] == [b"1", b"22"]
    assert [each.url.rpartition("/")[2] for each in (first, second)] == [first.file_id, second.file_id]


def test_uploads_share_a_connection_and_none_is_asked_for_nothing(loop: str) -> None:
    vault = StatefulVault()

    async def three(server: str) -> None:
        client = VaultClient(no_id)
        for name in ("a", "b"):
            await upload(server, file(name), client=client)
        assert await client.upload(vault_profile(server), GROUP, (), 0, SECONDS) == ()
        await client.close()

    with http_server(vault.answer) as server:
        run(loop, three(server.specification))
        assert len({request.port for request in server.requests}) == 1
        assert len(server.requests) == 10
    assert vault.names().keys() == {"a", "b"}


def test_an_edited_profile_gets_new_connections(loop: str) -> None:
    vault = StatefulVault()

    async def edited(server: str) -> None:
        client = VaultClient(no_id)
        for revision in (1, 1, 2):
            in_force = replace(vault_profile(server), revision=revision)
            client.retire({in_force.name: in_force})
            await client.upload(in_force, str(uuid4()), [file(f"{revision}")], 0, SECONDS)
        await client.close()

    with http_server(vault.answer) as server:
        run(loop, edited(server.specification))
        ports = [request.port for request in server.requests]
        assert len(set(ports[:10])) == 1
        assert len(set(ports[10:])) == 1
        assert ports[0] != ports[-1]


def test_a_known_checksum_is_used(loop: str) -> None:
    vault = StatefulVault()
    good = hashlib.md5(b"x", usedforsecurity=False).hexdigest()
    with http_server(vault.answer) as server:
        run(loop, upload(server.specification, replace(file("x", b"x"), md5=good)))
        assert not failure(loop, server.specification, replace(file("y", b"x"), md5="0" * 32)).again
    assert vault.names() == {"x": b"x"}
    assert not vault.groups


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("Überweisung 5 €.pdf", "Überweisung 5 €.pdf"),
        ("日本\r\ngroup_id: x\r\n\r\nGET /.txt", "日本__group_id_ x____GET _.txt"),
        ('"; filename="x', "_; filename=_x"),
        ("100%.txt", "100%.txt"),
        ("n" * 100_000 + ".pdf", "n" * 146 + ".pdf"),
        ("\x00", "_"),
        ("..", "attachment"),
    ],
)
def test_names_that_are_hostile_to_header_fields(loop: str, name: str, seen: str) -> None:
    vault = StatefulVault()
    with http_server(vault.answer) as server:
        run(loop, upload(server.specification, file(name), group=GROUP))
        assert steps(server) == list(STEPS)
        assert {request.fields["group_id"] for request in server.requests} == {GROUP}
    assert list(vault.names()) == [seen]


def test_https_with_a_certificate_that_is_looked_at(loop: str) -> None:
    for kind, well in ((ServerKind.GOOD, True), (ServerKind.EXPIRED, False)):
        vault = StatefulVault()
        with http_server(vault.answer, kind) as server:
            tls: dict[str, Any] = {"tls_ca": server.ca, "tls_name": NAME}
            if well:
                run(loop, upload(server.specification, **tls))
            else:
                failed = failure(loop, server.specification, **tls)
                assert failed.again
                assert "expired" in str(failed)
                assert LEFT_BEHIND not in str(failed)
                assert not server.requests
        assert bool(vault.names()) == well


# --- failures: nothing stays -------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("response", "again"),
    [
        (Response(500, {}), True),
        (Response(503, octets=b"down"), True),
        (Response(417, {}), True),
        (Response(429, {}), True),
        (Response(400, {"ui_message_key": "UPLOAD_FILE_UPLOADER_GROUP_IS_REQUIRED"}), False),
        (Response(401, {}), False),
        (Response(403, {}), False),
        (Response(404, {}), False),
        (Response(302, {}, fields={"Location": "http://127.0.0.1:9/"}), False),
    ],
)
def test_a_step_that_is_refused(step: tuple[str, str], response: Response, again: bool) -> None:
    vault = StatefulVault(instead=at(step, response))
    with http_server(vault.answer) as server:
        failed = failure("uvloop", server.specification, file("a", b"1"), file("b", b"2"))
        forgotten = response.status == 404 and step != STEPS[0]
        assert (failed.again, str(response.status) in str(failed)) == (again or forgotten, True)
        opened = step != STEPS[0] or response.status >= 500
        told = ("DELETE", "/transfer") in steps(server)
        assert told == opened
        if step != STEPS[0]:
            assert LEFT_BEHIND not in str(failed)
    assert vault.nothing()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "response",
    [
        Response(500, {}),
        Response(200, {"result": "failed", "files": 5}),
        Response(200, octets=b"x" * 300_000),
    ],
)
def test_a_step_that_is_done_but_not_answered_well(loop: str, step: tuple[str, str], response: Response) -> None:
    vault = StatefulVault(changed=after(step, response))
    with http_server(vault.answer) as server:
        failed = failure(loop, server.specification, file("a", b"1"), file("b", b"2"))
        assert failed.again
        assert LEFT_BEHIND not in str(failed)
    assert vault.nothing()


@pytest.mark.parametrize(
    "files",
    [
        [],
        [{"file_id": "another", "file_url": "http://vault.example/x"}],
        [{"file_id": "@", "file_url": ""}],
        [{"file_id": "@"}],
        [{"file_id": "@", "file_url": "javascript:alert(1)"}],
        [{"file_id": "@", "file_url": "http://vault.example/a\r\nb"}],
        [{"file_id": "@", "file_url": "http://vault.example/" + "x" * 2000}],
        [{"file_id": "@", "file_url": "http://vault.example/x"}] * 2,
        [{"file_id": "@", "file_url": "http://vault.example/x"}, {"file_id": "b", "file_url": "http://b.example/"}],
        ["@"],
        "@",
    ],
)
def test_a_last_answer_that_does_not_tell_where_each_file_is(files: Any) -> None:
    def odd(request: Request, done: Response) -> Response:
        if asked(request) != LAST:
            return done
        (file_id,) = vault.files
        told = [
            {name: file_id if value == "@" else value for name, value in each.items()}
            if isinstance(each, dict)
            else each
            for each in files
        ]
        return Response(200, {"files": told})

    vault = StatefulVault(changed=odd)
    with http_server(vault.answer) as server:
        failed = failure("asyncio", server.specification)
    assert (str(failed), failed.again) == (NOT_KEPT, True)
    assert vault.nothing()


def test_an_id_that_was_given_before_or_cannot_be(loop: str) -> None:
    for told in ("", "a\r\nb", "../x"):
        given: list[str] = []

        def once_good(request: Request, done: Response, told: str = told, given: list[str] = given) -> Response:
            """The second is bad, or the first once more."""
            if asked(request) != STEPS[1]:
                return done
            given.append(json.loads(done.body)["file_id"])
            return done if len(given) == 1 else Response(200, {"file_id": told or given[0]})

        vault = StatefulVault(changed=once_good)
        with http_server(vault.answer) as server:
            failed = failure(loop, server.specification, file("a"), file("b"))
            assert (str(failed), failed.again) == ("the vault gave an attachment no id, or one that cannot be", True)
        assert len(given) == 2
        assert vault.nothing()


def test_octets_that_change_under_way(loop: str) -> None:
    for told in (14, 16):
        vault = StatefulVault()
        with http_server(vault.answer) as server:
            failed = failure(loop, server.specification, file("a", b"1"), file(told=told))
            assert (str(failed), failed.again) == ("an attachment is not as long as it was", True)
        assert vault.nothing()


def test_a_vault_that_does_not_let_drop(loop: str) -> None:
    refused = (STEPS[3], ("DELETE", "/transfer"))
    vault = StatefulVault(instead=lambda request: Response(500, {}) if asked(request) in refused else None)
    with http_server(vault.answer) as server:
        failed = failure(loop, server.specification)
    assert str(failed) == f"the vault answers 500{LEFT_BEHIND}"
    assert failed.again
    assert not vault.names()


def test_an_owner_that_changes_under_way(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = StatefulVault()

    def other(request: Request, done: Response) -> Response:
        vault.users[KEY] = "somebody else"
        return done

    vault.changed = other
    with http_server(vault.answer) as server:
        failed = failure(loop, server.specification)
        assert not failed.again
        assert "403" in str(failed)
        assert str(failed).endswith(LEFT_BEHIND)
        monkeypatch.setenv(VARIABLE, OTHER_KEY)
        run(loop, upload(server.specification, file("mine")))
    assert list(vault.names()) == ["mine"]


# --- the network ---------------------------------------------------------------------------------------


def test_nobody_there(loop: str) -> None:
    with closed_port() as port:
        failed = failure(loop, f"http://127.0.0.1:{port}")
    assert (str(failed), failed.again) == ("the vault cannot be asked: connection refused", True)


@pytest.mark.parametrize("step", STEPS)
def test_a_vault_that_does_not_answer_in_time(loop: str, step: tuple[str, str]) -> None:
    ended = threading.Event()

    def never(request: Request) -> Response | None:
        if asked(request) == step:
            ended.wait(20)
        return None

    vault = StatefulVault(instead=never)
    with http_server(vault.answer) as server:
        try:
            failed = failure(loop, server.specification, seconds=0.4)
            dropped = vault.nothing()
        finally:
            ended.set()
        assert str(failed) == _TOO_SLOW
        assert failed.again
        assert dropped


@contextmanager
def cut(server_port: int, octets: int, most: int) -> Iterator[int]:
    """The port of a way to the server on which the first `most` connections end with RST after so many octets."""
    connections: list[asyncio.Task[None] | None] = []

    async def way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        left = octets if len(connections) <= most else 1 << 40
        onward, back = await asyncio.open_connection("127.0.0.1", server_port)

        async def answers() -> None:
            while got := await onward.read(65536):
                writer.write(got)

        returning = asyncio.ensure_future(answers())
        try:
            while left > 0 and (got := await reader.read(min(left, 65536))):
                left -= len(got)
                back.write(got)
                await back.drain()
            if left == 0:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            returning.cancel()
            for each in (writer, back):
                each.transport.abort()

    with running(way) as port:
        yield port


def test_connections_that_die_within_a_chunk(loop: str) -> None:
    vault = StatefulVault()
    with http_server(vault.answer) as server, cut(server.port, MIB, most=100) as port:
        failed = failure(loop, f"http://127.0.0.1:{port}", file("disc.iso", b"x" * (18 * MIB)))
    assert failed.again
    assert str(failed).startswith("the vault cannot be asked: ")
    assert LEFT_BEHIND not in str(failed)
    assert vault.nothing()


def test_a_vault_that_dies_at_once(loop: str) -> None:
    vault = StatefulVault()
    with http_server(vault.answer) as server, cut(server.port, 100, most=100) as port:
        failed = failure(loop, f"http://127.0.0.1:{port}")
    assert failed.again
    assert str(failed).endswith(LEFT_BEHIND)
    assert vault.nothing()


@pytest.mark.parametrize(("octets", "most"), [(1200, 1), (MIB, 1), (9 * MIB, 1), (9 * MIB, 100)])
def test_a_kept_connection_that_dies_costs_nothing_but_one_chunk(loop: str, octets: int, most: int) -> None:
    """It may have died since the answer before: the chunk goes again, from its beginning, over another one."""
    content = os.urandom(MIB) * 12
    vault = StatefulVault()
    with http_server(vault.answer) as server, cut(server.port, octets, most) as port:
        run(loop, upload(f"http://127.0.0.1:{port}", file("disc.iso", content)))
    assert vault.names() == {"disc.iso": content}


def test_a_last_answer_that_is_lost_with_its_connection(loop: str) -> None:
    """The files are visible, but nobody knows where: they are deleted."""

    def lost(request: Request, done: Response) -> Response:
        if asked(request) == LAST and done.status == 200:
            assert vault.names()
            raise ConnectionAbortedError
        return done

    vault = StatefulVault(changed=lost)
    with http_server(vault.answer) as server:
        failed = failure(loop, server.specification, file("a"), file("b"))
        assert (str(failed), failed.again) == ("the vault knows the transfer no more (404)", True)
        assert [method for method, path in steps(server) if path.startswith("/file/")] == ["DELETE", "DELETE"]
    assert vault.nothing()


@pytest.mark.parametrize("step", STEPS)
def test_a_cancelled_upload_is_dropped(loop: str, step: tuple[str, str]) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(request: Request) -> Response | None:
        if asked(request) == step:
            reached.set()
            assert go_on.wait(20)
        return None

    vault = StatefulVault(instead=hold)

    async def cancelled(server: str) -> None:
        client = VaultClient(no_id)
        task = asyncio.ensure_future(upload(server, file("a", b"x" * 1000), client=client))
        assert await asyncio.to_thread(reached.wait, 20)
        vault.instead = lambda _: None
        task.cancel()
        async with asyncio.timeout(2):
            with pytest.raises(asyncio.CancelledError):
                await task
        if step == LAST:
            go_on.set()  # the vault does what was asked for before
        await client.close()

    with http_server(vault.answer) as server:
        try:
            run(loop, cancelled(server.specification))
        finally:
            go_on.set()
        assert ("DELETE", "/transfer") in steps(server)
    assert not vault.names()
    assert not vault.groups or step == STEPS[0]


# --- before anything is asked ------------------------------------------------------------------------


def test_a_key_that_cannot_be_read_or_used(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server(StatefulVault().answer) as server:
        for text, words in (("", "is not set"), ("a b", "no key has"), ("a\r\nb", "no key has"), ("ä", "no key has")):
            monkeypatch.setenv(VARIABLE, text)
            failed = failure(loop, server.specification)
            assert (failed.again, words in str(failed)) == (False, True)
        assert not server.requests


def test_more_attachments_than_one_transfer_has(loop: str) -> None:
    vault = StatefulVault()
    with http_server(vault.answer) as server:
        failed = failure(loop, server.specification, *[file(str(n), b"") for n in range(MOST_FILES + 1)])
        assert not failed.again
        assert not server.requests
        run(loop, upload(server.specification, *[file(str(n), b"") for n in range(MOST_FILES)]))
    assert len(vault.names()) == MOST_FILES


def test_the_key_is_in_no_log(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with http_server(StatefulVault().answer) as server:
        run(loop, upload(server.specification))
    with http_server(StatefulVault(instead=at(STEPS[2], Response(403, {}))).answer) as server:
        failure(loop, server.specification)
    with closed_port() as port:
        failure(loop, f"http://127.0.0.1:{port}")
    assert caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(VaultClient(no_id).__dict__)
