"""MetaDefender Core as a scanner, against a double that scans, is slow, lies, breaks and recovers."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from posthouse.clients import core_batch
from posthouse.clients.core_scanner import CoreScanner
from posthouse.clients.http_clients import HttpClients
from posthouse.core.examination import Item, ItemKind, Place
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Verdict
from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import Asked, ScanAnswer, Scanned, ScanOrder
from support.http_servers import HttpServer, Request, Response, http_server
from support.mock_core import KEY
from support.servers import LOOPS, closed_port, deaf_port, profile, run
from support.stateful_core import EICAR, Plan, StatefulCore
from support.tls_servers import NAME, ServerKind, client_digital_id

SECONDS = 20.0
ORDER = ScanOrder("mail-1")
SANITIZE = ScanOrder("mail-1", sanitize=True)
CLEAN = b"nothing bad\r\n" * 100


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CORE_KEY", KEY)


@dataclass(frozen=True)
class Octets:
    """scan_ports.Octets."""

    octets: bytes
    fault: str = ""

    @property
    def size(self) -> int:
        return len(self.octets)

    def pieces(self) -> Iterator[bytes | memoryview]:
        if self.fault:
            raise ContentUnreadable(self.fault)
        for start in range(0, len(self.octets), 1000):
            yield memoryview(self.octets)[start : start + 1000]


def asked(number: int, name: str = "", octets: bytes = CLEAN, kind: ItemKind = ItemKind.PART) -> Asked:
    place = Place(made=True, start=0, end=len(octets))
    path = "" if kind is ItemKind.MAIL else f"1.{number}"
    item = Item(kind, path, path, (name,) if name else (), (), place, hashlib.sha256(octets).hexdigest())
    return Asked(number, item, Octets(octets))


def core_profile(server: str, **settings: Any) -> ServerProfile:
    return profile(server, type="metadefender-core", **{"api_key": {"env": "CORE_KEY"}, **settings})


async def scan(
    to: ServerProfile, items: list[Asked], order: ScanOrder, seconds: float, folder: Path = Path()
) -> ScanAnswer:
    clients = HttpClients(lambda: client_digital_id(folder))
    scanner = CoreScanner(clients)
    answer = await scanner.scan(to, to.server_texts[0], order, items, seconds)
    await scanner.close()
    await clients.close()
    return answer


def against(
    loop: str, core: StatefulCore, items: list[Asked], order: ScanOrder = ORDER, seconds: float = SECONDS
) -> tuple[ScanAnswer, HttpServer]:
    with http_server(core.answer) as server:
        answer = run(loop, scan(core_profile(server.specification), items, order, seconds))
    assert core.faults == []
    return answer, server


def only(answer: ScanAnswer) -> Scanned:
    (scanned,) = answer.results.values()
    return scanned


# --- good --------------------------------------------------------------------------------------------


def test_a_mail_is_one_batch(loop: str) -> None:
    order = ScanOrder(
        "mail-1 \N{EURO SIGN}",
        core_rule="Mail, in und aus \N{LATIN SMALL LETTER U WITH DIAERESIS}",
        passwords=("fox &", "k\N{LATIN SMALL LETTER O WITH DIAERESIS}w"),
        metadata={"sender": "a@b.example\r\nX: y"},
    )
    core = StatefulCore()
    items = [asked(0, octets=CLEAN + EICAR, kind=ItemKind.MAIL), asked(1, "r\N{EURO SIGN}port<.txt"), asked(2)]
    answer, server = against(loop, core, items, order)
    (batch,) = core.batches.values()
    assert (answer.fault, answer.failure, answer.batch_id) == ("", None, batch.batch_id)
    assert {n: s.found.verdict for n, s in answer.results.items()} == {
        0: Verdict.BLOCKED,
        1: Verdict.CLEAN,
        2: Verdict.CLEAN,
    }
    assert answer.results[0].found.threat == "Eicar-Test-Signature"
    assert answer.results[0].found.data_id in core.files
    assert (batch.closed, batch.cancelled, len(batch.files)) == (True, False, 3)
    fields = batch.request.fields
    assert (fields["user_agent"], unquote(fields["user-data"]), unquote(fields["rule"])) == (
        "posthouse",
        order.mail,
        order.core_rule,
    )
    for item in items:
        name = item.item.names[0] if item.item.names else "mail.eml" if not item.number else "part-1-2"
        (file,) = core.of(name)
        assert file.request.body == item.octets.octets  # type: ignore[attr-defined]
        assert "transfer-encoding" not in file.request.fields
        assert file.request.fields["metadata"] == '{"sender": "a@b.example\\r\\nX: y"}'
        assert [unquote(file.request.fields[f"archivepwd{n}"]) for n in (1, 2)] == list(order.passwords)
        assert unquote(file.request.fields["rule"]) == order.core_rule
        assert "x" not in file.request.fields
    assert {request.fields.get("apikey") for request in server.requests} == {KEY}


def test_one_password_has_no_number(loop: str) -> None:
    core = StatefulCore()
    against(loop, core, [asked(1)], ScanOrder("m", passwords=("fox",)))
    (file,) = core.files.values()
    assert file.request.fields["archivepwd"] == "fox"
    assert "archivepwd1" not in file.request.fields
    assert "rule" not in file.request.fields
    assert "metadata" not in file.request.fields


def test_without_a_key_none_is_sent(loop: str) -> None:
    core = StatefulCore(key="")
    with http_server(core.answer) as server:
        to = core_profile(server.specification, api_key=None)
        to = replace(to, api_key=None)
        answer = run(loop, scan(to, [asked(1)], ORDER, SECONDS))
    assert only(answer).found.verdict is Verdict.CLEAN
    assert all("apikey" not in request.fields for request in server.requests)


def test_items_go_a_few_at_a_time_over_connections_that_are_reused(loop: str) -> None:
    core = StatefulCore()
    answer, server = against(loop, core, [asked(n, f"{n}.txt") for n in range(30)])
    assert [s.found.verdict for s in answer.results.values()] == [Verdict.CLEAN] * 30
    assert len({request.port for request in server.requests}) <= 4


def test_an_empty_item_is_not_sent(loop: str) -> None:
    core = StatefulCore()
    answer, _ = against(loop, core, [asked(1, octets=b"")])
    assert only(answer).found.verdict is Verdict.CLEAN
    assert core.files == {}


def test_questions_come_further_apart(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            waits.append(round(seconds, 3))
        await real(0)

    monkeypatch.setattr("posthouse.clients.core_batch.asyncio.sleep", sleep)
    core = StatefulCore({"slow": Plan(polls=9)})
    answer, _ = against(loop, core, [asked(1, "slow")])
    assert only(answer).found.verdict is Verdict.CLEAN
    assert waits == [0.05, 0.08, 0.128, 0.205, 0.328, 0.524, 0.839, 1.0, 1.0, 1.0]


def test_a_client_certificate_is_shown_to_a_core(loop: str, tmp_path: Path) -> None:
    core = StatefulCore()
    with http_server(core.answer, ServerKind.WANTS_CERTIFICATE) as server:
        settings = {"tls_name": NAME, "tls_ca": server.ca}
        for shown, failure in ((True, None), (False, Failure.UNREACHABLE)):
            to = core_profile(server.specification, client_certificate=shown, **settings)
            answer = run(loop, scan(to, [asked(1)], ORDER, SECONDS, tmp_path))
            assert answer.failure is failure
            assert len(answer.results) == (failure is None)


# --- sanitized files ---------------------------------------------------------------------------------


def test_a_sanitized_file_takes_the_place_of_a_part(loop: str) -> None:
    octets = bytes(range(256)) * 3000
    core = StatefulCore({"a.docx": Plan(sanitized=octets)})
    answer, _ = against(loop, core, [asked(1, "a.docx")], SANITIZE)
    scanned = only(answer)
    assert scanned.found.verdict is Verdict.SANITIZED
    assert scanned.sanitized_name == "a clean file.docx"
    assert scanned.sanitized is not None
    assert scanned.sanitized.size == len(octets)
    assert b"".join(scanned.sanitized.pieces()) == octets == b"".join(scanned.sanitized.pieces())


def test_its_file_ends_with_the_last_reference(loop: str) -> None:
    core = StatefulCore({"a.docx": Plan(sanitized=b"x" * 100_000)})
    before = os.listdir("/proc/self/fd")
    answer, _ = against(loop, core, [asked(1, "a.docx")], SANITIZE)
    assert only(answer).sanitized is not None
    del answer
    assert len(os.listdir("/proc/self/fd")) <= len(before)


@pytest.mark.parametrize("kind", [kind for kind in ItemKind if kind is not ItemKind.PART])
def test_only_a_part_is_sanitized(loop: str, kind: ItemKind) -> None:
    core = StatefulCore({"a.docx": Plan(sanitized=b"x")})
    answer, server = against(loop, core, [asked(1, "a.docx", kind=kind)], SANITIZE)
    assert (only(answer).found.verdict, only(answer).sanitized) == (Verdict.CLEAN, None)
    assert not any("converted" in request.path for request in server.requests)


def test_nothing_is_sanitized_that_need_not_be(loop: str) -> None:
    core = StatefulCore({"a.docx": Plan(sanitized=b"x")})
    answer, _ = against(loop, core, [asked(1, "a.docx")])
    assert (only(answer).found.verdict, only(answer).sanitized) == (Verdict.CLEAN, None)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(sanitize_failed=True), "Sanitization Failed"),
        (Plan(sanitized=b"x", fetch=Response(404, {"err": "File could not be found"})), "could not be found"),
        (Plan(sanitized=b"x", fetch=Response(405, {"err": "Access denied"})), "Access denied"),
        (Plan(sanitized=b""), "the sanitized file is empty"),
        (Plan(sanitized=b"x" * 1001), "larger than it may be"),
    ],
)
def test_what_could_not_be_sanitized_is_failed(
    loop: str, plan: Plan, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_batch, "SANITIZED_OCTETS", 1000)
    answer, _ = against(loop, StatefulCore({"a.docx": plan}), [asked(1, "a.docx")], SANITIZE)
    scanned = only(answer)
    assert (scanned.found.verdict, scanned.found.failure) == (Verdict.FAILED, Failure.SANITIZE)
    assert reason in scanned.found.reason
    assert scanned.sanitized is None
    assert answer.fault == ""


@pytest.mark.parametrize("fetch", [Response(503, {}), Response(200, octets=b"x" * 10, length=20)])
def test_a_server_that_breaks_off_within_a_sanitized_file_is_at_fault(loop: str, fetch: Response) -> None:
    core = StatefulCore({"a.docx": Plan(sanitized=b"x", fetch=fetch)})
    answer, _ = against(loop, core, [asked(1, "a.docx")], SANITIZE, seconds=1.5)
    assert (answer.results, answer.failure in (Failure.BUSY, Failure.TIMEOUT)) == ({}, True)


def test_a_folder_that_is_full_or_gone_fails_the_file_only(loop: str, tmp_path: Path) -> None:
    core = StatefulCore({"a.docx": Plan(sanitized=b"x")})

    async def act(server: str) -> ScanAnswer:
        clients = HttpClients(lambda: client_digital_id(tmp_path))
        scanner = CoreScanner(clients, folder=str(tmp_path / "gone"))
        answer = await scanner.scan(core_profile(server), server, SANITIZE, [asked(1, "a.docx"), asked(2)], SECONDS)
        await scanner.close()
        await clients.close()
        return answer

    with http_server(core.answer) as server:
        answer = run(loop, act(server.specification))
    assert answer.results[1].found.failure is Failure.SANITIZE
    assert answer.results[2].found.verdict is Verdict.CLEAN


# --- lies: never clean -------------------------------------------------------------------------------


def twist(change: Callable[[dict[str, Any]], object]) -> Plan:
    return Plan(polls=0, twist=change)


LIES: Mapping[str, Plan] = {
    "another data_id": twist(lambda v: v.update(data_id="0" * 31 + "9")),
    "another sha256": twist(lambda v: v["file_info"].update(sha256="0" * 64)),
    "no sha256": twist(lambda v: v["file_info"].clear()),
    "no code": twist(lambda v: v["scan_results"].pop("scan_all_result_i")),
    "unknown code": Plan(result="Allowed", code=99),
    "allowed though infected": Plan(result="Allowed", code=1),
    "allowed though not scanned": Plan(result="Allowed", code=10),
    "no result": twist(lambda v: v["process_info"].pop("result")),
    "another word": Plan(result="OK"),
    "an empty object": Plan(poll=Response(200, {})),
    "a page": Plan(poll=Response(200, octets=b"<html>200 OK</html>")),
    "nested": Plan(poll=Response(200, octets=b"[" * 200_000)),
    "a huge body": Plan(poll=Response(200, {"a": "x" * 3_000_000})),
    "not found": Plan(poll=Response(404, {"err": "Not found"})),
    "a redirect": Plan(poll=Response(302, fields={"Location": "/version"})),
    "no content": Plan(poll=Response(203, {"process_info": {"result": "Allowed"}})),
    "an id that is a path": Plan(submit=Response(200, {"data_id": "../version"})),
    "no id": Plan(submit=Response(200, {})),
    "an id in a list": Plan(submit=Response(200, ["0" * 32])),
    "a submission refused": Plan(submit=Response(403, {"err": "Access denied"})),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_never_clean(loop: str, lie: str) -> None:
    plan = LIES[lie]
    unread = plan.submit is not None or plan.poll is not None
    with http_server(StatefulCore({"x": plan}).answer) as server:
        answer = run(loop, scan(core_profile(server.specification), [asked(1, "x")], SANITIZE, SECONDS))
    if answer.results:
        found = only(answer).found
        assert found.verdict in (Verdict.FAILED, Verdict.BLOCKED)
        assert (found.failure is None) == (found.verdict is Verdict.BLOCKED)
    else:
        assert unread
        assert answer.fault
        assert answer.failure in (Failure.UNREACHABLE, Failure.CONFIGURATION)


def test_a_lie_of_one_file_leaves_the_others(loop: str) -> None:
    core = StatefulCore({"x": LIES["another sha256"]})
    answer, _ = against(loop, core, [asked(1, "x"), asked(2, "y")])
    assert [answer.results[n].found.verdict for n in (1, 2)] == [Verdict.FAILED, Verdict.CLEAN]


# --- results that expire -----------------------------------------------------------------------------


@pytest.mark.parametrize(("expires", "verdict", "submissions"), [(1, Verdict.CLEAN, 2), (9, Verdict.FAILED, 2)])
def test_a_result_that_has_expired_is_submitted_once_more(
    loop: str, expires: int, verdict: Verdict, submissions: int
) -> None:
    core = StatefulCore({"x": Plan(expires=expires)})
    answer, _ = against(loop, core, [asked(1, "x")])
    assert only(answer).found.verdict is verdict
    assert len(core.of("x")) == submissions


# --- slow, busy, dead --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        Plan(stuck_at=99),
        Plan(stuck_at=0),
        twist(lambda v: v["scan_results"].update(progress_percentage=99)),
        twist(lambda v: v["process_info"].update(progress_percentage=50)),
    ],
)
def test_what_is_never_finished_ends_with_the_time_and_is_cancelled(loop: str, plan: Plan) -> None:
    core = StatefulCore({"stuck": plan})
    answer, _ = against(loop, core, [asked(1, "stuck"), asked(2, "well")], seconds=1.0)
    assert (answer.fault, answer.failure) == ("no result within 1 s", Failure.TIMEOUT)
    assert {n: s.found.verdict for n, s in answer.results.items()} == {2: Verdict.CLEAN}
    (batch,) = core.batches.values()
    assert batch.cancelled


def test_a_newer_core_is_told_at_the_path_that_it_knows(loop: str) -> None:
    core = StatefulCore({"stuck": Plan(stuck_at=99)}, newer=True)
    against(loop, core, [asked(1, "stuck")], seconds=0.5)
    (batch,) = core.batches.values()
    assert batch.cancelled


def test_a_scan_that_is_cancelled_is_cancelled_there(loop: str) -> None:
    core = StatefulCore({"stuck": Plan(stuck_at=99)})

    async def act(server: str) -> None:
        clients = HttpClients(lambda: ("", ""))
        scanner = CoreScanner(clients)
        task = asyncio.create_task(scanner.scan(core_profile(server), server, ORDER, [asked(1, "stuck")], SECONDS))
        assert await asyncio.to_thread(core.polled.wait, SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await scanner.close()
        await clients.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with http_server(core.answer) as server:
        run(loop, act(server.specification))
    (batch,) = core.batches.values()
    assert batch.cancelled


FAULTS = [
    (Response(503, {"err": "Server is too busy. Try again later."}), Failure.BUSY),
    (Response(429, {}), Failure.BUSY),
    (Response(500, {"err": "Failed to request scan. Try again later."}), Failure.UNREACHABLE),
    (Response(400, {"err": "x"}), Failure.CONFIGURATION),
    (Response(403, {"err": "Access denied"}), Failure.CONFIGURATION),
    (Response(411, {"err": "x"}), Failure.CONFIGURATION),
    (Response(422, {"err": "x"}), Failure.CONFIGURATION),
]


@pytest.mark.parametrize(("response", "failure"), FAULTS)
@pytest.mark.parametrize("where", ["opening", "submit", "poll"])
def test_a_fault_ends_the_mail_there(loop: str, response: Response, failure: Failure, where: str) -> None:
    core = {
        "opening": StatefulCore(opening=response),
        "submit": StatefulCore({"x": Plan(submit=response)}),
        "poll": StatefulCore({"x": Plan(poll=response)}),
    }[where]
    answer, _ = against(loop, core, [asked(1, "x"), asked(2, "x")])
    assert answer.results == {}
    assert (answer.failure, str(response.status) in answer.fault) == (failure, True)


@pytest.mark.parametrize(("dies", "failure"), [(True, Failure.UNREACHABLE), (False, Failure.TIMEOUT)])
def test_a_connection_that_dies_or_hangs_within_a_result(loop: str, dies: bool, failure: Failure) -> None:
    core = StatefulCore({"x": Plan(poll=Response(200, octets=b'{"data_id"', length=5000, dies=dies))})
    answer, _ = against(loop, core, [asked(1, "x")], seconds=SECONDS if dies else 1.0)
    assert (answer.results, answer.failure) == ({}, failure)


def test_nobody_there(loop: str) -> None:
    with closed_port() as port:
        answer = run(loop, scan(core_profile(f"http://127.0.0.1:{port}"), [asked(1)], ORDER, SECONDS))
    assert (answer.results, answer.fault, answer.failure) == ({}, "connection refused", Failure.UNREACHABLE)


def test_a_server_that_says_nothing(loop: str) -> None:
    with deaf_port() as port:
        answer = run(loop, scan(core_profile(f"http://127.0.0.1:{port}"), [asked(1)], ORDER, 0.3))
    assert (answer.results, answer.failure) == ({}, Failure.TIMEOUT)


def test_a_certificate_that_is_not_trusted(loop: str) -> None:
    with http_server(StatefulCore().answer, ServerKind.UNKNOWN_CA) as server:
        answer = run(loop, scan(core_profile(server.specification, tls_ca=server.ca), [asked(1)], ORDER, SECONDS))
        assert (answer.results, answer.failure, server.requests) == ({}, Failure.UNREACHABLE, [])


@pytest.mark.parametrize(
    "settings", [{"api_key": {"env": "NOT_SET"}}, {"api_key": {"env": "ODD_KEY"}}, {"tls_ca": "/does/not/exist.pem"}]
)
def test_a_fault_of_this_node_is_one_of_configuration_or_tls(
    loop: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "ODD_KEY", "a b")
    with http_server(StatefulCore().answer, ServerKind.GOOD) as server:
        answer = run(loop, scan(core_profile(server.specification, **settings), [asked(1)], ORDER, SECONDS))
        assert server.requests == []
    expected = Failure.UNREACHABLE if "tls_ca" in settings else Failure.CONFIGURATION
    assert (answer.results, answer.failure) == ({}, expected)


def test_content_that_cannot_be_read_fails_its_item_only(loop: str) -> None:
    unreadable = replace(asked(1), octets=Octets(CLEAN, "content cannot be read here: Input/output error"))
    answer, _ = against(loop, StatefulCore(), [unreadable, asked(2, octets=EICAR)])
    assert answer.results[1].found.verdict is Verdict.FAILED
    assert answer.results[2].found.verdict is Verdict.BLOCKED


# --- probe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready", "fault"),
    [
        (Response(200, {}), ""),
        (Response(404, {"err": "Not found"}), ""),
        (Response(503, {"license": {"status": "expired"}}), "licence"),
    ],
)
def test_a_probe_asks_version_and_readiness_and_sends_no_mail(loop: str, ready: Response, fault: str) -> None:
    def respond(request: Request) -> Response:
        return (
            ready if request.path.startswith("/readyz") else Response(200, {"product_id": "MSCL", "version": "5.1"})
        )

    async def act(server: str) -> str:
        clients = HttpClients(lambda: ("", ""))
        found = await CoreScanner(clients).probe(core_profile(server), server, SECONDS)
        await clients.close()
        return found

    with http_server(respond) as server:
        found = run(loop, act(server.specification))
    assert fault in found
    assert bool(found) == bool(fault)
    assert {request.method for request in server.requests} == {"GET"}


def test_a_probe_of_nobody(loop: str) -> None:
    async def act(server: str) -> str:
        return await CoreScanner(HttpClients(lambda: ("", ""))).probe(core_profile(server), server, SECONDS)

    with closed_port() as port:
        assert run(loop, act(f"http://127.0.0.1:{port}")) == "connection refused"
