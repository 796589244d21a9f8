"""One transaction of the writer: rows gather per table, go out in few statements; commit."""

from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from posthouse.core.mail import MailId, RecipientState
from posthouse.ports import LeaseLost
from posthouse.storage.database import cursor_of
from posthouse.storage.rows import RowTuple
from posthouse.storage.statements import Statements


class Hand:
    """What the writer knows of a mail whose lease this worker has: saves reading it at every record.

    `stale`: the rows changed behind its back or a batch failed; to be read again before use.
    """

    __slots__ = ("attempts", "entries", "files", "released", "stale", "states")

    def __init__(
        self, states: dict[int, RecipientState], files: tuple[Path, ...], attempts: int = 0, entries: int = 0
    ) -> None:
        self.states = states
        self.files = files
        """Local files of large content."""
        self.attempts = attempts
        self.entries = entries
        self.stale = False
        self.released = False

    def has(self, state: RecipientState) -> bool:
        return state in self.states.values()

    @property
    def open(self) -> bool:
        found = self.states.values()
        return RecipientState.ACTIVE in found or RecipientState.QUEUED in found or RecipientState.HELD in found


MailChange = tuple[bool, float | None, str | None]
"""Open, kept since, lease owner: what an outcome changes of a mail's row."""


class Batch:
    """Rows of one transaction; `flush` writes what has gathered. Of two changes of one row the later one holds."""

    def __init__(self, connection: Connection, statements: Statements, owner: str, now: float) -> None:
        self.connection = connection
        self.now = now
        self._owner = owner
        self._statements = statements
        self.mails: list[RowTuple] = []
        self.contents: list[RowTuple] = []
        self.recipients: list[RowTuple] = []
        self.attempts: list[RowTuple] = []
        self.trail: list[RowTuple] = []
        self.mail_changes: dict[MailId, MailChange] = {}
        self.recipient_changes: dict[tuple[MailId, int], RowTuple] = {}
        self.content_deletions: list[MailId] = []
        self.chunk_deletions: list[MailId] = []
        # Bookkeeping, carried out by the store after the commit or after its failure.
        self.new_hands: list[MailId] = []
        self.used_hands: list[MailId] = []
        self.released: list[MailId] = []
        self.unlink: list[Path] = []

    def flush(self) -> None:
        """Raises LeaseLost if a mail to be changed is no longer leased to this worker."""
        with cursor_of(self.connection) as cursor:
            self._write(cursor)
        for rows in (
            self.mails,
            self.contents,
            self.recipients,
            self.mail_changes,
            self.recipient_changes,
            self.attempts,
            self.trail,
            self.content_deletions,
            self.chunk_deletions,
        ):
            rows.clear()

    def _write(self, cursor: DBAPICursor) -> None:
        s = self._statements
        s.insert_mail.execute(cursor, self.mails)
        s.insert_content.execute(cursor, self.contents)
        s.insert_recipient.execute(cursor, self.recipients)
        alike: dict[MailChange, list[MailId]] = {}
        for mail_id, change in self.mail_changes.items():
            alike.setdefault(change, []).append(mail_id)
        for change, mail_ids in alike.items():
            if s.change_mail.execute(cursor, (*change, self._owner), mail_ids) != len(mail_ids):
                raise LeaseLost
        s.change_recipient.execute(cursor, list(self.recipient_changes.values()))
        s.insert_attempt.execute(cursor, self.attempts)
        s.insert_trail.execute(cursor, self.trail)
        s.delete_content.execute(cursor, (), self.content_deletions)
        s.delete_chunks.execute(cursor, (), self.chunk_deletions)

    def insert_chunk(self, row: RowTuple) -> None:
        """At once, so that a large content is never in memory whole."""
        with cursor_of(self.connection) as cursor:
            self._statements.insert_chunk.execute(cursor, [row])
