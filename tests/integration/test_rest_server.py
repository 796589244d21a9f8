"""The console process on a real socket: bounds that only a real server has, and its end."""

import json
import socket

import httpx2
import pytest

from support.rest import Rest
from support.served import served


def _ask(address: str, octets: bytes) -> bytes:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(octets)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_a_request_is_answered_and_stdout_stays_empty(capfd: pytest.CaptureFixture[str]) -> None:
    rest = Rest()
    with served(rest) as address:
        answer = httpx2.get(
            f"{address}/api/v1/queue",
            headers={"Authorization": f"Bearer {rest.secrets['operator']}"},
            trust_env=False,
        )
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert capfd.readouterr().out == ""


def test_a_chunked_body_beyond_the_bound_is_413() -> None:
    rest = Rest()
    with served(rest) as address:
        answer = httpx2.post(
            f"{address}/api/v1/config/diff",
            content=(b" " * 65536 for _ in range(140)),
            headers={"Authorization": f"Bearer {rest.secrets['operator']}", "Content-Type": "application/json"},
            trust_env=False,
        )
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "request_octets",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /api/v1/mails HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET /api/v1/mails/%zz%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_no_octets_make_a_server_error(request_octets: bytes) -> None:
    with served(Rest()) as address:
        status = _ask(address, request_octets).split(b" ", 2)[1]
    assert status.startswith(b"4")


def test_a_worker_report_that_comes_while_waiting_is_in_the_answer() -> None:
    rest = Rest(wait_seconds=3.0)
    with served(rest) as address:
        answer = httpx2.post(
            f"{address}/api/v1/queue/retry",
            content=json.dumps({"all": True}),
            headers={"Authorization": f"Bearer {rest.secrets['operator']}", "Content-Type": "application/json"},
            trust_env=False,
        )
    assert answer.json()["complete"] is True
