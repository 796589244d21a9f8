"""ports.InventoryStore: server profiles and security rules in the shared database.

Where a profile's canonical JSON has `{"set": true}` for a secret, the row has `{"sealed": TOKEN, "id": ID}`: nothing
else of a secret is ever given to the database.
"""

import json
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from posthouse.core.drain import Drain, DrainKind, drain_json, drains_in, lost_drains
from posthouse.core.fields import Secret, name_key
from posthouse.core.inventory import diff, former_names, respelt, secrets_replaced
from posthouse.core.kept_secret import Secrets
from posthouse.core.profile import KEPT, SECRET_FIELDS
from posthouse.core.profile_mark import Mark, mark_after, mark_json, read_mark, saved_untested
from posthouse.ports import (
    AuditFilter,
    NoSuchServer,
    RevisionConflict,
    Rotated,
    SecretUnreadable,
    StoredInventory,
    StoredProfile,
)
from posthouse.storage import audit, drains, quarantine_token, schema
from posthouse.storage.database import Database
from posthouse.storage.secrets import Keyring

Document = Mapping[str, object]


class Inventory:
    """The inventory; every change bumps its revision."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def revision(self) -> int:
        with self._database.read() as connection:
            return _revision(connection)

    def load(self) -> StoredInventory:
        with self._database.read() as connection:
            return read_inventory(connection)

    def replace(
        self,
        profiles: Sequence[Document],
        rules: Sequence[Document],
        *,
        expected_revision: int,
        by: str,
        now: float,
        secrets: Secrets | None = None,
        what: str = "inventory changed",
        tested: Mapping[str, Mark] | None = None,
        renamed: Mapping[str, str] | None = None,
        reason: str = "",
    ) -> int:
        with self._database.write() as connection:
            _hold(connection)
            old = read_inventory(connection)
            if old.revision != expected_revision:
                raise RevisionConflict(f"the inventory is at revision {old.revision}, not {expected_revision}")
            sealed = self._sealed(profiles, old, secrets or {})
            if _is_same(old, profiles, sealed) and list(old.rules) == list(rules):
                return old.revision
            before = {str(p.document["name"]): p for p in old.profiles}
            renamed = {**respelt(before, [str(document["name"]) for document in profiles]), **(renamed or {})}
            former = former_names(
                [(name, p.former) for name, p in before.items()],
                renamed,
                [str(document["name"]) for document in profiles],
            )
            by_new_name = {name_key(renamed.get(name, name)): p for name, p in before.items()}
            revision = old.revision + 1
            connection.execute(delete(schema.profile))
            connection.execute(delete(schema.rule))
            for position, (document, its_secrets) in enumerate(zip(profiles, sealed, strict=True)):
                known = before.get(str(document["name"]))
                same = known is not None and known.document == document and known.secrets == its_secrets
                key = name_key(str(document["name"]))
                was = by_new_name.get(key)
                mark = mark_after(
                    (tested or {}).get(key),
                    (was.document, was.tested) if was is not None else None,
                    document,
                    same_secrets=was is not None and was.secrets == its_secrets,
                    by=by,
                    at=now,
                    revision=revision,
                )
                connection.execute(
                    insert(schema.profile).values(
                        name=document["name"],
                        position=position,
                        revision=known.revision if known is not None and same else revision,
                        document=_row(document, its_secrets),
                        tested=_mark_row(mark),
                        former=json.dumps(former.get(key, ())),
                    )
                )
            for position, document in enumerate(rules):
                connection.execute(insert(schema.rule).values(position=position, document=json.dumps(document)))
            drains.rename(connection, renamed)
            lost = drains.clean(connection, profiles, now)
            old_profiles = [(p.document, p.secrets) for p in old.profiles]
            differences = (
                *diff([document for document, _ in old_profiles], old.rules, profiles, rules, renamed),
                *secrets_replaced(old_profiles, zip(profiles, sealed, strict=True), renamed),
            )
            detail = {
                "revision": revision,
                "changes": [difference.json() for difference in differences],
                **lost_drains(lost),
                **saved_untested(profiles, tested or {}, reason),
            }
            _changed(connection, revision, by, now, what, detail)
            return revision

    def mark(self, name: str, was: Mark | None, mark: Mark) -> bool:
        row = schema.profile.c
        is_so = row.tested.is_(None) if was is None else row.tested == _mark_row(was)
        with self._database.write() as connection:
            # On PostgreSQL a row that `replace` is writing anew would not be seen otherwise.
            _hold(connection)
            changed = connection.execute(
                update(schema.profile).where(row.name == name, is_so).values(tested=_mark_row(mark))
            )
            return changed.rowcount == 1

    def drain(self, drain: Drain) -> Drain | None:
        what = "server drained" if drain.kind is DrainKind.DRAINED else "server treated as down"
        with self._database.write() as connection:
            _hold(connection)
            stored = read_inventory(connection)
            if not any(drains_in(profile.document, [drain]) for profile in stored.profiles):
                raise NoSuchServer(f"server profile {drain.profile!r} has no server {drain.server}")
            before = _drain_before(stored, drain.profile, drain.server, drain.at)
            if before is not None and drain.repeats(before):
                return before
            drains.put(connection, drain)
            detail = _drain_detail(stored.revision + 1, drain.profile, before, drain)
            _changed(connection, stored.revision + 1, drain.by, drain.at, what, detail)
        return before

    def undrain(self, profile: str, server: str, *, by: str, now: float) -> Drain | None:
        with self._database.write() as connection:
            _hold(connection)
            stored = read_inventory(connection)
            before = _drain_before(stored, profile, server, now)
            if before is not None:
                drains.remove(connection, profile, server)
                detail = _drain_detail(stored.revision + 1, profile, before, None)
                _changed(connection, stored.revision + 1, by, now, "server undrained", detail)
        return before

    def note(self, *, by: str, what: str, detail: Document, now: float) -> None:
        with self._database.write() as connection:
            connection.execute(insert(schema.audit).values(at=now, by=by, what=what, detail=json.dumps(detail)))

    def same_secret(self, stored: Secret, text: str) -> bool:
        return self._keyring.same(stored.token, text)

    def rotate_secrets(self, *, by: str, now: float) -> Rotated:
        """All stored secrets under a new key, in one transaction; only then is the old one dropped.

        Profiles keep their revisions: no connection and no login is touched. Raises SecretUnreadable, with nothing
        changed, if a secret cannot be read or none is stored here.
        """
        with self._keyring.rotating(self._tokens) as rotation:
            count = 0
            with self._database.write() as connection:
                _hold(connection)
                for stored in (old := read_inventory(connection)).profiles:
                    if not stored.secrets:
                        continue
                    try:
                        renewed = {
                            name: Secret(secret.source, secret.value, rotation.renew(secret.token))
                            for name, secret in stored.secrets.items()
                        }
                    except SecretUnreadable as error:
                        said = f"the stored secrets of server profile {stored.document['name']!r}: {error}"
                        raise SecretUnreadable(said) from None
                    count += len(renewed)
                    connection.execute(
                        update(schema.profile)
                        .where(schema.profile.c.name == stored.document["name"])
                        .values(document=_row(stored.document, renewed))
                    )
                count += quarantine_token.rotate(connection, rotation)
                detail = {"revision": old.revision + 1, "secrets": count}
                _changed(connection, old.revision + 1, by, now, "secret rotate", detail)
        return Rotated(count, rotation.where, rotation.to_drop)

    def _tokens(self) -> list[tuple[str, str]]:
        with self._database.read() as connection:
            profiles, quarantine = read_inventory(connection).profiles, quarantine_token.stored_token(connection)
        of_profiles = [
            (f"server profile {p.document['name']!r}", s.token) for p in profiles for s in p.secrets.values()
        ]
        return [*of_profiles, *([("the quarantine", quarantine)] if quarantine is not None else [])]

    def _sealed(self, profiles: Sequence[Document], old: StoredInventory, given: Secrets) -> list[dict[str, Secret]]:
        """For each profile what its row shall have; a text that is stored already stays as it is."""
        stored = {name_key(str(p.document["name"])): p.secrets for p in old.profiles}
        found: list[dict[str, Secret]] = []
        texts: list[tuple[dict[str, Secret], str, str]] = []
        for document in profiles:
            key = name_key(str(document["name"]))
            secrets: dict[str, Secret] = {}
            for name in [name for name in SECRET_FIELDS if document.get(name) == KEPT]:
                kept = stored.get(key, {}).get(name)
                secret = given.get(key, {}).get(name) or kept
                if secret is None:
                    raise ValueError(f"{name} of server profile {document['name']!r} is kept, but none is stored")
                if secret.source != "text":
                    secrets[name] = secret
                elif kept is not None and self._keyring.same(kept.token, secret.value):
                    secrets[name] = kept
                else:
                    texts.append((secrets, name, secret.value))
            found.append(secrets)
        # A key is made only where none can be missing: what another one has encrypted would be lost for good. Nor is
        # one used that is another than theirs: there would be no key that fits all.
        kept_tokens = [secret.token for secrets in found for secret in secrets.values()]
        if texts and kept_tokens:
            self._keyring.check_fits(kept_tokens)
        may_make = not kept_tokens
        for secrets, name, text in texts:
            secrets[name] = Secret("stored", token_hex(8), self._keyring.seal(text, may_make=may_make))
        return found

    def audit(self, limit: int, before: int | None, wanted: AuditFilter | None = None) -> list[Mapping[str, object]]:
        return audit.rows(self._database, limit, before, wanted or AuditFilter())

    def audit_row(self, number: int) -> Mapping[str, object] | None:
        return audit.row(self._database, number)

    def forget_audit(self, before: float, most: int) -> int:
        return audit.forget(self._database, before, most)


def _is_same(old: StoredInventory, profiles: Sequence[Document], sealed: Sequence[Mapping[str, Secret]]) -> bool:
    """Profiles with their secrets; in which order they stand says nothing."""
    new = {str(document["name"]): (document, its) for document, its in zip(profiles, sealed, strict=True)}
    return new == {str(p.document["name"]): (p.document, p.secrets) for p in old.profiles}


def _revision(connection: Connection) -> int:
    return connection.scalar(select(schema.inventory_revision.c.revision)) or 0


def _hold(connection: Connection) -> None:
    """Nobody else changes the inventory from here to the commit."""
    connection.scalar(select(schema.inventory_revision.c.revision).with_for_update())


def _changed(connection: Connection, revision: int, by: str, now: float, what: str, detail: Document) -> None:
    connection.execute(insert(schema.audit).values(at=now, by=by, what=what, detail=json.dumps(detail)))
    connection.execute(update(schema.inventory_revision).values(revision=revision))


def read_inventory(connection: Connection) -> StoredInventory:
    """All that is stored, of one state only within a snapshot or under the lock of its changes."""
    profiles = connection.execute(select(schema.profile).order_by(schema.profile.c.position))
    rules = connection.execute(select(schema.rule.c.document).order_by(schema.rule.c.position))
    return StoredInventory(
        _revision(connection),
        tuple(_profile(json.loads(row.document), row) for row in profiles),
        tuple(json.loads(document) for document in rules.scalars()),
        drains.load(connection),
    )


def _drain_before(stored: StoredInventory, profile: str, server: str, now: float) -> Drain | None:
    found = [d for d in stored.drains if (d.profile, d.server) == (profile, server) and d.holds(now)]
    return found[0] if found else None


def _drain_detail(revision: int, profile: str, before: Drain | None, after: Drain | None) -> Document:
    return {
        "revision": revision,
        "server_profile": profile,
        "before": drain_json(before) if before is not None else None,
        "after": drain_json(after) if after is not None else None,
    }


def _profile(document: dict[str, object], row: "Row[Any]") -> StoredProfile:
    """What the row has, its secrets apart from the rest."""
    secrets: dict[str, Secret] = {}
    for name in SECRET_FIELDS:
        value = document.get(name)
        if isinstance(value, dict) and "sealed" in value:
            secrets[name] = Secret("stored", value["id"], value["sealed"])
            document[name] = dict(KEPT)
    mark = read_mark(json.loads(row.tested)) if row.tested is not None else None
    return StoredProfile(document, row.revision, secrets, mark, tuple(json.loads(row.former)))


def _mark_row(mark: Mark) -> str:
    """The same text for the same mark: `Inventory.mark` compares it."""
    return json.dumps(mark_json(mark))


def _row(document: Document, secrets: Mapping[str, Secret]) -> str:
    sealed = {name: {"sealed": secret.token, "id": secret.value} for name, secret in secrets.items()}
    return json.dumps({**document, **sealed})
