"""Operators' commands on the queue, and the end of failed emails' content."""

import math
from collections.abc import Iterable, Mapping

from sqlalchemy import ColumnElement, and_, bindparam, case, delete, exists, or_, select, update

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
KIND_OF = {
    "retry": "retried",
    "hold": "held",
    "release": "released",
    "reroute": "rerouted",
    "delete": "deleted",
}


AT_ONCE = 500
"""Recipients changed in one transaction, so that a command on a long queue does not hold up new mail."""

_r, _m, _c = schema.recipient.c, schema.mail.c, schema.content.c
_QUARANTINED = and_(_c.sealed, exists().where(schema.quarantine.c.mail_id == _c.mail_id))
"""Content that stays when all other content of its mail goes."""


def act(store: MailStore, batch: Batch, command: QueueCommand, now: float) -> Acted:
    """Carries out a command on up to AT_ONCE recipients; to be called again until it changes fewer.

    Done again it changes nothing, so that several workers may obey the same command, and one that starts later: mail
    that has come since is not its matter, unless the command names it.
    """
    rows = batch.connection.execute(
        select(_r.mail_id, _r.seq)
        .join_from(schema.recipient, schema.mail, _r.mail_id == _m.id)
        .where(*_conditions(store, command, now))
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)  # what another worker has just taken, or is changing, is left to it
    ).all()
    by_mail: dict[MailId, list[int]] = {}
    for mail_id, seq in rows:
        by_mail.setdefault(mail_id, []).append(seq)
    if not by_mail:
        return Acted(0)
    batch.connection.execute(
        update(schema.recipient)
        .where(_r.mail_id == bindparam("mail"), _r.seq == bindparam("number"))
        .values(**_values(command, now)),
        [{"mail": mail_id, "number": seq} for mail_id, seq in rows],
    )
    now_are = {mail_id: Hand({}) for mail_id in by_mail}
    store.read_again(batch, now_are)
    for mail_id, seqs in by_mail.items():
        detail: dict[str, object] = {"by": command.by, "recipients": sorted(seqs)}
        if command.kind == "reroute":
            detail["profile"] = command.target
        entry = TrailEntry(now, KIND_OF[command.kind], detail)
        batch.trail.append(trail_row(mail_id, now_are[mail_id].entries, entry))
        if mail_id in store.hands:
            store.hands[mail_id].stale = True
    # What is in hand without an ACTIVE recipient has been taken by `take_kept`: its row follows with that outcome.
    free = {i: hand for i, hand in now_are.items() if not hand.has(RecipientState.ACTIVE) and i not in store.hands}
    _settle(store, batch, free, now)
    return Acted(len(rows), tuple(by_mail))


def _conditions(store: MailStore, command: QueueCommand, now: float) -> Iterable[ColumnElement[bool]]:
    """Which recipients the command concerns, of mails that this worker leases or nobody does."""
    match command.kind:
        case "retry":
            wanted = or_(and_(schema.IS_DUE, _r.due_at > now), and_(schema.IS_UNSCANNED, _r.due_at > now))
        case "hold":
            wanted = or_(schema.IS_DUE, schema.IS_UNSCANNED)
        case "release":
            wanted = schema.IS_HELD
        case "reroute" | "delete":
            wanted = or_(schema.IS_DUE, schema.IS_UNSCANNED, schema.IS_HELD)
        case _:
            raise ValueError(f"no such command: {command.kind!r}")
    if command.mails and command.kind in ("retry", "reroute"):
        # A failed email may be opened again while its content is kept.
        # Its own version, that is: another one may be kept longer, for the quarantine.
        kept = exists().where(_c.mail_id == _r.mail_id, _c.version == _r.version, ~_c.sealed)
        wanted = or_(wanted, and_(_r.state == FAILED.value, kept))
    yield wanted
    yield or_(_m.lease_owner.is_(None), _m.lease_owner == store.owner)
    if command.kind == "reroute":
        yield or_(_r.profile != command.target, _r.state == FAILED.value)
    if command.mails:
        yield _r.mail_id.in_(command.mails)
    elif command.at != math.inf:
        yield _m.received_at <= command.at
    if command.profile:
        yield _r.profile == command.profile


def _values(command: QueueCommand, now: float) -> dict[str, object]:
    match command.kind:
        case "retry" | "release":
            return {"state": QUEUED.value, "due_at": now, "updated_at": now}
        case "hold":
            return {"state": HELD.value, "updated_at": now}
        case "reroute":  # what is held stays so
            state = case((_r.state == HELD.value, HELD.value), else_=QUEUED.value)
            return {"state": state, "profile": command.target, "due_at": now, "updated_at": now}
        case "delete":
            return {"state": DELETED.value, "updated_at": now, "detail": f"deleted by {command.by}"}
        case _:
            raise ValueError(f"no such command: {command.kind!r}")


def _settle(store: MailStore, batch: Batch, mails: Mapping[MailId, Hand], now: float) -> None:
    """The rows of mails after a command; none of them has a recipient in memory."""
    if not mails:
        return
    batch.connection.execute(
        update(schema.mail)
        .where(_m.id == bindparam("mail"))
        .values(open=bindparam("now_open"), kept_since=bindparam("since")),
        [
            {
                "mail": mail_id,
                "now_open": hand.open,
                "since": now if hand.has(FAILED) and not hand.open else None,
            }
            for mail_id, hand in mails.items()
        ],
    )
    ended = [i for i, hand in mails.items() if not hand.open and not hand.has(FAILED)]
    store.forget_contents(batch, ended, ~_QUARANTINED)


def purge(store: MailStore, batch: Batch, now: float, before: float) -> int:
    """ports.Spool.purge for one store; at most AT_ONCE failed emails, older than `before`, and as many mails in
    quarantine at a time. Not of mails that are leased: an operator's command is under way."""
    return _purge_failed(store, batch, before) + _purge_quarantine(store, batch, now)


def _purge_failed(store: MailStore, batch: Batch, before: float) -> int:
    gone = batch.connection.scalars(
        select(_m.id)
        .where(_m.kept_since.is_not(None), _m.kept_since < before, _m.lease_owner.is_(None))
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)  # an operator may be opening it again
    ).all()
    store.forget_contents(batch, [MailId(mail_id) for mail_id in gone], ~_QUARANTINED)
    batch.connection.execute(update(schema.mail).where(_m.id.in_(gone)).values(kept_since=None))
    return len(gone)


def _purge_quarantine(store: MailStore, batch: Batch, now: float) -> int:
    q = schema.quarantine.c
    expired = batch.connection.scalars(
        select(_m.id)
        .join_from(schema.quarantine, schema.mail, q.mail_id == _m.id)
        .where(~q.pinned, q.expires_at < now, _m.lease_owner.is_(None))
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    gone = [MailId(mail_id) for mail_id in expired]
    store.forget_contents(batch, gone, _c.sealed)
    batch.connection.execute(delete(schema.quarantine).where(q.mail_id.in_(gone)))
    passing = {mail_id: Hand({}) for mail_id in gone}
    store.read_again(batch, passing)
    for mail_id, hand in passing.items():
        entry = TrailEntry(now, "forgotten", {"by": "retention", "why": "its time in quarantine is over"})
        batch.trail.append(trail_row(mail_id, hand.entries, entry))
    return len(gone)
