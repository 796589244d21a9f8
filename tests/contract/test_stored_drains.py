"""Drains of servers in ports.InventoryStore, the same on SQLite and PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from posthouse.core.drain import Drain, DrainKind
from posthouse.ports import NoSuchServer
from posthouse.storage.open import SharedStore, open_shared

NOW = 1_000_000.0
ONE, TWO = "smtp://10.0.0.1:25", "smtp://10.0.0.2:25"
PROFILE = {"name": "exchange", "type": "smtp", "servers": [ONE, TWO]}
OTHER = {"name": "other", "type": "smtp", "servers": [ONE]}
DRAIN = Drain("exchange", ONE, DrainKind.DRAINED, NOW, None, "key op (k1)", "new disks \N{SNOWMAN}")
DOWN = Drain("exchange", TWO, DrainKind.SIMULATED, NOW, NOW + 600, "key op (k1)")


@pytest.fixture
def shared(data_dir: str, database: str) -> Iterator[SharedStore]:
    store = open_shared(data_dir, database)
    store.inventory.replace([PROFILE, OTHER], [], expected_revision=0, by="op", now=NOW)
    yield store
    store.close()


def last_undrained(shared: SharedStore) -> object:
    """Of the newest audit row."""
    detail = shared.inventory.audit(1, None)[0]["detail"]
    assert isinstance(detail, dict)
    return detail.get("undrained")


def test_a_drain_is_a_new_revision_of_the_inventory_and_of_no_profile(
    shared: SharedStore, data_dir: str, database: str
) -> None:
    assert shared.inventory.drain(DRAIN) is None
    assert shared.inventory.drain(DOWN) is None
    other = open_shared(data_dir, database)  # as after a restart
    stored = other.inventory.load()
    other.close()
    assert stored.drains == (DRAIN, DOWN)
    assert (stored.revision, [p.revision for p in stored.profiles]) == (3, [1, 1])
    taken_back = shared.inventory.undrain("exchange", ONE, by="op", now=NOW + 1)
    assert (taken_back, shared.inventory.load().drains, shared.inventory.revision()) == (DRAIN, (DOWN,), 4)


def test_a_change_of_a_drain_is_audited_with_who_before_and_after(shared: SharedStore) -> None:
    shared.inventory.drain(DRAIN)
    longer = replace(DRAIN, at=NOW + 5, until=NOW + 60, by="key two (k2)")
    assert shared.inventory.drain(longer) == DRAIN
    assert shared.inventory.undrain("exchange", ONE, by="key three (k3)", now=NOW + 10) == longer
    shared.inventory.drain(DOWN)
    down, undrained, again, first = shared.inventory.audit(4, None)
    assert [row["what"] for row in (first, again, undrained, down)] == [
        "server drained",
        "server drained",
        "server undrained",
        "server treated as down",
    ]
    assert [(row["by"], row["at"]) for row in (first, again, undrained)] == [
        ("key op (k1)", NOW),
        ("key two (k2)", NOW + 5),
        ("key three (k3)", NOW + 10),
    ]
    facts = {"server": ONE, "kind": "drained", "at": NOW, "until": None, "by": "key op (k1)"}
    facts["reason"] = DRAIN.reason
    after = {**facts, "at": NOW + 5, "until": NOW + 60, "by": "key two (k2)"}
    assert again["detail"] == {"revision": 3, "server_profile": "exchange", "before": facts, "after": after}
    assert undrained["detail"] == {"revision": 4, "server_profile": "exchange", "before": after, "after": None}


def test_there_is_nothing_to_take_back_where_nothing_is_drained_or_it_has_ended(shared: SharedStore) -> None:
    shared.inventory.drain(DOWN)
    for server, now in ((ONE, NOW), (TWO, NOW + 600)):
        assert shared.inventory.undrain("exchange", server, by="op", now=now) is None
    assert shared.inventory.revision() == 2
    assert shared.inventory.drain(replace(DOWN, at=NOW + 700, until=NOW + 800)) is None


@pytest.mark.parametrize("drain", [replace(DRAIN, profile="Exchange"), replace(DRAIN, profile="other", server=TWO)])
def test_only_a_server_that_the_profile_has_can_be_drained(shared: SharedStore, drain: Drain) -> None:
    with pytest.raises(NoSuchServer):
        shared.inventory.drain(drain)
    assert (shared.inventory.revision(), shared.inventory.load().drains) == (1, ())


def test_a_drain_goes_with_its_server_or_profile_and_when_it_has_ended(shared: SharedStore) -> None:
    inventory = shared.inventory
    of_other = replace(DRAIN, profile="other")
    for drain in (DRAIN, DOWN, of_other):
        inventory.drain(drain)
    fewer = {**PROFILE, "servers": [TWO]}
    inventory.replace([fewer, OTHER], [], expected_revision=4, by="op", now=NOW + 1)
    assert inventory.load().drains == (DOWN, of_other)
    inventory.replace([PROFILE, {**OTHER, "name": "renamed"}], [], expected_revision=5, by="op", now=NOW + 2)
    assert inventory.load().drains == (DOWN,)
    inventory.replace([PROFILE], [], expected_revision=6, by="op", now=NOW + 600)
    assert inventory.load().drains == ()


def test_a_drain_stays_where_a_file_spells_the_profile_otherwise(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.drain(DRAIN)
    inventory.replace([{**PROFILE, "name": "Exchange"}, OTHER], [], expected_revision=2, by="config", now=NOW + 1)
    stored = inventory.load()
    assert stored.drains == (replace(DRAIN, profile="Exchange"),)
    assert [profile.former for profile in stored.profiles] == [("exchange",), ()]
    assert last_undrained(shared) is None


def test_drains_that_go_with_their_server_before_their_end_are_audited(shared: SharedStore) -> None:
    inventory = shared.inventory
    for drain in (DRAIN, DOWN, replace(DRAIN, profile="other")):
        inventory.drain(drain)
    inventory.replace([{**PROFILE, "servers": [TWO]}], [], expected_revision=4, by="op", now=NOW + 1)
    facts = {"server": ONE, "kind": "drained", "at": NOW, "until": None, "by": "key op (k1)"}
    facts["reason"] = DRAIN.reason
    assert last_undrained(shared) == [{"server_profile": name, **facts} for name in ("exchange", "other")]
    inventory.replace([OTHER], [], expected_revision=5, by="op", now=NOW + 700)
    assert last_undrained(shared) is None, "it had ended by itself"


def test_the_same_drain_again_changes_nothing_and_another_one_does(shared: SharedStore) -> None:
    inventory = shared.inventory
    inventory.drain(DRAIN)
    assert inventory.drain(replace(DRAIN, at=NOW + 5, by="key two (k2)")) == DRAIN
    assert (inventory.load().drains, inventory.revision(), len(inventory.audit(9, None))) == ((DRAIN,), 2, 2)
    now = NOW + 9
    others = [replace(DRAIN, reason="other"), replace(DRAIN, until=now + 60), replace(DRAIN, until=now + 90), DRAIN]
    for revision, other in enumerate(others, 3):
        inventory.drain(replace(other, at=now))
        assert (inventory.load().drains, inventory.revision()) == ((replace(other, at=now),), revision)
