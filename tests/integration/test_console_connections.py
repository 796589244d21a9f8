"""Connections to the console that ask nothing: they are closed, so that nobody keeps it shut without a key."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from posthouse import tls
from posthouse.web import connections, server
from support.rest import Rest
from support.served import served

ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)


@contextmanager
def connected(address: str) -> Iterator[socket.socket]:
    host, port = address.split("://")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        yield connection


def end_of(connection: socket.socket) -> bytes:
    """What still comes before the server closes."""
    answer = b""
    try:
        while chunk := connection.recv(65536):
            answer += chunk
    except ConnectionError:
        pass
    return answer


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost:"])
def test_a_connection_without_a_request_is_closed(said: bytes) -> None:
    with served(Rest()) as address, connected(address) as connection:
        connection.sendall(said)
        assert end_of(connection) == b""


@pytest.mark.parametrize(
    ("asked", "drop"),
    [
        (ASKED, b"G"),
        (b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"x"),
    ],
)
def test_octets_that_drip_after_an_answer_keep_nothing_open(asked: bytes, drop: bytes) -> None:
    with served(Rest()) as address, connected(address) as connection:
        connection.sendall(asked)
        assert connection.recv(65536).startswith(b"HTTP/1.1 ")
        began = time.monotonic()
        connection.settimeout(0.05)
        while time.monotonic() < began + 20:
            try:
                connection.sendall(drop)
                if not connection.recv(65536):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() < began + 4, "uvicorn's own patience"


def test_an_answer_may_take_longer_than_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is for heads; a TEST under way is no idle connection."""
    rest = Rest()
    slow = rest.accounts.authenticate

    def authenticate(secret: str) -> object:
        time.sleep(0.8)
        return slow(secret)

    monkeypatch.setattr(rest.accounts, "authenticate", authenticate)
    fields = {"Authorization": f"Bearer {rest.secrets['operator']}"}
    with served(rest) as address, httpx2.Client(base_url=address, headers=fields, trust_env=False) as client:
        assert client.get("/api/v1/queue").status_code == 200
        assert client.get("/api/v1/queue").status_code == 200


def test_a_handshake_that_does_not_begin_is_given_up(tmp_path: Path) -> None:
    context = tls.server_context(*tls.ensure_digital_id(str(tmp_path), "mx.example"))
    with served(Rest(), context) as address:
        with connected(address) as connection:
            assert end_of(connection) == b""
        with connected(address) as connection:
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
            with client.wrap_socket(connection) as secured:
                secured.sendall(ASKED)
                assert secured.recv(65536).startswith(b"HTTP/1.1 200")


def test_one_address_has_so_many_connections_and_loopback_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 20.0)
    monkeypatch.setattr(connections, "MOST_OF_ONE_ADDRESS", 2)
    with served(Rest()) as address:
        for loopback in (True, False):
            monkeypatch.setattr(connections, "is_loopback", lambda _, loopback=loopback: loopback)
            with connected(address) as first, connected(address) as second, connected(address) as third:
                answers = []
                for each in (first, second, third):
                    try:
                        each.sendall(ASKED)
                        answers.append(each.recv(65536)[:12])
                    except ConnectionError:
                        answers.append(b"")
                assert answers == [b"HTTP/1.1 200"] * 2 + [b"HTTP/1.1 200" if loopback else b""]


def test_what_loopback_is() -> None:
    assert connections.is_loopback("127.0.0.9")
    assert connections.is_loopback("::1")
    assert not connections.is_loopback("192.0.2.1")
    assert not connections.is_loopback("a.sock")
