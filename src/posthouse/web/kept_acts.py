"""What operators do with kept mail through REST: options checked, the audit row written, the command given.

Passwords are in no audit row and no log; the command that has them is stored sealed (`storage.commands`).
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from posthouse.core.faults import Fault
from posthouse.core.fields import indexed, shown
from posthouse.core.kept_act import KeptAct, KeptOptions, options_text
from posthouse.core.mail import MailId
from posthouse.core.smtp_path import parse_mailbox
from posthouse.ports import Key, QueueCommand, SecretKeyUnusable
from posthouse.web.auth import actor
from posthouse.web.problems import Json, Problem, invalid
from posthouse.web.queue import progress_of
from posthouse.web.tools import WebTools

MAILS_PER_ACT = 1000

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Mails = Annotated[list[Id], Field(min_length=1, max_length=MAILS_PER_ACT, description="ids of mails")]
Why = Annotated[
    str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$", description="for the trail and the audit log")
]
_Address = Annotated[str, StringConstraints(min_length=1, max_length=512)]
_Password = Annotated[str, StringConstraints(min_length=1, max_length=255)]

OPTIONS: Mapping[KeptAct, frozenset[str]] = {
    KeptAct.RELEASE: frozenset({"cleaned", "to"}),
    KeptAct.FORWARD: frozenset({"to"}),
    KeptAct.RESCAN: frozenset({"passwords", "release_if_clean"}),
    KeptAct.PIN: frozenset(),
    KeptAct.UNPIN: frozenset(),
    KeptAct.DELETE: frozenset(),
}
"""Besides the reason, which each may have."""


class ActBody(BaseModel):
    """Mails in quarantine, and options; each is for some acts."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"mails": ["01K9Z6Q3W8V5T2"], "reason": "the invoice is awaited"},
                {"mails": ["01K9Z6Q3W8V5T2"], "to": ["abuse@ours.example"]},
                {"mails": ["01K9Z6Q3W8V5T2"], "passwords": ["from the telephone"], "release_if_clean": True},
            ]
        },
    )

    mails: Mails
    cleaned: Annotated[bool, Field(description="release: less its bad parts, instead of the original")] = False
    to: Annotated[
        list[_Address],
        Field(max_length=100, description="forward: addresses; release: which of its recipients, none for all"),
    ] = []
    passwords: Annotated[
        list[_Password], Field(max_length=50, description="rescan: tried on encrypted archives, and kept nowhere")
    ] = []
    release_if_clean: Annotated[bool, Field(description="rescan: release it if nothing is found")] = False
    reason: Why = ""


def options_of(body: ActBody) -> KeptOptions:
    """As they are; see `option_faults`."""
    return KeptOptions(body.cleaned, tuple(body.to), tuple(body.passwords), body.release_if_clean, body.reason)


def option_faults(tools: WebTools, act: KeptAct, body: ActBody) -> list[Fault]:
    """All of them."""
    faults = []
    given = {name for name in ("cleaned", "to", "passwords", "release_if_clean") if getattr(body, name)}
    for name in sorted(given - OPTIONS[act]):
        able = ", ".join(other.value.rpartition("-")[2] for other in KeptAct if name in OPTIONS[other])
        value = "***" if name == "passwords" else shown(getattr(body, name))
        faults.append(Fault(name, value, f"Only {able} has this option.", "Leave it out."))
    if "to" in OPTIONS[act]:
        for where, address in indexed("to", body.to):
            if parse_mailbox(address, smtputf8=True) is None:
                rule = "This is no mail address (RFC 5321 section 4.1.2)."
                faults.append(Fault(where, shown(address), rule, "Write it like someone@ours.example."))
    if act is KeptAct.FORWARD:
        if not body.to:
            faults.append(Fault("to", "", "Forward needs addresses to send it to.", "Give at least one."))
        if tools.settings.own_mail is None:
            rule = "What is forwarded leaves as own mail, and the setting own_mail is not set."
            faults.append(Fault("own_mail", "", rule, "Set own_mail in posthouse.toml, or release the mail."))
    return faults


async def act_on(tools: WebTools, key: Key, act: KeptAct, mails: Sequence[str], options: KeptOptions) -> Json:
    """Gives the command to all workers, once it is in the audit log; what they reported, as the queue answers it."""
    named = tuple(MailId(mail) for mail in dict.fromkeys(mails))
    detail: dict[str, object] = {"mails": list(named)}
    told = {"cleaned": options.cleaned, "to": list(options.to), "release_if_clean": options.release_if_clean}
    detail |= {name: value for name, value in told.items() if value}
    if options.passwords:
        detail["passwords"] = f"{len(options.passwords)} given"
    detail["reason"] = options.reason
    command = QueueCommand(0, act.value, actor(key), named, target=options_text(options))
    return await give(tools, f"{act.value.replace('-', ' ')} asked for", command, detail)


async def give(tools: WebTools, what: str, command: QueueCommand, detail: Mapping[str, object]) -> Json:
    """Audits it as `what`, gives it, and tells what the workers report in time."""
    now = tools.clock.now()
    await run_in_threadpool(lambda: tools.inventory.note(by=command.by, what=what, detail=detail, now=now))
    try:
        number = await run_in_threadpool(tools.commands.submit, command, now)
    except SecretKeyUnusable as error:
        raise Problem(HTTPStatus.CONFLICT, f"The passwords cannot be stored: {error}. {error.remedy}") from error
    return await progress_of(tools, number)


def refuse(faults: list[Fault]) -> None:
    """422 if there are any."""
    if faults:
        raise invalid(faults)
