"""Lists of mail whose content is kept, and what scans said of mails: one store's part of ports.History."""

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, and_, exists, func, not_, select

from posthouse.core.mail import RecipientState
from posthouse.core.scan import Verdict, strictest
from posthouse.ports import KeptQuery
from posthouse.storage import schema

_STRICTNESS = list(Verdict)


def quarantined_ids(connection: Connection, query: KeptQuery) -> list[str]:
    """Of mails in quarantine, newest first."""
    q, m = schema.quarantine.c, schema.mail.c
    conditions = [*_of_mail(query), *_within(query, q.at)]
    if query.rule:
        conditions.append(func.lower(q.rule) == query.rule.lower())
    if query.cause:
        conditions.append(q.cause == query.cause)
    if query.pinned is not None:
        conditions.append(q.pinned if query.pinned else ~q.pinned)
    if query.recipient:
        conditions.append(_sent_to(query.recipient))
    if query.before:
        conditions.append(q.mail_id < query.before)
    found = select(q.mail_id).join_from(schema.quarantine, schema.mail, q.mail_id == m.id).where(*conditions)
    return list(connection.scalars(found.order_by(q.mail_id.desc()).limit(query.limit)))


def failed_ids(connection: Connection, query: KeptQuery) -> list[str]:
    """Of failed emails whose content is kept, newest first."""
    m, r = schema.mail.c, schema.recipient.c
    conditions = [m.kept_since.is_not(None), *_of_mail(query), *_within(query, m.kept_since)]
    if query.rule:
        failed = and_(r.mail_id == m.id, r.state == RecipientState.FAILED.value)
        conditions.append(exists().where(failed, func.lower(r.rule) == query.rule.lower()))
    if query.recipient:
        conditions.append(_sent_to(query.recipient))
    if query.before:
        conditions.append(m.id < query.before)
    return list(connection.scalars(select(m.id).where(*conditions).order_by(m.id.desc()).limit(query.limit)))


def _of_mail(query: KeptQuery) -> Iterable[ColumnElement[bool]]:
    m = schema.mail.c
    if query.sender:
        yield m.reverse_path.icontains(query.sender, autoescape=True)
    if query.subject:
        yield m.subject.icontains(query.subject, autoescape=True)


def _within(query: KeptQuery, at: ColumnElement[float]) -> Iterable[ColumnElement[bool]]:
    if query.since is not None:
        yield at >= query.since
    if query.until is not None:
        yield at < query.until


def _sent_to(part: str) -> ColumnElement[bool]:
    r, m = schema.recipient.c, schema.mail.c
    return exists().where(r.mail_id == m.id, r.address.icontains(part, autoescape=True))


def verdicts(connection: Connection, mail_ids: Sequence[str]) -> dict[str, str]:
    """The strictest of the scans of each mail that has been scanned."""
    s = schema.scan.c
    said: dict[str, list[Verdict]] = {}
    for mail_id, verdict in connection.execute(
        select(s.mail_id, s.verdict).where(s.mail_id.in_(mail_ids)).distinct()
    ):
        said.setdefault(mail_id, []).append(Verdict(verdict))
    return {mail_id: strictest(found).value for mail_id, found in said.items()}


def of_verdict(verdict: str) -> ColumnElement[bool]:
    """Mails of which this is the strictest."""
    s, m = schema.scan.c, schema.mail.c
    stricter = [v.value for v in _STRICTNESS[_STRICTNESS.index(Verdict(verdict)) + 1 :]]
    of_mail = s.mail_id == m.id
    return and_(exists().where(of_mail, s.verdict == verdict), not_(exists().where(of_mail, s.verdict.in_(stricter))))


def quarantine_rows(connection: Connection, mail_ids: Sequence[str]) -> dict[str, dict[str, object]]:
    q = schema.quarantine.c
    found: dict[str, dict[str, object]] = {}
    for row in connection.execute(select(schema.quarantine).where(q.mail_id.in_(mail_ids))):
        values = dict(row._mapping)
        mail_id = values.pop("mail_id")
        found[mail_id] = {**values, "pinned": bool(values["pinned"])}
    return found
