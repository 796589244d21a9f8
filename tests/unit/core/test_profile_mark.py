"""Which changes of a profile need a test, and which mark it has afterwards."""

import pytest

from posthouse.core.profile_mark import (
    FailedServer,
    Mark,
    MarkState,
    mark_after,
    mark_json,
    mark_of,
    needs_test,
    read_mark,
)
from posthouse.core.profile_test import ProfileResult, ServerResult, StageName, StageResult, failed

PROFILE: dict[str, object] = {
    "name": "exchange",
    "type": "smtp",
    "servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:25"],
    "preference": "failover",
    "tls": "none",
    "tls_min": "1.2",
    "pool": {"enabled": False},
}
PASSED = Mark(MarkState.PASSED, 10.0, "key a (1)", revision=1)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "next"},
        {"preference": "round-robin"},
        {"pool": {"enabled": True}},
        {"public_url": "https://core.example"},
        {"details_pattern": "{base}/data/{data_id}", "batch_pattern": "{base}/batch/{batch_id}"},
        {"servers": ["smtp://10.0.0.2:25", "smtp://10.0.0.1:25"]},
        {"name": "next", "preference": "random-start", "pool": {"enabled": True}},
        {},
    ],
)
def test_what_no_server_is_asked_about_needs_no_test(change: dict[str, object]) -> None:
    assert not needs_test(PROFILE, {**PROFILE, **change}, same_secrets=True)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "clamav"},
        {"servers": ["smtp://10.0.0.1:25"]},
        {"servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.3:25"]},
        {"servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:25", "smtp://10.0.0.3:25"]},
        {"tls": "starttls-required"},
        {"tls_verify": "none"},
        {"tls_name": "mx.example"},
        {"tls_ca": "/ca.pem"},
        {"tls_pin": "0" * 64},
        {"tls_min": "1.3"},
        {"username": "relay"},
        {"password": {"env": "P"}},
        {"api_key": {"file": "/k"}},
        {"client_certificate": True},
        {"allow_plaintext_auth": True},
        {"preference": "round-robin", "tls": "starttls-required"},
    ],
)
def test_what_may_make_a_server_fail_needs_a_test(change: dict[str, object]) -> None:
    assert needs_test(PROFILE, {**PROFILE, **change}, same_secrets=True)
    assert needs_test({**PROFILE, **change}, PROFILE, same_secrets=True)


def test_a_new_profile_and_a_new_secret_need_a_test() -> None:
    assert needs_test(None, PROFILE, same_secrets=True)
    assert needs_test(PROFILE, PROFILE, same_secrets=False)


def test_a_mark_stays_with_a_change_that_needs_no_test() -> None:
    renamed = {**PROFILE, "name": "next"}
    for mark in (PASSED, Mark(MarkState.UNTESTED, 5.0, "key b (2)", "soon", True, 1)):
        kept = mark_after(None, (PROFILE, mark), renamed, same_secrets=True, by="x", at=20.0, revision=2)
        assert kept == mark


def test_what_is_changed_without_a_test_is_untested_and_due() -> None:
    due = Mark(MarkState.UNTESTED, 20.0, "serve", revision=2)
    assert due.due
    changed = {**PROFILE, "tls": "starttls-required"}
    for old, same_secrets in (
        ((PROFILE, PASSED), True),
        (None, True),
        ((changed, PASSED), False),
        ((changed, None), True),
    ):
        found = mark_after(None, old, changed, same_secrets=same_secrets, by="serve", at=20.0, revision=2)
        assert found == due


def test_a_given_mark_gets_the_revision_it_is_saved_at() -> None:
    given = Mark(MarkState.PASSED, 19.0, "key a (1)")
    found = mark_after(given, (PROFILE, PASSED), PROFILE, same_secrets=True, by="key a (1)", at=20.0, revision=7)
    assert found == Mark(MarkState.PASSED, 19.0, "key a (1)", revision=7)


@pytest.mark.parametrize("state", MarkState)
@pytest.mark.parametrize("forced", [False, True])
def test_only_what_is_untested_and_not_forced_is_due(state: MarkState, forced: bool) -> None:
    assert Mark(state, 1.0, "x", forced=forced).due == (state is MarkState.UNTESTED and not forced)


def test_the_mark_of_a_test_names_each_server_that_failed_and_where() -> None:
    good = ServerResult("smtp://a:25", (StageResult(StageName.QUIT, True, 0.1),))
    bad = ServerResult(
        "smtp://b:25",
        (StageResult(StageName.RESOLVE, True, 0.1), failed(StageName.CONNECT, 0.2, "connection refused")),
    )
    assert mark_of(ProfileResult((good,)), at=3.0, by="x", revision=4) == Mark(MarkState.PASSED, 3.0, "x", revision=4)
    mark = mark_of(ProfileResult((good, bad)), at=3.0, by="x")
    assert mark == Mark(
        MarkState.FAILED, 3.0, "x", failed=(FailedServer("smtp://b:25", "connect", "connection refused"),)
    )
    assert read_mark(mark_json(mark) or {}) == mark
    assert mark_json(None) is None
