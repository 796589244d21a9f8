"""Backups: inventory, accounts and audit log of the shared database as one file, the same for SQLite and PostgreSQL.

Mail is not in it: a queue that is put back would be delivered a second time. Nor are the keys of stored secrets, so
that a backup that falls into wrong hands gives away no password. One JSON document a line: a header, the rows
`[table, {column: value}]`, and the number of rows as proof that the file is whole.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, Table, delete, func, insert, select, text, update
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError

from posthouse.core.faults import InvalidInput
from posthouse.core.inventory import build_inventory
from posthouse.core.profile import KEPT, SECRET_FIELDS
from posthouse.ports import BackedUp, BackupUnusable, Key, Restored
from posthouse.storage import drains, files, schema
from posthouse.storage.database import Database, is_sqlite, open_sqlite
from posthouse.storage.inventory import read_inventory
from posthouse.storage.shards import database_path, numbers

FORMAT = 1
ROWS_AT_ONCE = 500

_LIVE = frozenset({"shared_version", "inventory_revision", "command", "command_report", "worker", "server_state"})
"""What the processes of now say to each other; the revision is bumped by a restore instead."""
_OF_NOW = frozenset({"server_drain"})
"""What somebody did to servers for a while: it would come back long after its end."""
_OF_MAIL = frozenset({"quarantine_key"})
"""Of mail that is here now: with the key of another time it could not be read any more."""
TABLES: dict[str, Table] = {
    t.name: t for t in schema.shared.sorted_tables if t.name not in _LIVE | _OF_NOW | _OF_MAIL
}

Unsealable = Callable[[str], bool]
"""Whether a key at hand fits this token of a stored secret."""


def write_backup(database: Database, target: Path, *, version: str, now: float) -> BackedUp:
    """One consistent state, also while the node runs. The file is readable for its owner only, and appears whole.

    Raises FileExistsError rather than write over another backup.
    """
    if target.exists():
        raise FileExistsError(17, "There is a file of this name already", str(target))
    draft = target.with_name(f"{target.name}.new")
    counts: dict[str, int] = {}
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as out:
            with database.read() as connection:
                _line(out, {"posthouse_backup": FORMAT, "schema": schema.VERSION, "version": version, "at": now})
                for name, table in TABLES.items():
                    counts[name] = 0
                    for row in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table)):
                        _line(out, [name, dict(row._mapping)])
                        counts[name] += 1
                _line(out, {"rows": sum(counts.values())})
            out.flush()
            files.sync_octets(out.fileno())
        files.rename(draft, target)
        files.fsync_folder(target.resolve().parent)
    except BaseException:
        files.unlink(draft)
        raise
    return BackedUp(now, version, counts)


def read_backup(source: Path) -> BackedUp:
    """What is in a backup, once it was read to its end. Raises BackupUnusable, OSError."""
    counts = dict.fromkeys(TABLES, 0)
    with open(source, "rb") as lines:
        header = _header(lines)
        for name, _ in _rows(lines):
            counts[name] += 1
    return BackedUp(float(str(header["at"])), str(header["version"]), counts)


def restore_backup(database: Database, source: Path, *, by: str, now: float, fits: Unsealable) -> Restored:
    """The state of the backup, in one transaction; a running node takes it up as any change of the inventory.

    The audit log goes on, and is taken from the backup only where there is none. Keys revoked until now stay so: why
    they were is not undone. Drains stay as far as their servers do.

    Every profile gets a new revision, so that no connection of before is used for it. Raises BackupUnusable, OSError
    with nothing changed; BackupUnusable also if what it holds is not valid, or no key at hand fits its secrets.
    """
    found = read_backup(source)
    try:
        with database.write() as connection:
            held = select(schema.inventory_revision.c.revision).with_for_update()
            revision = int(connection.scalar(held) or 0) + 1
            if not database.sqlite:  # nobody revokes a key between its end and its return
                connection.execute(text('LOCK TABLE "key", "user" IN EXCLUSIVE MODE'))
            before = _keys_in_force(connection)
            counts = _put_rows(connection, source)
            after = _keys_in_force(connection)
            connection.execute(update(schema.profile).values(revision=revision))
            connection.execute(update(schema.inventory_revision).values(revision=revision))
            _check_restored(connection, fits)
            drains.clean(connection, [p.document for p in read_inventory(connection).profiles], now)
            if not database.sqlite:
                _go_on_counting(connection, schema.audit)
            detail: dict[str, object] = {"revision": revision, "backup_of": found.at, "rows": counts}
            back = tuple(key for key in after if key not in before)
            gone = tuple(key for key in before if key not in after)
            detail |= {"keys_back": [_key_shown(key) for key in back], "keys_gone": [_key_shown(key) for key in gone]}
            row = {"at": now, "by": by, "what": "backup restored", "detail": json.dumps(detail)}
            connection.execute(insert(schema.audit).values(row))
    except (DataError, IntegrityError) as error:
        said = str(error.orig).splitlines()[0]
        raise BackupUnusable(f"its rows do not fit together: {said}") from error
    return Restored(replace(found, rows=counts), back, gone)


def _put_rows(connection: Connection, source: Path) -> dict[str, int]:
    """In place of those of now, but for what stays; how many were put in, by table."""
    k = schema.key.c
    stays = {schema.audit.name} if connection.scalar(select(func.count()).select_from(schema.audit)) else set()
    counts = dict.fromkeys((name for name in TABLES if name not in stays), 0)
    for name in reversed(counts):
        revoked = [k.revoked_at.is_(None)] if name == schema.key.name else []
        connection.execute(delete(TABLES[name]).where(*revoked))
    revoked_ids = set(connection.scalars(select(k.id)))
    with open(source, "rb") as lines:
        _header(lines)
        for name, values in _rows(lines):
            if name in stays or (name == schema.key.name and values["id"] in revoked_ids):
                continue
            connection.execute(insert(TABLES[name]).values(values))
            counts[name] += 1
    return counts


def _keys_in_force(connection: Connection) -> list[Key]:
    k = schema.key.c
    query = select(k.id, k.name, k.role, k.created_at).where(k.revoked_at.is_(None)).order_by(k.created_at, k.id)
    return [Key(*row) for row in connection.execute(query)]


def _key_shown(key: Key) -> dict[str, str]:
    return {"id": key.id, "name": key.name, "role": key.role}


def check(data_dir: Path, database: str, opened: Database) -> list[str]:
    """What is wrong with the databases, a sentence each; none if they are whole.

    On PostgreSQL only that all tables can be read: its files are the server's business.
    """
    wrong: list[str] = []
    with opened.read() as connection:
        for table in schema.shared.sorted_tables:
            connection.execute(select(func.count()).select_from(table))
    if not is_sqlite(database):
        return wrong
    wrong += _integrity("shared.db", opened)
    for number in numbers(data_dir):
        path = database_path(data_dir, number)
        mails = open_sqlite(path, read_only=True)
        try:
            wrong += _integrity(path.name, mails) or _contents(path, data_dir / "content" / f"{number:03d}", mails)
        finally:
            mails.close()
    return wrong


def _integrity(name: str, database: Database) -> list[str]:
    try:
        with database.read() as connection:
            said = [str(row[0]) for row in connection.execute(text("PRAGMA integrity_check(5)"))]
    except DatabaseError as error:
        said = [str(error.orig)]
    return [] if said == ["ok"] else [f"{name}: {one}" for one in said]


def _contents(path: Path, folder: Path, database: Database) -> list[str]:
    """Open mail whose content is in no file any more. A mail that ended meanwhile took its file with it."""
    c = schema.content.c
    query = select(c.mail_id, c.file).where(c.file.is_not(None))

    def missing() -> set[tuple[str, str]]:
        with database.read() as connection:
            rows = [(str(mail), str(file)) for mail, file in connection.execute(query)]
        return {(mail, file) for mail, file in rows if not (folder / file).exists()}

    first = missing()
    lost = first & missing() if first else first
    return [f"{path.name}: the content of mail {mail} is missing: content file {file}" for mail, file in sorted(lost)]


def _line(out: IO[str], document: object) -> None:
    out.write(json.dumps(document, separators=(",", ":")) + "\n")


def _header(lines: IO[bytes]) -> dict[str, object]:
    try:
        header = json.loads(lines.readline(10_000))
    except ValueError:
        header = None
    if not isinstance(header, dict) or "posthouse_backup" not in header:
        raise BackupUnusable("this is no backup of posthouse")
    if header["posthouse_backup"] != FORMAT or header.get("schema") != schema.VERSION:
        said = f"it was made by posthouse {header.get('version')}"
        raise BackupUnusable(f"{said}, whose tables are others than those of this version")
    return header


def _rows(lines: IO[bytes]) -> Iterator[tuple[str, dict[str, object]]]:
    """Each row after the header. Raises BackupUnusable if one is no row of ours, or the last line is missing."""
    for count, line in enumerate(lines):
        try:
            found = json.loads(line)
        except ValueError:
            raise BackupUnusable(f"line {count + 2} is damaged") from None
        if isinstance(found, dict):
            if found.get("rows") != count or lines.readline():
                raise BackupUnusable("it is not whole: its end does not fit its rows")
            return
        match found:
            case [str(name), dict(values)] if name in TABLES and values.keys() == set(TABLES[name].c.keys()):
                yield name, values
            case _:
                raise BackupUnusable(f"line {count + 2} is no row of a table of this version")
    raise BackupUnusable("it is not whole: its end is missing")


def _check_restored(connection: Connection, fits: Unsealable) -> None:
    """What workers will load holds by the rules of this version, and its secrets can be read. Raises BackupUnusable.

    A backup is a text file, which somebody may have edited.
    """
    try:
        stored = read_inventory(connection)
        names = list(connection.scalars(select(schema.profile.c.name).order_by(schema.profile.c.position)))
        build_inventory(stored.revision, [(p.document, p.revision) for p in stored.profiles], stored.rules)
    except InvalidInput as error:
        raise BackupUnusable(f"what it holds is not valid: {'; '.join(map(str, error.faults))}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupUnusable("a server profile or rule in it is damaged") from error
    for name, profile in zip(names, stored.profiles, strict=True):
        if profile.document["name"] != name:
            raise BackupUnusable(f"the row of server profile {name!r} holds another one")
        if any(profile.document.get(field) == KEPT and field not in profile.secrets for field in SECRET_FIELDS):
            raise BackupUnusable(f"a stored secret of server profile {name!r} is not in it")
        if not all(fits(secret.token) for secret in profile.secrets.values()):
            raise BackupUnusable(
                f"no key at hand fits the stored secrets of server profile {name!r}: put the key of that time in "
                "place first (secret.key, or its environment or credential)"
            )


def _go_on_counting(connection: Connection, table: Table) -> None:
    """PostgreSQL: ids given by hand do not move the counter."""
    last = select(func.coalesce(func.max(table.c.id), 0) + 1).scalar_subquery()
    connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, "id"), last, False)))
