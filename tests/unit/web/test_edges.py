"""Problem details, Host allow-list, bounds, the addresses without login, and garbage."""

import json
import random
import re
from collections.abc import Iterator

import pytest

from posthouse.settings import Address, NodeSettings
from posthouse.web.gate import BODY_OCTETS, HostList
from support.rest import Rest


def test_a_problem_has_the_shape_of_rfc_9457() -> None:
    answer = Rest().client().get("/api/v1/mails?limit=many&status=lost")
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["status"]) == ("about:blank", 422)
    assert {"title", "detail", "errors"} <= set(problem)
    assert [(e["field"], e["value"]) for e in problem["errors"]] == [("status", "lost"), ("limit", "many")]
    assert "relayed" in problem["errors"][0]["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/api/v1/nosuch", 404), ("PUT", "/api/v1/queue", 405)]
)
def test_paths_and_methods_that_do_not_exist_are_problems_too(method: str, path: str, status: int) -> None:
    answer = Rest().client().request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_refused_method_is_told_which_ones_there_are() -> None:
    for path, methods in (("rules", "GET, POST"), ("rules/inbound", "DELETE, GET, PUT"), ("queue", "GET")):
        answer = Rest().client().request("PATCH", f"/api/v1/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    allowed = Rest().client().post("/api/v1/openapi.json").headers["allow"]
    assert set(allowed.split(", ")) == {"GET", "HEAD"}


def test_a_fault_in_a_secret_is_not_echoed() -> None:
    document = {"server_profiles": [{"name": "a", "type": "smtp", "servers": ["x"], "password": ["hunter2"]}]}
    assert "hunter2" not in Rest().client().post("/api/v1/config/diff", json=document).text


def test_a_bug_is_told_as_a_problem_with_an_id_and_without_details() -> None:
    rest = Rest()

    def broken() -> None:
        raise RuntimeError("secret detail")

    rest.history.queue = broken  # type: ignore[method-assign, assignment]
    answer = rest.client().get("/api/v1/queue")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret detail" not in answer.text
    assert "id" in answer.json()["detail"]


# --- host and size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8025", "[::1]:8025", "LOCALHOST:1", "console.example"])
def test_hosts_of_the_list_are_served(host: str) -> None:
    answer = Rest(hosts=("console.example",)).client().get("/healthz", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "", "127.0.0.1.evil.example", "[::1", "10.0.0.1", "localhost:80:80", "localhost@evil", "[::1]x"],
)
def test_other_hosts_are_misdirected(host: str) -> None:
    answer = Rest().client().get("/api/v1/mails", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_console_beyond_loopback_may_be_addressed_by_address_but_not_by_any_name() -> None:
    hosts = HostList(Address("0.0.0.0", 8025), ())
    assert hosts.allows("192.0.2.1:8025")
    assert hosts.allows("[2001:db8::1]:8025")
    assert not hosts.allows("evil.example:8025")


def test_a_console_bound_to_a_name_answers_to_it() -> None:
    settings = NodeSettings(hostname="mx.test", console=Address("box.example", 80))
    assert Rest(settings=settings).client().get("/healthz", headers={"Host": "box.example"}).status_code == 200


def test_a_body_too_large_is_413_by_its_stated_length() -> None:
    answer = (
        Rest()
        .client()
        .post("/api/v1/config/diff", content=b" " * (BODY_OCTETS + 1), headers={"Content-Type": "application/json"})
    )
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_too_large_is_413_without_a_stated_length() -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(BODY_OCTETS // 65536 + 2):
            yield b" " * 65536

    answer = (
        Rest().client().post("/api/v1/config/diff", content=chunks(), headers={"Content-Type": "application/json"})
    )
    assert answer.status_code == 413


# --- without login -----------------------------------------------------------------------------------


def test_healthz_answers_without_login() -> None:
    assert Rest().client(None).get("/healthz").json() == {"ok": True}


def test_readyz_is_200_while_a_heartbeat_is_fresh_and_503_else() -> None:
    rest = Rest()
    client = rest.client(None)
    assert client.get("/readyz").json() == {"ready": True, "workers": 1}
    rest.clock.epoch += 16
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("worker", ["n/0/earlier", "other/0/b"])
def test_readyz_counts_only_workers_of_this_start_of_this_node(worker: str) -> None:
    rest = Rest().with_live(worker)
    assert rest.client(None).get("/readyz").status_code == 503
    rest.heartbeat("n/1/b")
    assert rest.client(None).get("/readyz").json() == {"ready": True, "workers": 1}


def test_metrics_tell_workers_and_queue_in_the_text_format() -> None:
    rest = Rest()
    rest.heartbeat('w"1\n', received=7, memory_mails="no number")
    text = rest.client(None).get("/metrics").text
    assert "posthouse_workers 2.0" in text
    assert 'posthouse_received_total{worker="n/0/b"} 3.0' in text
    assert 'posthouse_received_total{worker="w\\"1\\n"} 7.0' in text
    assert 'posthouse_queue_recipients{profile="exchange",state="held"} 1.0' in text
    assert 'posthouse_info{version="1.2.3"} 1.0' in text


def test_metrics_ask_for_the_queue_at_most_every_five_seconds() -> None:
    rest = Rest()
    client = rest.client(None)
    client.get("/metrics")
    rest.history.waiting = []
    assert 'state="held"' in client.get("/metrics").text
    rest.clock.steady += 6
    assert 'state="held"' not in client.get("/metrics").text


def test_every_reference_of_openapi_leads_to_something() -> None:
    document = Rest().client(None).get("/api/v1/openapi.json").json()
    text = json.dumps(document)
    references = set(re.findall(r'"\$ref": "#/([^"]*)"', text))
    assert references
    for reference in references:
        place = document
        for part in reference.split("/"):
            assert part in place, reference
            place = place[part]
    assert '"ecdsa-p256"' in text


def test_openapi_is_open_and_describes_every_operation() -> None:
    document = Rest().client(None).get("/api/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            if path.startswith("/api/v1"):
                assert operation["security"] == [{"HTTPBearer": []}], (method, path)
                assert "application/problem+json" in operation["responses"]["422"]["content"]


# --- garbage -----------------------------------------------------------------------------------------

STRANGE_JSON = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"\\ud800"',
    b'{"\\ud800": 1}',
    b'{"server_profiles": [{"name": "\\ud800", "type": "smtp", "servers": ["x"]}]}',
    b'{"rules": NaN}',
    b'{"rules": 1e999}',
    b'{"rules": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"\xff\xfe\x00",
    b'{"mails": ["\\u0000"], "all": true}',
    b'{"name": "\\u0000", "role": "\\udfff"}',
    b'{"client": "\\u0000", "from": "\\ud800@x", "to": [1, null, {"a": []}]}',
    b'{"client": "::1%\\u0001", "from": "", "to": ["@", "a@", "a@b@c", "\\u202e@x"]}',
    b'{"server_profiles": {"a": 1}, "rules": [[], {}, {"name": []}]}',
]
POSTS = ["config/diff", "config/apply", "queue/retry", "queue/reroute", "rule-explanations", "rule-replays", "keys"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", STRANGE_JSON, ids=range(len(STRANGE_JSON)))
def test_no_body_makes_a_server_error(path: str, body: bytes) -> None:
    answer = (
        Rest()
        .client()
        .post(f"/api/v1/{path}", content=body, headers={"Content-Type": "application/json; charset=utf-16"})
    )
    assert 400 <= answer.status_code < 500
    problem = json.loads(answer.content)
    assert problem["errors"], problem


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json", "multipart/form-data", "\x7f"])
def test_no_content_type_makes_a_server_error(kind: str) -> None:
    for path in POSTS:
        answer = Rest().client().post(f"/api/v1/{path}", content=b"a=b", headers={"Content-Type": kind})
        assert answer.status_code == 422


def test_no_random_request_makes_a_server_error() -> None:
    chance = random.Random(3)
    rest = Rest()
    client = rest.client()
    paths = [path for path in rest.app().openapi()["paths"] if path.startswith("/api/v1")]
    words = [
        "",
        "0",
        "-1",
        "1e400",
        "%00",
        "%ff",
        "null",
        "9" * 30,
        "0001-01-01T00:00:00-14:00",
        "%F0%9F%92%A9",
        "9999-12-31T23:59:59+14:00",
        "a" * 600,
        "[]",
        "%2e%2e%2f",
        "'; --",
        "NaN",
        "inf",
        "01mail0001",
    ]
    names = ["from", "to", "subject", "status", "rule", "since", "until", "limit", "next", "prune", "dry_run", "x"]
    for _ in range(600):
        path = chance.choice(paths)
        for part in ("{mail_id}", "{name}", "{action}", "{key_id}"):
            path = path.replace(part, chance.choice(words) or "x")
        query = "&".join(f"{chance.choice(names)}={chance.choice(words)}" for _ in range(chance.randrange(4)))
        method = chance.choice(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"])
        body = (
            json.dumps({chance.choice(names): chance.choice([None, [], {}, 1, "a", True])})
            if chance.random() < 0.5
            else None
        )
        answer = client.request(
            method, f"{path}?{query}", content=body, headers={"Content-Type": "application/json", "If-Match": '"1'}
        )
        assert answer.status_code < 500, (method, path, query, body)
