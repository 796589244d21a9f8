"""The units of the writer: accept a mail, record an outcome, and calls that return something."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from posthouse.core.mail import Content, FileOctets, InlineOctets, Mail, MailId, RecipientState, TrailEntry
from posthouse.ports import Done, Findings, LeaseLost, Outcome
from posthouse.storage.batch import NO_FILES, Batch, Hand, LocalFiles
from posthouse.storage.new_files import NewFiles
from posthouse.storage.rows import (
    attempt_row,
    encode,
    mail_row,
    quarantine_row,
    recipient_row,
    scan_row,
    trail_row,
    upload_row,
)

if TYPE_CHECKING:
    from posthouse.storage.mail_store import MailStore

T = TypeVar("T")
Versions = Sequence[tuple[int, Content]]
"""Content versions of a mail with their numbers."""
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
            _stage_findings(store, batch, mail_id, hand, outcome.findings)
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


def stored_versions(mail: Mail, *, quarantined: bool) -> list[tuple[int, Content]]:
    """The content versions of a new mail that are stored: all, unless every recipient has ended and none FAILED, then
    for the quarantine what is sealed."""
    for recipient in mail.recipients:
        match recipient.state:
            case RecipientState.ACTIVE | RecipientState.QUEUED | RecipientState.HELD | RecipientState.FAILED:
                return list(enumerate(mail.contents))
            case _:
                pass
    return [(version, content) for version, content in enumerate(mail.contents) if quarantined and content.sealed]


def new_versions(mail: Mail, versions: Versions) -> list[tuple[MailId, int, Content]]:
    """Those of the versions that have octets of their own."""
    return [(mail.id, version, content) for version, content in versions if not _is_cut(mail, version, content)]


def _is_cut(mail: Mail, version: int, content: Content) -> bool:
    return version > 0 and content.source == mail.contents[0].source


def stage_new(
    store: "MailStore",
    batch: Batch,
    mail: Mail,
    trail: Sequence[TrailEntry],
    new: NewFiles,
    versions: Versions,
    findings: Findings | None = None,
) -> None:
    """Rows of a new mail. The mail is leased to this worker if one of its recipients is ACTIVE."""
    again = mail.id in store.uncertain
    if again:
        store.delete_mails(batch, (mail.id,))
    if mail.id in store.hands:
        raise ValueError(f"mail id {mail.id} is taken")
    local = stage_contents(store, batch, mail, versions, new)
    if again:
        batch.unlink = [path for path in batch.unlink if path not in local.all]
    hand = Hand({r.seq: r.state for r in mail.recipients}, local, 0, len(trail), 0)
    active, is_open = hand.has(RecipientState.ACTIVE), hand.open
    batch.mails.append(
        mail_row(
            mail,
            store.session_text(mail.session),
            is_open=is_open,
            kept_since=batch.now if not is_open and hand.has(RecipientState.FAILED) else None,
            owner=store.owner if active else None,
        )
    )
    for recipient in mail.recipients:
        batch.recipients.append(recipient_row(mail.id, recipient, batch.now))
    for n, entry in enumerate(trail):
        batch.trail.append(trail_row(mail.id, n, entry))
    if findings is not None:
        _stage_findings(store, batch, mail.id, hand, findings)
    if active:
        store.hands[mail.id] = hand
        batch.new_hands.append(mail.id)
    else:
        batch.unlink.extend(local.caches)


def _stage_findings(store: "MailStore", batch: Batch, mail_id: MailId, hand: Hand, findings: Findings) -> None:
    if findings.scans and hand.scans is None:
        batch.flush()
        hand.scans = store.count_scans(batch, mail_id)
    for scan in findings.scans:
        assert hand.scans is not None
        batch.scans.append(scan_row(mail_id, hand.scans, scan))
        hand.scans += 1
    for upload in findings.uploads:
        batch.uploads[mail_id, upload.rule, upload.part] = upload_row(mail_id, upload)
    if findings.quarantine is not None:
        batch.quarantines[mail_id] = quarantine_row(mail_id, findings.quarantine)
        hand.quarantined = True


def stage_contents(store: "MailStore", batch: Batch, mail: Mail, versions: Versions, new: NewFiles) -> LocalFiles:
    """Rows of content versions of a mail; returns their local files."""
    local = NO_FILES
    for version, content in versions:
        source, sealed = content.source, content.sealed
        cuts = encode(content.cuts) if content.cuts else None
        if _is_cut(mail, version, content):
            batch.contents.append((mail.id, version, "cuts", source.size, cuts, None, None, sealed))
            continue
        match source:
            case InlineOctets(octets) if (mail.id, version) in new.held:
                path = new.held[mail.id, version]
                local |= _named(path, sealed)
                batch.contents.append((mail.id, version, "file", len(octets), cuts, path.name, None, sealed))
            case InlineOctets(octets):
                if sealed:
                    local |= LocalFiles(has_sealed=True)
                batch.contents.append((mail.id, version, "inline", len(octets), cuts, None, octets, sealed))
            case FileOctets(text, size):
                descriptor, path = new.claimed.get(text), Path(text)
                if descriptor is None:
                    raise ValueError(f"{path} was not made by a sink of this spool, or has been claimed already")
                if store.keeps_files and path.parent == store.folder:
                    local |= _named(path, sealed)
                    batch.contents.append((mail.id, version, "file", size, cuts, path.name, None, sealed))
                else:  # a database that others have, or the file of a worker that is gone: the sink's is a cache
                    local |= LocalFiles(caches=(path,), has_sealed=sealed)
                    batch.contents.append((mail.id, version, "chunks", size, cuts, None, None, sealed))
                    _stage_chunks(batch, mail.id, version, descriptor, size)
    return local


def _named(path: Path, sealed: bool) -> LocalFiles:
    return LocalFiles(sealed=(path,), has_sealed=True) if sealed else LocalFiles(open=(path,))


def _stage_chunks(batch: Batch, mail_id: MailId, version: int, descriptor: int, size: int) -> None:
    for seq, offset in enumerate(range(0, size, CHUNK_OCTETS)):
        octets = os.pread(descriptor, min(CHUNK_OCTETS, size - offset), offset)
        batch.insert_chunk((mail_id, version, seq, octets))
