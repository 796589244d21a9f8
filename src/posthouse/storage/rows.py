"""Between the values of `core.mail` and table rows, both ways.

The tuples follow the order of the columns in `schema`; `statements` checks that once per start.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import lru_cache

from sqlalchemy import Row

from posthouse.core.envelope import Body, SessionFacts
from posthouse.core.mail import (
    AttemptRow,
    Content,
    Deferral,
    Mail,
    MailId,
    MailRecipient,
    QuarantineRow,
    RecipientState,
    ScanRow,
    Stage,
    TrailEntry,
    UploadRow,
    UploadState,
)
from posthouse.core.way import WayFacts

RowTuple = tuple[object, ...]
encode = json.JSONEncoder(separators=(",", ":")).encode
_SESSION_FIELDS = frozenset(f.name for f in fields(SessionFacts))


def text(value: str) -> str:
    """`value` as every database takes it: no NUL, no lone surrogates. For text from headers and replies."""
    if value.isascii():
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in value else value
    return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def session_json(session: SessionFacts) -> str:
    return encode(
        {
            "client_address": session.client_address,
            "client_port": session.client_port,
            "helo": session.helo,
            "protocol": session.protocol,
            "listener": session.listener,
            "tls": session.tls,
            "trusted": session.trusted,
            "peer_address": session.peer_address,
        }
    )


def mail_row(mail: Mail, session: str, *, is_open: bool, kept_since: float | None, owner: str | None) -> RowTuple:
    return (
        mail.id,
        mail.received_at,
        session,
        mail.reverse_path,
        mail.body.value,
        mail.smtputf8,
        mail.ret,
        mail.envid,
        mail.trace_field,
        mail.size,
        text(mail.subject),
        text(mail.message_id),
        mail.own,
        is_open,
        kept_since,
        owner,
    )


def recipient_row(mail_id: MailId, r: MailRecipient, now: float) -> RowTuple:
    return (
        mail_id,
        r.seq,
        r.address,
        r.rule,
        r.profile,
        r.version,
        r.state.value,
        r.stage.value,
        r.due_at,
        r.tries,
        r.waits,
        r.deferral.value,
        r.delay_told,
        r.uncertain_at,
        r.notify,
        r.orcpt,
        text(r.detail),
        now,
    )


def attempt_row(mail_id: MailId, n: int, a: AttemptRow) -> RowTuple:
    return (
        mail_id,
        n,
        a.started_at,
        a.seconds,
        a.profile,
        a.server,
        encode(a.order),
        a.outcome,
        text(a.summary),
        encode(a.replies),
        encode(a.transcript) if a.transcript else "[]",
        encode(a.marks) if a.marks else "[]",
        way_json(a.way) if a.way is not None else None,
        a.mail_number,
    )


@lru_cache(maxsize=1024)
def way_json(way: WayFacts) -> str:
    """Made once for each connection in use: a kept one carries many mails."""
    return encode(
        {
            "local": way.local,
            "remote": way.remote,
            "tls": way.tls,
            "certificate": way.certificate.value,
            "login": text(way.login),
        }
    )


def trail_row(mail_id: MailId, n: int, entry: TrailEntry) -> RowTuple:
    return (mail_id, n, entry.at, entry.kind, encode(entry.detail))


def scan_row(mail_id: MailId, n: int, s: ScanRow) -> RowTuple:
    return (
        mail_id,
        n,
        s.at,
        s.rule,
        s.profile,
        s.server,
        text(s.path),
        s.part,
        text(s.name),
        s.size,
        s.sha256,
        s.verdict,
        text(s.threat),
        text(s.reason),
        s.failure,
        text(s.data_id),
        text(s.batch_id),
        s.cached,
        text(encode(s.engines)) if s.engines else "[]",
    )


def scan_from(row: Row[tuple[object, ...]]) -> ScanRow:
    m = dict(row._mapping)
    engines = tuple((engine, result, threat) for engine, result, threat in json.loads(m["engines"]))
    kept = {f.name: m[f.name] for f in fields(ScanRow)}
    return ScanRow(**{**kept, "cached": bool(m["cached"]), "engines": engines})


def upload_row(mail_id: MailId, u: UploadRow) -> RowTuple:
    return (
        mail_id,
        u.rule,
        u.part,
        u.profile,
        text(u.name),
        u.size,
        u.state.value,
        u.at,
        u.tries,
        text(u.url),
        text(u.file_id),
        text(u.why),
    )


def upload_from(row: Row[tuple[object, ...]]) -> UploadRow:
    m = row._mapping
    return UploadRow(**{**{f.name: m[f.name] for f in fields(UploadRow)}, "state": UploadState(m["state"])})


def quarantine_row(mail_id: MailId, q: QuarantineRow) -> RowTuple:
    return (mail_id, q.at, q.cause, text(q.why), q.rule, q.expires_at, q.pinned)


def quarantine_from(row: Row[tuple[object, ...]]) -> QuarantineRow:
    m = row._mapping
    return QuarantineRow(m["at"], m["cause"], m["why"], m["rule"], m["expires_at"], bool(m["pinned"]))


def cuts_from(value: str | None) -> tuple[tuple[int, int], ...]:
    return tuple((start, end) for start, end in json.loads(value)) if value else ()


def recipient_from(row: Row[tuple[object, ...]], state: RecipientState) -> MailRecipient:
    """The recipient of a row of `schema.recipient`, in `state`."""
    m = row._mapping
    return MailRecipient(
        seq=m["seq"],
        address=m["address"],
        rule=m["rule"],
        profile=m["profile"],
        version=m["version"],
        state=state,
        stage=Stage(m["stage"]),
        due_at=m["due_at"],
        tries=m["tries"],
        waits=m["waits"],
        deferral=Deferral(m["deferral"]),
        delay_told=bool(m["delay_told"]),
        uncertain_at=m["uncertain_at"],
        notify=m["notify"],
        orcpt=m["orcpt"],
        detail=m["detail"],
    )


def session_from(value: str) -> SessionFacts:
    facts: Mapping[str, object] = json.loads(value)
    return SessionFacts(**{name: fact for name, fact in facts.items() if name in _SESSION_FIELDS})  # type: ignore[arg-type]


def mail_from(
    row: Row[tuple[object, ...]], contents: tuple[Content, ...], recipients: Iterable[MailRecipient]
) -> Mail:
    """The mail of a row of `schema.mail`."""
    m = row._mapping
    return Mail(
        id=MailId(m["id"]),
        received_at=m["received_at"],
        session=session_from(m["session"]),
        reverse_path=m["reverse_path"],
        body=Body(m["body"]),
        smtputf8=bool(m["smtputf8"]),
        ret=m["ret"],
        envid=m["envid"],
        trace_field=bytes(m["trace_field"]),
        contents=contents,
        recipients=tuple(recipients),
        size=m["size"],
        subject=m["subject"],
        message_id=m["message_id"],
        own=bool(m["own"]),
    )
