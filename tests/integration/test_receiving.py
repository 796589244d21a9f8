"""Real senders over real sockets: smtplib, swaks and smtp-source, on uvloop and on plain asyncio."""

import asyncio
import smtplib
import socket
import ssl
import struct
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
import uvloop

from posthouse import tls
from posthouse.core.limits import Limits
from posthouse.inbound.listener import Listeners
from posthouse.ports import SystemClock
from posthouse.settings import Address, ListenerSettings, ListenerTls, NodeSettings
from support.peers import need
from support.receiving import QUEUED, MemoryReception, assert_wire_form

LOCAL = (ip_network("127.0.0.0/8"),)
V1 = b"PROXY TCP4 192.0.2.9 10.0.0.1 1234 25\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"
    + socket.inet_aton("192.0.2.9")
    + socket.inet_aton("10.0.0.1")
    + struct.pack(">HH", 1234, 25)
)
MESSAGE = b"Subject: hello\r\n\r\n.a line with a dot\r\n"
LOOPS = pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
Loop = Callable[[], asyncio.AbstractEventLoop]


class Receiver:
    """Listeners on a loop of their own thread's choosing: the test's client runs beside, in a thread."""

    def __init__(self, loop: Loop, settings: ListenerSettings, folder: Path, limits: Limits | None = None) -> None:
        self.reception = MemoryReception()
        self._loop = loop
        self._node = NodeSettings("mx.example", limits=limits or Limits(), listeners=(settings,))
        self._context = tls.server_context(*tls.ensure_digital_id(str(folder), "mx.example"))

    def run(self, client: Callable[[int], None], then: Callable[[Listeners], Awaitable[None]] | None = None) -> None:
        """Serves while `client(port)` runs, does `then`, drains; what they raise is raised here."""
        with asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(self._serve(client, then))

    async def _serve(
        self, client: Callable[[int], None], then: Callable[[Listeners], Awaitable[None]] | None
    ) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            bound.listen()
            bound.setblocking(False)
            listeners = Listeners(
                sockets=[bound],
                settings=self._node,
                reception=self.reception,
                tls_contexts=[self._context],
                clock=SystemClock(),
            )
            await listeners.start()
            try:
                await asyncio.get_running_loop().run_in_executor(None, client, bound.getsockname()[1])
                if then is not None:
                    await then(listeners)
            finally:
                await listeners.drain(5)  # also on failure: the loop must not outlive its socket
            assert listeners.sessions_open == 0


def settings(mode: ListenerTls = ListenerTls.NONE, *, proxy: bool = False, xclient: bool = False) -> ListenerSettings:
    return ListenerSettings(
        Address("127.0.0.1", 0),
        mode,
        proxy_protocol_from=LOCAL if proxy else (),
        xclient_from=LOCAL if xclient else (),
    )


def trusting() -> ssl.SSLContext:
    """A client's context that takes our self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def send(client: smtplib.SMTP) -> None:
    client.sendmail("a@sender.example", ["you@inside.example"], MESSAGE)


def wires(reception: MemoryReception) -> list[bytes]:
    return [b"".join(sink.pieces) for sink in reception.sinks]


@contextmanager
def raw(port: int, first: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        if first:
            connection.sendall(first)
        yield connection


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What comes until `mark` is in it, or the end."""
    seen = b""
    while mark not in seen:
        more = connection.recv(65536)
        if not more:
            break
        seen += more
    return seen


