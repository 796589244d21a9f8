"""The walk over the servers of a scan profile: who is asked for what, and what becomes of items without a result."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.drain import Drain, DrainKind
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Verdict
from posthouse.core.service_type import ServiceType
from posthouse.mailflow import scanners as walk_module
from posthouse.mailflow.scanners import Scanners
from posthouse.scan_ports import Asked, ProfileOutcome, ScanAnswer, ScanOrder
from support.flow import FakeClock
from support.scripted_scanner import Answering, ScriptedScanner, fault, finding, items, result, well
from support.servers import profile

A, B, C = (f"http://10.0.0.{n}:8008" for n in (1, 2, 3))
ORDER = ScanOrder("mail-1")
DOWN = fault(Failure.UNREACHABLE)
BUSY = fault(Failure.BUSY, "the server answers 503")
SLOW = fault(Failure.TIMEOUT, "no result within 10 s")
REFUSED = fault(Failure.CONFIGURATION, "the server refuses the request: it answers 403")


class Made:
    """A walk over scripted servers."""

    def __init__(self, script: dict[str, list[Answering]] | None = None, **settings: Any) -> None:
        self.clock = FakeClock()
        self.scanner = ScriptedScanner(script or {})
        self.scanners = Scanners({ServiceType.METADEFENDER_CORE: self.scanner}, self.clock, lambda: 0.0)
        self.edit(1, **settings)
        self._mails = 0

    def edit(self, revision: int, **settings: Any) -> None:
        servers = settings.pop("servers", (A, B, C))
        self.profile: ServerProfile = profile(*servers, revision=revision, type="metadefender-core", **settings)
        self.scanners.keep_only([self.profile])

    def scan(
        self, *names: str, order: ScanOrder = ORDER, seconds: float = 60.0, of: ServerProfile | None = None
    ) -> ProfileOutcome:
        """Without names: one item whose content was never seen."""
        self._mails += 1
        asked = items(*(names or (f"new-{self._mails}",)))
        return asyncio.run(self.scanners.scan(of or self.profile, order, asked, seconds))

    def look(self, seconds: float = 0.0) -> None:
        """The clock moves on, and what is due is probed."""

        async def act() -> None:
            self.clock.at += seconds
            self.scanners.servers.look()
            for _ in range(5):
                await asyncio.sleep(0)

        asyncio.run(act())


def verdicts(outcome: ProfileOutcome) -> dict[int, Verdict]:
    return {number: each.scanned.found.verdict for number, each in outcome.results.items()}


def failures(outcome: ProfileOutcome) -> set[Failure | None]:
    return {each.scanned.found.failure for each in outcome.results.values()}


# --- order -------------------------------------------------------------------------------------------


def test_failover_always_begins_at_the_first() -> None:
    made = Made()
    for _ in range(3):
        made.scan()
    assert made.scanner.servers == [A, A, A]


def test_round_robin_goes_on_after_the_server_that_did_the_last_service() -> None:
    made = Made({B: [DOWN]}, preference="round-robin")
    for _ in range(4):
        made.scan()
    assert made.scanner.servers == [A, B, C, A, B]


def test_a_result_tells_its_server_and_batch() -> None:
    made = Made({A: [DOWN]})
    outcome = made.scan("x", "y")
    assert {(r.server, r.batch_id) for r in outcome.results.values()} == {(B, "b")}
    assert (outcome.failure, outcome.fault) == (None, "")
    down, served = outcome.attempts
    assert (down.server, down.fault, down.failure, down.results) == (A, "connection refused", Failure.UNREACHABLE, 0)
    assert (served.server, served.fault, served.batch_id, served.results, served.seconds) == (B, "", "b", 2, 1.5)


# --- faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [DOWN, BUSY, SLOW])
def test_a_fault_of_the_server_leads_to_the_next(answer: Answering) -> None:
    made = Made({A: [answer]})
    assert verdicts(made.scan("x")) == {0: Verdict.CLEAN}
    assert made.scanner.servers == [A, B]


def test_the_next_server_is_asked_only_for_what_has_no_result() -> None:
    made = Made({A: [fault(Failure.UNREACHABLE, results=2)], B: [finding(Verdict.BLOCKED)]})
    outcome = made.scan("a", "b", "c", "d")
    assert [numbers for _, numbers, _ in made.scanner.asked] == [(0, 1, 2, 3), (2, 3)]
    assert verdicts(outcome) == {0: Verdict.CLEAN, 1: Verdict.CLEAN, 2: Verdict.BLOCKED, 3: Verdict.BLOCKED}
    assert [outcome.results[n].server for n in range(4)] == [A, A, B, B]


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ((DOWN, DOWN, DOWN), Failure.UNREACHABLE),
        ((BUSY, DOWN, DOWN), Failure.BUSY),
        ((DOWN, BUSY, SLOW), Failure.TIMEOUT),
        ((DOWN, SLOW, BUSY), Failure.TIMEOUT),
    ],
)
def test_what_no_server_could_tell_is_failed(answers: Sequence[Answering], failure: Failure) -> None:
    made = Made({server: [answer] for server, answer in zip((A, B, C), answers, strict=True)})
    outcome = made.scan("x", "y")
    assert set(verdicts(outcome).values()) == {Verdict.FAILED}
    assert failures(outcome) == {failure} == {outcome.failure}
    assert outcome.fault
    assert len(outcome.attempts) == 3


def test_a_request_that_is_refused_ends_the_walk_and_closes_nothing() -> None:
    made = Made({A: [REFUSED] * 9})
    for _ in range(5):
        outcome = made.scan("x")
        assert failures(outcome) == {Failure.CONFIGURATION}
        assert set(verdicts(outcome).values()) == {Verdict.FAILED}
    assert made.scanner.servers == [A] * 5


def test_an_administrator_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(walk_module.log, "error", lambda _, **facts: told.append(facts))
    made = Made({A: [REFUSED] * 9})
    for seconds in (0, 30, 29, 1, 59, 1):
        made.clock.at += seconds
        made.scan("x")
    assert len(told) == 3
    assert told[0]["profile"] == made.profile.name
    assert "403" in told[0]["why"]


def test_a_scanner_that_forgets_an_item_is_at_fault() -> None:
    def forgetful(asked: Sequence[Asked]) -> ScanAnswer:
        return ScanAnswer({asked[0].number: result(), 99: result()})

    made = Made({server: [forgetful] for server in (A, B)}, servers=(A, B))
    outcome = made.scan("x", "y", "z")
    assert verdicts(outcome) == {0: Verdict.CLEAN, 1: Verdict.CLEAN, 2: Verdict.FAILED}
    assert outcome.attempts[0].fault == "no result for 2 of 3 items"
    assert outcome.failure is Failure.PROCESSING


def test_a_failed_item_is_a_result() -> None:
    made = Made({A: [finding(Verdict.FAILED, Failure.NOT_SCANNED)]})
    outcome = made.scan("x")
    assert (failures(outcome), outcome.failure) == ({Failure.NOT_SCANNED}, None)
    assert made.scanner.servers == [A]


def test_the_time_is_shared_between_the_servers_that_may_be_asked() -> None:
    made = Made({A: [DOWN], B: [DOWN]})
    made.scan("x", seconds=60.0)
    assert [seconds for _, _, seconds in made.scanner.asked] == [20.0, 30.0, 60.0]


def test_no_server_is_asked_without_time() -> None:
    made = Made()

    def slow(asked: Sequence[Asked]) -> ScanAnswer:
        made.clock.at += 61
        return ScanAnswer({}, "no result within 60 s", Failure.TIMEOUT)

    made.scanner.script = {A: [slow]}
    outcome = made.scan("x")
    assert (made.scanner.servers, failures(outcome)) == ([A], {Failure.TIMEOUT})
    assert outcome.seconds == 61
    outcome = made.scan("x", seconds=0)
    assert (made.scanner.servers, failures(outcome)) == ([A], {Failure.TIMEOUT})


answers = st.sampled_from(
    [well, DOWN, BUSY, SLOW, REFUSED, fault(Failure.UNREACHABLE, results=1), finding(Verdict.BLOCKED)]
)


@given(st.lists(answers, min_size=3, max_size=3), st.integers(1, 4))
def test_every_item_has_a_result_and_clean_ones_have_a_server(script: list[Answering], count: int) -> None:
    made = Made({server: [answer] for server, answer in zip((A, B, C), script, strict=True)})
    outcome = made.scan(*[f"i{n}" for n in range(count)])
    assert sorted(outcome.results) == list(range(count))
    for each in outcome.results.values():
        assert (each.server == "") == (each.scanned.found.verdict is Verdict.FAILED)


# --- circuits, probes, drains ------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [DOWN, BUSY, SLOW])
def test_after_three_faults_in_a_row_a_server_is_passed_over(answer: Answering) -> None:
    made = Made({A: [answer] * 9})
    for _ in range(5):
        outcome = made.scan()
    assert made.scanner.servers == [A, B] * 3 + [B] * 2
    assert outcome.attempts[0].passed_over.startswith("circuit open: ")


def test_one_item_that_takes_too_long_is_no_fault_of_the_server() -> None:
    made = Made({A: [fault(Failure.TIMEOUT, results=1)] * 5})
    for n in range(5):
        made.scan(f"a{n}", f"b{n}")
    assert made.scanner.servers == [A, B] * 5


def all_open(made: Made) -> None:
    for server in (A, B, C):
        made.scanner.script[server] = [DOWN] * 3
        made.scanner.probe_faults[server] = "connection refused"
    for _ in range(3):
        made.scan()
    made.scanner.asked.clear()


def test_with_all_circuits_open_nobody_is_asked_and_the_mail_is_failed_at_once() -> None:
    made = Made()
    all_open(made)
    outcome = made.scan("x")
    assert (made.scanner.asked, failures(outcome)) == ([], {Failure.UNREACHABLE})
    assert outcome.fault == "no scan server may be asked now: circuit open: connection refused"


def test_a_probe_and_not_a_mail_finds_out_that_a_server_is_back() -> None:
    made = Made()
    all_open(made)
    made.look(9)
    assert made.scanner.probed == []
    made.look(1)
    assert sorted(made.scanner.probed) == [A, B, C]
    assert made.scanner.asked == []
    made.look(19)
    assert len(made.scanner.probed) == 3
    made.scanner.probe_faults.clear()
    made.look(1)
    assert made.scanners.servers.take_regained() == {made.profile.name}
    assert verdicts(made.scan()) == {0: Verdict.CLEAN}


def test_one_mail_goes_first() -> None:
    made = Made(servers=(A,))
    made.scanner.script[A] = [DOWN] * 3
    for _ in range(3):
        made.scan()
    made.look(10)
    made.scanner.asked.clear()

    async def act() -> list[ProfileOutcome]:
        made.scanner.hold = asyncio.Event()
        first = asyncio.create_task(made.scanners.scan(made.profile, ORDER, items("p"), 60.0))
        await asyncio.sleep(0)
        second = await made.scanners.scan(made.profile, ORDER, items("q"), 60.0)
        made.scanner.hold.set()
        return [await first, second]

    first, second = asyncio.run(act())
    assert (verdicts(first), verdicts(second)) == ({0: Verdict.CLEAN}, {0: Verdict.FAILED})
    assert second.attempts[0].passed_over == "circuit half-open, one mail goes first: connection refused"
    assert made.scanner.servers == [A]
    assert verdicts(made.scan()) == {0: Verdict.CLEAN}


def test_a_scan_that_is_cancelled_or_breaks_tells_nothing_of_the_server() -> None:
    def broken(_: Sequence[Asked]) -> Exception:
        return RuntimeError("a bug")

    made = Made({A: [broken] * 4})
    for _ in range(4):
        with pytest.raises(RuntimeError):
            made.scan()
    facts = made.scanners.servers.facts(made.profile, A, lambda at: at)
    assert facts["in_use"] == 0
    assert facts["not_now"] == ""
    assert verdicts(made.scan()) == {0: Verdict.CLEAN}


def test_a_wrong_tls_setting_of_one_profile_closes_nothing_for_another() -> None:
    made = Made({A: [DOWN] * 3})
    other = replace(profile(A, type="metadefender-core", revision=1), name="other", tls_pin="ab" * 32)
    made.scanners.keep_only([made.profile, other])
    for _ in range(3):
        made.scan()
    assert made.scan().attempts[0].passed_over
    assert not made.scan(of=other).attempts[0].passed_over


def test_profiles_that_name_a_server_alike_share_its_circuit() -> None:
    made = Made({A: [DOWN] * 3})
    other = replace(profile(A, type="metadefender-core", revision=1), name="other")
    made.scanners.keep_only([made.profile, other])
    for _ in range(3):
        made.scan()
    assert made.scan(of=other).attempts[0].passed_over
    made.look(10)
    assert made.scanners.servers.take_regained() == {made.profile.name, "other"}


def test_a_drained_server_is_neither_asked_nor_probed() -> None:
    made = Made({A: [DOWN] * 3})
    drain = Drain(made.profile.name, A, DrainKind.DRAINED, made.clock.now(), made.clock.now() + 100, "eve")
    made.scanners.servers.drain({(made.profile.name, A): drain})
    outcome = made.scan()
    assert made.scanner.servers == [B]
    assert outcome.attempts[0].passed_over == drain.why
    made.scanners.servers.drain({})
    for _ in range(3):
        made.scan()
    made.scanners.servers.drain({(made.profile.name, A): drain})
    made.look(50)
    assert made.scanner.probed == []
    made.scanners.servers.take_regained()
    made.look(60)
    assert made.scanner.probed == [A]
    assert made.scanners.servers.take_regained() == {made.profile.name}


def test_a_drain_that_ends_by_itself_gives_the_server_back() -> None:
    made = Made()
    drain = Drain(made.profile.name, A, DrainKind.SIMULATED, made.clock.now(), made.clock.now() + 100, "eve")
    made.scanners.servers.drain({(made.profile.name, A): drain})
    made.look(99)
    assert made.scanners.servers.take_regained() == frozenset()
    assert made.scanners.servers.drained == {(made.profile.name, A)}
    made.look(1)
    assert made.scanners.servers.take_regained() == {made.profile.name}
    made.scan()
    assert made.scanner.servers == [A]


def test_an_operator_asks_for_probes() -> None:
    made = Made()
    all_open(made)

    async def act() -> None:
        made.scanners.servers.probe_all()
        await asyncio.sleep(0)

    asyncio.run(act())
    assert sorted(made.scanner.probed) == [A, B, C]


def test_what_is_known_of_a_server_for_people() -> None:
    made = Made({A: [DOWN, REFUSED]}, servers=(A,))
    made.scan()
    made.scan()
    made.scan()
    facts = made.scanners.servers.facts(made.profile, A, lambda at: at)
    assert (facts["scanned"], facts["last_fault"], facts["last_fault_at"]) == (1, "connection refused", 1_000_000.0)
    assert facts["endpoint"] == {
        "phase": "closed",
        "reason": "",
        "since": 1_000_000.0,
        "next_probe": float("inf"),
        "faults": 0,
    }
    errors = facts["last_errors"]
    assert isinstance(errors, list)
    assert [error["stage"] for error in errors] == ["scan", "scan"]


def test_what_no_profile_names_any_more_is_forgotten() -> None:
    made = Made({A: [DOWN] * 3})
    for _ in range(3):
        made.scan()
    made.edit(2, servers=(B,))
    made.edit(3, servers=(A,))
    assert not made.scan().attempts[0].passed_over


def test_closing_closes_the_scanners() -> None:
    made = Made()
    asyncio.run(made.scanners.close())
    assert made.scanner.closed


# --- equal content -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [Verdict.CLEAN, Verdict.BLOCKED, Verdict.POLICY])
def test_equal_content_is_not_scanned_again(verdict: Verdict) -> None:
    made = Made({A: [finding(verdict)]})
    first, second = made.scan("x"), made.scan("x")
    assert made.scanner.servers == [A]
    assert not first.results[0].scanned.found.cached
    found = second.results[0].scanned.found
    assert (found.verdict, found.cached, second.results[0].server, second.attempts) == (verdict, True, A, ())


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.ENCRYPTED, Verdict.SANITIZED])
def test_other_verdicts_are_asked_for_again(verdict: Verdict) -> None:
    made = Made({A: [finding(verdict, Failure.PROCESSING if verdict is Verdict.FAILED else None)]})
    made.scan("x")
    assert verdicts(made.scan("x")) == {0: Verdict.CLEAN}
    assert made.scanner.servers == [A, A]


def test_only_what_is_new_in_a_mail_is_asked_for() -> None:
    made = Made()
    made.scan("x", "y")
    outcome = made.scan("y", "z", "x")
    assert made.scanner.asked[1][1] == (1,)
    assert [outcome.results[n].scanned.found.cached for n in range(3)] == [True, False, True]


def test_a_verdict_is_reused_for_ten_minutes_from_the_scan() -> None:
    made = Made()
    made.scan("x")
    for seconds, scans in ((300, 1), (299, 1), (1, 2)):
        made.clock.at += seconds
        made.scan("x")
        assert len(made.scanner.asked) == scans


def test_a_verdict_holds_for_the_same_question_only() -> None:
    made = Made()
    made.scan("x.pdf")
    made.scan("x.PDF")
    assert len(made.scanner.asked) == 1
    made.scan("x.exe")
    made.scan("x.pdf", order=replace(ORDER, sanitize=True))
    made.scan("x.pdf", order=replace(ORDER, core_rule="strict"))
    made.scan("x.pdf", order=replace(ORDER, passwords=("fox",)))
    made.scan("x.pdf", order=replace(ORDER, passwords=("fox",)))
    assert len(made.scanner.asked) == 6
    made.edit(2)
    made.scan("x.pdf")
    assert len(made.scanner.asked) == 7
    made.scan("x.pdf", of=replace(made.profile, name="other"))
    assert len(made.scanner.asked) == 8
