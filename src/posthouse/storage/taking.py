"""Taking mail from the queue: what is due, and what a dead owner left."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, String, and_, cast, literal_column, or_, select, text, update

from posthouse.core.mail import (
    Content,
    FileOctets,
    InlineOctets,
    Mail,
    MailId,
    RecipientState,
    TrailEntry,
)
from posthouse.storage import files, schema
from posthouse.storage.batch import Batch, Hand
from posthouse.storage.mail_store import MailStore
from posthouse.storage.rows import cuts_from, mail_from, recipient_from, trail_row

# Literals, so that the partial indexes serve.
IS_QUEUED = schema.recipient.c.state == literal_column("'queued'")
IS_ACTIVE = schema.recipient.c.state == literal_column("'active'")

# A loose index scan: one step of recipient_due for each profile, however many rows it has.
_NEXT_DUE = text("""
WITH RECURSIVE hop(profile) AS (
    SELECT min(profile) FROM recipient WHERE state = 'queued'
    UNION ALL
    SELECT (SELECT min(r.profile) FROM recipient r WHERE r.state = 'queued' AND r.profile > hop.profile)
    FROM hop WHERE hop.profile IS NOT NULL
)
SELECT profile, (SELECT min(r.due_at) FROM recipient r WHERE r.state = 'queued' AND r.profile = hop.profile)
FROM hop WHERE profile IS NOT NULL
""")


def next_due(batch: Batch) -> dict[str, float]:
    """The earliest due_at of each profile with QUEUED recipients."""
    return {profile: due_at for profile, due_at in batch.connection.execute(_NEXT_DUE) if due_at is not None}


def take_due(store: MailStore, batch: Batch, profile: str, now: float, limit: int, octets: int) -> list[Mail]:
    """ports.Spool.take_due for one store."""
    connection, r, m = batch.connection, schema.recipient.c, schema.mail.c
    # Locked in the order of due_at: mails that other workers have or are taking do not use up the limit.
    due = connection.execute(
        select(r.mail_id)
        .join_from(schema.recipient, schema.mail, r.mail_id == m.id)
        .where(IS_QUEUED, r.profile == profile, r.due_at <= now)
        .where(or_(m.lease_owner.is_(None), m.lease_owner == store.owner))
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
    mine = and_(r.mail_id.in_(chosen), IS_QUEUED, r.profile == profile, r.due_at <= now)
    recipients: dict[MailId, list[Any]] = {}
    for row in connection.execute(select(schema.recipient).where(mine).order_by(r.mail_id, r.seq)):
        recipients.setdefault(row.mail_id, []).append(row)
    connection.execute(
        update(schema.recipient).where(mine).values(state=RecipientState.ACTIVE.value, updated_at=batch.now)
    )
    connection.execute(update(schema.mail).where(m.id.in_(chosen)).values(lease_owner=store.owner))
    contents = load_contents(store, batch, chosen)
    new = {mail_id: Hand({}, contents[mail_id][1]) for mail_id in chosen if mail_id not in store.hands}
    again = {mail_id: store.hands.get(mail_id) or new[mail_id] for mail_id in chosen}
    store.read_again(batch, again)
    store.hands.update(new)
    batch.new_hands.extend(new)
    batch.used_hands.extend(mail_id for mail_id in chosen if mail_id not in new)
    return [
        mail_from(
            rows[mail_id],
            contents[mail_id][0],
            [recipient_from(row, RecipientState.ACTIVE) for row in recipients.get(mail_id, [])],
        )
        for mail_id in chosen
    ]


def _inline_sizes(batch: Batch, ids: Sequence[MailId]) -> dict[MailId, int]:
    c = schema.content.c
    found = batch.connection.execute(
        select(c.mail_id, c.size).where(c.mail_id.in_(ids), c.version == 0, c.kind == "inline")
    )
    return {row.mail_id: row.size for row in found}


def load_contents(
    store: MailStore, batch: Batch, ids: Sequence[MailId]
) -> dict[MailId, tuple[tuple[Content, ...], tuple[Path, ...]]]:
    """The content versions of mails, and their local files."""
    c = schema.content.c
    found: dict[MailId, list[Content]] = {mail_id: [] for mail_id in ids}
    local: dict[MailId, list[Path]] = {mail_id: [] for mail_id in ids}
    for row in batch.connection.execute(
        select(schema.content).where(c.mail_id.in_(ids)).order_by(c.mail_id, c.version)
    ):
        mail_id, cuts = row.mail_id, cuts_from(row.cuts)
        source: InlineOctets | FileOctets
        match row.kind:
            case "cuts":
                source = found[mail_id][0].source
            case "inline":
                source = InlineOctets(bytes(row.octets))
            case "file":
                source = FileOctets(str(store.folder / row.file), row.size)
                local[mail_id].append(store.folder / row.file)
            case "chunks":
                path = store.folder / f"{mail_id}-{row.version}"
                _materialise(batch, mail_id, row.version, path)
                source = FileOctets(str(path), row.size)
                local[mail_id].append(path)
            case _:
                raise ValueError(f"content of kind {row.kind!r}")
        found[mail_id].append(Content(source, cuts))
    return {mail_id: (tuple(found[mail_id]), tuple(local[mail_id])) for mail_id in ids}


def _materialise(batch: Batch, mail_id: MailId, version: int, path: Path) -> None:
    """Writes chunk rows to a local file, one chunk in memory at a time. A cache: it need not be synced."""
    k = schema.content_chunk.c
    last = batch.connection.execute(
        select(k.seq).where(k.mail_id == mail_id, k.version == version).order_by(k.seq.desc()).limit(1)
    ).scalar()
    with open(path, "wb") as file:
        for seq in range(0 if last is None else last + 1):
            octets = batch.connection.execute(
                select(k.octets).where(k.mail_id == mail_id, k.version == version, k.seq == seq)
            ).scalar_one()
            files.write_all(file.fileno(), bytes(octets))


def take_back(store: MailStore, batch: Batch, now: float) -> int:
    """ports.Spool.take_back for one store. Mails in hand are not touched."""
    connection, r, m = batch.connection, schema.recipient.c, schema.mail.c
    if store.keeps_files:
        dead: ColumnElement[bool] = m.lease_owner.is_not(None)  # the file lock is ours, so every other owner is dead
    else:
        lease = schema.lease.c
        node, boot = store.owner.split("/", 1)[0], store.owner.rsplit("/", 1)[1]
        alive = select(lease.owner).where(lease.lease_until >= now)
        dead = and_(
            m.lease_owner.is_not(None),
            m.lease_owner != store.owner,
            or_(
                m.lease_owner.not_in(alive),
                and_(
                    m.lease_owner.startswith(f"{node}/", autoescape=True),
                    ~m.lease_owner.endswith(f"/{boot}", autoescape=True),
                ),
            ),
        )
    found = connection.execute(
        select(m.id, cast(m.lease_owner, String)).where(dead).with_for_update(skip_locked=True)
    ).all()
    left = {mail_id: owner for mail_id, owner in found if mail_id not in store.hands}
    if not left:
        return 0
    ids = list(left)
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        connection.execute(
            update(schema.recipient)
            .where(r.mail_id.in_(some), IS_ACTIVE)
            .values(state=RecipientState.QUEUED.value, due_at=now, updated_at=now)
        )
        connection.execute(update(schema.mail).where(m.id.in_(some)).values(lease_owner=None))
        passing = {mail_id: Hand({}, ()) for mail_id in some}
        store.read_again(batch, passing)
        for mail_id, hand in passing.items():
            entry = TrailEntry(now, "taken-over", {"by": store.owner, "from": left[mail_id]})
            batch.trail.append(trail_row(mail_id, hand.entries, entry))
    return len(ids)
