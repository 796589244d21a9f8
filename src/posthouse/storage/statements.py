"""The statements of the hot path, compiled once from SQLAlchemy Core for the dialect in use.

Executing a Core statement costs tens of microseconds per call; its compiled text with a list of tuples costs one or
two per row. It stays one code path: the text comes from the same tables.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, Dialect, bindparam, delete, insert, update
from sqlalchemy.sql.dml import UpdateBase

from posthouse.storage import schema
from posthouse.storage.rows import RowTuple


class Prepared:
    """One statement for many rows, whose tuples hold the values in the order of `names`."""

    def __init__(self, statement: UpdateBase, names: Sequence[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        positions = tuple(getattr(compiled, "positiontup", None) or ())
        assert positions == tuple(names), f"{positions} is not the order of the rows"
        self._sql = str(compiled)

    def execute(self, connection: Connection, rows: list[RowTuple]) -> int:
        """How many rows of the table changed."""
        return connection.exec_driver_sql(self._sql, rows).rowcount if rows else 0


class Statements:
    """All of them."""

    def __init__(self, dialect: Dialect) -> None:
        def inserting(table: schema.Table) -> Prepared:
            return Prepared(insert(table), [column.name for column in table.columns], dialect)

        def deleting(table: schema.Table) -> Prepared:
            return Prepared(delete(table).where(table.c.mail_id == bindparam("mail")), ["mail"], dialect)

        self.insert_mail = inserting(schema.mail)
        self.insert_content = inserting(schema.content)
        self.insert_chunk = inserting(schema.content_chunk)
        self.insert_recipient = inserting(schema.recipient)
        self.insert_attempt = inserting(schema.attempt)
        self.insert_trail = inserting(schema.trail)
        self.delete_content = deleting(schema.content)
        self.delete_chunks = deleting(schema.content_chunk)
        changing = (
            "rule profile version state due_at tries waits delay_told uncertain_at detail updated_at".split()  # noqa: SIM905
        )
        r = schema.recipient.c
        self.change_recipient = Prepared(
            update(schema.recipient)
            .where(r.mail_id == bindparam("mail"), r.seq == bindparam("number"))
            .values({name: bindparam(f"new_{name}") for name in changing}),
            [*(f"new_{name}" for name in changing), "mail", "number"],
            dialect,
        )
        m = schema.mail.c
        self.change_mail = Prepared(
            update(schema.mail)
            .where(m.id == bindparam("mail"), m.lease_owner == bindparam("me"))
            .values(open=bindparam("new_open"), kept_since=bindparam("new_kept"), lease_owner=bindparam("new_owner")),
            ["new_open", "new_kept", "new_owner", "mail", "me"],
            dialect,
        )
