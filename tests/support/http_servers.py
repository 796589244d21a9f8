"""HTTP servers for tests: what they answer is a function, and their TLS may be as `tls_servers` has it.

    with http_server(MockCore().answer, ServerKind.EXPIRED) as server:
        ...  # server.specification, server.ca, server.pin, server.requests

Each request is recorded before it is answered; every thread has ended after the block.
"""

import contextlib
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.tls_servers import ServerKind, issue, pin_of, server_context, trusted_ca

_SECONDS = 20.0
"""A test that hangs longer than this is broken."""


@dataclass(frozen=True, slots=True)
class Request:
    """What came."""

    method: str
    path: str
    """With its query."""
    fields: Mapping[str, str]
    """By name in lower case."""
    body: bytes = b""
    """Of the length that its Content-Length tells."""
    port: int = 0
    """Of the client's end: the same for requests over one connection."""


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back: a document as JSON, or octets as they are."""

    status: int
    document: object = None
    octets: bytes | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    """Told instead of the true one; nothing more comes."""
    dies: bool = False
    """The connection ends then."""

    @property
    def body(self) -> bytes:
        return self.octets if self.octets is not None else json.dumps(self.document).encode()


Respond = Callable[[Request], Response]


@dataclass
class HttpServer:
    """A server at work."""

    port: int
    scheme: str
    ca: str = ""
    pin: str = ""
    requests: list[Request] = field(default_factory=list)
    closed_port: Callable[[], AbstractContextManager[None]] = nullcontext
    """While the block runs its port refuses connections; those that are open stay."""

    @property
    def specification(self) -> str:
        """Its specification without a path."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: each answer would take 40 ms
    server: "_Server"

    def setup(self) -> None:
        self.request.settimeout(_SECONDS)
        if self.server.context is not None:
            self.request = self.server.context.wrap_socket(
                self.request, server_side=True, do_handshake_on_connect=False
            )
        super().setup()

    def handle(self) -> None:
        try:
            if isinstance(self.request, ssl.SSLSocket):
                self.request.do_handshake()
            super().handle()
        except OSError:
            self._drain()

    def _drain(self) -> None:
        """Reads on until the client closes: a reset might overtake the alert that says what was wrong."""
        with contextlib.suppress(OSError):
            if isinstance(self.request, ssl.SSLSocket):
                self.request = socket.socket(fileno=self.request.detach())
            self.request.settimeout(_SECONDS)
            self.request.shutdown(socket.SHUT_WR)
            while self.request.recv(65536):
                pass
        self.request.close()

    def do_GET(self) -> None:
        fields = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(fields.get("content-length", "0")))
        request = Request(self.command, self.path, fields, body, self.client_address[1])
        self.server.record.requests.append(request)
        response = self.server.respond(request)
        self.send_response(response.status)
        for name, value in {"Content-Type": "application/json", **response.fields}.items():
            self.send_header(name, value)
        length = len(response.body) if response.length is None else response.length
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(response.body)
        if response.length is not None:
            self.wfile.flush()
            if not response.dies:
                self.server.ending.wait(_SECONDS)
            self.close_connection = True

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # http.server's

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.request.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, respond: Respond, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond, self.context = respond, context
        self.ending = threading.Event()
        self.record: HttpServer
        self._thread = threading.Thread()

    def begin(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self._thread.join(_SECONDS)

    @contextmanager
    def closed_port(self) -> Iterator[None]:
        self.end()
        self.socket.close()
        try:
            yield
        finally:
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()
            self.server_activate()
            self.begin()


@contextmanager
def http_server(respond: Respond, kind: ServerKind | None = None) -> Iterator[HttpServer]:
    """Listens on 127.0.0.1; `kind` None: without TLS."""
    with contextlib.ExitStack() as stack:
        context, ca, pin = None, "", ""
        if kind is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="posthouse-http-")))
            ca = str(folder / "ca.pem")
            trusted_ca().cert_pem.write_to_path(ca)
            certificate, key = issue(kind, folder)
            context, pin = server_context(kind, certificate, key), pin_of(certificate)
        server = _Server(respond, context)
        server.record = HttpServer(server.server_address[1], "http" if kind is None else "https", ca, pin)
        server.record.closed_port = server.closed_port
        server.begin()
        try:
            yield server.record
        finally:
            server.ending.set()
            server.end()
            server.server_close()