@LOOPS
def test_smtplib_sends_in_clear(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(), tmp_path)

    def client(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as smtp:
            send(smtp)
            send(smtp)

    receiver.run(client)
    assert wires(receiver.reception) == [b"Subject: hello\r\n\r\n..a line with a dot\r\n.\r\n"] * 2
    facts = receiver.reception.mails[0][0]
    assert (facts.client_address, facts.helo, facts.protocol) == ("127.0.0.1", "client.example", "ESMTP")


@LOOPS
def test_smtplib_sends_under_starttls_that_is_required(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(ListenerTls.STARTTLS_REQUIRED), tmp_path)

    def client(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
            smtp.ehlo()
            assert smtp.mail("a@sender.example")[0] == 530
            smtp.starttls(context=trusting())
            assert smtp.mail("a@sender.example")[0] == 503  # the name given in clear is forgotten
            smtp.ehlo()
            assert not smtp.has_extn("starttls")
            assert smtp.docmd("STARTTLS")[0] == 503
            send(smtp)

    receiver.run(client)
    facts = receiver.reception.mails[0][0]
    assert facts.protocol == "ESMTPS"
    assert facts.tls.startswith("TLSv1.3 TLS_")


@LOOPS
def test_smtplib_sends_under_implicit_tls(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(ListenerTls.IMPLICIT), tmp_path)

    def client(port: int) -> None:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=trusting(), timeout=20) as smtp:
            send(smtp)

    receiver.run(client)
    assert receiver.reception.mails[0][0].protocol == "ESMTPS"


@LOOPS
def test_octets_behind_starttls_end_the_connection(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(ListenerTls.STARTTLS_OPTIONAL), tmp_path)

    def client(port: int) -> None:
        with raw(port) as connection:
            read_until(connection, b"\r\n")
            connection.sendall(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@sender.example>\r\n")
            answer = read_until(connection, b"never")
            assert answer.startswith(b"554 ")
            assert answer.count(b"\r\n") == 1

    receiver.run(client)


@LOOPS
@pytest.mark.parametrize("how", ["no-hello", "half-a-hello", "closed", "reset"])
def test_failed_handshake_ends_the_connection_only(loop: Loop, how: str, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(ListenerTls.STARTTLS_OPTIONAL), tmp_path)

    def client(port: int) -> None:
        with raw(port, b"STARTTLS\r\n") as connection:
            read_until(connection, b"Ready to start TLS\r\n")
            if how == "no-hello":
                connection.sendall(b"this is no TLS hello\r\n")
                assert b"250" not in read_until(connection, b"never")
            elif how == "half-a-hello":
                connection.sendall(b"\x16\x03\x01\x02\x00\x01")
            elif how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
            send(smtp)

    receiver.run(client)
    assert len(receiver.reception.mails) == 1


@LOOPS
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("mode", [ListenerTls.NONE, ListenerTls.IMPLICIT], ids=["clear", "implicit"])
def test_proxy_header_names_the_client_also_before_tls(
    loop: Loop, header: bytes, mode: ListenerTls, tmp_path: Path
) -> None:
    receiver = Receiver(loop, settings(mode, proxy=True), tmp_path)

    def client(port: int) -> None:
        for cut in (0, 5, len(header) - 1):
            with raw(port, header[:cut]) as plain:
                plain.sendall(header[cut:])
                connection: socket.socket = trusting().wrap_socket(plain) if mode is ListenerTls.IMPLICIT else plain
                smtp = smtplib.SMTP(timeout=20)
                smtp.sock = connection
                assert smtp.getreply()[0] == 220
                send(smtp)
                smtp.quit()

    receiver.run(client)
    facts = [mail[0] for mail in receiver.reception.mails]
    assert [(f.client_address, f.client_port, f.peer_address) for f in facts] == [
        ("192.0.2.9", 1234, "127.0.0.1")
    ] * 3


@LOOPS
def test_tls_hello_in_one_segment_with_the_proxy_header_is_not_lost(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(ListenerTls.IMPLICIT, proxy=True), tmp_path)

    def client(port: int) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = trusting().wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            secured.do_handshake()
        with raw(port, V2 + outgoing.read()) as connection:
            while True:
                incoming.write(connection.recv(65536))
                try:
                    secured.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            connection.sendall(outgoing.read())
            while True:
                try:
                    assert secured.read(4) == b"220 "
                    break
                except ssl.SSLWantReadError:
                    incoming.write(connection.recv(65536))

    receiver.run(client)


@LOOPS
def test_connection_without_the_proxy_header_due_is_closed_without_a_word(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(proxy=True), tmp_path)

    def client(port: int) -> None:
        with raw(port, b"EHLO client.example\r\n") as connection:
            try:
                assert read_until(connection, b"never") == b""
            except ConnectionResetError:
                pass

    receiver.run(client)


@LOOPS
def test_client_behind_the_load_balancer_may_not_use_xclient_though_the_load_balancer_might(
    loop: Loop, tmp_path: Path
) -> None:
    receiver = Receiver(loop, settings(proxy=True, xclient=True), tmp_path)

    def client(port: int) -> None:
        with raw(port, V1) as connection:
            read_until(connection, b"\r\n")
            connection.sendall(b"EHLO evil.example\r\nXCLIENT ADDR=10.1.2.3\r\nQUIT\r\n")
            answer = read_until(connection, b"221 ")
            assert b"250-XCLIENT" not in answer
            assert b"250 XCLIENT" not in answer
            assert b"550 5.7.0" in answer

    receiver.run(client)


@LOOPS
def test_early_talk_is_answered_only_behind_the_greeting(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(), tmp_path)

    def client(port: int) -> None:
        with raw(port, b"EHLO t.example\r\nMAIL FROM:<a@sender.example>\r\nQUIT\r\n") as connection:
            answer = read_until(connection, b"221 ")
            assert answer.startswith(b"220 mx.example ")

    receiver.run(client)


@LOOPS
def test_client_that_reads_no_replies_does_not_grow_memory(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(), tmp_path, Limits(idle_commands=100_000))

    def client(port: int) -> None:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(1.0)
            connection.connect(("127.0.0.1", port))
            sent = 0
            try:
                for _ in range(2000):
                    sent += connection.send(b"HELP\r\n" * 10_000)
            except TimeoutError:
                pass
            else:
                raise AssertionError(f"{sent} octets were read from a client that reads nothing")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    receiver.run(client)


@LOOPS
def test_drain_tells_idle_sessions_and_lets_an_open_transaction_end(loop: Loop, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(), tmp_path)
    idle: list[socket.socket] = []
    busy: list[socket.socket] = []

    def client(port: int) -> None:
        for kept, octets, mark in (
            (idle, b"EHLO t.example\r\n", b"CHUNKING\r\n"),
            (busy, b"EHLO t.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n", b"354 "),
        ):
            connection = socket.create_connection(("127.0.0.1", port), 20)
            kept.append(connection)
            read_until(connection, b"\r\n")
            connection.sendall(octets)
            read_until(connection, mark)

    async def drained(listeners: Listeners) -> None:
        running = asyncio.get_running_loop()
        draining = running.create_task(listeners.drain(20))
        told = await running.run_in_executor(None, read_until, idle[0], b"never")
        assert told.startswith(b"421 4.3.2")
        assert not draining.done()
        busy[0].sendall(b"x\r\n.\r\n")
        answer = await running.run_in_executor(None, read_until, busy[0], b"never")
        assert answer.endswith(QUEUED.encode() + b"421 4.3.2 Service shutting down\r\n")
        await draining
        assert listeners.sessions_open == 0

    receiver.run(client, drained)
    for connection in (*idle, *busy):
        connection.close()
    assert len(receiver.reception.mails) == 1


@LOOPS
@pytest.mark.parametrize("first", [V1[:9], V1 + b"STARTTLS\r\n"], ids=["header", "handshake"])
def test_drain_ends_connections_that_are_no_session_yet(loop: Loop, first: bytes, tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(ListenerTls.STARTTLS_OPTIONAL, proxy=True), tmp_path)
    pending: list[socket.socket] = []

    def client(port: int) -> None:
        pending.append(socket.create_connection(("127.0.0.1", port), 20))
        pending[0].sendall(first)
        if first.endswith(b"\n"):
            read_until(pending[0], b"Ready to start TLS\r\n")
        with raw(
            port, V1
        ) as later:  # connections are taken in their order: once this one is greeted, so is the other
            read_until(later, b"220 ")

    async def drained(listeners: Listeners) -> None:
        await listeners.drain(20)

    receiver.run(client, drained)
    with pending[0]:
        try:
            assert read_until(pending[0], b"never") in (b"", b"421 4.3.2 Service shutting down\r\n")
        except ConnectionResetError:
            pass


@LOOPS
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--pipeline"],
        ["--xclient", "ADDR=203.0.113.9 HELO=real.example PROTO=ESMTP"],
        ["--proxy", "TCP4 203.0.113.9 10.0.0.1 1234 25"],
    ],
    ids=["clear", "pipelined", "xclient", "proxy"],
)
def test_swaks_sends(loop: Loop, options: list[str], tmp_path: Path) -> None:
    proxy, xclient = "--proxy" in options, "--xclient" in options
    receiver = Receiver(loop, settings(proxy=proxy, xclient=xclient), tmp_path)
    swaks = need("swaks", "swaks")

    def client(port: int) -> None:
        command = [swaks, "-s", "127.0.0.1", "-p", str(port), "-f", "a@sender.example", "-t", "you@inside.example"]
        done = subprocess.run(
            [*command, "--body", "hello", *options],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    receiver.run(client)
    ((facts, envelope, _),) = receiver.reception.mails
    assert envelope.reverse_path == "a@sender.example"
    assert facts.client_address == ("203.0.113.9" if proxy or xclient else "127.0.0.1")
    assert_wire_form(wires(receiver.reception)[0])


@LOOPS
@pytest.mark.parametrize("options", [[], ["-d"], ["-c"]], ids=["one-per-session", "many-per-session", "counting"])
def test_smtp_source_sends_many(loop: Loop, options: list[str], tmp_path: Path) -> None:
    receiver = Receiver(loop, settings(), tmp_path)
    source = need("smtp-source", "postfix")

    def client(port: int) -> None:
        command = [
            source,
            "-s",
            "10",
            "-m",
            "200",
            "-l",
            "4096",
            "-f",
            "a@sender.example",
            "-t",
            "you@inside.example",
        ]
        done = subprocess.run(
            [*command, *options, f"inet:127.0.0.1:{port}"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    receiver.run(client)
    assert len(receiver.reception.mails) == 200
    for wire in wires(receiver.reception):
        assert_wire_form(wire)
