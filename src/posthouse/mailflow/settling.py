"""What an attempt makes of a recipient's row, and what the trail says of it. Pure.

The results are those of design section 3; when the next try is due is decided in `core/retry.py`.
"""

from collections.abc import Sequence
from dataclasses import replace

from posthouse.core import retry
from posthouse.core.limits import Limits
from posthouse.core.mail import Deferral, Mail, MailRecipient, RecipientState, TrailEntry
from posthouse.core.outcome import RecipientResult, Result
from posthouse.mailflow.addressing import Settled


def settled(mail: Mail, recipient: MailRecipient, found: Settled, now: float, limits: Limits) -> MailRecipient:
    """The recipient's row after an attempt that ended with `found`."""
    result = found.result
    match result.result:
        case Result.RELAYED:
            return replace(recipient, state=RecipientState.RELAYED, detail=result.reply, uncertain_at="")
        case Result.PERMANENT:
            return replace(recipient, state=RecipientState.FAILED, detail=result.reply, uncertain_at="")
        case Result.THROTTLED | Result.WAITS:
            return _waiting(mail, recipient, result, now, limits)
        case Result.SERVER_FAULT | Result.TRANSIENT | Result.LATER | Result.AGAIN | Result.UNCERTAIN:
            tried = replace(
                recipient,
                tries=recipient.tries + 1,
                uncertain_at=found.server if result.result is Result.UNCERTAIN else "",
            )
            due_at = retry.next_attempt(recipient.tries, now, mail.received_at, limits)
            return _given_up(tried, result) if due_at is None else _put_off(tried, result, due_at)


def _waiting(
    mail: Mail, recipient: MailRecipient, result: RecipientResult, now: float, limits: Limits
) -> MailRecipient:
    """No fault of the mail: no try is used up. Where no server may be addressed it stays due, for a next hop that
    opens again."""
    due_at = retry.next_wait(recipient.waits, now, mail.received_at, limits)
    if due_at is None:
        return _given_up(recipient, result)
    waited = replace(recipient, waits=recipient.waits + 1)
    return _put_off(waited, result, now if result.result is Result.WAITS else due_at)


def _given_up(recipient: MailRecipient, result: RecipientResult) -> MailRecipient:
    return replace(recipient, state=RecipientState.FAILED, detail=f"given up: {result.reply}")


def _put_off(recipient: MailRecipient, result: RecipientResult, due_at: float) -> MailRecipient:
    return replace(
        recipient,
        state=RecipientState.QUEUED,
        due_at=due_at,
        deferral=_deferral(result.result),
        detail=result.reply,
    )


def _deferral(result: Result) -> Deferral:
    """What `result` put a recipient off for."""
    match result:
        case Result.SERVER_FAULT:
            return Deferral.SERVER_FAULT
        case Result.TRANSIENT | Result.LATER | Result.AGAIN | Result.UNCERTAIN:
            return Deferral.ANSWER
        case Result.THROTTLED:
            return Deferral.THROTTLED
        case Result.WAITS | Result.RELAYED | Result.PERMANENT:
            return Deferral.NONE


def ends_and_deferrals(changed: Sequence[MailRecipient], now: float) -> list[TrailEntry]:
    """Trail entries for those that wait and those that ended without delivery."""
    entries = []
    waiting = [r for r in changed if r.state is RecipientState.QUEUED]
    if waiting:
        detail: dict[str, object] = {
            "recipients": [r.seq for r in waiting],
            "due_at": min(r.due_at for r in waiting),
            "why": waiting[0].detail,
        }
        entries.append(TrailEntry(now, "deferred", detail))
    failed = [r for r in changed if r.state is RecipientState.FAILED]
    if failed:
        detail = {"recipients": [r.seq for r in failed], "state": "failed", "why": failed[0].detail}
        entries.append(TrailEntry(now, "ended", detail))
    return entries
