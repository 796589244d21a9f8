"""`quarantine`: mail that was kept from its recipients: look for it, look into it, and act on it."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from posthouse.core.kept_act import KeptAct
from posthouse.core.wire_form import PlainPieces
from posthouse.ports import ContentUnreadable, KeptQuery, SecretUnreadable
from posthouse.web.auth import CurrentKey, Right, guarded
from posthouse.web.downloads import DOWNLOAD, begun, download, unreadable
from posthouse.web.kept_acts import ActBody, act_on, option_faults, options_of, refuse
from posthouse.web.mail_details import details, quarantined_mail, rows
from posthouse.web.mail_view import VIEW, part_octets, view_of
from posthouse.web.mails import Cursor, Forward, Limit, MailPath, Moment, RuleName, Sender, Subject, epoch, paged
from posthouse.web.problems import Json, Problem
from posthouse.web.queue import REPORTED
from posthouse.web.schemas import Responses, problem
from posthouse.web.tools import Tools, WebTools
from posthouse.web.viewing import UNREAD, CurrentViewing

reading = guarded(Right.QUARANTINE_READ)
bodies = guarded(Right.BODIES_OPEN)
releasing = guarded(Right.QUARANTINE_RELEASE)
steering = guarded(Right.QUARANTINE_STEER)

Cause = Literal["", "blocked", "policy", "encrypted", "ambiguous", "failed", "sanitized"]
PartPath = Annotated[str, Path(max_length=200, pattern=r"^[0-9.]*$", description="of the part, such as 1.2")]

ROW: dict[str, object] = {
    "at": 1764000000.0,
    "cause": "blocked",
    "why": "Eicar-Test-Signature",
    "rule": "inbound",
    "expires_at": 1766592000.0,
    "pinned": False,
}
_ITEM: dict[str, object] = {
    "id": "01K9Z6Q3W8V5T2",
    "received_at": 1764000000.0,
    "reverse_path": "a@example.net",
    "subject": "Invoice",
    "status": "quarantined",
    "recipient_count": 1,
    "recipients": [{"seq": 0, "address": "b@ours.example", "state": "quarantined", "rule": "inbound"}],
    "quarantine": ROW,
}


@reading.get(
    "/quarantine",
    summary="Search mails in quarantine, newest first",
    responses={
        200: {
            "description": "A page, newest first",
            "content": {"application/json": {"example": {"items": [_ITEM], "next": None}}},
        }
    },
)
def list_quarantine(
    tools: Tools,
    sender: Sender = "",
    recipient: Forward = "",
    subject: Subject = "",
    rule: RuleName = "",
    cause: Annotated[Cause, Query(description="verdict that put it there; sanitized: the original")] = "",
    since: Moment = None,
    until: Moment = None,
    pinned: Annotated[bool | None, Query(description="kept for good")] = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Json:
    """All filters given must match; `since` and `until` are of the quarantine, not of receipt."""
    query = KeptQuery(
        sender, recipient, subject, rule, cause, epoch(since), epoch(until), pinned, limit + 1, before=cursor
    )
    return Json(paged(tools.history.quarantined(query), limit, "id"))


@reading.get(
    "/quarantine/{mail_id}",
    summary="One mail in quarantine: why, scans, uploads, trail",
    responses={
        200: {"description": "As the mail in history", "content": {"application/json": {"example": _ITEM}}},
    },
)
def get_quarantined(tools: Tools, mail_id: MailPath) -> Json:
    """As `mails/{id}`; `quarantine` has cause and end. Each scan has `details_url` and `batch_url`, the pages of
    MetaDefender Core that tell more, and `details_warning` where these may not be reached."""
    return Json(details(tools, quarantined_mail(tools, mail_id)))


@bodies.get(
    "/quarantine/{mail_id}/content",
    summary="The original, as it was received",
    response_class=StreamingResponse,
    responses={200: DOWNLOAD, 503: problem("The content cannot be had here")},
)
def get_content(tools: Tools, mail_id: MailPath) -> StreamingResponse:
    """Unsealed piece by piece. It is what was kept from the recipients: open it where it can do no harm."""
    content = content_of(tools, quarantined_mail(tools, mail_id))
    return download(begun(plain(content)), f"{mail_id}.eml")


@bodies.get(
    "/quarantine/{mail_id}/view",
    summary="The mail to look at: header fields, texts, sanitized HTML, parts",
    responses={200: {"description": "Safe to show", "content": {"application/json": {"example": VIEW}}}, **UNREAD},
)
async def get_view(tools: Tools, viewing: CurrentViewing, mail_id: MailPath) -> Json:
    """Read by a process of its own. HTML comes without scripts, images, forms and styles; links have lost their
    addresses, which stand beside it. `cut` and `more`: there is more than is shown."""
    found = await run_in_threadpool(quarantined_mail, tools, mail_id)
    content = await run_in_threadpool(content_of, tools, found)
    async with viewing.reading(tools, content) as examined:
        try:
            return Json(await run_in_threadpool(view_of, mail_id, examined, rows(found, "scans")))
        finally:
            examined.close()


@bodies.get(
    "/quarantine/{mail_id}/parts/{path}",
    summary="The octets of one part",
    response_class=StreamingResponse,
    responses={200: DOWNLOAD, **UNREAD},
)
async def get_part(tools: Tools, viewing: CurrentViewing, mail_id: MailPath, path: PartPath) -> StreamingResponse:
    """Decoded, as most mail programs would save it. `path` is that of the part in the view."""
    found = await run_in_threadpool(quarantined_mail, tools, mail_id)
    content = await run_in_threadpool(content_of, tools, found)
    async with viewing.reading(tools, content) as examined:
        part = part_octets(examined, path)
    if part is None:
        examined.close()
        raise Problem(HTTPStatus.NOT_FOUND, "The mail has no such part, or none with octets of its own.")
    facts, octets = part

    def pieces() -> Iterator[bytes]:
        try:
            for piece in octets.pieces():
                yield bytes(piece)
        finally:
            examined.close()

    name = facts.names[0] if facts.names else f"{mail_id}-{path}"
    return download(await run_in_threadpool(begun, pieces()), name)


@releasing.post(
    "/quarantine/release",
    summary="Release mails to their recipients",
    responses={200: REPORTED, 409: problem("As queue/{action}")},
)
async def release(tools: Tools, key: CurrentKey, body: ActBody) -> Json:
    """The original, or with `cleaned` what is left of it without its bad parts. Each release is a mail of its own."""
    return await _act(tools, key, KeptAct.RELEASE, body)


async def _act(tools: WebTools, key: CurrentKey, act: KeptAct, body: ActBody) -> Json:
    refuse(option_faults(tools, act, body))
    return await act_on(tools, key, act, body.mails, options_of(body))


def _steered(action: str, act: KeptAct) -> None:
    """A path of its own for each act: else a mail whose id is such a word and the act would be one resource."""

    async def carry_out(tools: Tools, key: CurrentKey, body: ActBody) -> Json:
        """A command goes to all workers; a scan may take longer than the answer. The trail of each mail tells what
        came of it."""
        return await _act(tools, key, act, body)

    told: Responses = {200: REPORTED, 409: problem("There is no key to seal the passwords with")}
    summary = f"{action.capitalize()} mails in quarantine"
    steering.post(f"/quarantine/{action}", name=f"quarantine_{action}", summary=summary, responses=told)(carry_out)


for _action, _kind in (
    ("forward", KeptAct.FORWARD),
    ("rescan", KeptAct.RESCAN),
    ("pin", KeptAct.PIN),
    ("unpin", KeptAct.UNPIN),
    ("delete", KeptAct.DELETE),
):
    _steered(_action, _kind)


def content_of(tools: WebTools, found: Mapping[str, object]) -> Iterator[bytes]:
    """In wire form: what is sealed, else as received. Problem 404, 503."""
    try:
        content = tools.history.kept_content(str(found["id"]))
    except (ContentUnreadable, SecretUnreadable) as error:
        raise unreadable(error) from error
    if content is None:
        raise Problem(HTTPStatus.NOT_FOUND, "Its content is not kept any more.")
    return content


def plain(wire: Iterator[bytes]) -> Iterator[bytes]:
    """Without dot-stuffing and final dot."""
    reader = PlainPieces()
    for piece in wire:
        yield reader.feed(piece)
    yield reader.end()
