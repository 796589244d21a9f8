"""One transaction of the writer: rows gather per table, go out in few statements; files are synced; commit."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection

from posthouse.core.mail import MailId, RecipientState
from posthouse.ports import LeaseLost
from posthouse.storage import files
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


class Batch:
    """Rows of one transaction. `flush` writes what has gathered; the order of the lists is that of the tables."""

    def __init__(self, connection: Connection, statements: Statements, now: float) -> None:
        self.connection = connection
        self.now = now
        self._statements = statements
        self.mails: list[RowTuple] = []
        self.contents: list[RowTuple] = []
        self.recipients: list[RowTuple] = []
        self.changes: list[RowTuple] = []
        self.attempts: list[RowTuple] = []
        self.trail: list[RowTuple] = []
        self.mail_changes: list[RowTuple] = []
        self.content_deletions: list[RowTuple] = []
        self.chunk_deletions: list[RowTuple] = []
        # Bookkeeping, carried out by the store after the commit or after its failure.
        self.new_hands: list[MailId] = []
        self.used_hands: list[MailId] = []
        self.released: list[MailId] = []
        self.unlink: list[Path] = []
        self.folders: set[Path] = set()
        """To be synced before the commit: a file in them is named by a row."""

    def flush(self) -> None:
        """Raises LeaseLost if a mail to be changed is no longer leased to this worker."""
        s, c = self._statements, self.connection
        s.insert_mail.execute(c, self.mails)
        s.insert_content.execute(c, self.contents)
        s.insert_recipient.execute(c, self.recipients)
        if s.change_mail.execute(c, self.mail_changes) != len(self.mail_changes):
            raise LeaseLost
        s.change_recipient.execute(c, self.changes)
        s.insert_attempt.execute(c, self.attempts)
        s.insert_trail.execute(c, self.trail)
        s.delete_content.execute(c, self.content_deletions)
        s.delete_chunks.execute(c, self.chunk_deletions)
        for rows in self._lists():
            rows.clear()

    def insert_chunk(self, row: RowTuple) -> None:
        """At once, so that a large content is never in memory whole."""
        self._statements.insert_chunk.execute(self.connection, [row])

    def _lists(self) -> Sequence[list[RowTuple]]:
        return (
            self.mails,
            self.contents,
            self.recipients,
            self.mail_changes,
            self.changes,
            self.attempts,
            self.trail,
            self.content_deletions,
            self.chunk_deletions,
        )

    def finish(self) -> None:
        """All that must be on the disk before the commit."""
        self.flush()
        for folder in self.folders:
            files.fsync_folder(folder)
