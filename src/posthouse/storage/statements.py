"""The statements of the hot path, compiled once from SQLAlchemy Core for the dialect in use, many rows in each.

Executing a Core statement costs tens of microseconds per call, and each row of an `executemany` lets the
interpreter's lock go and asks for it again while the event loop wants it. One statement with the rows of a whole
batch, given to the driver's cursor, does neither. It stays one code path: the texts come from the same tables.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

from sqlalchemy import Dialect, bindparam, delete, exists, insert, update
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql.dml import UpdateBase

from posthouse.storage import schema
from posthouse.storage.rows import RowTuple

T = TypeVar("T")
MOST_ROWS = 64
"""In one statement; there is a text for each number of rows, which the database keeps prepared."""


class Inserting:
    """Rows into a table, their values in the order of its columns; where `key` is there already, `changing` of it
    become what the row says."""

    def __init__(
        self, table: schema.Table, dialect: Dialect, *, key: Sequence[str] = (), changing: Sequence[str] = ()
    ) -> None:
        sql = _compiled(insert(table), [column.name for column in table.columns], dialect)
        self._head, _, self._row = sql.rpartition(" VALUES ")
        self._tail = ""
        if key:
            quote = dialect.identifier_preparer.quote
            values = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in changing)
            self._tail = f" ON CONFLICT ({', '.join(map(quote, key))}) DO UPDATE SET {values}"
        self._texts: dict[int, str] = {}

    def execute(self, cursor: DBAPICursor, rows: Sequence[RowTuple]) -> None:
        for some in _slices(rows):
            cursor.execute(self._text(len(some)), tuple(chain.from_iterable(some)))

    def _text(self, count: int) -> str:
        found = self._texts.get(count)
        if found is None:
            found = self._texts[count] = f"{self._head} VALUES {', '.join([self._row] * count)}{self._tail}"
        return found


class ForMails:
    """One change of all rows of some mails: a statement whose last condition is that of the mail's id."""

    def __init__(self, statement: UpdateBase, names: Sequence[str], dialect: Dialect) -> None:
        """`names`: the other values, in the order of the statement."""
        sql = _compiled(statement, [*names, "mail"], dialect)
        self._head, _, self._mark = sql.rpartition(" = ")
        self._texts: dict[int, str] = {}

    def execute(self, cursor: DBAPICursor, values: RowTuple, mail_ids: Sequence[str]) -> int:
        """How many rows changed."""
        changed = 0
        for some in _slices(mail_ids):
            cursor.execute(self._text(len(some)), (*values, *some))
            changed += cursor.rowcount
        return changed

    def _text(self, count: int) -> str:
        found = self._texts.get(count)
        if found is None:
            found = self._texts[count] = f"{self._head} IN ({', '.join([self._mark] * count)})"
        return found


def _compiled(statement: UpdateBase, names: Iterable[str], dialect: Dialect) -> str:
    compiled = statement.compile(dialect=dialect)
    positions = list(getattr(compiled, "positiontup", None) or ())
    assert positions == list(names), f"{positions} is not the order of the values"
    return str(compiled)


def _slices(rows: Sequence[T]) -> Iterable[Sequence[T]]:
    if len(rows) <= MOST_ROWS:
        return (rows,) if rows else ()
    return [rows[start : start + MOST_ROWS] for start in range(0, len(rows), MOST_ROWS)]


def _putting(table: schema.Table, dialect: Dialect) -> Inserting:
    """Rows in the place of those of the same key."""
    key = [column.name for column in table.primary_key.columns]
    return Inserting(table, dialect, key=key, changing=[c.name for c in table.columns if c.name not in key])


class Statements:
    """All of them."""

    def __init__(self, dialect: Dialect) -> None:
        def deleting(table: schema.Table) -> ForMails:
            return ForMails(delete(table).where(table.c.mail_id == bindparam("mail")), [], dialect)

        self.insert_mail = Inserting(schema.mail, dialect)
        self.insert_content = Inserting(schema.content, dialect)
        self.insert_chunk = Inserting(schema.content_chunk, dialect)
        self.insert_recipient = Inserting(schema.recipient, dialect)
        self.insert_attempt = Inserting(schema.attempt, dialect)
        self.insert_trail = Inserting(schema.trail, dialect)
        self.insert_scan = Inserting(schema.scan, dialect)
        self.put_upload = _putting(schema.upload, dialect)
        self.put_quarantine = _putting(schema.quarantine, dialect)
        self.put_obeyed = _putting(schema.obeyed, dialect)
        self.delete_quarantine = deleting(schema.quarantine)
        self.delete_content = deleting(schema.content)
        self.delete_chunks = deleting(schema.content_chunk)
        c, k = schema.content.c, schema.content_chunk.c
        self.delete_unsealed = ForMails(
            delete(schema.content).where(~c.sealed, c.mail_id == bindparam("mail")), [], dialect
        )
        left = exists().where(c.mail_id == k.mail_id, c.version == k.version)
        self.delete_chunks_left = ForMails(
            delete(schema.content_chunk).where(~left, k.mail_id == bindparam("mail")), [], dialect
        )
        # The row is there whenever the mail's own row was changed just before, in the same transaction.
        self.change_recipient = Inserting(
            schema.recipient,
            dialect,
            key=("mail_id", "seq"),
            changing=(
                *("rule", "profile", "version", "state", "stage", "due_at", "tries", "waits", "deferral"),
                *("delay_told", "uncertain_at", "detail", "updated_at"),
            ),
        )
        m = schema.mail.c
        self.change_mail = ForMails(
            update(schema.mail)
            .where(m.lease_owner == bindparam("me"), m.id == bindparam("mail"))
            .values(open=bindparam("new_open"), kept_since=bindparam("new_kept"), lease_owner=bindparam("new_owner")),
            ["new_open", "new_kept", "new_owner", "me"],
            dialect,
        )
