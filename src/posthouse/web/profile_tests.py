"""TEST of server profiles: `server-profile-tests` for one that is not saved, `server-profiles/{name}/test`.

A saved secret goes only to servers that it was entered for, and by no weaker way (`core/protection`); for who may not
change the configuration it goes as it is saved. What a profile has this node read (references to the environment and
to files, `tls_ca`, the socket of a clamd) only who may change the configuration may give anew: else a TEST would tell
of any file.
Standards: design 2.11 and section 4.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import Body, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool

from posthouse.core.profile import ServerProfile
from posthouse.core.profile_change import MARK
from posthouse.core.profile_mark import mark_of
from posthouse.core.profile_test import Inquiry, ProfileResult, ServerResult, result_json, server_json, summary_json
from posthouse.mailflow.profile_test import OF_ONE, NoTurn, Watch
from posthouse.ports import UNLOCK_LOGIN, Key, QueueCommand, StoredProfile
from posthouse.web.asked_test import Asked, read_asked
from posthouse.web.auth import CurrentKey, Right, actor, guarded
from posthouse.web.inventory import stored_profile
from posthouse.web.problems import Json, Problem
from posthouse.web.rate import Rate
from posthouse.web.schemas import CHANGED_PROFILE, TESTED_PROFILE
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.PROFILE_TEST)

TESTS, PER_SECONDS = 60, 60.0
"""Of one key."""
BUSY_SECONDS = 10
"""After which to try again where too many tests are under way: as long as one takes."""

Document = Mapping[str, object]

_ASKED = {"mail_from": "me@ours.example", "rcpt_to": "postmaster@ours.example"}
_UNSAVED = {"name": "exchange", "type": "smtp", "servers": ["10.0.0.1"], "tls": "starttls-required", **_ASKED}
FAILED_TEST: dict[str, Any] = {
    "ok": False,
    "servers": [
        {
            "server": "smtp://10.0.0.1:25",
            "ok": False,
            "stages": [
                {
                    "name": "resolve",
                    "ok": True,
                    "seconds": 0.0,
                    "detail": {"addresses": ["10.0.0.1"]},
                    "transcript": [],
                    "advice": "",
                },
                {
                    "name": "connect",
                    "ok": False,
                    "seconds": 0.001,
                    "detail": {
                        "fault": "connection refused",
                        "tried": ["10.0.0.1: connection refused"],
                    },
                    "transcript": [],
                    "advice": "Check the port, and that the mail server runs and listens on this address: nothing "
                    "accepts at port 25.",
                },
            ],
        }
    ],
}
LIVE = "application/x-ndjson"
"""Asked for by Accept: the ladders while they grow."""
_GROWING = "".join(f"{json.dumps(each)}\n" for each in (FAILED_TEST["servers"][0], FAILED_TEST))
_ANSWERS: dict[int | str, dict[str, object]] = {
    200: {
        "description": "The ladder of each server; a stage that fails is its last. `detail` has the facts of a stage "
        "and, where it failed, `fault`",
        "content": {
            "application/json": {"example": FAILED_TEST},
            LIVE: {"schema": {"type": "string", "description": "a JSON document a line"}, "example": _GROWING},
        },
    },
    429: {
        "description": "60 tests a minute and two at once for each key; see Retry-After",
        "content": {"application/problem+json": {}},
    },
    503: {
        "description": "Others were tested for 15 s, so nothing was tested; see Retry-After",
        "content": {"application/problem+json": {}},
    },
}


def new_rate() -> Rate:
    """For `app.state.test_rate`."""
    return Rate(TESTS, PER_SECONDS)


async def _rate_of(request: Request) -> Rate:
    return cast(Rate, request.app.state.test_rate)


CurrentRate = Annotated[Rate, Depends(_rate_of)]


@router.post("/server-profile-tests", summary="Test a server profile that is not saved", responses=_ANSWERS)
async def try_unsaved(
    request: Request,
    tools: Tools,
    key: CurrentKey,
    rate: CurrentRate,
    body: Annotated[
        dict[str, object],
        Body(examples=[_UNSAVED], description="a server profile, and an address to ask for"),
        WithJsonSchema(TESTED_PROFILE),
    ],
) -> Response:
    """All servers at once, 10 s in all, never DATA. With `rcpt_to` each server is asked for that address (MAIL from
    `mail_from`, RCPT, RSET). Invalid values are 422, faults of servers are stages. With
    `Accept: application/x-ndjson` the ladder of a server comes on a line whenever it has grown, and the whole result
    on the last one."""
    asked = read_asked(tools, key, _without_mark(body), None)
    return await _answered(request, lambda watch: _tested(tools, key, rate, asked, None, watch))


@router.post(
    "/server-profiles/{name}/test", summary="Test a saved server profile, also with changes", responses=_ANSWERS
)
async def try_saved(
    request: Request,
    tools: Tools,
    key: CurrentKey,
    rate: CurrentRate,
    name: str,
    body: Annotated[
        dict[str, object] | None,
        Body(
            examples=[_ASKED, {"tls": "starttls-required"}], description="changed fields, and an address to ask for"
        ),
        WithJsonSchema({"anyOf": [CHANGED_PROFILE, {"type": "null"}]}),
    ] = None,
) -> Response:
    """Fields that are not given are as saved, null removes one. A saved secret is kept unless a server is new or
    reached by a way that protects it less: then it has to be entered again. `Accept`: see `server-profile-tests`."""
    profile = await run_in_threadpool(stored_profile, tools, name)
    asked = read_asked(tools, key, _without_mark(body or {}), profile)
    as_saved = not set(body or {}) - {*_ASKED, MARK}
    saved = profile if as_saved else None
    return await _answered(request, lambda watch: _tested(tools, key, rate, asked, saved, watch))


async def _answered(
    request: Request, test: Callable[[Watch | None], Coroutine[None, None, ProfileResult]]
) -> Response:
    """The result at the end, or line by line for who asks so; what refuses the test is a problem either way."""
    if LIVE not in request.headers.get("accept", ""):
        return Json(result_json(await test(None)))
    grown: asyncio.Queue[ServerResult | None] = asyncio.Queue()
    task = asyncio.create_task(test(grown.put_nowait))
    task.add_done_callback(lambda _: grown.put_nowait(None))
    first = await grown.get()
    if first is None:
        task.result()  # a problem

    async def lines() -> AsyncIterator[str]:
        try:
            server = first
            while server is not None:
                yield _line(server_json(server))
                server = await grown.get()
            yield _line(result_json(await task))
        finally:
            task.cancel()  # whoever asked has gone

    return StreamingResponse(lines(), media_type=LIVE)


def _line(document: Document) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"


async def _tested(
    tools: WebTools, key: Key, rate: Rate, asked: Asked, saved: StoredProfile | None, watch: Watch | None
) -> ProfileResult:
    """`saved`: the profile that is tested as it is saved, whose mark the test renews."""
    result = await run_test(tools, key, rate, asked.profile, asked.inquiry, as_saved=saved is not None, watch=watch)
    if saved is not None and not (asked.inquiry is not None and not result.ok):
        await run_in_threadpool(_renew, tools, key, saved, result)
    return result


async def run_test(
    tools: WebTools,
    key: Key,
    rate: Rate,
    profile: ServerProfile,
    inquiry: Inquiry | None,
    *,
    as_saved: bool,
    watch: Watch | None = None,
) -> ProfileResult:
    """One test, counted and audited. The type is one of those that can be. 429 if the key has tested too often or has
    tests enough under way, 503 if no turn comes in time: then nothing was tested, and nothing is audited."""
    if tools.profile_test.is_full(key.id):
        detail = f"A key may have {OF_ONE} tests under way; try again when one has ended."
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(BUSY_SECONDS)})
    wait = rate.take(key.id, tools.clock.monotonic())
    if wait:
        detail = f"A key may test {TESTS} times a minute; try again in {wait} s."
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, headers={"Retry-After": str(wait)})
    try:
        async with tools.profile_test.turn(key.id):
            result = await _run(tools, key, profile, inquiry, as_saved=as_saved, watch=watch)
    except NoTurn as error:
        detail = "Other server profiles were tested all the time; nothing was tested. Try again later."
        headers = {"Retry-After": str(BUSY_SECONDS)}
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers) from error
    if as_saved and result.ok and profile.password is not None:  # design 2.7
        unlock = QueueCommand(0, UNLOCK_LOGIN, actor(key), profile=profile.name)
        await run_in_threadpool(tools.commands.submit, unlock, tools.clock.now())
    return result


async def _run(
    tools: WebTools,
    key: Key,
    profile: ServerProfile,
    inquiry: Inquiry | None,
    *,
    as_saved: bool,
    watch: Watch | None,
) -> ProfileResult:
    result: ProfileResult | None = None
    try:
        result = await tools.profile_test.run(profile, inquiry, watch)
    finally:
        # Servers may have been logged in to, whatever became of the test and of whoever asked for it.
        row = summary_json(profile.name, result, as_saved=as_saved)
        await asyncio.shield(run_in_threadpool(_note, tools, key, row))
    return result


def _note(tools: WebTools, key: Key, detail: Document) -> None:
    tools.inventory.note(by=actor(key), what="server profile tested", detail=detail, now=tools.clock.now())


def _renew(tools: WebTools, key: Key, tested: StoredProfile, result: ProfileResult) -> None:
    """The mark of a profile, unless it has been changed meanwhile."""
    name = str(tested.document["name"])
    now = next((p for p in tools.inventory.load().profiles if p.document["name"] == name), None)
    if now is not None and now.revision == tested.revision:
        mark = mark_of(result, at=tools.clock.now(), by=actor(key), revision=tested.revision)
        tools.inventory.mark(name, now.tested, mark)


def _without_mark(body: Document) -> Document:
    """A profile as REST shows it can be tested as it is."""
    return {name: value for name, value in body.items() if name != MARK}
