"""`keys`: API keys; their secrets are shown once."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from posthouse.ports import Key
from posthouse.web.auth import CurrentKey, Right, Role, actor, guarded
from posthouse.web.paging import LARGEST_PAGE, ListLimit, page_after
from posthouse.web.problems import Json, Problem
from posthouse.web.schemas import MOMENT, NUMBER, TEXT, answer, of, page_of, problem
from posthouse.web.tools import Tools

reading = guarded(Right.KEYS_READ)
changing = guarded(Right.KEYS_CHANGE)

_KEY = {
    "id": "4f1c0a9be27d",
    "name": "grafana",
    "role": "auditor",
    "created_at": 1764000000.0,
    "revoked_at": None,
}
_FIELDS = {"id": TEXT, "name": TEXT, "role": TEXT, "created_at": NUMBER, "revoked_at": MOMENT}


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


@reading.get(
    "/keys",
    summary="API keys, without their secrets",
    responses={
        200: answer("Oldest first", page_of(of(**_FIELDS)), {"items": [_KEY], "next": None}),
        409: problem("The entry that the page begins after is gone"),
    },
)
def list_keys(
    tools: Tools,
    limit: ListLimit = LARGEST_PAGE,
    cursor: Annotated[
        str, Query(alias="next", max_length=64, pattern=r"^[A-Za-z0-9]*$", description="`next` of the page before")
    ] = "",
) -> Json:
    """Revoked ones are listed too."""
    listed = tools.accounts.keys()
    return Json(page_after([key_json(key) for key in listed], "id", limit, cursor))


@changing.post(
    "/keys",
    status_code=HTTPStatus.CREATED,
    summary="Create an API key",
    responses={201: answer("`key` is shown this once", of(**_FIELDS, key=TEXT), {**_KEY, "key": "ph_..."})},
)
def create_key(tools: Tools, by: CurrentKey, body: NewKey) -> Json:
    """`key` in the answer is the secret; it is shown this once."""
    key, secret = tools.accounts.create_key(name=body.name, role=body.role.value, by=actor(by), now=tools.clock.now())
    return Json({**key_json(key), "key": secret}, HTTPStatus.CREATED, {"Location": f"/api/v1/keys/{key.id}"})


@reading.get(
    "/keys/{key_id}",
    summary="One API key, without its secret",
    responses={200: answer("The key", of(**_FIELDS), _KEY)},
)
def get_key(tools: Tools, key_id: Annotated[str, Path(description="its `id`, not its secret")]) -> Json:
    """Also one that is revoked."""
    listed = tools.accounts.keys()
    for key in listed:
        if key.id == key_id:
            return Json(key_json(key))
    raise Problem(HTTPStatus.NOT_FOUND, "There is no key of that id.")


@changing.delete("/keys/{key_id}", status_code=HTTPStatus.NO_CONTENT, summary="Revoke an API key")
def revoke_key(
    tools: Tools, by: CurrentKey, key_id: Annotated[str, Path(description="its `id`, not its secret")]
) -> Response:
    """In force at once."""
    usable = len(key_id) <= 64 and key_id.isascii() and key_id.isprintable()
    if not usable or tools.accounts.revoke_key(key_id, by=actor(by), now=tools.clock.now()) is None:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no key of that id that is still in force.")
    return Response(status_code=HTTPStatus.NO_CONTENT)


def key_json(key: Key) -> dict[str, object]:
    """A key as REST and CLI show it."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
