"""Backups of the shared database: the same on SQLite and PostgreSQL, and from one to the other."""

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from posthouse.core.drain import Drain, DrainKind
from posthouse.core.fields import Secret
from posthouse.ports import BackupUnusable
from posthouse.storage.open import SharedStore, open_shared

NOW = 1_000_000.0
SERVERS = ["smtp://10.0.0.1:25"]
PROFILE = {
    "name": "exchange",
    "type": "smtp",
    "servers": SERVERS,
    "username": "relay",
    "password": {"set": True},
}
RULE = {"name": "inbound", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "exchange"}}
CANARY = "canary-in-a-backup-Jr40"


@pytest.fixture
def filled(shared: SharedStore) -> SharedStore:
    given = {"exchange": {"password": Secret("text", CANARY)}}
    shared.inventory.replace([PROFILE], [RULE], expected_revision=0, by="op", now=NOW, secrets=given)
    return shared


def test_a_restore_brings_back_inventory_and_secrets(filled: SharedStore, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    assert filled.backup(file, NOW + 1).rows["server_profile"] == 1
    filled.inventory.replace([], [], expected_revision=1, by="mistake", now=NOW + 2)
    filled.restore(file, "db restore", NOW + 3)
    stored = filled.inventory.load()
    (profile,) = stored.profiles
    assert (profile.document, stored.rules) == (PROFILE, (RULE,))
    assert filled.unseal(profile.secrets["password"].token) == CANARY
    assert stored.revision == profile.revision == 3


def test_the_audit_log_of_now_stays(filled: SharedStore, tmp_path: Path) -> None:
    filled.backup(tmp_path / "backup", NOW)
    filled.inventory.note(by="somebody", what="noted", detail={}, now=NOW + 1)
    restored = filled.restore(tmp_path / "backup", "cli (root)", NOW + 2)
    rows = filled.inventory.audit(10, None)
    assert [(row["what"], row["by"]) for row in rows] == [
        ("backup restored", "cli (root)"),
        ("noted", "somebody"),
        ("inventory changed", "op"),
    ]
    assert "audit" not in restored.backup.rows


def test_revoked_keys_stay_revoked_and_others_are_told(filled: SharedStore, tmp_path: Path) -> None:
    accounts, file = filled.accounts, tmp_path / "backup"
    older = tmp_path / "older"
    filled.backup(older, NOW)
    leaked, leaked_secret = accounts.create_key(name="leaked", role="administrator", by="op", now=NOW)
    kept, kept_secret = accounts.create_key(name="kept", role="operator", by="op", now=NOW)
    filled.backup(file, NOW)
    accounts.revoke_key(leaked.id, by="op", now=NOW + 1)
    late, late_secret = accounts.create_key(name="late", role="operator", by="op", now=NOW + 1)
    first = filled.restore(older, "op", NOW + 2)
    assert (first.keys_back, set(first.keys_gone)) == ((), {kept, late})
    second = filled.restore(file, "op", NOW + 3)
    assert (second.keys_back, second.keys_gone) == ((kept,), ())
    assert [accounts.authenticate(s) for s in (leaked_secret, kept_secret, late_secret)] == [None, kept, None]
    detail = filled.inventory.audit(1, None)[0]["detail"]
    assert isinstance(detail, dict)
    assert detail["keys_back"] == [{"id": kept.id, "name": "kept", "role": "operator"}]


def test_drains_are_no_part_of_a_backup_and_go_with_their_servers(filled: SharedStore, tmp_path: Path) -> None:
    file, second = tmp_path / "backup", "smtp://10.0.0.2:25"
    drained = [Drain("exchange", server, DrainKind.DRAINED, NOW, None, "op") for server in (*SERVERS, second)]
    filled.inventory.drain(drained[0])
    filled.backup(file, NOW)
    assert "server_drain" not in file.read_text()
    filled.inventory.undrain("exchange", SERVERS[0], by="op", now=NOW)
    filled.restore(file, "op", NOW + 1)
    assert filled.inventory.load().drains == ()
    more = {**PROFILE, "servers": [*SERVERS, second]}
    revision = filled.inventory.revision()
    filled.inventory.replace([more], [RULE], expected_revision=revision, by="op", now=NOW)
    for drain in drained:
        filled.inventory.drain(drain)
    filled.restore(file, "op", NOW + 2)
    assert filled.inventory.load().drains == (drained[0],)


def test_the_audit_log_goes_on_after_a_restore(filled: SharedStore, tmp_path: Path) -> None:
    filled.backup(tmp_path / "backup", NOW)
    filled.restore(tmp_path / "backup", "db restore", NOW + 1)
    filled.inventory.note(by="op", what="noted", detail={}, now=NOW + 2)
    assert [row["what"] for row in filled.inventory.audit(2, None)] == ["noted", "backup restored"]


def test_a_backup_moves_to_another_database(filled: SharedStore, tmp_path: Path) -> None:
    filled.backup(tmp_path / "backup", NOW)
    (tmp_path / "other").mkdir()
    shutil.copy(Path(filled.data_dir) / "secret.key", tmp_path / "other")
    other = open_shared(str(tmp_path / "other"), "sqlite")
    other.restore(tmp_path / "backup", "db restore", NOW)
    assert [p.document for p in other.inventory.load().profiles] == [PROFILE]
    assert [row["what"] for row in other.inventory.audit(10, None)] == ["backup restored", "inventory changed"]
    other.close()


def test_a_backup_has_no_secret_and_is_its_owners_only(filled: SharedStore, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    filled.backup(file, NOW)
    key = (Path(filled.data_dir) / "secret.key").read_text().split()[-1]
    text = file.read_text()
    assert CANARY not in text
    assert key not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("backup")] == ["backup"]


def test_another_backup_is_not_written_over(filled: SharedStore, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("an older one")
    with pytest.raises(FileExistsError):
        filled.backup(tmp_path / "backup", NOW)
    assert (tmp_path / "backup").read_text() == "an older one"


def test_secrets_of_a_lost_key_are_not_restored(filled: SharedStore, tmp_path: Path) -> None:
    filled.backup(tmp_path / "backup", NOW)
    (tmp_path / "bare").mkdir()
    bare = open_shared(str(tmp_path / "bare"), "sqlite")
    with pytest.raises(BackupUnusable, match="no key at hand fits the stored secrets of server profile 'exchange'"):
        bare.restore(tmp_path / "backup", "db restore", NOW)
    assert bare.inventory.load().profiles == ()
    bare.close()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: lines[:-1], "its end is missing"),
        (lambda lines: [*lines[:1], *lines[2:]], "its end does not fit"),
        (lambda lines: [*lines, lines[1]], "its end does not fit"),
        (lambda lines: [*lines[:1], lines[1][:-3], *lines[2:]], "line 2 is damaged"),
        (lambda lines: [*lines[:1], '["mail", {}]', *lines[2:]], "line 2 is no row of a table"),
        (lambda lines: ['{"posthouse_backup": 99, "version": "9.9"}', *lines[1:]], "made by posthouse 9.9"),
        (lambda lines: ["[]", *lines[1:]], "no backup of posthouse"),
        (lambda lines: [], "no backup of posthouse"),
    ],
)
def test_a_damaged_backup_changes_nothing(
    filled: SharedStore, tmp_path: Path, damage: Callable[[list[str]], list[str]], said: str
) -> None:
    file = tmp_path / "backup"
    filled.backup(file, NOW)
    lines = damage(file.read_text().splitlines())
    file.write_text("\n".join(lines) + "\n")
    before = filled.inventory.load()
    with pytest.raises(BackupUnusable, match=said):
        filled.restore(file, "db restore", NOW)
    assert filled.inventory.load() == before
    assert len(filled.inventory.audit(10, None)) == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("smtp://10.0.0.1:25", "nonsense://x", r"what it holds is not valid: server_profiles\[0\]\.servers\[0\]"),
        (r"{\"profile\": \"exchange\"}", r"{\"profile\": \"gone\"}", r"rules\[0\]\.relay\.profile: 'gone'"),
        (r"\"sealed\": ", r"\"was\": ", "password"),
        (r"{\"sealed\"", r"{\"set\": true}, \"x\": {\"sealed\"", "server_profiles"),
        ('"name":"exchange"', '"name":"other"', "row of server profile 'other' holds another one"),
        ('"document":"{', '"document":"[', "in it is damaged"),
        ('"position":0', '"position":null', "its rows do not fit together"),
    ],
)
def test_an_edited_backup_that_is_not_valid_changes_nothing(
    filled: SharedStore, tmp_path: Path, old: str, new: str, said: str
) -> None:
    file = tmp_path / "backup"
    filled.backup(file, NOW)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    before = filled.inventory.load()
    with pytest.raises(BackupUnusable, match=said):
        filled.restore(file, "db restore", NOW)
    assert filled.inventory.load() == before
    assert len(filled.inventory.audit(10, None)) == 1


def test_every_row_is_in_the_backup(filled: SharedStore, tmp_path: Path) -> None:
    for number in range(1200):
        filled.inventory.note(by="op", what="noted", detail={"n": number}, now=NOW)
    made = filled.backup(tmp_path / "backup", NOW)
    lines = (tmp_path / "backup").read_text().splitlines()
    assert made.rows["audit"] == 1201
    assert json.loads(lines[-1]) == {"rows": sum(made.rows.values())}
    assert len(lines) == sum(made.rows.values()) + 2


def test_databases_that_are_whole(filled: SharedStore) -> None:
    assert filled.check() == []
