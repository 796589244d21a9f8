"""`audit`: who changed what, before and after."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query

from posthouse.ports import AuditFilter
from posthouse.web.auth import Right, guarded
from posthouse.web.mails import Filter, Limit, Moment, epoch, paged
from posthouse.web.problems import Json, Problem
from posthouse.web.schemas import NUMBER, TEXT, answer, of, page_of
from posthouse.web.tools import Tools

router = guarded(Right.AUDIT_READ)

CHANGES_LISTED = 50
"""Of one row in a list; the row by itself has them all."""
_LARGEST_ROW = 2**31 - 1

_ROW = {
    "id": 17,
    "at": 1764000000.0,
    "by": "key ops (4f1c0a9be27d)",
    "what": "rule changed",
    "detail": {
        "revision": 4,
        "changes": [{"change": "changed", "field": "rules[inbound].enabled", "old": True, "new": False}],
    },
}
_SCHEMA = of(id={"type": "integer"}, at=NUMBER, by=TEXT, what=TEXT, detail={"type": "object"})


@router.get(
    "/audit",
    summary="Who changed what, newest first",
    responses={200: answer("A page", page_of(_SCHEMA), {"items": [_ROW], "next": None})},
)
def list_audit(
    tools: Tools,
    by: Annotated[Filter, Query(description="part of who did it, case ignored")] = "",
    what: Annotated[Filter, Query(description="part of what was done, such as `rule`, case ignored")] = "",
    about: Annotated[Filter, Query(description="part of the detail: the name of a rule or user, a value")] = "",
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 50,
    cursor: Annotated[
        int | None, Query(alias="next", ge=0, le=_LARGEST_ROW, description="`next` of the page before")
    ] = None,
) -> Json:
    """Rows of `{id, at, by, what, detail}`; all filters given must match. Changes of server profiles, rules, keys and
    users stand in `detail.changes`, before and after, secrets masked: 50 of them at most, `detail.more` tells how
    many there are besides; `audit/{id}` has all."""
    wanted = AuditFilter(by, what, about, epoch(since), epoch(until))
    rows = [_short(row) for row in tools.inventory.audit(limit + 1, cursor, wanted)]
    return Json(paged(rows, limit, "id"))


@router.get(
    "/audit/{number}", summary="One row of the audit log, whole", responses={200: answer("The row", _SCHEMA, _ROW)}
)
def get_audit_row(tools: Tools, number: Annotated[int, Path(ge=0, le=_LARGEST_ROW)]) -> Json:
    """With every change."""
    row = tools.inventory.audit_row(number)
    if row is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no row of that number.")
    return Json(dict(row))


def _short(row: Mapping[str, object]) -> Mapping[str, object]:
    detail = row["detail"]
    changes = detail.get("changes") if isinstance(detail, Mapping) else None
    if not isinstance(detail, Mapping) or not isinstance(changes, list) or len(changes) <= CHANGES_LISTED:
        return row
    more = len(changes) - CHANGES_LISTED
    return {**row, "detail": {**detail, "changes": changes[:CHANGES_LISTED], "more": more}}
