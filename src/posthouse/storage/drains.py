"""Drains of servers in the shared database: read with the inventory, changed under its lock."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from posthouse.core.drain import Drain, DrainKind, after_change
from posthouse.storage import schema

_d = schema.server_drain.c


def load(connection: Connection) -> tuple[Drain, ...]:
    """All of them, those that have ended by themselves too."""
    rows = connection.execute(select(schema.server_drain).order_by(_d.profile, _d.server))
    return tuple(
        Drain(row.profile, row.server, DrainKind(row.kind), row.at, row.until, row.by, row.reason) for row in rows
    )


def put(connection: Connection, drain: Drain) -> None:
    """In place of one that was there."""
    remove(connection, drain.profile, drain.server)
    connection.execute(
        insert(schema.server_drain).values(
            profile=drain.profile,
            server=drain.server,
            kind=drain.kind.value,
            at=drain.at,
            until=drain.until,
            by=drain.by,
            reason=drain.reason,
        )
    )


def remove(connection: Connection, profile: str, server: str) -> None:
    connection.execute(delete(schema.server_drain).where(_d.profile == profile, _d.server == server))


def rename(connection: Connection, renamed: Mapping[str, str]) -> None:
    """They go with their profiles; `renamed` has new names by the old ones."""
    for old, new in renamed.items():
        connection.execute(update(schema.server_drain).where(_d.profile == old).values(profile=new))


def clean(connection: Connection, profiles: Sequence[Mapping[str, object]], now: float) -> list[Drain]:
    """What has ended, and what is of a profile or server that is not there any more, goes. Returns those that had
    not ended."""
    drains = load(connection)
    kept, lost = after_change(drains, profiles, now)
    for drain in drains:
        if drain not in kept:
            remove(connection, drain.profile, drain.server)
    return lost
