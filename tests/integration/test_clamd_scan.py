"""Scanning by servers that do what a clamd does when it is not well, and what none does."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from posthouse.clients.clamav import SESSIONS, ClamdScanner
from posthouse.clients.clamd_session import UNDER_WAY
from posthouse.core.clamd_reply import NOT_CLAMD
from posthouse.core.scan import Failure, Verdict
from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import ScanAnswer
from support.scanning import Given, asked, order
from support.servers import LOOPS, closed_port, deaf_port, profile, run

LOST = "connection lost before the reply"


class Fake:
    """The server's end of one session; numbers items as they come."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.number = 0

    async def opened(self) -> None:
        assert await self._reader.readuntil(b"\0") == b"zIDSESSION\0"

    async def begun(self) -> None:
        assert await self._reader.readuntil(b"\0") == b"zINSTREAM\0"
        self.number += 1

    async def item(self) -> bytes:
        """The next one, whole."""
        await self.begun()
        octets = b""
        while size := int.from_bytes(await self._reader.readexactly(4), "big"):
            octets += await self._reader.readexactly(size)
        return octets

    def say(self, text: str, end: str = "\0") -> None:
        self.writer.write(f"{text}{end}".encode())

    def answer(self, text: str = "stream: OK") -> None:
        """To the last item."""
        self.say(f"{self.number}: {text}")

    async def until_closed(self) -> None:
        """Nothing more is said; reads nothing."""
        await self.writer.drain()
        while not self._reader.at_eof() and self._reader.exception() is None:
            try:
                await self._reader.read(65536)
            except ConnectionError:
                return


Script = Callable[[Fake], Awaitable[None]]


async def well(fake: Fake) -> None:
    """A clamd that finds what is bad."""
    await fake.opened()
    while True:
        fake.answer("stream: Bad FOUND" if b"BAD" in await fake.item() else "stream: OK")


