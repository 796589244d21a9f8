"""ports.InventoryStore: server profiles and security rules in the shared database."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from posthouse.ports import RevisionConflict, StoredInventory, StoredProfile
from posthouse.storage import schema
from posthouse.storage.database import Database

Document = Mapping[str, object]


class Inventory:
    """The inventory; every change bumps its revision."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def revision(self) -> int:
        with self._database.read() as connection:
            return _revision(connection)

    def load(self) -> StoredInventory:
        with self._database.read() as connection:
            return _load(connection)

    def replace(
        self,
        profiles: Sequence[Document],
        rules: Sequence[Document],
        *,
        expected_revision: int,
        by: str,
        now: float,
    ) -> int:
        with self._database.write() as connection:
            # Nobody else changes the inventory from here to the commit.
            connection.scalar(select(schema.inventory_revision.c.revision).with_for_update())
            old = _load(connection)
            if old.revision != expected_revision:
                raise RevisionConflict(f"the inventory is at revision {old.revision}, not {expected_revision}")
            before = {str(p.document["name"]): p for p in old.profiles}
            if [p.document for p in old.profiles] == list(profiles) and list(old.rules) == list(rules):
                return old.revision
            revision = old.revision + 1
            connection.execute(delete(schema.profile))
            connection.execute(delete(schema.rule))
            for position, document in enumerate(profiles):
                known = before.get(str(document["name"]))
                kept = known.revision if known is not None and known.document == document else revision
                connection.execute(
                    insert(schema.profile).values(
                        name=document["name"], position=position, revision=kept, document=json.dumps(document)
                    )
                )
            for position, document in enumerate(rules):
                connection.execute(insert(schema.rule).values(position=position, document=json.dumps(document)))
            detail = {
                "revision": revision,
                "server_profiles": [p["name"] for p in profiles],
                "rules": [r["name"] for r in rules],
            }
            connection.execute(
                insert(schema.audit).values(at=now, by=by, what="inventory", detail=json.dumps(detail))
            )
            connection.execute(update(schema.inventory_revision).values(revision=revision))
            return revision

    def note(self, *, by: str, what: str, detail: Document, now: float) -> None:
        with self._database.write() as connection:
            connection.execute(insert(schema.audit).values(at=now, by=by, what=what, detail=json.dumps(detail)))

    def audit(self, limit: int, before: int | None) -> list[Mapping[str, object]]:
        query = select(schema.audit).order_by(schema.audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(schema.audit.c.id < before)
        with self._database.read() as connection:
            return [
                {**row._mapping, "detail": json.loads(row._mapping["detail"])} for row in connection.execute(query)
            ]


def _revision(connection: Connection) -> int:
    return connection.scalar(select(schema.inventory_revision.c.revision)) or 0


def _load(connection: Connection) -> StoredInventory:
    profiles = connection.execute(select(schema.profile).order_by(schema.profile.c.position))
    rules = connection.execute(select(schema.rule.c.document).order_by(schema.rule.c.position))
    return StoredInventory(
        _revision(connection),
        tuple(StoredProfile(json.loads(row.document), row.revision) for row in profiles),
        tuple(json.loads(document) for document in rules.scalars()),
    )
