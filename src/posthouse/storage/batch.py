"""One transaction of the writer: rows gather per table, go out in few statements; commit."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor

from posthouse.core.mail import MailId, RecipientState
from posthouse.ports import LeaseLost
from posthouse.storage.database import cursor_of
from posthouse.storage.rows import RowTuple
from posthouse.storage.statements import Statements


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Of a mail's content, on this node."""

    open: tuple[Path, ...] = ()
    """Named by rows of versions that are not sealed."""
    sealed: tuple[Path, ...] = ()
    """Named by rows of sealed ones."""
    caches: tuple[Path, ...] = ()
    """Of what lies in chunk rows: made again when the mail is taken again."""
    has_sealed: bool = False
    """There is a sealed version, in a file or not."""

    def __or__(self, other: "LocalFiles") -> "LocalFiles":
        def both(mine: tuple[Path, ...], theirs: tuple[Path, ...]) -> tuple[Path, ...]:
            return tuple(dict.fromkeys((*mine, *theirs)))

        return LocalFiles(
            both(self.open, other.open),
            both(self.sealed, other.sealed),
            both(self.caches, other.caches),
            self.has_sealed or other.has_sealed,
        )

    def without(self, paths: Iterable[Path]) -> "LocalFiles":
        gone = set(paths)

        def left(mine: tuple[Path, ...]) -> tuple[Path, ...]:
            return tuple(path for path in mine if path not in gone)

        return LocalFiles(left(self.open), left(self.sealed), left(self.caches), self.has_sealed)

    @property
    def all(self) -> tuple[Path, ...]:
        return (*self.open, *self.sealed, *self.caches)


NO_FILES = LocalFiles()


class Hand:
    """What the writer knows of a mail whose lease this worker has: saves reading it at every record.

    `stale`: the rows changed behind its back or a batch failed; to be read again before use.
    """

    __slots__ = (
        *("attempts", "entries", "files", "kept_since", "quarantined", "released", "scans", "stale", "states"),
        *("taken", "was_kept"),
    )

    def __init__(
        self,
        states: dict[int, RecipientState],
        files: "LocalFiles" = NO_FILES,
        attempts: int = 0,
        entries: int = 0,
        scans: int | None = None,
    ) -> None:
        self.states = states
        self.files = files
        self.attempts = attempts
        self.entries = entries
        self.scans = scans
        """None: to be counted before the next is added."""
        self.quarantined = False
        """There is a quarantine row; known of a mail with sealed content only."""
        self.taken = False
        """By `take_kept`: leased though nothing is ACTIVE."""
        self.was_kept = False
        """No recipient was open when it was taken; `kept_since` is what its row says."""
        self.kept_since: float | None = None
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
        self.scans: list[RowTuple] = []
        self.uploads: dict[tuple[MailId, str, str], RowTuple] = {}
        self.quarantines: dict[MailId, RowTuple] = {}
        self.obeyed: dict[MailId, RowTuple] = {}
        self.content_deletions: list[MailId] = []
        self.chunk_deletions: list[MailId] = []
        self.unsealed_deletions: list[MailId] = []
        """Content but for what is sealed, when the mail is in quarantine only."""
        self.quarantine_deletions: list[MailId] = []
        # Bookkeeping, carried out by the store after the commit or after its failure.
        self.new_hands: list[MailId] = []
        self.used_hands: list[MailId] = []
        self.released: list[MailId] = []
        self.unlink: list[Path] = []
        self.destroy: list[Path] = []
        """As `unlink`, but not to be used again: of mail that goes into quarantine nothing stays in a file."""
        self.taken: list[MailId] = []
        """Hands that `take_kept` has taken."""

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
            self.scans,
            self.uploads,
            self.quarantines,
            self.obeyed,
            self.content_deletions,
            self.chunk_deletions,
            self.unsealed_deletions,
            self.quarantine_deletions,
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
        s.insert_scan.execute(cursor, self.scans)
        s.put_upload.execute(cursor, list(self.uploads.values()))
        s.put_quarantine.execute(cursor, list(self.quarantines.values()))
        s.put_obeyed.execute(cursor, list(self.obeyed.values()))
        s.delete_quarantine.execute(cursor, (), self.quarantine_deletions)
        s.delete_unsealed.execute(cursor, (), self.unsealed_deletions)
        s.delete_chunks_left.execute(cursor, (), self.unsealed_deletions)
        s.delete_content.execute(cursor, (), self.content_deletions)
        s.delete_chunks.execute(cursor, (), self.chunk_deletions)

    def insert_chunk(self, row: RowTuple) -> None:
        """At once, so that a large content is never in memory whole."""
        with cursor_of(self.connection) as cursor:
            self._statements.insert_chunk.execute(cursor, [row])
