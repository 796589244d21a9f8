"""Taking mail from the queue: what is due, and what a dead owner left."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, and_, literal_column, or_, select, text, tuple_, update

from posthouse.core.mail import (
    GONE,
    Content,
    FileOctets,
    InlineOctets,
    Mail,
    MailId,
    RecipientState,
    TrailEntry,
)
from posthouse.ports import Age
from posthouse.storage import files, leases, schema
from posthouse.storage.batch import NO_FILES, Batch, Hand, LocalFiles
from posthouse.storage.content import TEMPORARY
from posthouse.storage.mail_store import MailStore
from posthouse.storage.rows import cuts_from, mail_from, recipient_from, trail_row

# In [0, 1), another for each row.
_CHANCE_SQLITE = literal_column("((random() & 1073741823) / 1073741824.0)", Double)
_CHANCE_POSTGRESQL = literal_column("random()", Double)

# A loose index scan: one step of recipient_due for each profile, however many rows it has.
_NEXT_DUE = text("""
WITH RECURSIVE hop(profile) AS (
    SELECT min(profile) FROM recipient WHERE state = 'queued' AND stage = 'relay'
    UNION ALL
    SELECT (
        SELECT min(r.profile) FROM recipient r
        WHERE r.state = 'queued' AND r.stage = 'relay' AND r.profile > hop.profile
    )
    FROM hop WHERE hop.profile IS NOT NULL
)
SELECT profile, (
    SELECT min(r.due_at) FROM recipient r
    WHERE r.state = 'queued' AND r.stage = 'relay' AND r.profile = hop.profile
)
FROM hop WHERE profile IS NOT NULL
""")


def next_due(batch: Batch) -> dict[str, float]:
    """The earliest due_at of each profile with recipients QUEUED to be relayed."""
    return {profile: due_at for profile, due_at in batch.connection.execute(_NEXT_DUE) if due_at is not None}


def take_due(
    store: MailStore, batch: Batch, profile: str, now: float, limit: int, octets: int, age: Age | None = None
) -> list[Mail]:
    """ports.Spool.take_due for one store."""
    r = schema.recipient.c
    return _take(store, batch, and_(schema.IS_DUE, r.profile == profile, r.due_at <= now), limit, octets, age)


def take_unscanned(
    store: MailStore, batch: Batch, now: float, limit: int, octets: int, age: Age | None = None
) -> list[Mail]:
    """ports.Spool.take_unscanned for one store."""
    return _take(store, batch, and_(schema.IS_UNSCANNED, schema.recipient.c.due_at <= now), limit, octets, age)


def _take(
    store: MailStore, batch: Batch, wanted: ColumnElement[bool], limit: int, octets: int, age: Age | None
) -> list[Mail]:
    """`wanted`: which recipients, QUEUED ones, by their own columns."""
    connection, r, m = batch.connection, schema.recipient.c, schema.mail.c
    # Locked in the order of due_at: mails that other workers have or are taking do not use up the limit.
    due = connection.execute(
        select(r.mail_id)
        .join_from(schema.recipient, schema.mail, r.mail_id == m.id)
        .where(wanted)
        .where(or_(m.lease_owner.is_(None), m.lease_owner == store.owner), *_of_age(age))
        .where(*([m.id.not_in(store.unsettled)] if store.unsettled else []))
        .order_by(r.due_at)
        .limit(limit * 2)
        .with_for_update(skip_locked=True)
    ).scalars()
    ids = list(dict.fromkeys(due))[:limit]
    if not ids:
        return []
    rows = {row.id: row for row in connection.execute(select(schema.mail).where(m.id.in_(ids)))}
    sizes = _inline_sizes(batch, list(rows))
    chosen: list[MailId] = []
    taken = 0
    for mail_id in ids:
        if mail_id in rows:
            taken += sizes.get(mail_id, 0)
            if chosen and taken > octets:
                break
            chosen.append(mail_id)
    mine = and_(r.mail_id.in_(chosen), wanted)
    recipients: dict[MailId, list[Any]] = {}
    for row in connection.execute(select(schema.recipient).where(mine).order_by(r.mail_id, r.seq)):
        recipients.setdefault(row.mail_id, []).append(row)
    # Another worker may have taken, ended and let go a mail between the look and the lock.
    chosen = [mail_id for mail_id in chosen if mail_id in recipients]
    connection.execute(
        update(schema.recipient).where(mine).values(state=RecipientState.ACTIVE.value, updated_at=batch.now)
    )
    connection.execute(update(schema.mail).where(m.id.in_(chosen)).values(lease_owner=store.owner))
    hands = {mail_id: hand_of(store, batch, mail_id) for mail_id in chosen}
    contents = load_contents(store, batch, chosen)
    for mail_id, hand in hands.items():
        hand.files |= contents[mail_id][1]
    store.read_again(batch, hands)
    return [
        mail_from(
            rows[mail_id],
            contents[mail_id][0],
            [recipient_from(row, RecipientState.ACTIVE) for row in recipients.get(mail_id, [])],
        )
        for mail_id in chosen
    ]


def _of_age(age: Age | None) -> Iterable[ColumnElement[bool]]:
    if age is not None:
        r, received_at = schema.recipient.c, schema.mail.c.received_at
        yield or_(received_at < age.before, and_(~r.delay_told, received_at < age.untold_before))


def hand_of(store: MailStore, batch: Batch, mail_id: MailId) -> Hand:
    """The mail's hand: another part of it may be in memory already, or have been let go in this very batch."""
    found = store.hands.get(mail_id)
    if found is None:
        store.hands[mail_id] = hand = Hand({})
        batch.new_hands.append(mail_id)
        return hand
    batch.used_hands.append(mail_id)
    if found.released:
        found.released = False
        batch.unlink = [path for path in batch.unlink if path not in found.files.all]
    return found


