"""`server-profiles/{name}/drain`: keep mail from one server of a profile, or treat it as down to rehearse failover.

Standards: issue 5 item 5; design section 4.
"""

from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from posthouse.core.drain import LONGEST_REASON, LONGEST_SECONDS, Drain, DrainKind, drain_json, find_server
from posthouse.core.faults import Fault
from posthouse.core.service_type import ServiceType
from posthouse.ports import NoSuchServer
from posthouse.web.auth import CurrentKey, Right, actor, guarded
from posthouse.web.changing import check_match
from posthouse.web.inventory import stored_profile
from posthouse.web.problems import Json, Problem, invalid
from posthouse.web.rate import Rate
from posthouse.web.states import server_texts
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.SERVERS_DRAIN)

CHANGES, PER_SECONDS = 60, 60.0
"""Of one key: each is a new revision, which all workers of all nodes read."""

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
_SERVER = "one of the profile's: its URI, which may be short, or its number, 1 being the first"
_Server = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=300, pattern=_PRINTABLE)]
_IfMatch = Annotated[
    str | None,
    Header(
        description="ETag of the server profile: with it a number means the server that it meant when it was read"
    ),
]
_Reason = Annotated[str, StringConstraints(strict=True, max_length=LONGEST_REASON, pattern=_PRINTABLE)]
_DRAIN = {
    "server": "smtp://10.0.0.1:25",
    "kind": "simulated",
    "at": 1764000000.0,
    "until": 1764000600.0,
    "by": "key anna (k2)",
    "reason": "rehearsal",
}
_ANSWERS: dict[int | str, dict[str, object]] = {
    409: {"description": "Conflict: only servers of type smtp", "content": {"application/problem+json": {}}},
    412: {"description": "If-Match does not match", "content": {"application/problem+json": {}}},
    429: {
        "description": "60 drains and undrains a minute for each key; see Retry-After",
        "content": {"application/problem+json": {}},
    },
}


def new_rate() -> Rate:
    """For `app.state.drain_rate`."""
    return Rate(CHANGES, PER_SECONDS)


async def _counted(request: Request, tools: Tools, key: CurrentKey) -> None:
    """One drain or undrain; 429 if the key has had too many."""
    # In the event loop, unlike the routes: a Rate is for one thread.
    wait = cast(Rate, request.app.state.drain_rate).take(key.id, tools.clock.monotonic())
    if wait:
        detail = f"A key may drain and undrain {CHANGES} times a minute; try again in {wait} s."
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(wait)})


class DrainOrder(BaseModel):
    """Which server to leave out, and for how long."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"server": "10.0.0.1", "reason": "new disks"},
                {"server": "1", "seconds": 600, "simulate": True},
            ]
        },
    )

    server: Annotated[_Server, Field(description=_SERVER)]
    seconds: Annotated[
        float | None,
        Field(ge=1, le=LONGEST_SECONDS, description="null: until it is undrained; needed with `simulate`"),
    ] = None
    reason: Annotated[_Reason, Field(description="for the trail of mails, the queue and the audit log")] = ""
    simulate: Annotated[bool, Field(description="treat it as down for `seconds`, to see what failover does")] = False


@router.post(
    "/server-profiles/{name}/drain",
    summary="Keep mail from one server of a profile",
    dependencies=[Depends(_counted)],
    responses={
        200: {
            "description": "The drain in force, instead of one that was there",
            "content": {"application/json": {"example": {"profile": "exchange", **_DRAIN}}},
        },
        **_ANSWERS,
    },
)
def drain_server(tools: Tools, key: CurrentKey, name: str, body: DrainOrder, if_match: _IfMatch = None) -> Json:
    """In force in all workers within a second, also after a restart. Open transactions end as usual, kept connections
    are closed, no probe goes there, and no mail uses up a try for it. Other profiles that name the server go on.
    Where all servers are left out mail waits. The same again, without end, changes nothing."""
    if body.simulate and body.seconds is None:
        rule = "A server is treated as down for a while only."
        raise invalid([Fault("seconds", "null", rule, f"Give 1 to {LONGEST_SECONDS} seconds.")])
    profile, server = _server_of(tools, name, body.server, if_match)
    now = tools.clock.now()
    drain = Drain(
        profile,
        server,
        DrainKind.SIMULATED if body.simulate else DrainKind.DRAINED,
        now,
        now + body.seconds if body.seconds is not None else None,
        actor(key),
        body.reason,
    )
    try:
        before = tools.inventory.drain(drain)
    except NoSuchServer as error:  # the profile has just been changed
        raise Problem(HTTPStatus.NOT_FOUND, "The server profile has no such server any more.") from error
    in_force = before if before is not None and drain.repeats(before) else drain
    return Json({"profile": profile, **drain_json(in_force)})


@router.delete(
    "/server-profiles/{name}/drain",
    summary="Let mail go to a server of a profile again",
    dependencies=[Depends(_counted)],
    responses={
        200: {
            "description": "What was taken back; null if the server was not left out",
            "content": {
                "application/json": {
                    "example": {"profile": "exchange", "server": "smtp://10.0.0.1:25", "before": _DRAIN}
                }
            },
        },
        **_ANSWERS,
    },
)
def undrain_server(
    tools: Tools,
    key: CurrentKey,
    name: str,
    server: Annotated[_Server, Query(description=_SERVER)],
    if_match: _IfMatch = None,
) -> Json:
    """Mail that waited is woken, spread over 10 seconds."""
    profile, found = _server_of(tools, name, server, if_match)
    before = tools.inventory.undrain(profile, found, by=actor(key), now=tools.clock.now())
    return Json({"profile": profile, "server": found, "before": drain_json(before) if before is not None else None})


def _server_of(tools: WebTools, name: str, asked: str, if_match: str | None) -> tuple[str, str]:
    """Name of the profile and canonical server; 404 if there is none, 412."""
    profile = stored_profile(tools, name)
    check_match(if_match, profile.revision)
    document = profile.document
    if document.get("type") != ServiceType.SMTP:
        detail = (
            f"A server profile of type {document.get('type')} relays no mail that could be kept from its servers."
        )
        raise Problem(HTTPStatus.CONFLICT, detail)
    servers = server_texts(document)
    found = find_server(servers, asked)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"This is no server of the profile; it has {', '.join(servers)}.")
    return str(document["name"]), found
