"""Operators' commands on the queue, and the end of failed emails' content."""

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, update

from posthouse.core.mail import MailId, RecipientState, TrailEntry
from posthouse.ports import Acted, QueueCommand
from posthouse.storage import schema
from posthouse.storage.batch import Batch, Hand
from posthouse.storage.mail_store import MailStore
from posthouse.storage.rows import trail_row

QUEUED, HELD, FAILED, DELETED = (
    RecipientState.QUEUED,
    RecipientState.HELD,
    RecipientState.FAILED,
    RecipientState.DELETED,
)
_FROM: dict[str, tuple[RecipientState, ...]] = {
    "retry": (QUEUED,),
    "hold": (QUEUED,),
    "release": (HELD,),
    "reroute": (QUEUED, HELD),
    "delete": (QUEUED, HELD),
}
_KIND = {
    "retry": "retried",
    "hold": "held",
    "release": "released",
    "reroute": "rerouted",
    "delete": "deleted",
}


AT_ONCE = 500
"""Recipients changed in one transaction, so that a command on a long queue does not hold up new mail."""


def act(store: MailStore, batch: Batch, command: QueueCommand, now: float) -> Acted:
    """Carries out a command on up to AT_ONCE recipients; to be called again until it changes none."""
    r, m = schema.recipient.c, schema.mail.c
    states = _FROM[command.kind]
    wanted: ColumnElement[bool] = r.state.in_([state.value for state in states])
    if command.mails and command.kind in ("retry", "reroute"):
        # A failed email may be opened again while its content is kept.
        kept = exists().where(schema.content.c.mail_id == r.mail_id)
        wanted = or_(wanted, and_(r.state == FAILED.value, kept))
    conditions = [wanted, or_(m.lease_owner.is_(None), m.lease_owner == store.owner)]
    if command.kind == "retry":
        conditions.append(or_(r.due_at > now, r.state == FAILED.value))
    if command.kind == "reroute":
        conditions.append(r.profile != command.target)
    if command.mails:
        conditions.append(r.mail_id.in_(command.mails))
    if command.profile:
        conditions.append(r.profile == command.profile)
    rows = batch.connection.execute(
        select(r.mail_id, r.seq, r.state)
        .join_from(schema.recipient, schema.mail, r.mail_id == m.id)
        .where(*conditions)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)  # what another worker has just taken, or is changing, is left to it
    ).all()
    values = _values(command, now)
    by_mail: dict[MailId, list[int]] = {}
    for row in rows:
        by_mail.setdefault(row.mail_id, []).append(row.seq)
    for mail_id, seqs in by_mail.items():
        batch.connection.execute(
            update(schema.recipient).where(r.mail_id == mail_id, r.seq.in_(seqs)).values(**values)
        )
        hand = store.hands.get(mail_id)
        if hand is not None:
            hand.stale = True
        passing = Hand({}, ())
        store.read_again(batch, {mail_id: passing})
        detail: dict[str, object] = {"by": command.by, "recipients": seqs}
        if command.kind == "reroute":
            detail["profile"] = command.target
        entry = TrailEntry(now, _KIND[command.kind], detail)
        batch.connection.execute(
            schema.trail.insert().values(
                dict(zip(schema.trail.c.keys(), trail_row(mail_id, passing.entries, entry), strict=True))
            )
        )
        if hand is None:
            _settle(store, batch, mail_id, passing, now)
    return Acted(len(rows), tuple(by_mail))


def _values(command: QueueCommand, now: float) -> dict[str, object]:
    match command.kind:
        case "retry" | "release":
            return {"state": QUEUED.value, "due_at": now, "updated_at": now}
        case "hold":
            return {"state": HELD.value, "updated_at": now}
        case "reroute":
            return {"state": QUEUED.value, "profile": command.target, "due_at": now, "updated_at": now}
        case "delete":
            return {"state": DELETED.value, "updated_at": now, "detail": f"deleted by {command.by}"}
        case _:
            raise ValueError(f"no such command: {command.kind!r}")


def _settle(store: MailStore, batch: Batch, mail_id: MailId, hand: Hand, now: float) -> None:
    """The mail's row after a command, for a mail that nobody has in hand."""
    failed = hand.has(FAILED)
    batch.connection.execute(
        update(schema.mail)
        .where(schema.mail.c.id == mail_id)
        .values(open=hand.open, kept_since=now if failed and not hand.open else None)
    )
    if not hand.open and not failed:
        forget_content(store, batch, mail_id)


def forget_content(store: MailStore, batch: Batch, mail_id: MailId) -> None:
    """Content rows now, files after the commit."""
    c = schema.content.c
    names = batch.connection.execute(select(c.file).where(c.mail_id == mail_id, c.file.is_not(None))).scalars()
    batch.unlink.extend(store.folder / name for name in names)
    batch.connection.execute(delete(schema.content).where(c.mail_id == mail_id))
    batch.connection.execute(delete(schema.content_chunk).where(schema.content_chunk.c.mail_id == mail_id))


def purge(store: MailStore, batch: Batch, before: float) -> int:
    """ports.Spool.purge for one store; at most 1000 at a time."""
    m = schema.mail.c
    ids = batch.connection.execute(
        select(m.id)
        .where(m.kept_since.is_not(None), m.kept_since < before)
        .limit(1000)
        .with_for_update(skip_locked=True)  # an operator may be opening it again
    ).scalars()
    gone = list(ids)
    for mail_id in gone:
        forget_content(store, batch, mail_id)
        batch.connection.execute(update(schema.mail).where(m.id == mail_id).values(kept_since=None))
    return len(gone)
