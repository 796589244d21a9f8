"""`users`: who may log in to the console, and in which role. Passwords are write-only.

Standards: design section 4 (users, ETag, 409, 412, 428). A user's ETag is a digest of it.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import Body, Header, Response
from pydantic import WithJsonSchema

from posthouse.core.account import (
    NEW_USER_FIELDS,
    PASSWORD_LENGTH,
    USER_FIELDS,
    check_new_user,
    check_password,
    check_user,
    password_text,
)
from posthouse.core.faults import Fault
from posthouse.core.fields import name_key
from posthouse.ports import LastAdministrator, NameTaken, User, UserChanged
from posthouse.web.auth import CurrentKey, Right, actor, guarded
from posthouse.web.changing import check_tag, digest_tag, unstorable
from posthouse.web.paging import LARGEST_PAGE, AfterName, ListLimit, page_after
from posthouse.web.problems import Json, Problem, invalid
from posthouse.web.schemas import NAME, NUMBER, PRINTABLE, TEXT, answer, object_schema, of, page_of, problem
from posthouse.web.tools import Tools, WebTools

reading = guarded(Right.USERS_READ)
changing = guarded(Right.USERS_CHANGE)

_ANN = {"name": "ann", "role": "operator", "created_at": 1764000000.0}
_USER = of(name=NAME, role=TEXT, created_at=NUMBER)
_PASSWORD = {
    "type": "string",
    "minLength": PASSWORD_LENGTH[0],
    "maxLength": PASSWORD_LENGTH[1],
    "pattern": PRINTABLE,
    "writeOnly": True,
}
_NEW = object_schema(NEW_USER_FIELDS)
_NEW["properties"]["password"] = _PASSWORD
_LAST = "The name is taken, or nobody could log in as administrator any more"

Name = Annotated[str, WithJsonSchema(NAME)]
NewUser = Annotated[
    dict[str, object],
    Body(examples=[{"name": "ann", "role": "operator", "password": "four words nobody joins"}]),
    WithJsonSchema(_NEW),
]
ChangedUser = Annotated[
    dict[str, object], Body(examples=[{"name": "ann", "role": "auditor"}]), WithJsonSchema(object_schema(USER_FIELDS))
]
NewPassword = Annotated[
    dict[str, object],
    Body(examples=[{"password": "four other words nobody joins"}]),
    WithJsonSchema(of(password=_PASSWORD)),
]


@reading.get(
    "/users",
    summary="Users, by name",
    responses={
        200: answer("Passwords never", page_of(_USER), {"items": [_ANN], "next": None}),
        409: problem("The entry that the page begins after is gone"),
    },
)
def list_users(tools: Tools, limit: ListLimit = LARGEST_PAGE, cursor: AfterName = "") -> Json:
    """Who may log in to the console. API keys are apart from them."""
    return Json(page_after([user_json(user) for user in tools.accounts.users()], "name", limit, cursor))


@changing.post(
    "/users",
    status_code=HTTPStatus.CREATED,
    summary="Add a user",
    responses={201: answer("ETag: its own", _USER, _ANN), 409: problem("The name is taken")},
)
def add_user(tools: Tools, key: CurrentKey, body: NewUser) -> Json:
    """The password is stored as a hash (argon2id) and shown by nothing."""
    name, role, password, faults = check_new_user(body)
    _refuse([*unstorable(body), *faults])
    try:
        added = tools.accounts.add_user(name=name, role=role, password=password, by=actor(key), now=tools.clock.now())
    except NameTaken as error:
        raise _taken(name) from error
    return _answer(added, HTTPStatus.CREATED, {"Location": _address(added)})


@reading.get("/users/{name}", summary="One user", responses={200: answer("ETag: its own", _USER, _ANN)})
def get_user(tools: Tools, name: Name) -> Json:
    """By name, case ignored."""
    return _answer(_user(tools, name))


@changing.put(
    "/users/{name}",
    summary="Change name and role of a user",
    responses={
        200: answer("ETag: its new one", _USER, _ANN),
        409: problem(_LAST),
        412: problem("If-Match does not match"),
        428: problem("If-Match is missing"),
    },
)
def change_user(
    tools: Tools,
    key: CurrentKey,
    name: Name,
    body: ChangedUser,
    if_match: Annotated[str | None, Header(description="ETag of the user; needed, 428 without")] = None,
) -> Json:
    """The password stays. The last administrator stays one: 409."""
    old = _user(tools, name)
    check_tag(if_match, digest_tag(user_json(old)), needed=True)
    new_name, role, faults = check_user(body)
    _refuse([*unstorable(body), *faults])
    try:
        changed = tools.accounts.change_user(old, name=new_name, role=role, by=actor(key), now=tools.clock.now())
    except NameTaken as error:
        raise _taken(new_name) from error
    except UserChanged as error:
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "It has changed since it was read.") from error
    except LastAdministrator as error:
        raise _last(old) from error
    return _answer(changed, headers={"Content-Location": _address(changed)})


@changing.delete(
    "/users/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove a user",
    responses={409: problem(_LAST), 412: problem("If-Match does not match")},
)
def remove_user(
    tools: Tools,
    key: CurrentKey,
    name: Name,
    if_match: Annotated[str | None, Header(description="ETag of the user")] = None,
) -> Response:
    """The last administrator cannot be removed: 409."""
    old = _user(tools, name)
    check_tag(if_match, digest_tag(user_json(old)))
    try:
        tools.accounts.remove_user(old, by=actor(key), now=tools.clock.now())
    except UserChanged as error:
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "It has changed since it was read.") from error
    except LastAdministrator as error:
        raise _last(old) from error
    return Response(status_code=HTTPStatus.NO_CONTENT)


@changing.put("/users/{name}/password", status_code=HTTPStatus.NO_CONTENT, summary="Set the password of a user")
def set_password(tools: Tools, key: CurrentKey, name: Name, body: NewPassword) -> Response:
    """Nothing of it can be read, so there is no ETag that could be sent."""
    old = _user(tools, name)
    faults = [
        Fault(str(field)[:64], "", "There is no such setting.", "Known here: password.")
        for field in body
        if field != "password"
    ]
    if body.get("password") is None:
        faults.append(Fault("password", "", "This is required.", "Write a text."))
    else:
        faults += check_password(body["password"], old.name)
    _refuse([*unstorable(body), *faults])
    password = password_text(body["password"])
    if not tools.accounts.set_password(old.name, password, by=actor(key), now=tools.clock.now()):
        raise _missing()
    return Response(status_code=HTTPStatus.NO_CONTENT)


def user_json(user: User) -> dict[str, object]:
    """A user as REST and CLI show it."""
    return {"name": user.name, "role": user.role, "created_at": user.created_at}


def _user(tools: WebTools, name: str) -> User:
    for user in tools.accounts.users():
        if name_key(user.name) == name_key(name):
            return user
    raise _missing()


def _missing() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "There is no user of that name.")


def _refuse(faults: list[Fault]) -> None:
    if faults:
        raise invalid(faults)


def _taken(name: str) -> Problem:
    fault = Fault("name", name, "Another user has this name; case is ignored.", "Choose another one.")
    return Problem(HTTPStatus.CONFLICT, f"The name {name!r} is taken.", [fault])


def _last(user: User) -> Problem:
    detail = (
        f"{user.name} is the last administrator: nobody could log in to the console as one any more. "
        "Make another user an administrator first."
    )
    return Problem(HTTPStatus.CONFLICT, detail)


def _answer(user: User, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Json:
    document = user_json(user)
    return Json(document, status, {"ETag": digest_tag(document), **(headers or {})})


def _address(user: User) -> str:
    return f"/api/v1/users/{quote(user.name, safe='')}"
