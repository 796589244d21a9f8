"""ports.Accounts and the audit log, the same on SQLite and PostgreSQL."""

import pytest
from sqlalchemy import select

from posthouse.ports import AuditFilter, LastAdministrator, NameTaken, User, UserChanged
from posthouse.storage import passwords, schema
from posthouse.storage.open import SharedStore

NOW = 1_000_000.0
PASSWORD = "four words nobody joins"


def _add(shared: SharedStore, name: str, role: str = "administrator") -> User:
    return shared.accounts.add_user(name=name, role=role, password=PASSWORD, by="op", now=NOW)


def _audited(shared: SharedStore) -> tuple[object, object, object]:
    row = shared.inventory.audit(1, None)[0]
    detail = row["detail"]
    assert isinstance(detail, dict)
    return row["what"], row["by"], detail["changes"]


def test_a_user_is_known_by_name_and_password_and_only_a_hash_is_stored(shared: SharedStore) -> None:
    added = _add(shared, "Ann")
    assert shared.accounts.users() == [added] == [User("Ann", "administrator", NOW)]
    assert shared.accounts.verify_user("aNN", PASSWORD) == added
    assert shared.accounts.verify_user("ann", PASSWORD + "x") is None
    assert shared.accounts.verify_user("bob", PASSWORD) is None
    with shared.database.read() as connection:
        rows = [row for table in schema.shared.sorted_tables for row in connection.execute(select(table))]
    assert PASSWORD not in str(rows)
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in str(rows)


