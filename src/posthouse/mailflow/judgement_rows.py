"""From judgements to rows: what the recipients of each rule become, new content versions, findings, the trail. Pure.

Both ways of scanning end here: after acceptance as an outcome of a stored mail, before it as part of a new one.
Source: design section 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from posthouse.core.disposition import Action
from posthouse.core.limits import Limits
from posthouse.core.mail import (
    Content,
    Deferral,
    Mail,
    MailRecipient,
    QuarantineRow,
    RecipientState,
    ScanRow,
    Stage,
    TrailEntry,
)
from posthouse.core.outcome import RecipientResult, Result
from posthouse.core.scan import Failure, Verdict
from posthouse.mailflow.addressing import Settled
from posthouse.mailflow.judging import Judged
from posthouse.mailflow.settling import settled
from posthouse.ports import Findings

EXAMINATIONS = 3
"""So often a mail may end its examiner before it becomes a failed email."""
DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be stored; `mail` has the recipients as they are then, and all content versions."""

    mail: Mail
    contents: tuple[tuple[int, Content], ...]
    findings: Findings
    trail: tuple[TrailEntry, ...]
    settled: Mapping[int, Settled]
    """Of recipients that wait or have failed: for DSNs."""

    @property
    def kept(self) -> bool:
        """In quarantine; so a sealed version is wanted."""
        return self.findings.quarantine is not None


def rows_of(
    mail: Mail, judgements: Sequence[tuple[Judged, Sequence[MailRecipient]]], now: float, limits: Limits
) -> Rows:
    """`judgements`: of each rule, with the recipients that it is for."""
    changed = {r.seq: r for r in mail.recipients}
    contents: list[tuple[int, Content]] = []
    trail: list[TrailEntry] = []
    scans: list[ScanRow] = []
    told: dict[int, Settled] = {}
    quarantine: QuarantineRow | None = None
    for judged, recipients in judgements:
        version = None
        if judged.content is not None and judged.disposition.action is Action.DELIVER:
            version = len(mail.contents) + len(contents)
            contents.append((version, judged.content))
        for recipient in recipients:
            row, why = _recipient(mail, recipient, judged, version, now, limits)
            changed[recipient.seq] = row
            if why is not None:
                told[recipient.seq] = why
        if not _again(judged, recipients):
            scans += judged.scans
            trail += [*judged.trail, _decided(judged, recipients, version, now)]
        if quarantine is None:
            quarantine = _quarantine(judged, now, limits)
            if quarantine is not None:
                trail.append(_quarantined(judged, recipients, now))
    findings = Findings(
        tuple(scans),
        tuple([row for judged, _ in judgements for row in judged.uploads]),
        quarantine,
    )
    after = replace(
        mail,
        recipients=tuple(changed.values()),
        contents=(*mail.contents, *(content for _, content in contents)),
    )
    return Rows(after, tuple(contents), findings, tuple(trail), told)


def with_sealed(rows: Rows, sealed: Content) -> Rows:
    """With the original encrypted, as one more version."""
    version = len(rows.mail.contents)
    mail = replace(rows.mail, contents=(*rows.mail.contents, sealed))
    return replace(rows, mail=mail, contents=(*rows.contents, (version, sealed)))


def put_off(
    mail: Mail, recipients: Sequence[MailRecipient], why: str, now: float, limits: Limits, *, blame: bool
) -> tuple[tuple[MailRecipient, ...], dict[int, Settled]]:
    """They wait for another scan. `blame`: the mail is at fault, as far as anybody can see: so it is counted, and
    ends."""
    changed, told = [], {}
    for recipient in recipients:
        last = blame and recipient.tries + 1 >= EXAMINATIONS
        result = Result.PERMANENT if last else Result.TRANSIENT if blame else Result.THROTTLED
        found = Settled(RecipientResult(result, why, "5.3.0" if last else "4.3.0"), "")
        told[recipient.seq] = found
        changed.append(settled(mail, recipient, found, now, limits))
    return tuple(changed), told


def _recipient(
    mail: Mail, recipient: MailRecipient, judged: Judged, version: int | None, now: float, limits: Limits
) -> tuple[MailRecipient, Settled | None]:
    why = judged.disposition.why
    match judged.disposition.action:
        case Action.DELIVER:
            way = replace(
                recipient,
                stage=Stage.RELAY,
                state=RecipientState.ACTIVE,
                version=recipient.version if version is None else version,
                due_at=now,
                tries=0,
                waits=0,
                deferral=Deferral.NONE,
                detail="",
            )
            return way, None
        case Action.QUARANTINE:
            return replace(recipient, state=RecipientState.QUARANTINED, detail=why), None
        case Action.DISCARD:
            return replace(recipient, state=RecipientState.DISCARDED, detail=why), None
        case Action.REJECT:
            return replace(recipient, state=RecipientState.REJECTED, detail=why), None
        case Action.RETRY | Action.FAIL as action:
            result = Result.PERMANENT if action is Action.FAIL else _later(judged.disposition.failure)
            status = "5.3.0" if action is Action.FAIL else "4.3.0"
            found = Settled(RecipientResult(result, f"not scanned: {why}", status), "")
            return settled(mail, recipient, found, now, limits), found


def _later(failure: Failure | None) -> Result:
    """A scanner that could not be asked is no fault of the mail, and asked again soon. What else may be the mail's:
    it is counted, and tried ever more seldom, so that one mail does not keep a scanner busy for days."""
    return Result.THROTTLED if failure in (Failure.UNREACHABLE, Failure.BUSY) else Result.TRANSIENT


def _again(judged: Judged, recipients: Sequence[MailRecipient]) -> bool:
    """It waits once more: that is told with the time of the next scan, and no rows are written for each of them."""
    waited = all(recipient.tries or recipient.waits for recipient in recipients)
    return judged.disposition.action is Action.RETRY and waited


def _decided(judged: Judged, recipients: Sequence[MailRecipient], version: int | None, now: float) -> TrailEntry:
    disposition = judged.disposition
    detail: dict[str, object] = {
        "recipients": [r.seq for r in recipients],
        "rule": judged.rule,
        "verdict": disposition.verdict.value,
        "action": disposition.action.value,
        "why": disposition.why,
    }
    if version is not None:
        detail |= {"version": version, "edited": list(judged.edited)}
    return TrailEntry(now, "decided", detail)


def _quarantine(judged: Judged, now: float, limits: Limits) -> QuarantineRow | None:
    disposition = judged.disposition
    expires_at = now + limits.quarantine_days * DAY_SECONDS
    if disposition.action is Action.QUARANTINE:
        return QuarantineRow(now, disposition.verdict.value, disposition.why, judged.rule, expires_at)
    if judged.keep_original and disposition.action is Action.DELIVER:
        return QuarantineRow(now, Verdict.SANITIZED.value, disposition.why, judged.rule, expires_at)
    return None


def _quarantined(judged: Judged, recipients: Sequence[MailRecipient], now: float) -> TrailEntry:
    detail: dict[str, object] = {
        "recipients": [r.seq for r in recipients],
        "cause": judged.disposition.verdict.value,
        "why": judged.disposition.why,
    }
    return TrailEntry(now, "quarantined", detail)
