"""`keys` and `audit`: API keys, and who changed what."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from posthouse.ports import Key
from posthouse.web.auth import Right, Role, guarded
from posthouse.web.mails import Limit, paged
from posthouse.web.problems import Json, Problem
from posthouse.web.tools import Tools

reading = guarded(Right.KEYS_READ)
changing = guarded(Right.KEYS_CHANGE)
auditing = guarded(Right.AUDIT_READ)

_LARGEST_ROW = 2**63 - 1


class NewKey(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "grafana", "role": "auditor"}]}
    )

    name: Annotated[
        str,
        StringConstraints(strict=True, min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$"),
        Field(description="what it is for"),
    ]
    role: Annotated[Role, Field(description="what it may do")]


@reading.get("/keys", summary="API keys, without their secrets")
def list_keys(tools: Tools) -> Json:
    """Revoked ones are listed too."""
    listed = tools.accounts.keys()
    return Json({"items": [key_json(key) for key in listed], "next": None})


@changing.post("/keys", status_code=HTTPStatus.CREATED, summary="Create an API key")
def create_key(tools: Tools, body: NewKey) -> Json:
    """`key` in the answer is the secret; it is shown this once."""
    key, secret = tools.accounts.create_key(name=body.name, role=body.role.value, now=tools.clock.now())
    return Json(
        {**key_json(key), "key": secret},
        HTTPStatus.CREATED,
        {"Location": f"/api/v1/keys/{key.id}", "Cache-Control": "no-store"},
    )


@changing.delete("/keys/{key_id}", status_code=HTTPStatus.NO_CONTENT, summary="Revoke an API key")
def revoke_key(tools: Tools, key_id: str) -> Response:
    """In force at once."""
    usable = len(key_id) <= 64 and key_id.isascii() and key_id.isprintable()
    if not usable or not tools.accounts.revoke_key(key_id, tools.clock.now()):
        raise Problem(HTTPStatus.NOT_FOUND, "There is no key of that id that is still in force.")
    return Response(status_code=HTTPStatus.NO_CONTENT)


@auditing.get("/audit", summary="Who changed what, newest first")
def list_audit(
    tools: Tools,
    limit: Limit = 50,
    cursor: Annotated[
        int | None, Query(alias="next", ge=0, le=_LARGEST_ROW, description="`next` of the page before")
    ] = None,
) -> Json:
    """Rows of `{id, at, by, what, detail}`; `at` is epoch seconds."""
    return Json(paged(tools.inventory.audit(limit + 1, cursor), limit, "id"))


def key_json(key: Key) -> dict[str, object]:
    """A key as REST and CLI show it."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
