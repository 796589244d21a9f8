"""Marks of server profiles in the shared database, the same on SQLite and PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from posthouse.core.drain import Drain, DrainKind
from posthouse.core.fields import Secret
from posthouse.core.profile_mark import FailedServer, Mark, MarkState
from posthouse.storage.open import SharedStore, open_shared

NOW = 1_000_000.25
PROFILE = {"name": "exchange", "type": "smtp", "servers": ["smtp://10.0.0.1:25"], "preference": "failover"}
RULE = {"name": "inbound", "relay": {"profile": "exchange"}}
PASSED = Mark(MarkState.PASSED, NOW, "key a (1)")
FAILED = Mark(MarkState.FAILED, NOW + 9, "node", "", False, 1, (FailedServer("smtp://10.0.0.1:25", "connect", "no"),))
GIVEN = {"exchange": {"password": Secret("text", "canary")}}


@pytest.fixture
def shared(data_dir: str, database: str) -> Iterator[SharedStore]:
    store = open_shared(data_dir, database)
    yield store
    store.close()


def mark(shared: SharedStore) -> Mark:
    """Of the only profile."""
    (profile,) = shared.inventory.load().profiles
    assert profile.tested is not None
    return profile.tested


def test_what_nobody_has_tested_is_untested_and_due(shared: SharedStore) -> None:
    shared.inventory.replace([PROFILE], [RULE], expected_revision=0, by="serve", now=NOW)
    assert mark(shared) == Mark(MarkState.UNTESTED, NOW, "serve", revision=1)
    assert mark(shared).due


def test_a_given_mark_is_stored_at_the_revision_of_the_change(shared: SharedStore) -> None:
    tested = {"exchange": PASSED}
    shared.inventory.replace([PROFILE], [RULE], expected_revision=0, by="key a (1)", now=NOW + 1, tested=tested)
    assert mark(shared) == replace(PASSED, revision=1)
    shared.inventory.replace([PROFILE], [], expected_revision=1, by="op", now=NOW + 2)
    assert mark(shared) == replace(PASSED, revision=1), "the profile is as it was"


def test_a_mark_is_kept_or_lost_by_what_changes(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.replace([PROFILE], [], expected_revision=0, by="op", now=NOW, tested={"exchange": PASSED})
    pooled = {**PROFILE, "preference": "round-robin"}
    inventory.replace([pooled], [], expected_revision=1, by="op", now=NOW)
    assert mark(shared) == replace(PASSED, revision=1)
    moved = {**pooled, "servers": ["smtp://10.0.0.9:25"]}
    inventory.replace([moved], [], expected_revision=2, by="SIGHUP", now=NOW + 3)
    assert mark(shared) == Mark(MarkState.UNTESTED, NOW + 3, "SIGHUP", revision=3)


def test_a_save_by_force_stays_in_the_audit_log_after_the_mark_is_renewed(shared: SharedStore) -> None:
    forced = Mark(MarkState.UNTESTED, NOW, "op", "it comes on Monday", forced=True)
    tested = {"exchange": forced, "other": PASSED}
    profiles = [{**PROFILE, "name": "Exchange"}, {**PROFILE, "name": "other"}]
    inventory = shared.inventory
    inventory.replace(profiles, [], expected_revision=0, by="op", now=NOW, tested=tested)
    stored = inventory.load().profiles[0].tested
    assert inventory.mark("Exchange", stored, PASSED)
    inventory.replace(profiles[:1], [], expected_revision=1, by="op", now=NOW, reason="not needed")
    after, before = (row["detail"] for row in inventory.audit(2, None))
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert (before["forced"], "reason" in before) == ({"Exchange": "it comes on Monday"}, False)
    assert (after["reason"], "forced" in after) == ("not needed", False)


def test_another_secret_makes_a_profile_untested(shared: SharedStore) -> None:
    inventory, document = shared.inventory, {**PROFILE, "username": "u", "password": {"set": True}}
    tested = {"exchange": PASSED}
    inventory.replace([document], [], expected_revision=0, by="op", now=NOW, secrets=GIVEN, tested=tested)
    inventory.replace([document], [RULE], expected_revision=1, by="op", now=NOW, secrets=GIVEN)
    assert mark(shared).state is MarkState.PASSED
    other = {"exchange": {"password": Secret("text", "another")}}
    inventory.replace([document], [RULE], expected_revision=2, by="op", now=NOW, secrets=other)
    assert mark(shared).state is MarkState.UNTESTED


def test_a_rename_keeps_mark_and_secret_and_is_audited_as_such(shared: SharedStore) -> None:
    inventory, document = shared.inventory, {**PROFILE, "username": "u", "password": {"set": True}}
    tested = {"exchange": PASSED}
    inventory.replace([document], [RULE], expected_revision=0, by="op", now=NOW, secrets=GIVEN, tested=tested)
    (old,) = inventory.load().profiles
    inventory.replace(
        [{**document, "name": "Next"}],
        [{**RULE, "relay": {"profile": "Next"}}],
        expected_revision=1,
        by="op",
        now=NOW,
        secrets={"next": old.secrets},
        what="server profile renamed",
        renamed={"exchange": "Next"},
    )
    (new,) = inventory.load().profiles
    assert (new.document["name"], new.secrets, new.revision) == ("Next", old.secrets, 2)
    assert new.tested == old.tested
    assert new.former == ("exchange",)
    detail = inventory.audit(1, None)[0]["detail"]
    assert detail == {
        "revision": 2,
        "changes": [
            {"change": "changed", "field": "server_profiles[Next].name", "old": "exchange", "new": "Next"},
            {"change": "changed", "field": "rules[inbound].relay.profile", "old": "exchange", "new": "Next"},
        ],
    }


def test_a_drained_server_stays_drained_under_the_new_name(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.replace([PROFILE], [], expected_revision=0, by="op", now=NOW)
    inventory.drain(Drain("exchange", "smtp://10.0.0.1:25", DrainKind.DRAINED, NOW, None, "op", "work"))
    renamed = {**PROFILE, "name": "next"}
    inventory.replace([renamed], [], expected_revision=2, by="op", now=NOW, renamed={"exchange": "next"})
    (drain,) = inventory.load().drains
    assert (drain.profile, drain.server, drain.reason) == ("next", "smtp://10.0.0.1:25", "work")


def test_a_profile_keeps_the_names_it_had_until_another_takes_them(shared: SharedStore) -> None:
    inventory = shared.inventory

    def save(*names: str, **renamed: str) -> list[tuple[str, ...]]:
        documents = [{**PROFILE, "name": name} for name in names]
        revision = inventory.revision()
        inventory.replace(documents, [], expected_revision=revision, by="op", now=NOW, renamed=renamed)
        return [profile.former for profile in inventory.load().profiles]

    assert save("a") == [()]
    assert save("b", a="b") == [("a",)]
    assert save("B") == [("a", "b")], "a file may spell it otherwise"
    assert save("c", B="c") == [("a", "b", "B")]
    assert save("c", "a") == [("b", "B"), ()]
    assert save("c") == [("b", "B")]
    assert save("d") == [()], "another one"


def test_a_mark_changes_no_revision_and_is_set_only_where_it_is_as_it_was(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.replace([PROFILE], [RULE], expected_revision=0, by="op", now=NOW)
    before, untested = inventory.load(), mark(shared)
    assert inventory.mark("exchange", untested, FAILED)
    assert mark(shared) == FAILED
    after = inventory.load()
    assert (after.revision, after.profiles[0].revision) == (before.revision, before.profiles[0].revision)
    assert not inventory.mark("exchange", untested, PASSED)
    assert not inventory.mark("exchange", None, PASSED)
    assert not inventory.mark("other", FAILED, PASSED)
    assert mark(shared) == FAILED
    assert len(inventory.audit(10, None)) == 1


def test_of_many_who_claim_a_profile_one_gets_it(shared: SharedStore, data_dir: str, database: str) -> None:
    shared.inventory.replace([PROFILE], [RULE], expected_revision=0, by="op", now=NOW)
    untested = mark(shared)
    stores = [open_shared(data_dir, database) for _ in range(4)]
    claims = [Mark(MarkState.TESTING, NOW, f"node {number}", revision=1) for number in range(4)]
    try:
        with ThreadPoolExecutor(4) as threads:
            got = list(
                threads.map(
                    lambda pair: pair[0].inventory.mark("exchange", untested, pair[1]),
                    zip(stores, claims, strict=True),
                )
            )
    finally:
        for store in stores:
            store.close()
    assert sorted(got) == [False, False, False, True]
    assert mark(shared) == claims[got.index(True)]


def test_a_rotation_of_secrets_leaves_marks_as_they_are(shared: SharedStore) -> None:
    document = {**PROFILE, "username": "u", "password": {"set": True}}
    tested = {"exchange": PASSED}
    shared.inventory.replace([document], [], expected_revision=0, by="op", now=NOW, secrets=GIVEN, tested=tested)
    shared.inventory.rotate_secrets(by="op", now=NOW)
    assert mark(shared) == replace(PASSED, revision=1)
