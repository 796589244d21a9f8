"""What is done with a mail by what was found in it: one test for each sentence of the module's table."""

import itertools
from collections.abc import Mapping

import pytest

from posthouse.core.announcements import Case
from posthouse.core.disposition import Action, Disposition, Finding, dispose
from posthouse.core.scan import Failure, Verdict
from posthouse.core.scan_section import ACTIONS, OnFailed, OnVerdict, ScanSection

BAD = (Verdict.BLOCKED, Verdict.POLICY, Verdict.AMBIGUOUS, Verdict.ENCRYPTED)
CLEAN = Finding("1", Verdict.CLEAN, "")


def section(
    on: Mapping[Verdict, OnVerdict] | None = None,
    *,
    failed: OnFailed = OnFailed.RETRY,
    errors: Mapping[Failure, OnFailed] | None = None,
) -> ScanSection:
    actions = {**dict.fromkeys(ACTIONS.values(), OnVerdict.QUARANTINE), **(on or {})}
    return ScanSection(("core",), on=actions, on_failed=failed, on_errors=errors or {})


def disposed(of: ScanSection, *findings: Finding, may_reject: bool = False) -> Disposition:
    return dispose(of, [CLEAN, *findings], may_reject=may_reject)


def bad(verdict: Verdict, part: str = "2", why: str = "Eicar") -> Finding:
    return Finding(part, verdict, why, name="a.zip" if part else "")


def failed(failure: Failure, part: str = "2") -> Finding:
    return Finding(part, Verdict.FAILED, "no answer", failure)


def test_a_clean_mail_goes_on_as_it_is() -> None:
    found = disposed(section())
    assert (found.action, found.verdict, found.strip, found.sanitized, found.marked) == (
        Action.DELIVER,
        Verdict.CLEAN,
        {},
        (),
        False,
    )
    assert found.cases == {Case.CLEAN}


@pytest.mark.parametrize("verdict", BAD)
@pytest.mark.parametrize("action", [OnVerdict.QUARANTINE, OnVerdict.DISCARD])
def test_the_action_of_a_verdict_ends_the_mail(verdict: Verdict, action: OnVerdict) -> None:
    found = disposed(section({verdict: action}), bad(verdict))
    assert found.action.value == action.value
    assert found.verdict is verdict
    assert "Eicar" in found.why
    assert "a.zip" in found.why


@pytest.mark.parametrize("verdict", BAD)
def test_a_mail_is_rejected_only_before_it_is_accepted(verdict: Verdict) -> None:
    of = section({verdict: OnVerdict.REJECT})
    assert disposed(of, bad(verdict), may_reject=True).action is Action.REJECT
    assert disposed(of, bad(verdict)).action is Action.QUARANTINE


@pytest.mark.parametrize(("strict", "mild"), list(itertools.combinations(BAD, 2)))
def test_of_several_verdicts_that_end_the_mail_the_strictest_decides(strict: Verdict, mild: Verdict) -> None:
    found = disposed(section({strict: OnVerdict.DISCARD, mild: OnVerdict.QUARANTINE}), bad(mild), bad(strict))
    assert found.action is Action.DISCARD


@pytest.mark.parametrize("milder", [OnVerdict.STRIP, OnVerdict.MARK])
def test_a_verdict_that_ends_the_mail_comes_before_one_that_lets_it_go_on(milder: OnVerdict) -> None:
    of = section({Verdict.BLOCKED: milder})
    assert disposed(of, bad(Verdict.BLOCKED), bad(Verdict.ENCRYPTED, "3")).action is Action.QUARANTINE


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize(
    ("on_failed", "action"),
    [
        (OnFailed.RETRY, Action.RETRY),
        (OnFailed.FAIL, Action.FAIL),
        (OnFailed.QUARANTINE, Action.QUARANTINE),
        (OnFailed.BYPASS, Action.DELIVER),
    ],
)
def test_what_could_not_be_scanned_is_treated_as_the_rule_says(
    failure: Failure, on_failed: OnFailed, action: Action
) -> None:
    found = disposed(section(failed=on_failed), failed(failure))
    assert (found.action, found.verdict) == (action, Verdict.FAILED)
    assert disposed(section(errors={failure: on_failed}), failed(failure)).action is action


