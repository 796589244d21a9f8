"""The audit log: who changed what, before and after. Rows are written in the transaction of what they tell."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from posthouse.core.inventory import Difference
from posthouse.ports import AuditFilter
from posthouse.storage import schema
from posthouse.storage.database import Database


def write(connection: Connection, *, by: str, now: float, what: str, changes: Sequence[Difference]) -> None:
    """A row of what has no revision: keys and users."""
    detail = json.dumps({"changes": [change.json() for change in changes]})
    connection.execute(insert(schema.audit).values(at=now, by=by, what=what, detail=detail))


def rows(database: Database, limit: int, before: int | None, wanted: AuditFilter) -> list[Mapping[str, object]]:
    """ports.InventoryStore.audit."""
    a = schema.audit.c
    query = select(schema.audit).order_by(a.id.desc()).limit(limit)
    if before is not None:
        query = query.where(a.id < before)
    if wanted.since is not None:
        query = query.where(a.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(a.at < wanted.until)
    # The detail is stored as ASCII, other characters as escapes: a text is looked for as it would stand there.
    about = json.dumps(wanted.about)[1:-1]
    for column, text in ((a.by, wanted.by), (a.what, wanted.what), (a.detail, about)):
        if text:
            query = query.where(column.icontains(text, autoescape=True))
    with database.read() as connection:
        return [_row(dict(found._mapping)) for found in connection.execute(query)]


def row(database: Database, number: int) -> Mapping[str, object] | None:
    """ports.InventoryStore.audit_row."""
    with database.read() as connection:
        found = connection.execute(select(schema.audit).where(schema.audit.c.id == number)).one_or_none()
    return None if found is None else _row(dict(found._mapping))


def forget(database: Database, before: float, most: int) -> int:
    """ports.InventoryStore.forget_audit."""
    a = schema.audit.c
    oldest = select(a.id).where(a.at < before).order_by(a.id).limit(most)
    with database.write() as connection:
        return connection.execute(delete(schema.audit).where(a.id.in_(oldest.scalar_subquery()))).rowcount


def _row(found: dict[str, Any]) -> Mapping[str, object]:
    return {**found, "detail": json.loads(found["detail"])}
