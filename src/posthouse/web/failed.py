"""`failed`: failed emails whose content is kept: why they failed, and what can be done with them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from posthouse.core.faults import Fault
from posthouse.core.kept_act import KeptAct, KeptOptions
from posthouse.core.mail import MailId
from posthouse.ports import KeptQuery, Key, QueueCommand
from posthouse.web.auth import CurrentKey, Right, actor, guarded
from posthouse.web.downloads import DOWNLOAD, begun, download
from posthouse.web.kept_acts import Mails, Why, act_on, give, refuse
from posthouse.web.mail_details import details, failed_mail, rows
from posthouse.web.mails import Cursor, Forward, Limit, MailPath, Moment, RuleName, Sender, Subject, epoch, paged
from posthouse.web.problems import Json, Problem
from posthouse.web.quarantine import content_of, plain
from posthouse.web.queue import REPORTED, target_faults
from posthouse.web.schemas import Responses, problem
from posthouse.web.tools import Tools, WebTools

reading = guarded(Right.MAILS_READ)
bodies = guarded(Right.BODIES_OPEN)
steering = guarded(Right.FAILED_STEER)

Action = Literal["retry", "reroute", "delete"]
_ITEM: dict[str, object] = {
    "id": "01K9Z6Q3W8V5T2",
    "received_at": 1764000000.0,
    "reverse_path": "a@example.net",
    "subject": "Offer",
    "status": "failed",
    "recipient_count": 1,
    "recipients": [
        {
            "seq": 0,
            "address": "b@ours.example",
            "state": "failed",
            "rule": "inbound",
            "detail": "550 5.1.1 no such user",
        }
    ],
    "kept_since": 1764000000.0,
}
_WHOLE: dict[str, object] = {
    **_ITEM,
    "reasons": [{"seq": 0, "address": "b@ours.example", "why": "550 5.1.1 no such user", "sender_told": True}],
    "attempts": [{"server": "smtp://10.0.0.1:25", "summary": "550 5.1.1 no such user", "transcript": ["C: QUIT"]}],
}


class FailedAct(BaseModel):
    """Failed emails, and what is done with them."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"mails": ["01K9Z6Q3W8V5T2"], "even_if_told": True},
                {"mails": ["01K9Z6Q3W8V5T2"], "target": "exchange"},
            ]
        },
    )

    mails: Mails
    target: Annotated[
        str,
        StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$"),
        Field(description="reroute only: the profile that relays from now on"),
    ] = ""
    even_if_told: Annotated[
        bool, Field(description="retry and reroute: also where a failure DSN has told the sender already")
    ] = False
    reason: Why = ""


