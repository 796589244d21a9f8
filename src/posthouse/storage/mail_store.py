"""One database of mail: carries out the writer's units in one transaction, and knows the mails in hand."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.exc import DBAPIError

from posthouse.core.envelope import SessionFacts
from posthouse.core.mail import MailId, RecipientState
from posthouse.storage import files, schema
from posthouse.storage.batch import Batch, Hand
from posthouse.storage.database import Database
from posthouse.storage.rows import session_json
from posthouse.storage.statements import Statements
from posthouse.storage.units import MailUnit

_SESSIONS = 256


class MailStore:
    """Used in the writer thread only, but for `hands`, whose keys the loop may look up."""

    def __init__(
        self, database: Database, owner: str, now: Callable[[], float], folder: Path, close: Callable[[], None]
    ) -> None:
        """`close` gives back what belongs to the database (the shard's lock)."""
        self.database = database
        self.owner = owner
        self.folder = folder
        self.keeps_files = database.sqlite
        """Large content stays in files; else it lies in chunk rows and a file is a cache."""
        self.hands: dict[MailId, Hand] = {}
        self.denied: dict[MailId, list[Path]] = {}
        """Mails whose commit failed: if it took place all the same, their rows are deleted, and then these files."""
        self._statements = Statements(database.engine.dialect)
        self._now = now
        self._close = close
        self._connection: Connection | None = None
        self._sessions: dict[SessionFacts, str] = {}

    # --- the writer's side ----------------------------------------------------------------------------

    def run(self, units: Sequence[MailUnit]) -> None:
        """All units in one commit; if that fails each in one of its own, so that none spoils another."""
        try:
            self._transact(units)
        except Exception as error:
            if len(units) == 1:
                units[0].error = error
            else:
                for unit in units:
                    try:
                        self._transact([unit])
                    except Exception as own:
                        unit.error = own
        for unit in units:
            unit.conclude()

    def _transact(self, units: Sequence[MailUnit]) -> None:
        connection = self._connect()
        transaction = connection.begin()
        batch = Batch(connection, self._statements, self._now())
        committing = False
        denied = list(self.denied)
        try:
            for mail_id in denied:
                self.delete_mail(batch, mail_id)
            for unit in units:
                unit.stage(batch)
            batch.finish()
            committing = True
            files.commit(transaction)
        except BaseException as error:
            for mail_id in batch.new_hands:
                self.hands.pop(mail_id, None)
            for mail_id in (*batch.used_hands, *batch.released):
                hand = self.hands.get(mail_id)
                if hand is not None:
                    hand.stale, hand.released = True, False
            if committing:
                for unit in units:
                    for mail_id in unit.new_mails:
                        self.denied.setdefault(mail_id, [])
            with contextlib.suppress(Exception):
                transaction.rollback()
            if isinstance(error, DBAPIError | OSError):
                self._disconnect()  # what state the connection is in is unknown
            raise
        for mail_id in denied:
            batch.unlink.extend(self.denied.pop(mail_id))
        for mail_id in batch.released:
            self.hands.pop(mail_id, None)
        for path in batch.unlink:
            with contextlib.suppress(OSError):  # a leftover, swept at the next start
                files.unlink(path)

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self.database.engine.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
                connection.close()

    def close(self) -> None:
        self._disconnect()
        self.database.close()
        self._close()

    # --- what units ask ---------------------------------------------------------------------------------

    def session_text(self, session: SessionFacts) -> str:
        """JSON of the session; the same session often brings many mails."""
        found = self._sessions.get(session)
        if found is None:
            if len(self._sessions) >= _SESSIONS:
                self._sessions.clear()
            found = self._sessions[session] = session_json(session)
        return found

    def stage_state(self, batch: Batch, mail_id: MailId, hand: Hand) -> None:
        """The mail's row after its recipients changed: fenced; the lease ends with the last ACTIVE one,
        the content with the last final result unless one FAILED."""
        active, is_open = hand.has(RecipientState.ACTIVE), hand.open
        failed = hand.has(RecipientState.FAILED)
        kept_since = batch.now if failed and not is_open else None
        batch.mail_changes.append((is_open, kept_since, self.owner if active else None, mail_id, self.owner))
        if not active:
            hand.released = True
            batch.released.append(mail_id)
        if not is_open and not failed:
            batch.content_deletions.append((mail_id,))
            if not self.keeps_files:
                batch.chunk_deletions.append((mail_id,))
            batch.unlink.extend(hand.files)
        elif not active and not self.keeps_files:
            batch.unlink.extend(hand.files)

    def read_again(self, batch: Batch, hands: Mapping[MailId, Hand]) -> None:
        """Brings hands up to date with the rows."""
        connection, ids = batch.connection, list(hands)
        r, a, t = schema.recipient.c, schema.attempt.c, schema.trail.c
        for hand in hands.values():
            hand.states, hand.attempts, hand.entries, hand.stale = {}, 0, 0, False
        for mail_id, seq, state in connection.execute(select(r.mail_id, r.seq, r.state).where(r.mail_id.in_(ids))):
            hands[mail_id].states[seq] = RecipientState(state)
        for mail_id, last in connection.execute(
            select(a.mail_id, func.max(a.n)).where(a.mail_id.in_(ids)).group_by(a.mail_id)
        ):
            hands[mail_id].attempts = last + 1
        for mail_id, last in connection.execute(
            select(t.mail_id, func.max(t.n)).where(t.mail_id.in_(ids)).group_by(t.mail_id)
        ):
            hands[mail_id].entries = last + 1

    def delete_mail(self, batch: Batch, mail_id: MailId) -> None:
        """Every row of a mail whose acceptance was answered with a refusal."""
        for table in (schema.content, schema.content_chunk, schema.recipient, schema.attempt, schema.trail):
            batch.connection.execute(delete(table).where(table.c.mail_id == mail_id))
        batch.connection.execute(delete(schema.mail).where(schema.mail.c.id == mail_id))

    def remove_files(self, mail_id: MailId, paths: Sequence[Path]) -> None:
        """The acceptance failed for good: its files go, but not before rows that may name them are gone.

        What cannot be removed is swept at the next start.
        """
        if mail_id in self.denied:
            self.denied[mail_id].extend(paths)
            return
        for path in paths:
            with contextlib.suppress(OSError):
                files.unlink(path)
