"""Workloads d1 and d2: one mail after the other, from the client's final dot until the next hop has it.

Client and next hop are two processes of ours that read the same clock; a session with HELO and no pipelining for each
mail; in d2 the machine is idle for a while between two, and everybody's caches are cold.
"""

import multiprocessing
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import product
from multiprocessing.connection import Connection

from benchmarks.figures import Figures
from benchmarks.node import posthouse

from support.peers import postfix

MAILS, OCTETS = 100, 4096
PAUSES = {"d1": 0.0, "d2": 0.02}
"""Seconds between mails."""
HOW = "client and next hop in Python, one clock, interleaved rounds"
_WARM_UP = 300
"""Until a write-ahead log has been filled once, as in a node that has run for some minutes."""
_PATIENCE = 20.0
_DOT = b"\r\n.\r\n"


def measure(rounds: int, scale: float, workers: int) -> list[Figures]:
    """All peers in turn in every round."""
    mails = max(10, int(MAILS * scale))
    starts: dict[str, Callable[[int], AbstractContextManager[int]]] = {
        "direct": _direct,
        "postfix": _postfix,
        "posthouse": lambda port: _posthouse(port, workers),
    }
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {(w, name): [] for w in PAUSES for name in starts}
    failed = dict.fromkeys(taken, 0)
    with ExitStack() as stack:
        live = {}
        for name, start in starts.items():
            port, arrivals = stack.enter_context(next_hop())
            live[name] = stack.enter_context(start(port)), arrivals
            _send(*live[name], _WARM_UP, 0.0)
        for _, work, name in product(range(rounds), PAUSES, live):
            try:
                taken[work, name].append(_summary(_send(*live[name], mails, PAUSES[work])))
            except (AssertionError, OSError) as fault:
                failed[work, name] += 1
                print(f"{work} {name}: {fault}", file=sys.stderr)
    return [
        Figures(work, name, failed[work, name], latency_ms=tuple(latencies))
        for (work, name), latencies in taken.items()
    ]


def _summary(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * statistics.median(ordered), 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def _send(port: int, arrivals: Connection, mails: int, pause: float) -> list[float]:
    """Seconds from final dot to arrival, of each."""
    line = b"x" * 76 + b"\r\n"
    content = b"Subject: latency\r\n\r\n" + line * ((OCTETS - 20) // len(line)) + b"end"
    found = []
    for _ in range(mails):
        with socket.create_connection(("127.0.0.1", port), _PATIENCE) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _expect(client, b"220")
            for command, code in (
                (b"HELO client.invalid", b"250"),
                (b"MAIL FROM:<a@bench.invalid>", b"250"),
                (b"RCPT TO:<b@bench.invalid>", b"250"),
                (b"DATA", b"354"),
            ):
                client.sendall(command + b"\r\n")
                _expect(client, code)
            client.sendall(content)
            time.sleep(0.002)  # the content is there: what is timed begins with the dot
            sent = time.monotonic()
            client.sendall(_DOT)
            _expect(client, b"250")
            client.sendall(b"QUIT\r\n")
            _expect(client, b"221")
        assert arrivals.poll(_PATIENCE), "a mail did not arrive"
        found.append(arrivals.recv() - sent)
        time.sleep(pause)
    return found


def _expect(client: socket.socket, code: bytes) -> None:
    said = b""
    while not said.endswith(b"\n"):
        more = client.recv(4096)
        assert more, "the relay closed the connection"
        said += more
    assert said.startswith(code), said.decode("latin-1")


@contextmanager
def next_hop() -> Iterator[tuple[int, Connection]]:
    """Port, and where the moment of every arrival comes out."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_receive, args=(listening, theirs), daemon=True)
    process.start()
    port = listening.getsockname()[1]
    listening.close()
    try:
        yield port, ours
    finally:
        process.kill()
        process.join()


def _receive(listening: socket.socket, arrivals: Connection) -> None:
    """As little of a next hop as will do: pipelining, and every command is answered well."""
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    buffers: dict[socket.socket, bytes] = {}
    in_content: set[socket.socket] = set()
    while True:
        for key, _ in selector.select():
            if key.fileobj is listening:
                client, _ = listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                buffers[client] = b""
                selector.register(client, selectors.EVENT_READ)
                client.sendall(b"220 next.invalid\r\n")
                continue
            assert isinstance(key.fileobj, socket.socket)
            client = key.fileobj
            try:
                octets = client.recv(65536)
            except ConnectionResetError:
                octets = b""
            if not octets:
                selector.unregister(client)
                client.close()
                del buffers[client]
                continue
            buffers[client] += octets
            _answer(client, buffers, in_content, arrivals)


def _answer(
    client: socket.socket, buffers: dict[socket.socket, bytes], in_content: set[socket.socket], arrivals: Connection
) -> None:
    said = b""
    while buffers[client]:
        if client in in_content:
            _, dot, rest = buffers[client].partition(_DOT)
            if not dot:
                break
            arrivals.send(time.monotonic())
            in_content.discard(client)
            said += b"250 2.0.0 taken\r\n"
        else:
            line, end, rest = buffers[client].partition(b"\r\n")
            if not end:
                break
            verb = line[:4].upper()
            if verb == b"DATA":
                in_content.add(client)
            said += {
                b"EHLO": b"250-next.invalid\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                b"DATA": b"354 go on\r\n",
                b"QUIT": b"221 2.0.0 bye\r\n",
            }.get(verb, b"250 2.0.0 ok\r\n")
        buffers[client] = rest
    if said:
        client.sendall(said)


@contextmanager
def _direct(port: int) -> Iterator[int]:
    """No relay: what client and next hop need themselves."""
    yield port


@contextmanager
def _postfix(port: int) -> Iterator[int]:
    with postfix(port) as peer:
        yield peer.port


@contextmanager
def _posthouse(port: int, workers: int) -> Iterator[int]:
    with posthouse(port, workers) as node:
        yield node.port
