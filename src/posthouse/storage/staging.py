"""Rows of new mails, of content versions and of what scans found, made for a batch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from posthouse.core.mail import Content, FileOctets, InlineOctets, Mail, MailId, RecipientState, TrailEntry
from posthouse.ports import Findings
from posthouse.storage.batch import NO_FILES, Batch, Hand, LocalFiles
from posthouse.storage.new_files import NewFiles
from posthouse.storage.rows import encode, mail_row, quarantine_row, recipient_row, scan_row, trail_row, upload_row

if TYPE_CHECKING:
    from posthouse.storage.mail_store import MailStore

Versions = Sequence[tuple[int, Content]]
"""Content versions of a mail with their numbers."""
CHUNK_OCTETS = 1024 * 1024
"""Size of the rows that hold large content on PostgreSQL."""


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
        stage_findings(store, batch, mail.id, hand, findings)
    if active:
        store.hands[mail.id] = hand
        batch.new_hands.append(mail.id)
    else:
        batch.unlink.extend(local.caches)


def stage_findings(store: "MailStore", batch: Batch, mail_id: MailId, hand: Hand, findings: Findings) -> None:
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
