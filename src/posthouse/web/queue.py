"""`queue`: what waits for which next hop, and the operator's actions on it."""

import asyncio
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from posthouse.core.faults import Fault
from posthouse.core.mail import MailId
from posthouse.ports import CommandProgress, QueueCommand
from posthouse.web.auth import CurrentKey, Right, actor, guarded
from posthouse.web.problems import Json, invalid
from posthouse.web.states import Waiting
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.QUEUE_READ)
steering = guarded(Right.QUEUE_STEER)

MAILS_PER_ACTION = 10_000
_POLL_SECONDS = 0.05

Action = Literal["retry", "hold", "release", "reroute", "delete"]
_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_Name = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]

REPORTED: dict[str, object] = {
    "description": "What the workers reported within 3 seconds; `complete` if all of them did",
    "content": {
        "application/json": {
            "example": {
                "command": 7,
                "recipients": 3,
                "mails": ["01K9Z6Q3W8V5T2"],
                "complete": True,
                "workers": 2,
                "reported": 2,
            }
        }
    },
}
"""For OpenAPI: the answer to an action on mails."""


class QueueAction(BaseModel):
    """Which mails an action is for."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"mails": ["01K9Z6Q3W8V5T2"]}, {"all": True, "profile": "exchange"}]},
    )

    mails: Annotated[list[_Id], Field(max_length=MAILS_PER_ACTION, description="ids of mails")] = []
    all: Annotated[bool, Field(description="every open mail; instead of `mails`")] = False
    profile: Annotated[_Name, Field(description="only recipients relayed by this profile")] = ""
    target: Annotated[_Name, Field(description="reroute only: the profile that relays from now on")] = ""


@router.get(
    "/queue",
    summary="What waits, per next hop",
    responses={
        200: {
            "description": "One row per SMTP server profile that has open mail",
            "content": {
                "application/json": {
                    "example": {
                        "items": [
                            {
                                "profile": "exchange",
                                "queued": 3,
                                "held": 0,
                                "oldest_at": 1764000000.0,
                                "next_due": None,
                                "waits_for": "smtp://10.0.0.1:25: circuit open: connection refused, "
                                "next probe 16:00:40Z",
                            }
                        ],
                        "next": None,
                    }
                }
            },
        }
    },
)
def list_queue(tools: Tools) -> Json:
    """`oldest_at` and `next_due` are epoch seconds. `waits_for` tells why no server of the profile may be addressed
    now; null if one may, so that its mail only waits for the time of its next attempt, or is held."""
    rows = tools.history.queue()
    waiting = Waiting(tools)
    items = [{**row, "waits_for": waiting.reason(str(row["profile"])) if row["queued"] else None} for row in rows]
    return Json({"items": items, "next": None})


@steering.post(
    "/queue/{action}",
    summary="Retry, hold, release, reroute or delete queued mail",
    responses={
        200: REPORTED,
    },
)
async def act_on_queue(tools: Tools, key: CurrentKey, action: Annotated[Action, Path()], body: QueueAction) -> Json:
    """A command goes to all workers; those busy at the moment carry it out a little later."""
    faults = await run_in_threadpool(_faults, tools, action, body)
    if faults:
        raise invalid(faults)
    command = QueueCommand(
        id=0,
        kind=action,
        by=actor(key),
        mails=tuple(MailId(mail) for mail in dict.fromkeys(body.mails)),
        profile=body.profile,
        target=body.target,
    )
    number = await run_in_threadpool(tools.commands.submit, command, tools.clock.now())
    return await progress_of(tools, number)


async def progress_of(tools: WebTools, number: int) -> Json:
    """What the workers have reported on a command, once all have or the time is over."""
    progress = await _progress(tools, number)
    return Json(
        {
            "command": number,
            "recipients": progress.recipients,
            "mails": list(progress.mails),
            "complete": 0 < progress.expected <= progress.reported,
            "workers": progress.expected,
            "reported": progress.reported,
        }
    )


async def _progress(tools: WebTools, number: int) -> CommandProgress:
    """Asks until all live workers have reported, at most `command_wait_seconds`; at once if none lives."""
    polls = int(tools.command_wait_seconds / _POLL_SECONDS)
    while True:
        progress = await run_in_threadpool(tools.commands.progress, number, tools.clock.now())
        if progress.reported >= progress.expected or polls <= 0:
            return progress
        polls -= 1
        await asyncio.sleep(_POLL_SECONDS)


def _faults(tools: WebTools, action: Action, body: QueueAction) -> list[Fault]:
    faults = []
    if bool(body.mails) == body.all:
        faults.append(
            Fault("mails", "", "Either `mails` or `all` says which mails are meant.", 'Give ids, or `"all": true`.')
        )
    return faults + target_faults(tools, action, body.target)


def target_faults(tools: WebTools, action: str, target: str) -> list[Fault]:
    """Of the profile that relays from now on."""
    if action != "reroute":
        return [Fault("target", target, "Only reroute has a target.", "Leave it out.")] if target else []
    relays = [
        str(profile.document.get("name"))
        for profile in tools.inventory.load().profiles
        if profile.document.get("type") == "smtp"
    ]
    if target in relays:
        return []
    known = ", ".join(relays) or "none yet"
    rule = "A target is the name of a server profile of type smtp."
    return [Fault("target", target, rule, f"SMTP server profiles: {known}.")]
