"""One database of mail: carries out the writer's units in one transaction, and knows the mails in hand."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, tuple_
from sqlalchemy.engine import Transaction
from sqlalchemy.exc import DBAPIError

from posthouse.core.envelope import SessionFacts
from posthouse.core.mail import MailId, RecipientState
from posthouse.storage import files, schema
from posthouse.storage.batch import Batch, Hand
from posthouse.storage.database import Database
from posthouse.storage.new_files import NewFiles
from posthouse.storage.reused_files import ReusedFiles
from posthouse.storage.rows import session_json
from posthouse.storage.statements import Statements
from posthouse.storage.units import MailUnit
from posthouse.telemetry import logger

log = logger("spool")
_SESSIONS = 256


class CommitUncertain(Exception):
    """The commit raised, so that nobody knows whether it took place; `__cause__` is what it raised."""


@dataclass(frozen=True, slots=True)
class _Staged:
    """A transaction that holds all of its units, to be committed."""

    transaction: Transaction
    batch: Batch
    denied: Mapping[MailId, Sequence[Path]]
    """What it deletes because its acceptance was answered with a refusal."""


class MailStore:
    """Used by `GroupWriter`: between `stage` and the end of `run` by its thread alone, else by the loop alone.

    But the loop may look up keys of `hands`, and take of `reused`, at any time.
    """

    def __init__(
        self, database: Database, owner: str, now: Callable[[], float], folder: Path, close: Callable[[], None]
    ) -> None:
        """`close` gives back what belongs to the database (the shard's lock)."""
        self.database = database
        self.owner = owner
        self.folder = folder
        self.keeps_files = database.sqlite
        """Large content stays in files; else it lies in chunk rows and a file is a cache."""
        self.reused = ReusedFiles(folder) if self.keeps_files else None
        self.hands: dict[MailId, Hand] = {}
        self.uncertain: set[MailId] = set()
        """Own mails whose first commit may have taken place unseen; the outcome that makes them will come again."""
        self.unsettled: set[MailId] = set()
        """Mails whose outcome may have been stored unseen; until it has come again they are not to be taken."""
        self.orphans: set[MailId] = set()
        """Mails in memory that others took when the lease had run out, until the flow has learned of each."""
        self._denied: dict[MailId, Sequence[Path]] = {}
        self._statements = Statements(database.engine.dialect)
        self._now = now
        self._close = close
        self._connection: Connection | None = None
        self._patient = True
        """What the connection was told last."""
        self._staged: _Staged | None = None
        self._sessions: dict[SessionFacts, str] = {}

    # --- the writer's side ----------------------------------------------------------------------------

    def stage(self, units: Sequence[MailUnit]) -> None:
        """On the event loop: fills the transaction that `run` will commit, where this waits for nothing.

        So the interpreter's lock is spared a dozen changes between loop and thread. What fails is done again by
        `run`, which tells of it.
        """
        if self.database.sqlite and not any(unit.asks for unit in units):
            with contextlib.suppress(Exception):
                self._staged = self._fill(units)

    def run(self, units: Sequence[MailUnit]) -> None:
        """All units in one commit. If one of them spoils it each has a commit of its own; if disk or database refuse,
        all have failed, for asking again for each would hold up the queue."""
        try:
            staged, self._staged = self._staged, None
            self._commit(units, staged or self._fill_patiently(units))
        except Exception as error:
            if len(units) > 1 and not (isinstance(error, CommitUncertain) or files.storage_failed(error)):
                for unit in units:
                    self.run([unit])
                return
            cause = error.__cause__ if isinstance(error, CommitUncertain) else error
            for unit in units:
                unit.error = unit.error or (cause if isinstance(cause, Exception) else error)
        for unit in units:
            try:
                unit.conclude()
            except Exception as error:  # a bug; the thread must not end for it, nor the others hear nothing
                log.error("unit not concluded", error=repr(error))

    def _fill_patiently(self, units: Sequence[MailUnit]) -> "_Staged":
        """Waits for the database. A connection that broke while idle says nothing about the server as it is now: one
        more try."""
        idle = self._connection is not None
        try:
            return self._fill(units, patient=True)
        except DBAPIError as error:
            if not (idle and error.connection_invalidated):
                raise
            return self._fill(units, patient=True)

    def _fill(self, units: Sequence[MailUnit], *, patient: bool = False) -> "_Staged":
        connection = self._connect()
        if patient != self._patient:
            self.database.set_patience(connection, patient)
            self._patient = patient
        batch = Batch(connection, self._statements, self.owner, self._now())
        transaction: Transaction | None = None
        try:
            transaction = connection.begin()
            denied = dict(self._denied)
            if denied:
                self.delete_mails(batch, list(denied))
            for unit in units:
                unit.error = unit.refusal()
                if unit.error is None:
                    unit.stage(batch)
            batch.flush()
        except BaseException as error:
            self._roll_back(transaction, batch, error)
            raise
        return _Staged(transaction, batch, denied)

    def _commit(self, units: Sequence[MailUnit], staged: "_Staged") -> None:
        transaction, batch = staged.transaction, staged.batch
        try:
            due = self._bring_files(units)
        except BaseException as error:
            self._roll_back(transaction, batch, error)
            raise
        try:
            files.commit(transaction)
        except Exception as error:
            for unit in units:
                unit.doubt()
            self._roll_back(transaction, batch, error)
            raise CommitUncertain from error
        for new in due:
            new.stored()
        for mail_id in batch.released:
            if mail_id in self.hands and self.hands[mail_id].released:
                del self.hands[mail_id]
        for mail_id, paths in staged.denied.items():
            del self._denied[mail_id]
            batch.unlink.extend(paths)
        if batch.destroy:
            self.destroy(batch.destroy)
        self.remove(dict.fromkeys(batch.unlink))

    def _bring_files(self, units: Sequence[MailUnit]) -> Sequence[NewFiles]:
        """To the disk: all are written before the first is waited for. Raises OSError."""
        due = [unit.files for unit in units if unit.error is None and unit.files is not None and unit.files.due]
        if due:
            unnamed = [new.write() for new in due]
            for new in due:
                new.sync()
            if any(unnamed):
                files.fsync_folder(self.folder)
                if self.reused is not None:
                    self.reused.named()
        return due

    def _roll_back(self, transaction: Transaction | None, batch: Batch, error: BaseException) -> None:
        for mail_id in batch.new_hands:
            self.hands.pop(mail_id, None)
        for mail_id in (*batch.used_hands, *batch.released):
            hand = self.hands.get(mail_id)
            if hand is not None:
                hand.stale, hand.released = True, False
        for mail_id in batch.taken:
            if mail_id in self.hands:
                self.hands[mail_id].taken = False
        if transaction is not None:
            with contextlib.suppress(Exception):
                transaction.rollback()
        if isinstance(error, DBAPIError | OSError):
            self._disconnect()  # what state the connection is in is unknown

    def remove(self, paths: Iterable[Path]) -> None:
        """Files that no row names: away, or free for other content."""
        for path in paths:
            if self.reused is None or not self.reused.leave(path):
                with contextlib.suppress(OSError):  # a leftover, swept at the next start
                    files.unlink(path)

    def destroy(self, paths: Iterable[Path]) -> None:
        """Files that no row names: away."""
        for path in paths:
            if self.reused is not None:
                self.reused.drop(path)
            with contextlib.suppress(OSError):
                files.unlink(path)

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self.database.engine.connect()
            self._patient = True
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
                connection.close()

    def close(self) -> None:
        self._disconnect()
        if self.reused is not None:
            self.reused.close()
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

    def stage_state(self, batch: Batch, mail_id: MailId, hand: Hand, *, forget: bool = False) -> None:
        """The mail's row after its recipients changed: fenced; the lease ends with the last ACTIVE one, the content
        with the last final result unless one FAILED, but for what is sealed while there is a quarantine row.
        `forget`: the quarantine row goes too, and content that is kept for nothing else but it and failed emails."""
        active, is_open = hand.has(RecipientState.ACTIVE) or hand.taken, hand.open
        failed = hand.has(RecipientState.FAILED) and not forget
        kept_since = None
        if is_open:
            hand.was_kept = False
        elif failed:
            kept_since = hand.kept_since if hand.was_kept else batch.now
        batch.mail_changes[mail_id] = (is_open, kept_since, self.owner if active else None)
        if not active:
            hand.released = True
            batch.released.append(mail_id)
            batch.unlink.extend(hand.files.caches)
        if forget:
            batch.flush()
            self.forget_contents(batch, [mail_id], schema.content.c.sealed)
            hand.files = replace(hand.files, sealed=(), has_sealed=False)
            batch.quarantine_deletions.append(mail_id)
        if active or is_open or failed:
            return
        if hand.quarantined and hand.files.has_sealed:
            batch.unsealed_deletions.append(mail_id)
            batch.destroy.extend(hand.files.open)
            return
        batch.content_deletions.append(mail_id)
        if not self.keeps_files or hand.files.caches:
            batch.chunk_deletions.append(mail_id)
        batch.unlink.extend((*hand.files.open, *hand.files.sealed))

    def read_again(self, batch: Batch, hands: Mapping[MailId, Hand]) -> None:
        """Brings hands up to date with the rows."""
        connection, ids = batch.connection, list(hands)
        r, a, t = schema.recipient.c, schema.attempt.c, schema.trail.c
        for hand in hands.values():
            hand.states, hand.attempts, hand.entries, hand.scans, hand.stale = {}, 0, 0, None, False
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
        sealed = {mail_id: hand for mail_id, hand in hands.items() if hand.files.has_sealed}
        if sealed:
            q = schema.quarantine.c.mail_id
            found = set(connection.scalars(select(q).where(q.in_(sealed))))
            for mail_id, hand in sealed.items():
                hand.quarantined = mail_id in found

    def count_scans(self, batch: Batch, mail_id: MailId) -> int:
        s = schema.scan.c
        last = batch.connection.scalar(select(func.max(s.n)).where(s.mail_id == mail_id))
        return 0 if last is None else last + 1

    def forget_contents(self, batch: Batch, mail_ids: Sequence[MailId], *which: ColumnElement[bool]) -> None:
        """Content rows now, files after the commit; `which` of them, else all."""
        if mail_ids:
            self._delete_contents(batch, schema.content.c.mail_id.in_(mail_ids), *which)

    def forget_versions(self, batch: Batch, mail_id: MailId, versions: Sequence[int]) -> None:
        """As `forget_contents`."""
        c = schema.content.c
        self._delete_contents(batch, c.mail_id == mail_id, c.version.in_(versions))

    def _delete_contents(self, batch: Batch, *which: ColumnElement[bool]) -> None:
        c, k = schema.content.c, schema.content_chunk.c
        rows = batch.connection.execute(select(c.mail_id, c.version, c.kind, c.file).where(*which)).all()
        batch.unlink.extend(self.folder / row.file for row in rows if row.file is not None)
        if chunked := [(row.mail_id, row.version) for row in rows if row.kind == "chunks"]:
            batch.connection.execute(delete(schema.content_chunk).where(tuple_(k.mail_id, k.version).in_(chunked)))
        batch.connection.execute(delete(schema.content).where(*which))

    def delete_mails(self, batch: Batch, mail_ids: Sequence[MailId]) -> None:
        """Every row of those of the mails that exist and that no other worker leases."""
        m = schema.mail.c
        mine = or_(m.lease_owner.is_(None), m.lease_owner == self.owner)
        for start in range(0, len(mail_ids), 500):
            some = mail_ids[start : start + 500]
            found = batch.connection.scalars(select(m.id).where(m.id.in_(some), mine)).all()
            if found:
                self.forget_contents(batch, found)
                for table in schema.OF_MAIL:
                    batch.connection.execute(delete(table).where(table.c.mail_id.in_(found)))
                batch.connection.execute(delete(schema.mail).where(m.id.in_(found)))

    # --- what units tell --------------------------------------------------------------------------------

    def deny(self, mail_id: MailId, paths: Sequence[Path]) -> None:
        """The acceptance is answered with a refusal though its commit may have taken place: rows and files go with
        the next transaction."""
        self._denied[mail_id] = paths

    def remove_files(self, mail_id: MailId, paths: Sequence[Path]) -> None:
        """The acceptance failed: its files go, unless a row may still name them."""
        if mail_id not in self._denied:
            self.remove(paths)

    def lost(self, mail_id: MailId) -> None:
        """The flow learns that this worker has the mail no longer."""
        self.hands.pop(mail_id, None)
        self.orphans.discard(mail_id)
