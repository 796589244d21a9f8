"""Pages of lists that are held whole: `{items, next}`, where `next` names the last entry of the page.

An entry that comes or goes between two pages moves no other one out of them.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import Query

from posthouse.core.fields import name_key
from posthouse.web.problems import Problem

LARGEST_PAGE = 500

ListLimit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="items of a page")]
AfterName = Annotated[
    str,
    Query(
        alias="next",
        max_length=64,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="`next` of the page before; 409 if gone",
    ),
]


def page_after(items: Sequence[Mapping[str, object]], name: str, limit: int, cursor: str) -> dict[str, object]:
    """The page after the entry whose `name` is `cursor`, case ignored; the first one if that is empty.

    Raises Problem 409 if there is no such entry any more.
    """
    begin = 0
    if cursor:
        keys = [name_key(str(item[name])) for item in items]
        if name_key(cursor) not in keys:
            detail = f"The entry {cursor!r} that the page begins after is gone: begin again with the first page."
            raise Problem(HTTPStatus.CONFLICT, detail)
        begin = keys.index(name_key(cursor)) + 1
    page = [dict(item) for item in items[begin : begin + limit]]
    more = begin + limit < len(items)
    return {"items": page, "next": str(page[-1][name]) if more else None}