def _inline_sizes(batch: Batch, ids: Sequence[MailId]) -> dict[MailId, int]:
    c = schema.content.c
    found = batch.connection.execute(
        select(c.mail_id, c.size).where(c.mail_id.in_(ids), c.version == 0, c.kind == "inline")
    )
    return {row.mail_id: row.size for row in found}


def load_contents(
    store: MailStore, batch: Batch, ids: Sequence[MailId]
) -> dict[MailId, tuple[tuple[Content, ...], LocalFiles]]:
    """The content versions of mails, and their local files."""
    c = schema.content.c
    found: dict[MailId, list[Content]] = {mail_id: [] for mail_id in ids}
    local = dict.fromkeys(ids, NO_FILES)
    for row in batch.connection.execute(
        select(schema.content).where(c.mail_id.in_(ids)).order_by(c.mail_id, c.version)
    ):
        mail_id, cuts, sealed = row.mail_id, cuts_from(row.cuts), bool(row.sealed)
        found[mail_id] += [GONE] * (row.version - len(found[mail_id]))
        if sealed:
            local[mail_id] |= LocalFiles(has_sealed=True)
        source: InlineOctets | FileOctets
        match row.kind:
            case "cuts":
                source = found[mail_id][0].source
            case "inline":
                source = InlineOctets(bytes(row.octets))
            case "file":
                path = store.folder / row.file
                source = FileOctets(str(path), row.size)
                local[mail_id] |= LocalFiles(sealed=(path,)) if sealed else LocalFiles(open=(path,))
            case "chunks":
                path = store.folder / f"{mail_id}-{row.version}"
                if not path.exists():
                    _materialise(batch, mail_id, row.version, path)
                source = FileOctets(str(path), row.size)
                local[mail_id] |= LocalFiles(caches=(path,))
            case _:
                raise ValueError(f"content of kind {row.kind!r}")
        found[mail_id].append(Content(source, cuts, sealed))
    return {mail_id: (tuple(found[mail_id]), local[mail_id]) for mail_id in ids}


