"""Taking mail whose content is kept, for an operator's command: what is in quarantine, and failed emails."""

from sqlalchemy import or_, select, update

from posthouse.core.mail import MailId, RecipientState
from posthouse.ports import Kept
from posthouse.storage import schema
from posthouse.storage.batch import Batch
from posthouse.storage.mail_store import MailStore
from posthouse.storage.rows import mail_from, quarantine_from, recipient_from, scan_from, upload_from
from posthouse.storage.taking import hand_of, load_contents


def take_kept(store: MailStore, batch: Batch, mail_id: MailId, command: int) -> Kept | None:
    """ports.Spool.take_kept for one store."""
    connection, m, q = batch.connection, schema.mail.c, schema.quarantine.c
    if mail_id in store.unsettled or (mail_id in store.hands and store.hands[mail_id].taken):
        return None
    row = connection.execute(
        select(schema.mail)
        .where(m.id == mail_id, or_(m.lease_owner.is_(None), m.lease_owner == store.owner))
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    # Read under the lock: another worker may have carried the command out between the look and the lock.
    obeyed = connection.scalar(select(schema.obeyed.c.command).where(schema.obeyed.c.mail_id == mail_id))
    quarantine = connection.execute(select(schema.quarantine).where(q.mail_id == mail_id)).one_or_none()
    failed = not row.open and row.kept_since is not None
    if (obeyed is not None and obeyed >= command) or (quarantine is None and not failed):
        return None
    hand = hand_of(store, batch, mail_id)
    contents, local = load_contents(store, batch, [mail_id])[mail_id]
    hand.files |= local
    store.read_again(batch, {mail_id: hand})
    hand.taken, hand.was_kept, hand.kept_since = True, not row.open, row.kept_since
    batch.taken.append(mail_id)
    connection.execute(update(schema.mail).where(m.id == mail_id).values(lease_owner=store.owner))
    of_mail = {
        table: connection.execute(
            select(table).where(table.c.mail_id == mail_id).order_by(*table.primary_key.columns)
        ).all()
        for table in (schema.recipient, schema.scan, schema.upload)
    }
    recipients = [recipient_from(r, RecipientState(r.state)) for r in of_mail[schema.recipient]]
    return Kept(
        mail_from(row, contents, recipients),
        quarantine_from(quarantine) if quarantine is not None else None,
        tuple(scan_from(scan) for scan in of_mail[schema.scan]),
        tuple(upload_from(upload) for upload in of_mail[schema.upload]),
    )


def give_back(store: MailStore, batch: Batch, mail_id: MailId) -> None:
    """ports.Spool.give_back for one store."""
    hand = store.hands.get(mail_id)
    if hand is None or not hand.taken:
        return
    if hand.stale:
        store.read_again(batch, {mail_id: hand})
    batch.used_hands.append(mail_id)
    hand.taken = False
    store.stage_state(batch, mail_id, hand)
