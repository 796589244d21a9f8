"""TEST of MetaDefender Core and Vault against servers that are really like that: failing stage, and what to do."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from posthouse.clients.http_test import HttpTester
from posthouse.clients.metadefender import core_tester
from posthouse.clients.vault import vault_tester
from posthouse.core import http_ladder
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_test import ProfileResult, ServerResult, StageResult, result_json
from posthouse.core.service_type import ServiceType
from posthouse.mailflow.profile_test import ProfileTest
from support import mock_core, mock_vault
from support.http_servers import HttpServer, Request, Respond, Response, http_server
from support.mock_core import MockCore
from support.mock_vault import MockVault
from support.servers import LOOPS, closed_port, deaf_port, profile, run
from support.tls_servers import EXPIRED_ON, NAME, OTHER_NAME, ServerKind, client_digital_id, tls_server

K = ServerKind
CORE, VAULT = "metadefender-core", "metadefender-vault"
CANARY = "canary-of-another-service"
TESTERS: Mapping[str, Callable[..., HttpTester]] = {CORE: core_tester, VAULT: vault_tester}
KEYS = {CORE: mock_core.KEY, VAULT: mock_vault.KEY}
MOCKS: Mapping[str, Respond] = {CORE: MockCore().answer, VAULT: MockVault().answer}
CORE_LADDER = ["resolve", "connect", "version", "ready", "key", "licence"]
VAULT_LADDER = ["resolve", "connect", "ready", "key"]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[CORE, VAULT])
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for service, key in KEYS.items():
        monkeypatch.setitem(os.environ, variable(service), key)


def variable(service: str) -> str:
    return f"TEST_KEY_{service.replace('-', '_').upper()}"


def profile_of(service: str, server: str, **settings: Any) -> ServerProfile:
    document = {"type": service, "api_key": {"env": variable(service)}, **settings}
    return profile(server, **{name: value for name, value in document.items() if value is not None})


async def try_out(
    service: str, server: str, *, seconds: float = 10.0, folder: Path = Path(), **settings: Any
) -> ProfileResult:
    """`@ca` and the like are filled in by `against`."""
    tester = TESTERS[service](lambda: client_digital_id(folder), ())
    test = ProfileTest({ServiceType(service): tester}, "mx1.example", seconds)
    result = await test.run(profile_of(service, server, **settings))
    shown = str(result_json(result))
    assert not any(secret in shown for secret in (*KEYS.values(), mock_vault.OTHER_KEY, CANARY)), shown
    return result


def against(
    loop: str,
    service: str,
    respond: Respond,
    kind: ServerKind | None = None,
    *,
    seconds: float = 10.0,
    folder: Path = Path(),
    **settings: Any,
) -> tuple[ProfileResult, HttpServer]:
    with http_server(respond, kind) as server:
        given = {n: getattr(server, v[1:]) if isinstance(v, str) and v[:1] == "@" else v for n, v in settings.items()}
        result = run(loop, try_out(service, server.specification, seconds=seconds, folder=folder, **given))
        return result, replace(server, requests=list(server.requests))


def ladder(result: ProfileResult) -> ServerResult:
    (server,) = result.servers
    return server


def names(result: ProfileResult) -> list[str]:
    return [stage.name.value for stage in ladder(result).stages]


def last(result: ProfileResult) -> StageResult:
    """The stage that failed, the only one and the last; its advice is whole."""
    stages = ladder(result).stages
    assert [stage.ok for stage in stages] == [True] * (len(stages) - 1) + [False], stages
    assert stages[-1].advice
    assert "?" not in stages[-1].advice
    return stages[-1]


def key_of(request: Request) -> str:
    return request.fields.get("apikey", "") + request.fields.get("authorization", "")


# --- good --------------------------------------------------------------------------------------------


def test_a_core_that_is_well(loop: str) -> None:
    result, server = against(loop, CORE, MOCKS[CORE])
    assert result.ok
    assert names(result) == CORE_LADDER
    version, ready, key, licence = ladder(result).stages[2:]
    assert version.detail == {"version": "4.18.0", "product": "MSCL"}
    assert ready.detail == {"engines": 1}
    assert licence.detail == {"expires": "09/30/2036", "days_left": 3731}
    assert key.transcript == ("C: GET /stat/nodes", "C: apikey: ***", f"S: 200, {_size('/stat/nodes')} octets")
    assert all(stage.advice == "" for stage in ladder(result).stages)
    asked = [(request.path, key_of(request)) for request in server.requests]
    assert asked == [
        ("/version", ""),
        ("/readyz?verbose=true", ""),
        ("/stat/engines", ""),
        ("/stat/nodes", mock_core.KEY),
        ("/admin/license", mock_core.KEY),
    ]


def _size(path: str) -> int:
    return len(MockCore().answer(Request("GET", path, {"apikey": mock_core.KEY})).body)


def test_a_core_of_a_version_that_tells_whether_it_is_ready(loop: str) -> None:
    result, server = against(loop, CORE, MockCore(version="5.19.0").answer)
    assert result.ok
    assert [request.path for request in server.requests][1:3] == ["/readyz?verbose=true", "/stat/nodes"]


def test_a_core_whose_profile_has_no_key_is_asked_for_nothing_that_needs_one(loop: str) -> None:
    result, server = against(loop, CORE, MOCKS[CORE], api_key=None)
    assert result.ok
    assert names(result) == CORE_LADDER[:-2]
    assert not any(key_of(request) for request in server.requests)


def test_a_key_without_administrators_rights_will_do(loop: str) -> None:
    result, _ = against(loop, CORE, MockCore(rights=False).answer)
    assert result.ok
    assert ladder(result).stages[-1].detail == {"licence": "not shown to this key"}


def test_a_licence_in_a_form_that_is_not_known_is_no_fault(loop: str) -> None:
    """Newer versions may tell it otherwise; that must not keep a profile from being saved."""
    result, _ = against(loop, CORE, MockCore(version="6.0.0", licence={"licences": [{"sku": "X"}]}).answer)
    assert result.ok


def test_a_licence_that_ends_soon_is_spoken_of(loop: str) -> None:
    result, _ = against(loop, CORE, MockCore(licence={**mock_core.LICENCE, "days_left": 12}).answer)
    assert result.ok
    assert ladder(result).stages[-1].advice == "Renew the licence of MetaDefender Core: it has 12 days left."


def test_a_vault_that_is_well(loop: str) -> None:
    result, server = against(loop, VAULT, MOCKS[VAULT])
    assert result.ok
    assert names(result) == VAULT_LADDER
    assert [(request.path, key_of(request)) for request in server.requests] == [
        ("/vault_rest/tokens/0/1", ""),
        ("/vault_rest/tokens/0/1", f"Bearer {mock_vault.KEY}"),
    ]


def test_a_server_that_ends_each_connection_gets_further_ones(loop: str, service: str) -> None:
    def closing(request: Request) -> Response:
        return replace(MOCKS[service](request), fields={"Connection": "close"})

    assert against(loop, service, closing)[0].ok


def test_proxy_variables_lead_nowhere_else(loop: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        assert against(loop, service, MOCKS[service])[0].ok


# --- TLS ---------------------------------------------------------------------------------------------


def test_https_shows_its_certificate(loop: str, service: str) -> None:
    result, server = against(loop, service, MOCKS[service], K.GOOD, tls_name=NAME, tls_ca="@ca")
    assert result.ok
    tls = ladder(result).stages[2]
    assert tls.name == "tls"
    detail = dict(tls.detail)
    assert int(str(detail.pop("days_left"))) > 30
    assert (detail.pop("valid_from"), detail.pop("valid_until")) == ("2000-01-01", "3000-01-01")
    assert "Trusted CA" in str(detail.pop("issuer"))
    assert detail == {
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "certificate": "verified",
        "names": f"{NAME}, 127.0.0.1",
        "sha256": server.pin,
    }


def test_a_pin_is_enough(loop: str, service: str) -> None:
    result, _ = against(loop, service, MOCKS[service], K.SELF_SIGNED, tls_verify="pinned", tls_pin="@pin")
    assert result.ok
    assert ladder(result).stages[2].detail["certificate"] == "pinned"


@dataclass(frozen=True)
class Row:
    kind: ServerKind
    fault: str
    advice: str
    settings: Mapping[str, Any] = field(default_factory=lambda: {"tls_name": NAME, "tls_ca": "@ca"})


ROWS = [
    Row(K.WRONG_NAME, f"for {OTHER_NAME}, not {NAME}", f'tls_name = "{OTHER_NAME}"'),
    Row(K.SELF_SIGNED, "self-signed certificate", 'tls_pin = "@pin"'),
    Row(K.UNKNOWN_CA, "unknown CA: Nobody's CA", "as tls_ca (Nobody's CA"),
    Row(K.EXPIRED, f"expired on {EXPIRED_ON:%Y-%m-%d}", "Renew the server's certificate"),
    Row(K.TLS11_ONLY, "no common TLS version", "Switch on TLS 1.2 or 1.3"),
    Row(K.GOOD, "has the fingerprint", 'tls_pin = "@pin"', {"tls_verify": "pinned", "tls_pin": "0" * 64}),
    Row(K.GOOD, "/no/such/file cannot be read", "on this node", {"tls_ca": "/no/such/file"}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind.name.lower()}-{row.fault[:12]}")
def test_a_fault_of_tls_is_told_and_no_key_is_sent(loop: str, service: str, row: Row) -> None:
    result, server = against(loop, service, MOCKS[service], row.kind, **row.settings)
    stage = last(result)
    assert stage.name == "tls"
    assert row.fault in stage.fault
    assert row.advice.replace("@pin", server.pin) in stage.advice
    assert server.requests == []


def test_a_core_that_wants_a_client_certificate(loop: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"tls_name": NAME, "tls_ca": "@ca", "folder": tmp_path}
    without, _ = against(loop, CORE, MOCKS[CORE], K.WANTS_CERTIFICATE, **settings)
    shown, _ = against(loop, CORE, MOCKS[CORE], K.WANTS_CERTIFICATE, client_certificate=True, **settings)
    assert (last(without).name, last(without).fault) == ("tls", "the server wants a client certificate")
    assert "client_certificate = true" in last(without).advice
    assert names(without).count("tls") == 1
    assert shown.ok


# --- other services ----------------------------------------------------------------------------------


def first_question(service: str) -> str:
    return {CORE: "version", VAULT: "ready"}[service]


@contextmanager
def saying(octets: bytes, *, waits: bool = False) -> Iterator[int]:
    """A server that says this to everybody: at once, or once it has heard something. Then it listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    ending = threading.Event()
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            held.append(connection)
            if ending.is_set():
                return
            connection.settimeout(20)
            if waits:
                connection.recv(65536)
            connection.sendall(octets)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ending.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join(20)
        for each in (*held, listener):
            each.close()


