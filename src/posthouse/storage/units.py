"""The units of the writer: accept a mail, record an outcome, and calls that return something."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from posthouse.core.mail import Mail, RecipientState, TrailEntry
from posthouse.ports import Done, Findings, LeaseLost, Outcome
from posthouse.storage.batch import Batch, Hand
from posthouse.storage.new_files import NewFiles
from posthouse.storage.rows import (
    attempt_row,
    recipient_row,
    trail_row,
)
from posthouse.storage.staging import Versions, stage_contents, stage_findings, stage_new, stored_versions

if TYPE_CHECKING:
    from posthouse.storage.mail_store import MailStore

T = TypeVar("T")


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
        versions: Versions,
        findings: Findings | None,
    ) -> None:
        super().__init__(store)
        self._versions = versions
        self._mail = mail
        self._alone = alone
        self._findings = findings
        self._trail = trail
        self._done = done
        self.files = new

    def stage(self, batch: Batch) -> None:
        stage_new(self.store, batch, self._mail, self._trail, self.files, self._versions, self._findings)

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
        if hand.taken and (outcome.command or outcome.forget or not hand.has(RecipientState.ACTIVE)):
            hand.taken = False  # this is what it was taken for
        for recipient in outcome.recipients:
            hand.states[recipient.seq] = recipient.state
            batch.recipient_changes[mail_id, recipient.seq] = recipient_row(mail_id, recipient, batch.now)
        for attempt in outcome.attempts:
            batch.attempts.append(attempt_row(mail_id, hand.attempts, attempt))
            hand.attempts += 1
        for entry in outcome.trail:
            batch.trail.append(trail_row(mail_id, hand.entries, entry))
            hand.entries += 1
        if outcome.findings is not None:
            stage_findings(store, batch, mail_id, hand, outcome.findings)
        if outcome.contents:
            self._stage_contents(batch, hand)
        if outcome.command:
            batch.obeyed[mail_id] = (mail_id, outcome.command)
        store.stage_state(batch, mail_id, hand, forget=outcome.forget)
        for mail, trail in outcome.generated:
            stage_new(store, batch, mail, trail, self.files, stored_versions(mail, quarantined=False))

    def _stage_contents(self, batch: Batch, hand: Hand) -> None:
        mail, versions, store = self._outcome.mail, self._outcome.contents, self.store
        if mail.id in store.unsettled:  # they may be there already
            batch.flush()
            store.forget_versions(batch, mail.id, [number for number, _ in versions])
        local = stage_contents(store, batch, mail, versions, self.files)
        batch.unlink = [path for path in batch.unlink if path not in local.all]
        hand.files |= local

    def doubt(self) -> None:
        self.files.doubt()
        self.store.unsettled.add(self._outcome.mail.id)
        self.store.uncertain.update(mail.id for mail, _ in self._outcome.generated)

    def conclude(self) -> None:
        generated = {mail.id for mail, _ in self._outcome.generated}
        if self.error is None:
            self.files.close()
            self.store.uncertain -= generated
        else:
            if self._outcome.contents:
                self._forget_files()
            if isinstance(self.error, LeaseLost):
                self.files.discard()
            else:
                self.files.give_back()
            self.files.drop()
            if not (generated & self.store.uncertain or self._outcome.mail.id in self.store.unsettled):
                self.store.remove(self.files.written)
        if self.error is None or isinstance(self.error, LeaseLost):
            self.store.unsettled.discard(self._outcome.mail.id)
        if isinstance(self.error, LeaseLost):
            self.store.lost(self._outcome.mail.id)

    def _forget_files(self) -> None:
        """What this outcome brought is not the mail's."""
        hand = self.store.hands.get(self._outcome.mail.id)
        if hand is not None:
            hand.files = hand.files.without(self.files.paths)

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