@reading.get(
    "/failed",
    summary="Failed emails, newest first",
    responses={
        200: {
            "description": "A page, newest first",
            "content": {"application/json": {"example": {"items": [_ITEM], "next": None}}},
        }
    },
)
def list_failed(
    tools: Tools,
    sender: Sender = "",
    recipient: Forward = "",
    subject: Subject = "",
    rule: RuleName = "",
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Json:
    """Mails of which at least one recipient ended without delivery, while their content is kept; `since` and `until`
    are of that end. Email history has all: `mails?status=failed`."""
    query = KeptQuery(
        sender, recipient, subject, rule, "", epoch(since), epoch(until), None, limit + 1, before=cursor
    )
    return Json(paged(tools.history.failed(query), limit, "id"))


@reading.get(
    "/failed/{mail_id}",
    summary="One failed email: reasons, attempts with transcript, trail",
    responses={
        200: {"description": "As the mail in history", "content": {"application/json": {"example": _WHOLE}}},
    },
)
def get_failed(tools: Tools, mail_id: MailPath) -> Json:
    """As `mails/{id}`, with `reasons`: why each recipient failed, and whether a failure DSN has told the sender."""
    found = failed_mail(tools, mail_id)
    told = told_of(found)
    reasons = [
        {"seq": r["seq"], "address": r["address"], "why": r["detail"], "sender_told": r["seq"] in told}
        for r in rows(found, "recipients")
        if r["state"] == "failed"
    ]
    return Json({**details(tools, found), "reasons": reasons})


@bodies.get(
    "/failed/{mail_id}/content",
    summary="The mail, as it was received",
    response_class=StreamingResponse,
    responses={200: DOWNLOAD, 503: problem("The content cannot be had here")},
)
def get_content(tools: Tools, mail_id: MailPath) -> StreamingResponse:
    """It may never have been scanned: open it where it can do no harm."""
    content = content_of(tools, failed_mail(tools, mail_id))
    return download(begun(plain(content)), f"{mail_id}.eml")


def _steered(action: Action) -> None:
    """A path of its own for each act, as in the quarantine."""

    async def carry_out(tools: Tools, key: CurrentKey, body: FailedAct) -> Json:
        """A command goes to all workers. Nothing is done at all while a sender has been told: they may have sent it
        again by another way."""
        return await _act(tools, key, action, body)

    told: Responses = {
        200: REPORTED,
        409: problem("`told` lists the mails whose senders were told that they failed; `even_if_told` does it"),
    }
    summary = f"{action.capitalize()} failed emails"
    steering.post(f"/failed/{action}", name=f"failed_{action}", summary=summary, responses=told)(carry_out)


for _action in get_args(Action):
    _steered(_action)


async def _act(tools: WebTools, key: Key, action: Action, body: FailedAct) -> Json:
    refuse(await run_in_threadpool(_faults, tools, action, body))
    if action == "delete":
        return await act_on(tools, key, KeptAct.DELETE, body.mails, KeptOptions(reason=body.reason))
    if not body.even_if_told:
        await run_in_threadpool(_check_untold, tools, body.mails)
    return await _queued(tools, key, action, body)


def told_of(found: Mapping[str, object]) -> frozenset[int]:
    """Recipients of whose failure a DSN has told the sender."""
    told: set[int] = set()
    for entry in rows(found, "trail"):
        detail = entry["detail"]
        if entry["kind"] == "dsn" and isinstance(detail, Mapping) and detail.get("kind") == "failure":
            about = detail.get("recipients")
            if isinstance(about, list):
                told.update(seq for seq in about if isinstance(seq, int))
    return frozenset(told)


async def _queued(tools: WebTools, key: Key, action: str, body: FailedAct) -> Json:
    named = tuple(MailId(mail) for mail in dict.fromkeys(body.mails))
    detail: dict[str, object] = {"mails": list(named)}
    detail |= {"target": body.target} if body.target else {}
    detail |= {"even_if_told": body.even_if_told, "reason": body.reason}
    command = QueueCommand(0, action, actor(key), named, target=body.target)
    return await give(tools, f"failed {action} asked for", command, detail)


def _check_untold(tools: WebTools, mails: list[str]) -> None:
    """Problem 409 with those whose sender was told."""
    told = []
    for mail_id in dict.fromkeys(mails):
        found = tools.history.mail(mail_id)
        if found is None:
            continue
        failed = {r["seq"] for r in rows(found, "recipients") if r["state"] == "failed"}
        if failed & told_of(found):
            told.append({"id": mail_id, "sender": found["reverse_path"], "subject": found["subject"]})
    if told:
        detail = f"The senders of {len(told)} mails were told that they failed, and may have sent them again."
        fault = Fault("even_if_told", "false", "Somebody may get it twice.", 'Send "even_if_told": true to do it.')
        raise Problem(HTTPStatus.CONFLICT, detail, [fault], more={"told": told})


def _faults(tools: WebTools, action: Action, body: FailedAct) -> list[Fault]:
    faults = target_faults(tools, action, body.target)
    if action == "delete" and body.even_if_told:
        faults.append(Fault("even_if_told", "true", "Only retry and reroute have this option.", "Leave it out."))
    return faults
