"""The units of the writer: accept a mail, record an outcome, and calls that return something."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from posthouse.core.mail import FileOctets, InlineOctets, Mail, MailId, RecipientState, TrailEntry
from posthouse.ports import Done, LeaseLost, Outcome
from posthouse.storage.batch import Batch, Hand
from posthouse.storage.new_files import NewFiles
from posthouse.storage.rows import (
    attempt_row,
    encode,
    mail_row,
    recipient_row,
    trail_row,
)

if TYPE_CHECKING:
    from posthouse.storage.mail_store import MailStore

T = TypeVar("T")
CHUNK_OCTETS = 1024 * 1024
"""Size of the rows that hold large content on PostgreSQL."""


class MailUnit:
    """What all units of a MailStore have in common."""

    asks = False
    """It reads the database, which may take long."""

    files: NewFiles | None = None
    """What has to be on the disk before its rows are."""

    def __init__(self, store: "MailStore") -> None:
        self.store = store
        self.error: Exception | None = None

    def refusal(self) -> Exception | None:
        """Asked before `stage`: why this unit cannot be carried out, which spoils no other."""
        return None

    def stage(self, batch: Batch) -> None:
        """In a transaction; again in one of its own if another unit spoils the batch."""
        raise NotImplementedError

    def alone(self) -> None:
        """On the event loop: its commit, which it shares with no other, is under way."""

    def doubt(self) -> None:
        """In the writer thread: the commit failed in a way that leaves open whether it took place."""

    def conclude(self) -> None:
        """In the writer thread, when `error` is final."""

    def settle(self) -> None:
        """On the event loop."""
        raise NotImplementedError


class Accept(MailUnit):
    """ports.Spool.accept."""

    files: NewFiles

    def __init__(
        self,
        store: "MailStore",
        mail: Mail,
        trail: Sequence[TrailEntry],
        new: NewFiles,
        done: Done,
        alone: Callable[[], None],
    ) -> None:
        super().__init__(store)
        self._mail = mail
        self._alone = alone
        self._trail = trail
        self._done = done
        self.files = new

    def stage(self, batch: Batch) -> None:
        stage_new(self.store, batch, self._mail, self._trail, self.files)

    def alone(self) -> None:
        self._alone()

    def doubt(self) -> None:
        self.store.deny(self._mail.id, self.files.paths)

    def conclude(self) -> None:
        self.files.close()
        if self.error is not None:
            self.files.drop()
            self.store.remove_files(self._mail.id, self.files.paths)

    def settle(self) -> None:
        self._done(self.error)


class Record(MailUnit):
    """ports.Spool.record."""

    files: NewFiles

    def __init__(self, store: "MailStore", outcome: Outcome, new: NewFiles, done: Done) -> None:
        super().__init__(store)
        self._outcome = outcome
        self._done = done
        self.files = new

    def refusal(self) -> Exception | None:
        hand = self.store.hands.get(self._outcome.mail.id)
        return LeaseLost(self._outcome.mail.id) if hand is None or hand.released else None

    def stage(self, batch: Batch) -> None:
        outcome, store = self._outcome, self.store
        mail_id = outcome.mail.id
        hand = store.hands[mail_id]
        if hand.stale:
            batch.flush()
            store.read_again(batch, {mail_id: hand})
        batch.used_hands.append(mail_id)
        for recipient in outcome.recipients:
            hand.states[recipient.seq] = recipient.state
            batch.recipient_changes[mail_id, recipient.seq] = recipient_row(mail_id, recipient, batch.now)
        for attempt in outcome.attempts:
            batch.attempts.append(attempt_row(mail_id, hand.attempts, attempt))
            hand.attempts += 1
        for entry in outcome.trail:
            batch.trail.append(trail_row(mail_id, hand.entries, entry))
            hand.entries += 1
        store.stage_state(batch, mail_id, hand)
        for mail, trail in outcome.generated:
            stage_new(store, batch, mail, trail, self.files)

    def doubt(self) -> None:
        self.store.unsettled.add(self._outcome.mail.id)
        self.store.uncertain.update(mail.id for mail, _ in self._outcome.generated)

    def conclude(self) -> None:
        generated = {mail.id for mail, _ in self._outcome.generated}
        if self.error is None:
            self.files.close()
            self.store.uncertain -= generated
        else:
            self.files.give_back()
            self.files.drop()
            if not generated & self.store.uncertain:
                self.store.remove(self.files.written)
        if self.error is None or isinstance(self.error, LeaseLost):
            self.store.unsettled.discard(self._outcome.mail.id)
        if isinstance(self.error, LeaseLost):
            self.store.lost(self._outcome.mail.id)

    def settle(self) -> None:
        self._done(self.error)


class Call(MailUnit, Generic[T]):
    """Anything else: `work` runs in the transaction; what it returns is the future's result."""

    asks = True

    def __init__(self, store: "MailStore", work: Callable[[Batch], T], future: "asyncio.Future[T]") -> None:
        super().__init__(store)
        self._work = work
        self._future = future
        self._result: list[T] = []

    def stage(self, batch: Batch) -> None:
        batch.flush()
        self._result = [self._work(batch)]

    def settle(self) -> None:
        if self._future.done():
            return
        if self.error is not None:
            self._future.set_exception(self.error)
        else:
            self._future.set_result(self._result[0])


