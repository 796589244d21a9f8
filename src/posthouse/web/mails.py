"""`mails`: Email history and the trail of one mail."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import StringConstraints, WithJsonSchema

from posthouse.ports import MailQuery
from posthouse.web.auth import Right, guarded
from posthouse.web.mail_details import details, found_mail
from posthouse.web.problems import Json
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.MAILS_READ)

LARGEST_PAGE = 500

Filter = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="items of a page")]
Cursor = Annotated[
    str, Query(alias="next", max_length=64, pattern=r"^[A-Za-z0-9._-]*$", description="`next` of the page before")
]
MailPath = Annotated[str, Path(description="id of the mail")]
Moment = Annotated[
    datetime | None,
    Query(description="ISO 8601 (UTC if no zone is given) or epoch seconds"),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}),
]
Sender = Annotated[Filter, Query(alias="from", description="part of the reverse-path, case ignored")]
Forward = Annotated[Filter, Query(alias="to", description="part of a recipient's address, case ignored")]
Subject = Annotated[Filter, Query(description="part of the subject, case ignored")]
RuleName = Annotated[Filter, Query(description="name of the security rule that matched")]
Status = Literal["", "queued", "held", "relayed", "failed", "deleted", "quarantined", "discarded", "rejected"]

_PAGE = {
    "items": [
        {
            "id": "01K9Z6Q3W8V5T2",
            "received_at": 1764000000.0,
            "reverse_path": "a@example.net",
            "subject": "Offer",
            "status": "relayed",
            "recipient_count": 1,
            "recipients": [{"seq": 0, "address": "b@ours.example", "state": "relayed", "rule": "inbound"}],
        }
    ],
    "next": None,
}
_PAGE_DOC: dict[int | str, dict[str, Any]] = {
    200: {"description": "A page, newest first", "content": {"application/json": {"example": _PAGE}}}
}


@router.get("/mails", summary="Search mails, newest first", responses=_PAGE_DOC)
def list_mails(
    tools: Tools,
    sender: Sender = "",
    recipient: Forward = "",
    subject: Subject = "",
    status: Annotated[Status, Query(description="of one of its recipients")] = "",
    rule: RuleName = "",
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Json:
    """All filters given must match."""
    query = MailQuery(
        sender, recipient, subject, status, rule, epoch(since), epoch(until), limit=limit + 1, before=cursor
    )
    return _page(tools, query)


@router.get("/mails/{mail_id}", summary="One mail whole: session, recipients, attempts, trail")
def get_mail(tools: Tools, mail_id: MailPath) -> Json:
    """The content itself is never shown. A queued recipient has `waits_for`, as in the queue.

    `way` of an attempt is the connection it went over: `local`, `remote`, `tls` (version and cipher, or `none`),
    `certificate` (`verified`, `pinned`, `unverified` or `none`), `login` (the user name); null if there was none.
    `mail_number` counts the mails on that connection; above 1 it came from the pool. Each of `scans` has
    `details_url` and `batch_url`, pages of MetaDefender Core that tell more, and `details_warning` where they may not
    be reached; null where there is none.
    """
    return Json(details(tools, found_mail(tools, mail_id)))


def epoch(moment: datetime | None) -> float | None:
    """Epoch seconds; a moment without zone is UTC."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _page(tools: WebTools, query: MailQuery) -> Json:
    """`query.limit` is one more than the page holds: the surplus row tells that there is a next page."""
    rows = tools.history.search(query)
    return Json(paged(rows, query.limit - 1, "id"))


def paged(rows: list[Mapping[str, object]], limit: int, key: str) -> dict[str, object]:
    """`{items, next}` of rows read with a limit one higher."""
    items = rows[:limit]
    return {"items": items, "next": str(items[-1][key]) if len(rows) > limit else None}
