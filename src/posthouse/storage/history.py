"""ports.History: reads mails with their trail; on SQLite it opens every worker's file and merges."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select

from posthouse.core.mail import RecipientState
from posthouse.core.past_mail import PastMail, PastRecipient
from posthouse.ports import KeptQuery, MailQuery
from posthouse.storage import schema, shards
from posthouse.storage.database import Database, check_version, is_sqlite, open_postgresql, open_sqlite
from posthouse.storage.kept_content import kept_content
from posthouse.storage.kept_history import failed_ids, of_verdict, quarantine_rows, quarantined_ids, verdicts
from posthouse.storage.quarantine_key import QuarantineKey

_SHOWN_RECIPIENTS = 20
_QUEUED = (RecipientState.ACTIVE.value, RecipientState.QUEUED.value)
# The summary of a mail is the state that asks most for attention.
_GRAVITY = ("failed", "held", "queued", "quarantined", "relayed", "rejected", "discarded", "deleted")


class History:
    """Read only."""

    def __init__(self, data_dir: str, database: str) -> None:
        self._data_dir = Path(data_dir)
        self._sqlite = is_sqlite(database)
        self._opening = Lock()
        self._databases: dict[int, Database] = {} if self._sqlite else {0: open_postgresql(database)}
        self._quarantine_key = QuarantineKey(data_dir, database)

    def _opened(self) -> dict[int, Database]:
        """By number of the shard; those of workers that have come since too."""
        if self._sqlite:
            with self._opening:
                for number in shards.numbers(self._data_dir):
                    if number not in self._databases:
                        opened_file = open_sqlite(shards.database_path(self._data_dir, number), read_only=True)
                        if _has_tables(opened_file):
                            self._databases[number] = opened_file
        return dict(self._databases)

    @contextmanager
    def _connections(self) -> Iterator[list[Connection]]:
        opened: list[Connection] = []
        try:
            for database in self._opened().values():
                opened.append(database.engine.connect())
            yield opened
        finally:
            for connection in opened:
                connection.close()

    def search(self, query: MailQuery) -> list[Mapping[str, object]]:
        found: list[dict[str, object]] = []
        with self._connections() as connections:
            for connection in connections:
                found += _search(connection, query)
        found.sort(key=lambda mail: str(mail["id"]), reverse=True)
        return list(found[: query.limit])

    def mail(self, mail_id: str) -> Mapping[str, object] | None:
        with self._connections() as connections:
            for connection in connections:
                row = connection.execute(select(schema.mail).where(schema.mail.c.id == mail_id)).one_or_none()
                if row is not None:
                    return _whole(connection, row)
        return None

    def quarantined(self, query: KeptQuery) -> list[Mapping[str, object]]:
        return self._kept(query, quarantined_ids)

    def failed(self, query: KeptQuery) -> list[Mapping[str, object]]:
        return self._kept(query, failed_ids)

    def _kept(
        self, query: KeptQuery, look: Callable[[Connection, KeptQuery], list[str]]
    ) -> list[Mapping[str, object]]:
        found: list[dict[str, object]] = []
        with self._connections() as connections:
            for connection in connections:
                ids = look(connection, query)
                of_mail = quarantine_rows(connection, ids)
                mails = _mails(connection, [schema.mail.c.id.in_(ids)], query.limit) if ids else []
                found += [{**mail, "quarantine": of_mail.get(str(mail["id"]))} for mail in mails]
        found.sort(key=lambda mail: str(mail["id"]), reverse=True)
        return list(found[: query.limit])

    def kept_content(self, mail_id: str, version: int | None = None) -> Iterator[bytes] | None:
        for number, database in self._opened().items():
            folder = shards.content_folder(self._data_dir, number)
            content = kept_content(database.read, folder, self._quarantine_key, mail_id, version)
            if content is not None:
                return content
        return None

    def past_mails(self, limit: int, before: str = "") -> list[PastMail]:
        found: list[PastMail] = []
        with self._connections() as connections:
            for connection in connections:
                found += _past_mails(connection, limit, before)
        found.sort(key=lambda mail: mail.id, reverse=True)
        return found[:limit]

    def queue(self) -> list[Mapping[str, object]]:
        merged: dict[str, dict[str, Any]] = {}
        with self._connections() as connections:
            for connection in connections:
                for found in _queue(connection):
                    row = merged.setdefault(found["profile"], found)
                    if row is not found:
                        row["queued"] += found["queued"]
                        row["held"] += found["held"]
                        row["oldest_at"] = min(row["oldest_at"], found["oldest_at"])
                        row["next_due"] = min(row["next_due"], found["next_due"])
        return [merged[profile] for profile in sorted(merged)]

    def close(self) -> None:
        for database in self._databases.values():
            database.close()
        self._quarantine_key.close()


def _has_tables(database: Database) -> bool:
    """Not yet, while its worker is starting. Raises SchemaTooNew."""
    with database.read() as connection:
        found = check_version(connection, schema.mail_version) is not None
    if not found:
        database.close()
    return found


def _queue(connection: Connection) -> list[dict[str, Any]]:
    """The queue of one store by next hop; counted in the index of each state, however long the history is.

    Mail ids sort by time, so the least one in an index names the oldest mail.
    """
    r, m = schema.recipient.c, schema.mail.c
    totals = (r.profile, func.count(), func.min(r.mail_id), func.min(r.due_at))
    in_memory = and_(m.lease_owner.is_not(None), r.mail_id == m.id, schema.IS_ACTIVE)
    found: dict[str, dict[str, Any]] = {}
    oldest: dict[str, str] = {}
    conditions = (
        *(("queued", schema.IS_DUE), ("queued", schema.IS_UNSCANNED)),
        *(("held", schema.IS_HELD), ("queued", in_memory)),
    )
    for column, condition in conditions:
        for profile, count, first, due in connection.execute(select(*totals).where(condition).group_by(r.profile)):
            row = found.setdefault(profile, {"profile": profile, "queued": 0, "held": 0, "next_due": due})
            row[column] += count
            row["next_due"] = min(row["next_due"], due)
            oldest[profile] = min(first, oldest.get(profile, first))
    received = dict(connection.execute(select(m.id, m.received_at).where(m.id.in_(set(oldest.values())))).all())
    return [{**row, "oldest_at": received[oldest[profile]]} for profile, row in found.items()]


def _search(connection: Connection, query: MailQuery) -> list[dict[str, object]]:
    m, r = schema.mail.c, schema.recipient.c
    conditions: list[ColumnElement[bool]] = []
    if query.before:
        conditions.append(m.id < query.before)
    if query.since is not None:
        conditions.append(m.received_at >= query.since)
    if query.until is not None:
        conditions.append(m.received_at < query.until)
    if query.sender:
        conditions.append(m.reverse_path.icontains(query.sender, autoescape=True))
    if query.subject:
        conditions.append(m.subject.icontains(query.subject, autoescape=True))
    of_recipient: list[ColumnElement[bool]] = []
    if query.recipient:
        of_recipient.append(r.address.icontains(query.recipient, autoescape=True))
    if query.rule:
        of_recipient.append(func.lower(r.rule) == query.rule.lower())
    if query.status:
        states = _QUEUED if query.status == "queued" else (query.status,)
        of_recipient.append(r.state.in_(states))
    if of_recipient:
        conditions.append(exists().where(and_(r.mail_id == m.id, *of_recipient)))
    if query.verdict:
        conditions.append(of_verdict(query.verdict))
    return _mails(connection, conditions, query.limit)


def _mails(connection: Connection, conditions: Sequence[ColumnElement[bool]], limit: int) -> list[dict[str, object]]:
    """Newest first, as `ports.History.search` has them."""
    m, r = schema.mail.c, schema.recipient.c
    rows = connection.execute(select(schema.mail).where(*conditions).order_by(m.id.desc()).limit(limit)).all()
    if not rows:
        return []
    recipients: dict[str, list[dict[str, object]]] = {row.id: [] for row in rows}
    for row in connection.execute(
        select(schema.recipient).where(r.mail_id.in_(list(recipients))).order_by(r.mail_id, r.seq)
    ):
        recipients[row.mail_id].append(_recipient(row))
    said = verdicts(connection, list(recipients))
    found = []
    for row in rows:
        mail = _mail(row)
        all_of_them = recipients[row.id]
        mail["recipients"] = all_of_them[:_SHOWN_RECIPIENTS]
        mail["recipient_count"] = len(all_of_them)
        mail["status"] = _status(all_of_them)
        mail["verdict"] = said.get(row.id, "")
        found.append(mail)
    return found


def _past_mails(connection: Connection, limit: int, before: str) -> list[PastMail]:
    m, r = schema.mail.c, schema.recipient.c
    query = select(m.id, m.received_at, m.session, m.reverse_path).where(~m.own).order_by(m.id.desc()).limit(limit)
    rows = connection.execute(query.where(m.id < before) if before else query).all()
    recipients: dict[str, list[PastRecipient]] = {row.id: [] for row in rows}
    if rows:
        query_recipients = select(r.mail_id, r.address, r.rule, r.profile).where(r.mail_id.in_(list(recipients)))
        for mail_id, address, rule, profile in connection.execute(query_recipients.order_by(r.mail_id, r.seq)):
            recipients[mail_id].append(PastRecipient(address, rule, profile))
    return [
        PastMail(
            row.id,
            row.received_at,
            str(json.loads(row.session)["client_address"]),
            row.reverse_path,
            tuple(recipients[row.id]),
        )
        for row in rows
    ]


def _whole(connection: Connection, row: Any) -> dict[str, object]:
    mail = _mail(row)

    def rows(table: schema.Table, *order: str) -> list[Any]:
        columns = [table.c[name] for name in order]
        return list(connection.execute(select(table).where(table.c.mail_id == row.id).order_by(*columns)))

    recipients = [_recipient(r) for r in rows(schema.recipient, "seq")]
    mail["recipients"] = recipients
    mail["recipient_count"] = len(recipients)
    mail["status"] = _status(recipients)
    attempts = rows(schema.attempt, "n")
    mail["attempts"] = [_decoded(a, "order", "replies", "transcript", "marks", "way") for a in attempts]
    mail["trail"] = [_decoded(t, "detail") for t in rows(schema.trail, "n")]
    mail["verdict"] = verdicts(connection, [row.id]).get(row.id, "")
    mail["scans"] = [{**_decoded(s, "engines"), "cached": bool(s.cached)} for s in rows(schema.scan, "n")]
    mail["uploads"] = [_decoded(u) for u in rows(schema.upload, "rule", "part")]
    mail["quarantine"] = quarantine_rows(connection, [row.id]).get(row.id)
    c = schema.content.c
    contents = connection.execute(
        select(c.version, c.kind, c.size, c.cuts, c.sealed).where(c.mail_id == row.id).order_by(c.version)
    )
    mail["contents"] = [
        {
            **content._mapping,
            "cuts": json.loads(content.cuts) if content.cuts else None,
            "sealed": bool(content.sealed),
        }
        for content in contents
    ]
    return mail


def _mail(row: Any) -> dict[str, object]:
    mail = dict(row._mapping)
    mail["session"] = json.loads(mail["session"])
    mail["trace_field"] = bytes(mail["trace_field"]).decode("utf-8", "replace")
    return mail


def _recipient(row: Any) -> dict[str, object]:
    recipient = dict(row._mapping)
    del recipient["mail_id"]
    if recipient["state"] == RecipientState.ACTIVE.value:
        recipient["state"] = RecipientState.QUEUED.value
    return recipient


def _decoded(row: Any, *names: str) -> dict[str, object]:
    values = dict(row._mapping)
    del values["mail_id"]
    for name in names:
        values[name] = json.loads(values[name]) if values[name] is not None else None
    return values


def _status(recipients: list[dict[str, object]]) -> str:
    states = {str(recipient["state"]) for recipient in recipients}
    return next((state for state in _GRAVITY if state in states), "queued")