class Served:
    """How many connections there were, and are."""

    def __init__(self) -> None:
        self.server = ""
        self.connections = 0
        self.now: set[asyncio.Task[None]] = set()

    async def all_closed(self) -> None:
        """The client has closed all."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self.now)


@asynccontextmanager
async def served(*scripts: Script, path: str = "") -> AsyncIterator[Served]:
    """Each connection follows the next script, the last one for all that follow."""
    done = Served()

    async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = scripts[min(done.connections, len(scripts) - 1)]
        done.connections += 1
        task = asyncio.current_task()
        assert task is not None
        done.now.add(task)
        try:
            await script(Fake(reader, writer))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    if path:
        server = await asyncio.start_unix_server(follow, path)
        done.server = f"clamd://{path}"
    else:
        server = await asyncio.start_server(follow, "127.0.0.1", 0)
        done.server = f"clamd://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield done
        await done.all_closed()
    finally:
        server.close()
        for task in done.now:
            task.cancel()


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def scan(scanner: ClamdScanner, server: str, *items: bytes | Given, seconds: float = 20) -> ScanAnswer:
    return await scanner.scan(profile(server, type="clamav"), server, order(), asked(*items), seconds)


def against(loop: str, *scripts: Script, items: tuple[bytes | Given, ...], seconds: float = 20) -> ScanAnswer:
    async def go() -> ScanAnswer:
        async with served(*scripts) as server:
            scanner = ClamdScanner()
            answer = await scan(scanner, server.server, *items, seconds=seconds)
            await scanner.close()
            return answer

    return run(loop, go())


def verdicts(answer: ScanAnswer) -> dict[int, Verdict]:
    return {number: each.found.verdict for number, each in answer.results.items()}


# --- What is no answer -----------------------------------------------------------------------------------


async def _wrong_number(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    fake.say("2: stream: OK")
    await fake.until_closed()


async def _answered_twice(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    fake.answer()
    fake.answer()
    await fake.until_closed()


async def _no_number(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    fake.say("stream: OK")
    await fake.until_closed()


async def _smtp(fake: Fake) -> None:
    fake.say("220 mail.example ESMTP", "\r\n")
    await fake.until_closed()


async def _http(fake: Fake) -> None:
    await fake.opened()
    fake.say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await fake.until_closed()


async def _zeros(fake: Fake) -> None:
    await fake.opened()
    fake.writer.write(bytes(100))
    await fake.until_closed()


async def _endless(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    fake.say("1: stream: ", "")
    while True:
        fake.say("O" * 4096, "")
        await fake.writer.drain()


async def _unknown_text(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    fake.answer("stream: OK?")
    await fake.until_closed()


async def _too_early(fake: Fake) -> None:
    """A verdict on what it has not got whole."""
    await fake.opened()
    await fake.begun()
    fake.answer()
    await fake.until_closed()


@pytest.mark.parametrize(
    "script",
    [_wrong_number, _no_number, _smtp, _http, _zeros, _endless, _unknown_text],
    ids=lambda script: str(script.__name__),
)
def test_garbage_is_no_verdict(loop: str, script: Script) -> None:
    if script is _smtp:
        # It never ends a reply, and does not close either.
        answer = against(loop, script, items=(b"a",), seconds=0.3)
        assert (answer.failure, answer.fault) == (Failure.TIMEOUT, "no verdict within 0.3 s")
    else:
        answer = against(loop, script, items=(b"a",))
        assert (answer.failure, answer.fault) == (Failure.UNREACHABLE, NOT_CLAMD)
    assert verdicts(answer) == {}


def test_a_verdict_before_the_end_of_an_item_is_none(loop: str) -> None:
    answer = against(loop, _too_early, items=(Given(size=20_000_000),))
    assert (answer.failure, answer.fault, verdicts(answer)) == (Failure.UNREACHABLE, NOT_CLAMD, {})


def test_a_server_that_has_lost_count_is_believed_only_in_what_is_bad(loop: str) -> None:
    async def script(fake: Fake) -> None:
        await fake.opened()
        for text in ("stream: OK", "stream: Bad FOUND"):
            await fake.item()
            fake.answer(text)
        fake.say("9: stream: OK")
        await fake.until_closed()

    answer = against(loop, script, items=(b"a", b"b", b"c"))
    assert (answer.failure, answer.fault) == (Failure.UNREACHABLE, NOT_CLAMD)
    assert verdicts(answer) == {1: Verdict.BLOCKED}


def test_an_answer_said_twice_does_not_count_for_another_mail(loop: str) -> None:
    """What was left unread by the mail before makes a session unfit."""

    async def go() -> None:
        async with served(_answered_twice, well) as server:
            scanner = ClamdScanner()
            assert verdicts(await scan(scanner, server.server, b"a")) in ({0: Verdict.CLEAN}, {})
            assert verdicts(await scan(scanner, server.server, b"BAD")) == {0: Verdict.BLOCKED}
            assert server.connections == 2
            await scanner.close()

    run(loop, go())


# --- What breaks off -------------------------------------------------------------------------------------


async def _closes_at_once(fake: Fake) -> None:
    pass


async def _half_a_reply(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    fake.say("1: stream: OK", "")


async def _resets(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    connected = fake.writer.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    fake.writer.transport.abort()


@pytest.mark.parametrize("script", [_closes_at_once, _half_a_reply, _resets], ids=lambda script: str(script.__name__))
def test_a_connection_that_is_lost(loop: str, script: Script) -> None:
    answer = against(loop, script, items=(b"a", b"b"))
    assert (answer.failure, answer.fault, verdicts(answer)) == (Failure.UNREACHABLE, LOST, {})


def test_what_was_told_before_the_loss_holds(loop: str) -> None:
    async def script(fake: Fake) -> None:
        await fake.opened()
        for text in ("stream: Bad FOUND", "stream: OK"):
            await fake.item()
            fake.answer(text)

    answer = against(loop, script, items=(b"a", b"b", b"c", b"d"))
    assert (answer.failure, answer.fault) == (Failure.UNREACHABLE, LOST)
    assert verdicts(answer) == {0: Verdict.BLOCKED, 1: Verdict.CLEAN}


def test_a_server_that_says_that_it_would_not_wait_is_busy(loop: str) -> None:
    async def script(fake: Fake) -> None:
        await fake.opened()
        await fake.item()
        fake.say("COMMAND READ TIMED OUT", "\n")

    answer = against(loop, script, items=(b"a",))
    assert (answer.failure, answer.fault) == (Failure.BUSY, "clamd says: COMMAND READ TIMED OUT")
    assert verdicts(answer) == {}


def test_a_full_queue_is_busy(loop: str) -> None:
    async def script(fake: Fake) -> None:
        await fake.opened()
        await fake.item()
        fake.answer("Queue full. ERROR")
        await fake.until_closed()

    assert against(loop, script, items=(b"a",)).failure is Failure.BUSY


@pytest.mark.parametrize("silent", ["at once", "in an item", "before the reply"])
def test_silence_is_too_slow(loop: str, silent: str) -> None:
    async def script(fake: Fake) -> None:
        if silent == "at once":
            await asyncio.Event().wait()
        await fake.opened()
        if silent == "in an item":
            await fake.begun()
            await asyncio.Event().wait()
        await fake.item()
        await fake.until_closed()

    async def go() -> ScanAnswer:
        async with served(script) as server:
            scanner = ClamdScanner()
            answer = await scan(scanner, server.server, Given(size=8_000_000), seconds=0.4)
            await scanner.close()
            for task in server.now:
                task.cancel()
            await asyncio.gather(*server.now, return_exceptions=True)
            server.now.clear()
            return answer

    answer = run(loop, go())
    assert (answer.failure, answer.fault, verdicts(answer)) == (Failure.TIMEOUT, "no verdict within 0.4 s", {})
    assert 0.35 < answer.seconds < 5


def test_no_server_there(loop: str, tmp_path: Path) -> None:
    async def faults(server: str, seconds: float = 5) -> tuple[str, str]:
        scanner = ClamdScanner()
        answer = await scan(scanner, server, b"a", seconds=seconds)
        assert (answer.failure, verdicts(answer)) == (Failure.UNREACHABLE, {})
        probed = await scanner.probe(profile(server, type="clamav"), server, seconds)
        await scanner.close()
        return answer.fault, probed

    with closed_port() as port:
        assert run(loop, faults(f"clamd://127.0.0.1:{port}")) == ("connection refused", "connection refused")
    missing = f"socket {tmp_path}/none.ctl: no such file or directory"
    assert run(loop, faults(f"clamd://{tmp_path}/none.ctl")) == (missing, missing)
    with deaf_port() as port:
        scanned, probed = run(loop, faults(f"clamd://127.0.0.1:{port}", 0.3))
    assert scanned.startswith("no answer to connect within")
    assert probed.startswith("no")


def test_probe_of_what_is_no_clamd(loop: str) -> None:
    async def pongs(fake: Fake) -> None:
        assert await fake._reader.readuntil(b"\0") == b"zPING\0"
        fake.say("PONG")

    async def probes(script: Script, seconds: float = 5) -> str:
        async with served(script) as server:
            return await ClamdScanner().probe(profile(server.server, type="clamav"), server.server, seconds)

    assert run(loop, probes(pongs)) == ""
    assert run(loop, probes(_smtp, 0.3)) == "no reply to PING within 0.3 s"
    assert run(loop, probes(_closes_at_once)) == LOST
    assert run(loop, probes(_pings_garbage)) == NOT_CLAMD


async def _pings_garbage(fake: Fake) -> None:
    await fake._reader.readuntil(b"\0")
    fake.say("PONG?")


# --- The limit of a stream -------------------------------------------------------------------------------


def test_an_error_in_the_middle_of_an_item_ends_the_session_and_not_the_scan(loop: str) -> None:
    async def limited(fake: Fake) -> None:
        await fake.opened()
        await fake.item()
        fake.answer()
        await fake.begun()
        fake.answer("INSTREAM size limit exceeded. ERROR")

    answer = against(loop, limited, well, items=(b"a", Given(size=30_000_000), b"BAD", b"c"))
    assert answer.fault == ""
    assert verdicts(answer) == {0: Verdict.CLEAN, 1: Verdict.FAILED, 2: Verdict.BLOCKED, 3: Verdict.CLEAN}
    assert answer.results[1].found.failure is Failure.NOT_SCANNED


@contextmanager
def closes_behind_an_error() -> Iterator[tuple[str, threading.Event]]:
    """A server that says that an item is too large and closes, much of it unread, so that the next write fails."""
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                heard = b""
                while b"zINSTREAM" not in heard:
                    heard += connection.recv(1000)
                connection.sendall(b"1: INSTREAM size limit exceeded. ERROR\0")
            closed.set()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"clamd://127.0.0.1:{listening.getsockname()[1]}", closed
        thread.join(10)


def test_an_error_is_heard_even_where_the_next_write_fails_first(loop: str) -> None:
    async def go() -> ScanAnswer:
        with closes_behind_an_error() as (server, closed):
            scanner = ClamdScanner()
            item = Given(size=2_000_000, at_middle=lambda: closed.wait(10))
            answer = await scan(scanner, server, item)
            await scanner.close()
            return answer

    answer = run(loop, go())
    assert (answer.fault, verdicts(answer)) == ("", {0: Verdict.FAILED})


# --- Sessions --------------------------------------------------------------------------------------------


def test_so_many_items_are_under_way_and_no_more(loop: str) -> None:
    most = []

    async def script(fake: Fake) -> None:
        """Answers only when nothing more comes, the last first."""
        await fake.opened()
        while True:
            numbers = []
            try:
                while True:
                    async with asyncio.timeout(0.1):
                        await fake.item()
                    numbers.append(fake.number)
            except TimeoutError:
                most.append(len(numbers))
            for number in reversed(numbers):
                fake.say(f"{number}: stream: {'Bad FOUND' if number == 3 else 'OK'}")

    answer = against(loop, script, items=tuple(b"item %d" % number for number in range(2 * UNDER_WAY)))
    assert verdicts(answer) == {n: Verdict.BLOCKED if n == 2 else Verdict.CLEAN for n in range(2 * UNDER_WAY)}
    assert [n for n in most if n] == [UNDER_WAY, UNDER_WAY]


def test_a_kept_session_that_was_closed_costs_one_silent_retry(loop: str, tmp_path: Path) -> None:
    async def closes_at_the_second(fake: Fake) -> None:
        await fake.opened()
        await fake.item()
        fake.answer()
        await fake.item()

    async def go(path: str) -> None:
        async with served(closes_at_the_second, well, path=path) as server:
            scanner = ClamdScanner()
            assert verdicts(await scan(scanner, server.server, b"a")) == {0: Verdict.CLEAN}
            answer = await scan(scanner, server.server, b"BAD", b"c")
            assert (answer.fault, verdicts(answer)) == ("", {0: Verdict.BLOCKED, 1: Verdict.CLEAN})
            assert server.connections == 2
            await scanner.close()

    run(loop, go(""))
    run(loop, go(str(tmp_path / "clamd.ctl")))


def test_a_fresh_session_that_is_lost_is_the_fault_of_the_server(loop: str) -> None:
    """Not tried for ever: a stale session is retried, a fresh one is not."""

    async def go() -> None:
        async with served(_once_then_lost, _half_a_reply) as server:
            scanner = ClamdScanner()
            assert verdicts(await scan(scanner, server.server, b"a")) == {0: Verdict.CLEAN}
            answer = await scan(scanner, server.server, b"b")
            assert (answer.failure, verdicts(answer)) == (Failure.UNREACHABLE, {})
            assert server.connections == 2
            await scanner.close()

    run(loop, go())


async def _once_then_lost(fake: Fake) -> None:
    await fake.opened()
    await fake.item()
    fake.answer()
    await fake.item()


def test_idle_sessions_are_closed(loop: str) -> None:
    async def go() -> None:
        async with served(well) as server:
            scanner = ClamdScanner(kept_seconds=0.1)
            await asyncio.gather(*(scan(scanner, server.server, b"a") for _ in range(3)))
            assert server.connections == 3
            await server.all_closed()
            await scan(scanner, server.server, b"a")
            assert server.connections == 4
            await scanner.close()

    run(loop, go())


def test_mails_beyond_the_bound_wait_for_a_session(loop: str) -> None:
    async def go() -> None:
        async with served(well) as server:
            scanner = ClamdScanner()
            answers = await asyncio.gather(
                *(scan(scanner, server.server, b"mail %d" % n) for n in range(3 * SESSIONS))
            )
            assert [verdicts(answer) for answer in answers] == [{0: Verdict.CLEAN}] * (3 * SESSIONS)
            assert server.connections == SESSIONS
            await scanner.close()

    run(loop, go())


def test_a_mail_that_gets_no_session_in_its_time_finds_the_server_busy(loop: str) -> None:
    async def go() -> None:
        release = asyncio.Event()

        async def script(fake: Fake) -> None:
            await fake.opened()
            await fake.item()
            await release.wait()
            fake.answer()
            await fake.until_closed()

        async with served(script) as server:
            scanner = ClamdScanner()
            slow = [asyncio.ensure_future(scan(scanner, server.server, b"a")) for _ in range(SESSIONS)]
            await asyncio.sleep(0)
            answer = await scan(scanner, server.server, b"b", seconds=0.2)
            assert (answer.failure, answer.fault) == (Failure.BUSY, "no session became free within 0.2 s")
            release.set()
            assert [(await each).fault for each in slow] == [""] * SESSIONS
            await scanner.close()

    run(loop, go())


@pytest.mark.parametrize("size", [10, 50_000_000])
def test_cancelled_it_leaves_nothing_open(loop: str, size: int) -> None:
    async def go() -> None:
        reading = asyncio.Event()

        async def script(fake: Fake) -> None:
            await fake.opened()
            await fake.begun()
            reading.set()
            await fake.until_closed()

        async with served(script) as server:
            scanner = ClamdScanner()
            scanning = asyncio.ensure_future(scan(scanner, server.server, Given(size=size)))
            await reading.wait()
            scanning.cancel()
            await asyncio.wait([scanning])
            assert scanning.cancelled()
            await server.all_closed()

    run(loop, go())


def test_closed_it_ends_what_is_being_scanned_and_opens_nothing_more(loop: str) -> None:
    async def go() -> None:
        reading = asyncio.Event()

        async def script(fake: Fake) -> None:
            await fake.opened()
            await fake.item()
            reading.set()
            await fake.until_closed()

        async with served(script) as server:
            scanner = ClamdScanner()
            scanning = asyncio.ensure_future(scan(scanner, server.server, b"a"))
            await reading.wait()
            await scanner.close()
            answer = await scanning
            assert (answer.failure, answer.fault, verdicts(answer)) == (Failure.UNREACHABLE, LOST, {})
            assert (await scan(scanner, server.server, b"b")).failure is Failure.UNREACHABLE
            assert server.connections == 1

    run(loop, go())


def test_octets_that_cannot_be_read_end_the_scan_and_its_session(loop: str) -> None:
    class Unreadable(Given):
        def pieces(self) -> Iterator[bytes]:
            yield b"half"
            raise ContentUnreadable("content cannot be read here")

    async def go() -> None:
        async with served(well) as server:
            scanner = ClamdScanner()
            with pytest.raises(ContentUnreadable):
                await scan(scanner, server.server, Unreadable(size=8))
            await server.all_closed()
            assert verdicts(await scan(scanner, server.server, b"BAD")) == {0: Verdict.BLOCKED}
            assert server.connections == 2
            await scanner.close()

    run(loop, go())


def test_an_empty_piece_does_not_end_an_item(loop: str) -> None:
    class Odd(Given):
        def pieces(self) -> Iterator[bytes]:
            yield b"first"
            yield b""
            yield b"BAD"

    answer = against(loop, well, items=(Odd(size=8), Given(size=0)))
    assert verdicts(answer) == {0: Verdict.BLOCKED, 1: Verdict.CLEAN}


def test_nothing_to_scan_needs_no_server(loop: str) -> None:
    with closed_port() as port:
        answer = run(loop, scan(ClamdScanner(), f"clamd://127.0.0.1:{port}"))
    assert (answer.fault, verdicts(answer)) == ("", {})
