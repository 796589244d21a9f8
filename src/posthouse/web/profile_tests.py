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
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import Body, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool

from posthouse.core.faults import Fault
from posthouse.core.fields import indexed
from posthouse.core.kept_secret import ENTER_AGAIN, has_use, keep_secrets, with_secrets
from posthouse.core.profile import KEPT, SECRET_FIELDS, ServerProfile, parse_profile, profile_json
from posthouse.core.profile_change import MARK
from posthouse.core.profile_mark import mark_of
from posthouse.core.profile_test import Inquiry, ProfileResult, ServerResult, result_json, server_json, summary_json
from posthouse.core.protection import weaker_way
from posthouse.core.service_type import TLS_SETTINGS, ServiceType
from posthouse.core.smtp_path import parse_mailbox
from posthouse.mailflow.profile_test import OF_ONE, NoTurn, Watch
from posthouse.ports import UNLOCK_LOGIN, Key, QueueCommand, StoredProfile
from posthouse.web.auth import CurrentKey, Right, actor, guarded, may
from posthouse.web.changing import unstorable
from posthouse.web.inventory import stored_profile
from posthouse.web.problems import Json, Problem, invalid, shown
from posthouse.web.rate import Rate
from posthouse.web.schemas import CHANGED_PROFILE, TESTED_PROFILE
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.PROFILE_TEST)

TESTS, PER_SECONDS = 60, 60.0
"""Of one key."""
BUSY_SECONDS = 10
"""After which to try again where too many tests are under way: as long as one takes."""

Document = Mapping[str, object]

_OF_THE_WAY = ("servers", "tls", *sorted(TLS_SETTINGS), "username", "client_certificate", "allow_plaintext_auth")
"""Properties that decide who gets a secret, and how."""
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
    asked = _read(tools, key, _without_mark(body), None)
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
    asked = _read(tools, key, _without_mark(body or {}), profile)
    as_saved = not set(body or {}) - {*_ASKED, MARK}
    saved = profile if as_saved else None
    return await _answered(request, lambda watch: _tested(tools, key, rate, asked, saved, watch))


@dataclass(frozen=True, slots=True)
class _Asked:
    profile: ServerProfile
    inquiry: Inquiry | None


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
    tools: WebTools, key: Key, rate: Rate, asked: _Asked, saved: StoredProfile | None, watch: Watch | None
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


# --- reading -----------------------------------------------------------------------------------------


def _read(tools: WebTools, key: Key, body: Document, saved: StoredProfile | None) -> _Asked:
    """What to test; 422 with every fault, 403 for references that this key may not give."""
    if faults := unstorable(body):
        raise invalid(faults)
    given = {name: value for name, value in body.items() if name not in _ASKED}
    inquiry, faults = _inquiry(tools, body)
    document = dict(given)
    if saved is not None:
        document = {**saved.document, **given}
        for name in SECRET_FIELDS:
            if name not in given and not has_use(document, name):
                document.pop(name, None)
    kept, kept_faults = keep_secrets(document, saved.document if saved else None, "")
    profile, found = parse_profile(kept, "")
    faults += [*found, *kept_faults]
    if profile is not None:
        faults += _reference_faults(kept, given, saved)
        if profile.type not in (types := tools.profile_test.types):
            remedy = f"These types can be tested: {', '.join(types) or 'none'}."
            faults.append(Fault("type", profile.type.value, "not built yet", remedy))
        if inquiry is not None and profile.type is not ServiceType.SMTP:
            rule = f"A {profile.type} server is not asked for addresses."
            faults.append(Fault("rcpt_to", inquiry.rcpt_to, rule, "Leave out rcpt_to and mail_from."))
    if profile is None or faults:
        raise invalid(faults)
    _check_references(key, profile, given, saved)
    if saved is not None:
        _check_way(key, profile, given, saved)
        secrets = {name: secret for name, secret in saved.secrets.items() if kept.get(name) == KEPT}
        profile = replace(with_secrets(profile, secrets), revision=saved.revision)
    return _Asked(profile, inquiry)


def _reference_faults(kept: Document, given: Document, saved: StoredProfile | None) -> list[Fault]:
    """A saved reference goes to no new server and by no weaker way either, unless it is given again."""
    names = [name for name in SECRET_FIELDS if name not in given and kept.get(name) not in (None, KEPT)]
    if saved is None or not names or not (rule := weaker_way(kept, saved.document)):
        return []
    return [Fault(name, "***", rule, ENTER_AGAIN) for name in names]


def _check_way(key: Key, profile: ServerProfile, given: Document, saved: StoredProfile) -> None:
    """403 where a key that may not change the configuration would have a saved secret go another way than saved."""
    used = [name for name in SECRET_FIELDS if given.get(name, KEPT) == KEPT and getattr(profile, name) is not None]
    before, _ = parse_profile(saved.document, "")
    if may(key.role, Right.CONFIG_CHANGE) or not used:
        return
    now, then = profile_json(profile), profile_json(before) if before is not None else saved.document
    rule = f"The role {key.role} may have a saved secret used only as it is saved."
    remedy = f"Leave it out, or give {' and '.join(used)} as a text."
    faults = [Fault(name, "", rule, remedy) for name in _OF_THE_WAY if now.get(name) != then.get(name)]
    if faults:
        raise Problem(HTTPStatus.FORBIDDEN, "A saved secret is refused for a changed profile.", faults)


def _check_references(key: Key, profile: ServerProfile, given: Document, saved: StoredProfile | None) -> None:
    """403 where a key that may not change the configuration would have this node read a file or a secret for it."""
    if may(key.role, Right.CONFIG_CHANGE):
        return
    before: Document = saved.document if saved is not None else {}
    faults = [
        Fault(name, "", f"The role {key.role} may not have this node read a secret.", "Leave it out, or give a text.")
        for name in SECRET_FIELDS
        if isinstance(given.get(name), Mapping) and given[name] != KEPT
    ]
    if profile.tls_ca and profile.tls_ca != before.get("tls_ca"):
        rule = f"The role {key.role} may not have this node read a file."
        faults.append(Fault("tls_ca", "", rule, "Leave it out, or pin the certificate."))
    known = before.get("servers")
    for field, server in indexed("servers", profile.servers):
        if not server.host and str(server) not in (known if isinstance(known, list | tuple) else ()):
            rule = f"The role {key.role} may not have this node open a socket file."
            faults.append(Fault(field, "", rule, "Give host and port, or a socket that is saved."))
    if faults:
        raise Problem(HTTPStatus.FORBIDDEN, "A reference to what this node can read is refused.", faults)


def _inquiry(tools: WebTools, body: Document) -> tuple[Inquiry | None, list[Fault]]:
    """The address to ask for; the sender is that of own mail unless one is given, else the null reverse-path."""
    own = tools.settings.own_mail
    texts: dict[str, str] = {"mail_from": own.sender if own is not None else "", "rcpt_to": ""}
    faults = []
    for name in texts:
        value = body.get(name)
        if value is None or (value == "" and name == "mail_from"):
            texts[name] = "" if value == "" else texts[name]
        elif isinstance(value, str) and len(value) <= 320 and parse_mailbox(value, smtputf8=False) is not None:
            texts[name] = value
        else:
            faults.append(Fault(name, shown(name, value), "This is no mail address.", "Write it like local@domain."))
    if body.get("mail_from") is not None and body.get("rcpt_to") is None:
        faults.append(Fault("rcpt_to", "", "A sender is asked for together with a recipient.", "Give rcpt_to, too."))
    if not texts["rcpt_to"]:
        return None, faults
    return Inquiry(texts["mail_from"], texts["rcpt_to"]), faults