def _materialise(batch: Batch, mail_id: MailId, version: int, path: Path) -> None:
    """Writes chunk rows to a local file, one chunk in memory at a time. A cache: it need not be synced."""
    k = schema.content_chunk.c
    last = batch.connection.execute(
        select(k.seq).where(k.mail_id == mail_id, k.version == version).order_by(k.seq.desc()).limit(1)
    ).scalar()
    temporary = path.with_name(TEMPORARY + path.name)
    written = 0
    with open(temporary, "wb") as file:
        for seq in range(0 if last is None else last + 1):
            octets = batch.connection.execute(
                select(k.octets).where(k.mail_id == mail_id, k.version == version, k.seq == seq)
            ).scalar_one()
            files.write_all(file.fileno(), bytes(octets), written)
            written += len(octets)
    files.rename(temporary, path)


def take_back(store: MailStore, batch: Batch, now: float) -> int:
    """ports.Spool.take_back for one store. Mails in hand are not touched; what is leased in this worker's name and
    not in hand was left by an earlier process, or by a commit that took place unseen."""
    connection, r, m = batch.connection, schema.recipient.c, schema.mail.c
    dead: ColumnElement[bool] = m.lease_owner.is_not(None)  # the file lock is ours, so every other owner is dead
    if not store.keeps_files:
        leases.lock(connection)
        leases.bury(connection, store.owner)
        dead = leases.left_behind(store.owner)
    found = [mail_id for mail_id in connection.scalars(select(m.id).where(dead)) if mail_id not in store.hands]
    left: dict[MailId, str] = {}
    for start in range(0, len(found), 500):
        some = found[start : start + 500]
        locked = select(m.id, m.lease_owner).where(m.id.in_(some), m.lease_owner.is_not(None))
        left |= dict(connection.execute(locked.with_for_update(skip_locked=True)).all())
    if not left:
        return 0
    ids = list(left)
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        connection.execute(
            update(schema.recipient)
            .where(r.mail_id.in_(some), schema.IS_ACTIVE)
            .values(state=RecipientState.QUEUED.value, due_at=now, updated_at=now)
        )
        connection.execute(update(schema.mail).where(m.id.in_(some)).values(lease_owner=None))
        passing = {mail_id: Hand({}) for mail_id in some}
        store.read_again(batch, passing)
        for mail_id, hand in passing.items():
            entry = TrailEntry(now, "taken-over", {"by": store.owner, "from": left[mail_id]})
            batch.trail.append(trail_row(mail_id, hand.entries, entry))
    return len(ids)


def wake(store: MailStore, batch: Batch, profile: str, now: float, seconds: float, most: int) -> int:
    """ports.Spool.wake for one store and profile, in one statement; to be called again until it wakes fewer than
    `most`. What is woken leaves the range that is looked at, so each further call begins at the next one.
    """
    r, m = schema.recipient.c, schema.mail.c
    deferred = (
        select(r.mail_id, r.seq)
        .join_from(schema.recipient, schema.mail, r.mail_id == m.id)
        .where(schema.IS_DUE, schema.IS_SERVERS_FAULT, r.profile == profile, r.due_at > now + seconds)
        .where(or_(m.lease_owner.is_(None), m.lease_owner == store.owner))
        .order_by(r.due_at)  # as the index has them: whatever the statistics say, no planner reads a history for it
        .limit(most)
        .with_for_update(skip_locked=True)  # what another worker is taking or waking is left to it
    )
    chance = _CHANCE_SQLITE if store.database.sqlite else _CHANCE_POSTGRESQL
    return batch.connection.execute(
        update(schema.recipient)
        .where(tuple_(r.mail_id, r.seq).in_(deferred))
        .values(due_at=now + seconds * chance, updated_at=now)
    ).rowcount


def holds_mail(connection: Connection) -> bool:
    """Whether a recipient waits or is held, a mail is leased, or the content of one is kept: one step in an index
    each."""
    r, m = schema.recipient.c, schema.mail.c
    looks = (
        select(r.seq).where(schema.IS_DUE),
        select(r.seq).where(schema.IS_UNSCANNED),
        select(r.seq).where(schema.IS_HELD),
        select(m.id).where(m.lease_owner.is_not(None)),
        select(m.id).where(m.kept_since.is_not(None)),
        select(schema.quarantine.c.mail_id),
    )
    return any(connection.execute(look.limit(1)).first() is not None for look in looks)