def stage_new(store: "MailStore", batch: Batch, mail: Mail, trail: Sequence[TrailEntry], new: NewFiles) -> None:
    """Rows of a new mail. The mail is leased to this worker if one of its recipients is ACTIVE."""
    if mail.id in store.uncertain:
        store.delete_mails(batch, (mail.id,))
    if mail.id in store.hands:
        raise ValueError(f"mail id {mail.id} is taken")
    local = _stage_contents(store, batch, mail, new)
    hand = Hand({r.seq: r.state for r in mail.recipients}, local, 0, len(trail))
    active = hand.has(RecipientState.ACTIVE)
    batch.mails.append(
        mail_row(
            mail,
            store.session_text(mail.session),
            is_open=hand.open,
            kept_since=None if hand.open else batch.now,
            owner=store.owner if active else None,
        )
    )
    for recipient in mail.recipients:
        batch.recipients.append(recipient_row(mail.id, recipient, batch.now))
    for n, entry in enumerate(trail):
        batch.trail.append(trail_row(mail.id, n, entry))
    if active:
        store.hands[mail.id] = hand
        batch.new_hands.append(mail.id)
    elif local and not store.keeps_files:
        batch.unlink.extend(local)


def _stage_contents(store: "MailStore", batch: Batch, mail: Mail, new: NewFiles) -> tuple[Path, ...]:
    """Rows of a new mail's content versions; returns its local files."""
    local: list[Path] = []
    first = mail.contents[0].source
    for version, content in enumerate(mail.contents):
        source = content.source
        cuts = encode(content.cuts) if content.cuts else None
        if version > 0 and source == first:
            batch.contents.append((mail.id, version, "cuts", source.size, cuts, None, None))
            continue
        match source:
            case InlineOctets(octets) if (mail.id, version) in new.held:
                path = new.held[mail.id, version]
                local.append(path)
                batch.contents.append((mail.id, version, "file", len(octets), cuts, path.name, None))
            case InlineOctets(octets):
                batch.contents.append((mail.id, version, "inline", len(octets), cuts, None, octets))
            case FileOctets(path, size):
                descriptor = new.claimed.get(path)
                if descriptor is None:
                    raise ValueError(f"{path} was not made by a sink of this spool, or has been claimed already")
                local.append(Path(path))
                if store.keeps_files:
                    batch.contents.append((mail.id, version, "file", size, cuts, Path(path).name, None))
                else:
                    batch.contents.append((mail.id, version, "chunks", size, cuts, None, None))
                    _stage_chunks(batch, mail.id, version, descriptor, size)
    return tuple(local)


def _stage_chunks(batch: Batch, mail_id: MailId, version: int, descriptor: int, size: int) -> None:
    for seq, offset in enumerate(range(0, size, CHUNK_OCTETS)):
        octets = os.pread(descriptor, min(CHUNK_OCTETS, size - offset), offset)
        batch.insert_chunk((mail_id, version, seq, octets))