def test_a_name_that_there_is_not_costs_as_much_as_a_wrong_password(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(shared, "Ann")
    work: list[str] = []
    verify = passwords._HASHER.verify

    class Counted:
        def verify(self, stored: str, password: str) -> bool:
            work.append(stored.rpartition("$")[0].rpartition("$")[0])
            return bool(verify(stored, password))

        def hash(self, password: str) -> str:
            return hashed(password)

    hashed = passwords._HASHER.hash
    monkeypatch.setattr(passwords, "_HASHER", Counted())
    for name, password in (("ann", PASSWORD), ("ann", "wrong"), ("nosuch", PASSWORD), ("nosuch", "of nobody")):
        known = shared.accounts.verify_user(name, password)
        assert (known is not None) == ((name, password) == ("ann", PASSWORD))
    assert len(work) == 4
    assert len(set(work)) == 1, "the same parameters"


def test_names_are_the_same_whatever_their_case(shared: SharedStore) -> None:
    _add(shared, "Jörg")
    with pytest.raises(NameTaken):
        _add(shared, "JO\u0308RG")
    other = _add(shared, "ann")
    with pytest.raises(NameTaken):
        shared.accounts.change_user(other, name="jörg", role="operator", by="op", now=NOW)
    assert [user.name for user in shared.accounts.users()] == ["ann", "Jörg"]


def test_changes_of_users_are_audited_with_who_before_and_after(shared: SharedStore) -> None:
    _add(shared, "root")
    ann = shared.accounts.add_user(name="ann", role="operator", password=PASSWORD, by="key k (1)", now=NOW)
    added = {"change": "added", "field": "users[ann]", "old": None, "new": {"name": "ann", "role": "operator"}}
    assert _audited(shared) == ("user added", "key k (1)", [added])
    anna = shared.accounts.change_user(ann, name="Anna", role="auditor", by="cli (root)", now=NOW)
    assert anna == User("Anna", "auditor", NOW)
    assert _audited(shared) == (
        "user changed",
        "cli (root)",
        [
            {"change": "changed", "field": "users[ann].name", "old": "ann", "new": "Anna"},
            {"change": "changed", "field": "users[ann].role", "old": "operator", "new": "auditor"},
        ],
    )
    assert shared.accounts.set_password("ANNA", "another four words", by="op", now=NOW)
    kept = {"set": True}
    field = "users[Anna].password"
    assert _audited(shared) == (
        "password set",
        "op",
        [{"change": "changed", "field": field, "old": kept, "new": kept}],
    )
    assert shared.accounts.verify_user("anna", "another four words") == anna
    assert shared.accounts.verify_user("anna", PASSWORD) is None
    shared.accounts.remove_user(anna, by="op", now=NOW)
    removed = {"change": "removed", "field": "users[Anna]", "old": {"name": "Anna", "role": "auditor"}, "new": None}
    assert _audited(shared) == ("user removed", "op", [removed])
    assert shared.accounts.verify_user("anna", "another four words") is None
    assert not shared.accounts.set_password("anna", PASSWORD, by="op", now=NOW)
    assert len(shared.inventory.audit(10, None)) == 5, "what changes nothing is not audited"


def test_what_changed_since_it_was_read_is_not_overwritten(shared: SharedStore) -> None:
    _add(shared, "root")
    ann = _add(shared, "ann", "operator")
    shared.accounts.change_user(ann, name="ann", role="auditor", by="op", now=NOW)
    with pytest.raises(UserChanged):
        shared.accounts.change_user(ann, name="ann", role="helpdesk", by="op", now=NOW)
    with pytest.raises(UserChanged):
        shared.accounts.remove_user(ann, by="op", now=NOW)
    assert shared.accounts.users()[0].role == "auditor"


def test_the_last_administrator_stays_unless_it_is_meant(shared: SharedStore) -> None:
    root = _add(shared, "root")
    _add(shared, "ann", "operator")
    with pytest.raises(LastAdministrator):
        shared.accounts.remove_user(root, by="op", now=NOW)
    with pytest.raises(LastAdministrator):
        shared.accounts.change_user(root, name="root", role="operator", by="op", now=NOW)
    renamed = shared.accounts.change_user(root, name="boss", role="administrator", by="op", now=NOW)
    shared.accounts.remove_user(renamed, by="op", now=NOW, last_too=True)
    assert [user.name for user in shared.accounts.users()] == ["ann"]


def test_keys_are_audited_with_their_name_and_who_did_it(shared: SharedStore) -> None:
    key, secret = shared.accounts.create_key(name="ci", role="operator", by="cli (root)", now=NOW)
    told = {"name": "ci", "role": "operator"}
    field = f"keys[{key.id}]"
    assert _audited(shared) == (
        "key created",
        "cli (root)",
        [{"change": "added", "field": field, "old": None, "new": told}],
    )
    revoked = shared.accounts.revoke_key(key.id, by="key ops (1)", now=NOW + 1)
    assert revoked is not None
    assert (revoked.name, revoked.revoked_at) == ("ci", NOW + 1)
    removed = [{"change": "removed", "field": field, "old": told, "new": None}]
    assert _audited(shared) == ("key revoked", "key ops (1)", removed)
    assert secret not in str(shared.inventory.audit(10, None))


def test_the_audit_log_is_searched_by_who_what_when_and_about_what(shared: SharedStore) -> None:
    for at, by, what, detail in (
        (1.0, "key ops (1)", "rule changed", {"field": "rules[Räte]"}),
        (2.0, "cli (root)", "user added", {"field": "users[100%]"}),
        (3.0, "key OPS (1)", "config applied", {"field": 'rules["in_bound"]'}),
    ):
        shared.inventory.note(by=by, what=what, detail=detail, now=at)

    def found(wanted: AuditFilter, before: int | None = None) -> list[object]:
        return [row["at"] for row in shared.inventory.audit(10, before, wanted)]

    assert found(AuditFilter(by="ops")) == [3.0, 1.0]
    assert found(AuditFilter(what="RULE")) == [1.0]
    assert found(AuditFilter(about="Räte")) == [1.0]
    assert found(AuditFilter(about="0%")) == [2.0]
    assert found(AuditFilter(about="%")) == [2.0], "no pattern"
    assert found(AuditFilter(about="n_b")) == [3.0]
    assert found(AuditFilter(about='"in_')) == [3.0]
    assert found(AuditFilter(since=2.0)) == [3.0, 2.0]
    assert found(AuditFilter(until=2.0)) == [1.0]
    newest = shared.inventory.audit(1, None)[0]
    number = newest["id"]
    assert isinstance(number, int)
    assert found(AuditFilter(by="ops"), number) == [1.0]
    assert shared.inventory.audit_row(number) == newest
    assert shared.inventory.audit_row(number + 1) is None