def test_a_bypassed_mail_is_marked_and_never_told_to_be_clean() -> None:
    found = disposed(section(failed=OnFailed.BYPASS), failed(Failure.TIMEOUT))
    assert found.marked
    assert found.cases == {Case.FAILED}


def test_of_several_failures_the_most_careful_action_is_taken() -> None:
    errors = {
        Failure.BUSY: OnFailed.BYPASS,
        Failure.TIMEOUT: OnFailed.RETRY,
        Failure.NOT_SCANNED: OnFailed.QUARANTINE,
    }
    of = section(failed=OnFailed.FAIL, errors=errors)
    order = [Failure.NOT_SCANNED, Failure.PROCESSING, Failure.TIMEOUT, Failure.BUSY]
    expected = [Action.QUARANTINE, Action.FAIL, Action.RETRY, Action.DELIVER]
    for at, action in enumerate(expected):
        assert disposed(of, *[failed(each) for each in reversed(order[at:])]).action is action


def test_a_known_threat_decides_though_another_scanner_failed() -> None:
    assert disposed(section(), failed(Failure.BUSY), bad(Verdict.BLOCKED)).action is Action.QUARANTINE


@pytest.mark.parametrize("action", [OnVerdict.STRIP, OnVerdict.MARK])
def test_nothing_goes_on_less_its_bad_parts_while_a_scanner_has_not_answered(action: OnVerdict) -> None:
    found = disposed(section({Verdict.BLOCKED: action}), bad(Verdict.BLOCKED), failed(Failure.BUSY, "3"))
    assert found.action is Action.RETRY


def test_bad_parts_are_taken_out_and_sanitized_ones_replaced() -> None:
    of = section({Verdict.BLOCKED: OnVerdict.STRIP, Verdict.POLICY: OnVerdict.STRIP})
    found = disposed(
        of,
        bad(Verdict.BLOCKED, "2"),
        bad(Verdict.POLICY, "3"),
        Finding("2", Verdict.SANITIZED, ""),
        Finding("4", Verdict.SANITIZED, ""),
        bad(Verdict.BLOCKED, ""),
    )
    assert found.action is Action.DELIVER
    assert list(found.strip) == ["2", "3"]
    assert found.sanitized == ("4",)
    assert found.cases == {Case.BLOCKED, Case.POLICY, Case.SANITIZED, Case.STRIPPED}


@pytest.mark.parametrize("verdict", BAD)
def test_what_is_bad_in_the_mail_as_a_whole_cannot_be_taken_out(verdict: Verdict) -> None:
    found = disposed(section({verdict: OnVerdict.STRIP}), bad(verdict, ""))
    assert found.action is Action.QUARANTINE


@pytest.mark.parametrize("verdict", BAD)
def test_a_marked_mail_goes_on(verdict: Verdict) -> None:
    found = disposed(section({verdict: OnVerdict.MARK}), bad(verdict))
    assert (found.action, found.marked) == (Action.DELIVER, True)
    assert "Eicar" in found.why


def test_nothing_bad_is_ever_delivered_unmarked() -> None:
    """Every combination of two findings and of actions: what goes on is stripped of both or marked."""
    kinds = (*BAD, Verdict.FAILED)
    for first, second in itertools.product(kinds, repeat=2):
        for of_first, of_second in itertools.product(OnVerdict, repeat=2):
            on = {verdict: action for verdict, action in ((first, of_first), (second, of_second)) if verdict in BAD}
            findings = [Finding("1", first, "x", Failure.BUSY), Finding("2", second, "y", Failure.BUSY)]
            found = disposed(section(on, failed=OnFailed.BYPASS), *findings)
            if found.action is Action.DELIVER and not found.marked:
                assert {"1", "2"} == set(found.strip), (on, first, second)