@pytest.mark.parametrize(
    ("said", "fault", "advice"),
    [
        (f"220 mail.example {CANARY} ESMTP\r\n", http_ladder.NOT_HTTP_SMTP, "a mail server answers at"),
        ("\x15\x03\x01\x00\x02\x02\x50", http_ladder.NOT_HTTP_TLS, "Write https://127.0.0.1"),
        (f"+OK {CANARY}\r\n", http_ladder.NOT_HTTP, "is not"),
        (f"{CANARY} HTTP/1.1 200 OK\r\n\r\n", http_ladder.NOT_HTTP, "is not"),
        (f"HTTP/9 {CANARY}\r\n\r\n", http_ladder.BROKEN, "closes the connection"),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_what_is_no_http(loop: str, service: str, said: str, fault: str, advice: str, waits: bool) -> None:
    with saying(said.encode("latin-1"), waits=waits) as port:
        stage = last(run(loop, try_out(service, f"http://127.0.0.1:{port}")))
    assert (stage.name, stage.fault) == (first_question(service), fault)
    assert advice in stage.advice


def test_a_mail_server_with_tls_at_the_port_of_http(loop: str, service: str) -> None:
    with tls_server(K.GOOD) as server:
        clear = last(run(loop, try_out(service, f"http://127.0.0.1:{server.port}")))
        secure = last(run(loop, try_out(service, f"https://127.0.0.1:{server.port}", tls_ca=server.ca)))
    assert clear.fault == http_ladder.NOT_HTTP_SMTP
    assert (secure.name, secure.fault) == ("tls", "the server does not speak TLS here")
    assert f"Write http://127.0.0.1:{server.port}" in secure.advice


def test_https_at_the_port_of_http(loop: str, service: str) -> None:
    with http_server(MOCKS[service], K.GOOD) as server:
        stage = last(run(loop, try_out(service, f"http://127.0.0.1:{server.port}")))
    assert (stage.name, stage.fault) == (first_question(service), http_ladder.LOST_IN_CLEAR)
    assert f"Write https://127.0.0.1:{server.port} if the server expects TLS" in stage.advice


def test_a_web_server_that_expects_https_and_says_so(loop: str, service: str) -> None:
    """As nginx does. No key is sent there in clear text."""
    result, server = against(loop, service, lambda _: Response(400, octets=CANARY.encode()))
    assert last(result).fault == http_ladder.BAD_REQUEST
    assert f"Write https://127.0.0.1:{server.port} if the server expects TLS" in last(result).advice
    assert not any(key_of(request) for request in server.requests)


@pytest.mark.parametrize(
    "response",
    [
        Response(200, {"hello": CANARY}),
        Response(200, octets=CANARY.encode()),
        Response(200, {"product_id": f"<{CANARY}>", "version": "1"}),
        Response(404, {"err": CANARY}),
        Response(200, octets=b"[" * 100_000),
    ],
)
def test_another_web_server_is_neither_and_gets_no_key(loop: str, service: str, response: Response) -> None:
    result, server = against(loop, service, lambda _: response)
    stage = last(result)
    assert (stage.name, stage.fault) == (
        first_question(service),
        {CORE: http_ladder.NOT_CORE, VAULT: http_ladder.NOT_VAULT}[service],
    )
    assert {CORE: "8008 as a rule", VAULT: "8010 as a rule"}[service] in stage.advice
    assert not any(key_of(request) for request in server.requests)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("at", [0, -1])
def test_a_redirect_is_a_fault_and_not_followed(loop: str, service: str, status: int, at: int) -> None:
    """At the first question and at the last, which carries the key."""
    elsewhere: list[Request] = []

    def other(request: Request) -> Response:
        elsewhere.append(request)
        return MOCKS[service](request)

    with http_server(other) as trap:
        seen: list[str] = []

        def redirecting(request: Request) -> Response:
            seen.append(request.path)
            if at == 0 or key_of(request):
                return Response(status, {}, fields={"Location": f"{trap.specification}{request.path}"})
            return MOCKS[service](request)

        result, _ = against(loop, service, redirecting)
    stage = last(result)
    assert stage.fault == f"the server redirects ({status}), which is not followed"
    assert "no redirect is followed" in stage.advice
    assert elsewhere == []
    assert at == -1 or len(seen) == 1


@pytest.mark.parametrize("location", ["http://[::1", "", "\xff\xfe", "javascript:1"])
def test_a_redirect_to_nowhere_is_one_too(loop: str, service: str, location: str) -> None:
    stage = last(against(loop, service, lambda _: Response(302, {}, fields={"Location": location}))[0])
    assert stage.fault == "the server redirects (302), which is not followed"


def test_cookies_are_not_given_back(loop: str, service: str) -> None:
    def respond(request: Request) -> Response:
        return replace(MOCKS[service](request), fields={"Set-Cookie": f"session={CANARY}; Path=/"})

    result, server = against(loop, service, respond)
    assert result.ok
    assert not any("cookie" in request.fields for request in server.requests)


# --- what is wrong with a Core or a vault ------------------------------------------------------------


@pytest.mark.parametrize(
    ("core", "stage", "fault", "advice"),
    [
        (MockCore(licence=mock_core.NO_LICENCE), "ready", http_ladder.NO_ENGINE, "Look at licence and engines"),
        (
            MockCore(version="5.19.0", licence=mock_core.NO_LICENCE),
            "licence",
            http_ladder.NO_LICENCE,
            "Activate or renew the licence",
        ),
        (
            MockCore(version="5.19.0", licence={**mock_core.LICENCE, "days_left": 0}),
            "licence",
            http_ladder.LICENCE_EXPIRED,
            "Activate or renew the licence",
        ),
        (
            MockCore(version="5.19.0", unmet={"license": {"status": "invalid"}, "database": {"status": True}}),
            "ready",
            http_ladder.NO_LICENCE,
            "Activate or renew the licence",
        ),
        (
            MockCore(version="5.19.0", unmet={"license": {"status": "expired"}}),
            "ready",
            http_ladder.LICENCE_EXPIRED,
            "Activate or renew the licence",
        ),
        (MockCore(version="5.19.0", unmet={}), "ready", http_ladder.NOT_READY, "Look at the health check"),
        (
            MockCore(version="5.19.0", unmet={"database": {"status": False}, "engines": {"status": "true"}}),
            "ready",
            f"{http_ladder.NOT_READY}: database",
            "Look at the health check",
        ),
        (MockCore(key="another"), "key", http_ladder.refused(403), "API key of an active user"),
    ],
)
def test_a_core_that_cannot_be_used(loop: str, core: MockCore, stage: str, fault: str, advice: str) -> None:
    found = last(against(loop, CORE, core.answer)[0])
    assert (found.name, found.fault) == (stage, fault)
    assert advice in found.advice


@pytest.mark.parametrize("vault", [MockVault(expired=True), MockVault(key="another")])
def test_a_key_that_a_vault_does_not_accept_or_no_more(loop: str, vault: MockVault) -> None:
    found = last(against(loop, VAULT, vault.answer)[0])
    assert (found.name, found.fault) == ("key", http_ladder.refused(403))
    assert "Make a new API key in Vault" in found.advice
    assert "keys expire" in found.advice


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    "fields",
    [
        {"WWW-Authenticate": 'Basic realm="intranet"'},
        {"Content-Type": "text/html; charset=utf-8"},
        {"Content-Type": "Application/XHTML+xml"},
    ],
)
def test_a_web_server_that_refuses_everybody_gets_no_key_of_a_vault(
    loop: str, status: int, fields: Mapping[str, str]
) -> None:
    result, server = against(loop, VAULT, lambda _: Response(status, octets=b"no", fields=fields))
    assert (last(result).name, last(result).fault) == ("ready", http_ladder.NOT_VAULT)
    assert "8010 as a rule" in last(result).advice
    assert len(server.requests) == 1
    assert not any(key_of(request) for request in server.requests)


def test_a_vault_that_does_not_see_the_key(loop: str) -> None:
    """401 is a field that is missing, and no wrong key."""
    found = last(against(loop, VAULT, lambda _: Response(401, octets=b""))[0])
    assert (found.name, found.fault) == ("key", http_ladder.KEY_UNSEEN)
    assert "takes the field Authorization out" in found.advice


def test_a_vault_at_another_path(loop: str) -> None:
    found = last(against(loop, VAULT, MockVault(path="/rest").answer)[0])
    assert (found.name, found.fault) == ("ready", http_ladder.NOT_VAULT)
    assert "/vault_rest" in found.advice


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_with_trouble_of_its_own(loop: str, service: str, status: int) -> None:
    stage = last(against(loop, service, lambda _: Response(status, {"err": CANARY}))[0])
    assert stage.fault == f"the server answers {status}"


@pytest.mark.parametrize("key", ["", "two words", "line\x07bell", "schlüssel"])
def test_a_key_that_this_node_does_not_have(
    loop: str, service: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(service), key)
    result, server = against(loop, service, MOCKS[service])
    stage = last(result)
    assert stage.name == "key"
    assert stage.fault.startswith("the API key's ")
    assert "on this node" in stage.advice
    assert server.requests == []


# --- nobody there, or too slow, or too much ----------------------------------------------------------


def test_nobody_there(loop: str, service: str) -> None:
    with closed_port() as port:
        refused = last(run(loop, try_out(service, f"http://127.0.0.1:{port}")))
    with deaf_port() as port:
        deaf = last(run(loop, try_out(service, f"http://127.0.0.1:{port}", seconds=0.3)))
    unknown = last(run(loop, try_out(service, "http://no-such-host.invalid")))
    own = last(run(loop, try_out(service, "http://169.254.169.254")))
    assert (refused.name, refused.fault) == ("connect", "connection refused")
    assert "runs and listens on this address" in refused.advice
    assert (deaf.name, deaf.fault) == ("connect", "no answer to connect within 0.3 s")
    assert f"Allow TCP port {port}" in deaf.advice
    assert unknown.name == "resolve"
    assert "DNS" in unknown.advice
    assert (own.name, own.fault) == ("resolve", "link-local addresses are not tested")


def test_a_vault_on_port_8000(loop: str) -> None:
    """At 127.0.0.2, so that another program of this machine at this port does not matter."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.2", 8000))
        stage = last(run(loop, try_out(VAULT, "http://127.0.0.2:8000")))
    assert (stage.name, stage.fault) == ("connect", "connection refused")
    assert stage.advice == "Write port 8010: Vault answers there since version 1.3.7, and no longer at 8000."


def test_a_handshake_that_hangs(loop: str, service: str) -> None:
    with saying(b"") as port:
        stage = last(run(loop, try_out(service, f"https://127.0.0.1:{port}", seconds=0.3)))
    assert (stage.name, stage.fault) == ("tls", "the TLS handshake took too long")
    assert "does not go on with TLS" in stage.advice


def test_no_answer(loop: str, service: str) -> None:
    with saying(b"") as port:
        stage = last(run(loop, try_out(service, f"http://127.0.0.1:{port}", seconds=0.3)))
    assert (stage.name, stage.fault) == (first_question(service), http_ladder.NO_ANSWER)
    assert "so slow" in stage.advice


def test_a_server_that_closes_at_once(loop: str, service: str) -> None:
    async def go() -> ProfileResult:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        try:
            return await try_out(service, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        finally:
            server.close()

    stage = last(run(loop, go()))
    assert stage.name == first_question(service)
    assert stage.fault == http_ladder.LOST_IN_CLEAR
    assert "why it does not answer" in stage.advice


def test_a_body_that_never_ends(loop: str, service: str) -> None:
    """Ten octets are told and never come; one that comes an octet at a time is bounded by the same deadline."""
    response = Response(200, octets=b"{", length=10)
    stage = last(against(loop, service, lambda _: response, seconds=0.5)[0])
    assert (stage.name, stage.fault) == (first_question(service), http_ladder.NOT_ENDED)
    assert "so slow" in stage.advice


def test_a_body_that_comes_an_octet_at_a_time(loop: str, service: str) -> None:
    """Each octet comes in time, all of them do not."""
    gone = asyncio.Event()
    """The server has seen that its client is."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            async with asyncio.timeout(20):
                while not writer.transport.is_closing() and not reader.at_eof():
                    writer.write(b"1\r\n{\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()
            gone.set()

    async def go() -> ProfileResult:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        try:
            return await try_out(service, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seconds=0.5)
        finally:
            server.close()
            async with asyncio.timeout(20):
                await gone.wait()

    stage = last(run(loop, go()))
    assert (stage.name, stage.fault) == (first_question(service), http_ladder.NOT_ENDED)
    assert 0.3 <= stage.seconds < 2


@pytest.mark.parametrize("status", [200, 403])
def test_a_huge_body_is_not_read_to_its_end(loop: str, service: str, status: int) -> None:
    """A gigabyte is told; what is read of it is bounded."""
    response = Response(status, octets=b" " * (http_ladder.MOST_OCTETS + 70_000), length=1 << 30)
    stage = last(against(loop, service, lambda _: response)[0])
    assert (stage.name, stage.fault) == (first_question(service), http_ladder.TOO_LONG)
    assert "at such length" in stage.advice
    assert stage.transcript[-1] == f"S: {status}, {http_ladder.MOST_OCTETS} octets and more"


def test_a_header_without_end(loop: str, service: str) -> None:
    with saying(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 300_000, waits=True) as port:
        stage = last(run(loop, try_out(service, f"http://127.0.0.1:{port}")))
    assert (stage.name, stage.fault) == (first_question(service), http_ladder.BROKEN)


@contextmanager
def flooding(head: bytes, again: bytes) -> Iterator[int]:
    """A server that answers with this and then says `again` for as long as anybody listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    ending = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            try:
                connection.recv(65536)
                connection.sendall(head)
                while not ending.is_set():
                    connection.sendall(again * 4000)
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ending.set()
        thread.join(20)
        listener.close()


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (b"", b"HTTP/1.1 100 \r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;%s\r\n{\r\n" % (b"x" * 50)),
    ],
)
def test_a_flood_is_bounded_and_keeps_nobody_waiting(loop: str, service: str, head: bytes, again: bytes) -> None:
    """Answers before the answer (1xx), chunks of one octet: little body, and octets without end."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def go(port: int) -> ProfileResult:
        waiting = asyncio.create_task(others())
        try:
            return await try_out(service, f"http://127.0.0.1:{port}", seconds=20)
        finally:
            waiting.cancel()

    with flooding(head, again) as port:
        stage = last(run(loop, go(port)))
    assert (stage.name, stage.fault) == (first_question(service), http_ladder.TOO_LONG)
    assert turns > 200  # one for each 2 KiB
