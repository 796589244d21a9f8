"""`rule-replays`: how many of the last mails an inventory that is not saved would treat differently, and which."""

from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from posthouse.core.replay import (
    NOT_SEEN,
    Change,
    OtherTreatment,
    OwnRoute,
    Replay,
    Treatment,
    otherwise_sentence,
    replayed_sentence,
)
from posthouse.ports import Clock, History
from posthouse.web.auth import Right, guarded
from posthouse.web.heavy import TOO_MANY, HeavyWork
from posthouse.web.inventory import snapshot
from posthouse.web.problems import Json, invalid
from posthouse.web.schemas import INVENTORY
from posthouse.web.tools import Tools, WebTools
from posthouse.web.unsaved import UNSAVED, Prune, laid_over

router = guarded(Right.REPLAY)

MOST_MAILS = 10_000
DIFFERENCES_TOLD = 1000
PAGE = 250
"""Mails read at once: this many with all their recipients are in memory."""
MOST_SECONDS = 20.0
"""Of work on one answer; the command line waits 30 s for it."""

_CHANGE = {
    "before": {
        "rule": "inbound",
        "profile": "exchange",
        "refused": False,
        "servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"],
    },
    "after": {
        "rule": "inbound",
        "profile": "exchange",
        "refused": False,
        "servers": ["smtp://10.0.0.2:2525"],
    },
    "differs": ["servers"],
    "sentence": "relayed by exchange, whose servers change",
}
_ANSWER = {
    "sentence": "Of the last 1,000 mails this file would treat 1 differently.",
    "complete": True,
    "mails": 1000,
    "recipients": 1204,
    "since": 1763990000.0,
    "mails_differ": 1,
    "count": 1,
    "by": {"servers": 1},
    "changes": [{"recipients": 1, **_CHANGE}],
    "items": [
        {
            "mail": "01K9Z6Q3W8V5T2",
            "received_at": 1764000000.0,
            "client": "192.0.2.7",
            "from": "a@example.net",
            "recipient": "b@ours.example",
            **_CHANGE,
        }
    ],
    "decided_otherwise": {"count": 0, "sentence": ""},
    "not_seen": NOT_SEEN,
}


class ReplayQuestion(BaseModel):
    """An inventory that might come into force."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"inventory": UNSAVED, "prune": False, "mails": 1000}]}
    )

    inventory: Annotated[
        dict[str, object],
        Field(description="laid over what is in force, as config/apply would; nothing is saved"),
        WithJsonSchema(INVENTORY),
    ]
    prune: Prune = False
    mails: Annotated[
        int, Field(strict=True, ge=1, le=MOST_MAILS, description="how many of the last mails are asked about")
    ] = 1000


@router.post(
    "/rule-replays",
    summary="How many of the last mails an inventory would treat differently, and which",
    responses={
        200: {
            "description": "What differs, mail by mail and recipient by recipient, newest first",
            "content": {"application/json": {"example": _ANSWER}},
        },
        **TOO_MANY,
    },
)
async def replay_rules(tools: Tools, heavy: HeavyWork, question: ReplayQuestion) -> Json:
    """Each recipient is asked for twice: of the inventory in force, and of the one given. `count` has all recipients
    that would be treated differently, `items` the first 1000 of them, `changes` sums up what would change (the 100
    with most recipients), `by` how many differ in what: `refused`, `accepted`, `rule`, `profile`, or `servers`,
    `preference`, `tls`, `login` of the server profile (one may differ in several). `since` is when the oldest of the
    mails was received, null if there are none.

    `decided_otherwise` counts recipients for whom the policy in force decides otherwise than was decided when mail
    came. `not_seen` says what a replay cannot know. Nothing is sent and nothing is kept.

    `mails` is how many were looked at, the newest. `complete` is false where 20 seconds were over before all that
    were asked for had been: then all numbers are of those `mails` only, and `sentence` says so.
    """
    return await heavy.run(partial(_replayed, tools, question))


def _replayed(tools: WebTools, question: ReplayQuestion) -> Json:
    ends = tools.clock.monotonic() + MOST_SECONDS
    stored = tools.inventory.load()
    other, faults = laid_over(stored, question.inventory, question.prune)
    if other is None:
        raise invalid(faults)
    own = tools.settings.own_mail
    replay = Replay(snapshot(stored), other, OwnRoute(own.profile, own.postmaster) if own else None, DIFFERENCES_TOLD)
    since, complete = _feed(replay, tools.history, question.mails, tools.clock, ends)
    told = replay.told()
    return Json(
        {
            "sentence": replayed_sentence(told, question.mails, complete),
            "complete": complete,
            "mails": told.mails,
            "recipients": told.recipients,
            "since": since,
            "mails_differ": told.mails_differ,
            "count": told.count,
            "by": {differs.value: count for differs, count in told.by},
            "changes": [{"recipients": count, **_change_json(change)} for change, count in told.changes],
            "items": [_item_json(each) for each in told.items],
            "decided_otherwise": {"count": told.decided_otherwise, "sentence": otherwise_sentence(told)},
            "not_seen": NOT_SEEN,
        }
    )


def _feed(replay: Replay, history: History, most: int, clock: Clock, ends: float) -> tuple[float | None, bool]:
    """The last `most` mails, page by page; when the oldest that was looked at was received, and whether all were."""
    before, left, since = "", most, None
    while left > 0 and (page := history.past_mails(min(left, PAGE), before)):
        for mail in page:
            for _ in replay.taking(mail):
                if clock.monotonic() >= ends:
                    return since, False
            before, since = mail.id, mail.received_at
        left -= len(page)
    return since, True


def _item_json(found: OtherTreatment) -> dict[str, object]:
    mail = found.mail
    return {
        "mail": mail.id,
        "received_at": mail.received_at,
        "client": mail.client,
        "from": mail.reverse_path,
        "recipient": found.address,
        **_change_json(found.change),
    }


def _change_json(change: Change) -> dict[str, object]:
    return {
        "before": _treatment_json(change.before),
        "after": _treatment_json(change.after),
        "differs": [differs.value for differs in change.differs],
        "sentence": change.sentence,
    }


def _treatment_json(treatment: Treatment) -> dict[str, object]:
    return {
        "rule": treatment.rule or None,
        "profile": treatment.profile or None,
        "refused": not treatment.profile,
        "servers": list(treatment.servers),
    }
