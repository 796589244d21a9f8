"""`server-profiles`: add, change, rename, remove, put servers in another order.

What may make a server fail is tested before it is saved, and a failed test saves nothing unless it is forced. The
test runs before the transaction; what it has tested is then laid over what is stored, as If-Match allows.
Standards: seed 3.7 ("If the test fails, then the server profile can not be added"); design 2.4, 2.11 and section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import Body, Header, Query, Response
from pydantic import StringConstraints, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from posthouse.core.faults import Fault
from posthouse.core.fields import name_key
from posthouse.core.profile_change import (
    Wanted,
    name_faults,
    read_wanted,
    reordered,
    uses,
    uses_by_own_mail,
    with_profile,
)
from posthouse.core.profile_mark import Mark, MarkState, mark_after, mark_of, needs_test
from posthouse.core.profile_test import ProfileResult, result_json
from posthouse.core.service_type import ServiceType
from posthouse.ports import Key, StoredInventory, StoredProfile
from posthouse.web import profile_examples as examples
from posthouse.web.auth import CurrentKey, Right, actor, guarded
from posthouse.web.changing import Draft, change_inventory, check_match, unstorable
from posthouse.web.inventory import etag, find_profile, profile_body
from posthouse.web.problems import Json, Problem, invalid
from posthouse.web.profile_tests import CurrentRate, run_test
from posthouse.web.rate import Rate
from posthouse.web.schemas import GIVEN_PROFILE, SERVERS
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.CONFIG_CHANGE)

Document = Mapping[str, object]
Given = Annotated[
    dict[str, object],
    Body(examples=[examples.GIVEN], description="the whole server profile"),
    WithJsonSchema(GIVEN_PROFILE),
]
Force = Annotated[bool, Query(description="save what is valid without a test, marked as untested")]
Reason = Annotated[
    str,
    StringConstraints(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$"),
    Query(description="why it is saved by force; the mark and the audit log keep it"),
]
IfMatch = Annotated[str | None, Header(description="ETag of the server profile as it was read")]


@dataclass(frozen=True, slots=True)
class _Forced:
    """How a profile is saved that is not tested."""

    force: bool
    reason: str


@router.post(
    "/server-profiles",
    status_code=HTTPStatus.CREATED,
    summary="Add a server profile, once its TEST has passed",
    responses=examples.ADDED,
)
async def add_profile(
    tools: Tools, key: CurrentKey, rate: CurrentRate, body: Given, force: Force = False, reason: Reason = ""
) -> Json:
    """All servers are tested first; if one fails nothing is saved, and the answer has the test. In force within a
    second. `tested` is passed over. References to the environment and to files are read by the nodes."""
    stored = await run_in_threadpool(tools.inventory.load)
    wanted = _wanted(stored, body, None)
    mark = await _mark(tools, key, rate, wanted, _Forced(force, reason))

    def draft(stored: StoredInventory) -> Draft:
        nonlocal wanted
        wanted = _wanted(stored, body, None)
        return _draft(stored, wanted, None, mark, reason)

    revision = await run_in_threadpool(change_inventory, tools, key, "server profile added", draft)
    return _answer(_saved(tools, key, None, wanted.document, mark, revision), HTTPStatus.CREATED)


@router.put(
    "/server-profiles/{name}",
    summary="Change or rename a server profile, once its TEST has passed",
    responses=examples.CHANGED,
)
async def change_profile(
    tools: Tools,
    key: CurrentKey,
    rate: CurrentRate,
    name: str,
    body: Given,
    if_match: IfMatch = None,
    force: Force = False,
    reason: Reason = "",
) -> Json:
    """The body is the whole profile: what it leaves out is the default. A secret that is absent or `{"set": true}`
    stays, null removes it; `tested` is passed over, so what GET answered can be sent back. Another `name` renames:
    rules and stored secrets follow. Tested first, unless only name, preference, order of the servers, pool and
    public_url change: then the mark stays."""
    stored = await run_in_threadpool(tools.inventory.load)
    old = _matching(stored, name, if_match, needed=True)
    if_match = etag(old.revision)  # what is tested now is what is saved, also where it was *
    wanted = _changed(tools, stored, body, old)
    mark = None
    if await run_in_threadpool(_needs_test, tools, old, wanted):
        mark = await _mark(tools, key, rate, wanted, _Forced(force, reason))

    def draft(stored: StoredInventory) -> Draft:
        nonlocal old, wanted
        old = _matching(stored, name, if_match, needed=True)
        wanted = _changed(tools, stored, body, old)
        return _draft(stored, wanted, old, mark, reason)

    what = "changed" if name_key(_name(old)) == name_key(wanted.profile.name) else "renamed"
    revision = await run_in_threadpool(change_inventory, tools, key, f"server profile {what}", draft)
    same = await run_in_threadpool(_keeps_secrets, tools, old, wanted)
    return _answer(_saved(tools, key, old, wanted.document, mark, revision, same_secrets=same), HTTPStatus.OK)


@router.delete(
    "/server-profiles/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove a server profile that nothing names",
    responses=examples.REMOVED,
)
def remove_profile(tools: Tools, key: CurrentKey, name: str, if_match: IfMatch = None) -> Response:
    """Not while a rule relays by it, or own mail leaves by it."""

    def draft(stored: StoredInventory) -> Draft:
        old = _matching(stored, name, if_match)
        if in_use := uses(_name(old), stored.rules, tools.settings.own_mail_profile):
            raise Problem(HTTPStatus.CONFLICT, "The server profile is in use.", in_use)
        return Draft([p.document for p in stored.profiles if p is not old], stored.rules)

    change_inventory(tools, key, "server profile removed", draft)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/server-profiles/{name}/order",
    summary="Put the servers of a profile in another order",
    responses=examples.ORDERED,
)
def order_servers(
    tools: Tools,
    key: CurrentKey,
    name: str,
    body: Annotated[
        dict[str, object],
        Body(examples=[examples.ORDER], description="every server, first one first"),
        WithJsonSchema(SERVERS),
    ],
    if_match: IfMatch = None,
) -> Json:
    """Each server exactly once, short forms allowed. Nothing is tested: they are the same servers."""
    if faults := unstorable(body):
        raise invalid(faults)

    laid: list[tuple[StoredProfile, Document]] = []

    def draft(stored: StoredInventory) -> Draft:
        old = _matching(stored, name, if_match)
        new, faults = reordered(old.document, body)
        if new is None:
            raise invalid(faults)
        laid.append((old, new))
        profiles, rules = with_profile([p.document for p in stored.profiles], stored.rules, old.document, new)
        return Draft(profiles, rules)

    revision = change_inventory(tools, key, "server profile ordered", draft)
    return _answer(_saved(tools, key, *laid[-1], None, revision), HTTPStatus.OK)


# --- what is wanted ----------------------------------------------------------------------------------


def _matching(stored: StoredInventory, name: str, if_match: str | None, *, needed: bool = False) -> StoredProfile:
    """404, 428 or 412."""
    found = find_profile(stored, name)
    check_match(if_match, found.revision, needed=needed)
    return found


def _wanted(stored: StoredInventory, body: Document, old: StoredProfile | None) -> Wanted:
    """The profile that the body asks for, valid among the others: 422 with every fault, or 409."""
    if faults := unstorable(body):
        raise invalid(faults)
    was = old.document if old is not None else None
    wanted, found = read_wanted(body, was, old.secrets if old is not None else {})
    taken = name_faults(body.get("name"), (p.document for p in stored.profiles), was)
    if wanted is None:
        raise invalid((*found, *taken))
    if taken:
        raise Problem(HTTPStatus.CONFLICT, "Another server profile has this name.", taken)
    return wanted


def _changed(tools: WebTools, stored: StoredInventory, body: Document, old: StoredProfile) -> Wanted:
    """The same for a profile that is there; 409 also where what names it could not name it as it would be."""
    wanted, name = _wanted(stored, body, old), _name(old)
    if wanted.profile.type is not ServiceType.SMTP and (
        in_use := uses(name, stored.rules, tools.settings.own_mail_profile)
    ):
        detail = f"Mail is relayed by a profile of type smtp; this one is {wanted.profile.type}, and in use."
        raise Problem(HTTPStatus.CONFLICT, detail, in_use)
    if name_key(wanted.profile.name) != name_key(name) and (
        in_use := uses_by_own_mail(name, tools.settings.own_mail_profile)
    ):
        raise Problem(HTTPStatus.CONFLICT, "posthouse.toml names this server profile.", in_use)
    return wanted


def _draft(
    stored: StoredInventory, wanted: Wanted, old: StoredProfile | None, mark: Mark | None, reason: str
) -> Draft:
    was = old.document if old is not None else None
    profiles, rules = with_profile([p.document for p in stored.profiles], stored.rules, was, wanted.document)
    key = name_key(wanted.profile.name)
    renamed = {_name(old): wanted.profile.name} if old is not None and _name(old) != wanted.profile.name else {}
    kept = old.secrets if old is not None and renamed else {}
    return Draft(
        profiles,
        rules,
        secrets={key: {**kept, **wanted.texts}},
        tested={key: mark} if mark is not None else {},
        renamed=renamed,
        reason="" if mark is not None and mark.forced else reason,
    )


def _needs_test(tools: WebTools, old: StoredProfile, wanted: Wanted) -> bool:
    return needs_test(old.document, wanted.document, same_secrets=_same_secrets(tools, old, wanted))


def _same_secrets(tools: WebTools, old: StoredProfile, wanted: Wanted) -> bool:
    return all(
        (stored := old.secrets.get(name)) is not None and tools.inventory.same_secret(stored, secret.value)
        for name, secret in wanted.texts.items()
    )


def _keeps_secrets(tools: WebTools, old: StoredProfile, wanted: Wanted) -> bool:
    """Whether the stored ones stay; a text that comes with another name is encrypted anew, also where it is same."""
    renamed = name_key(_name(old)) != name_key(wanted.profile.name)
    return not (renamed and wanted.texts) and _same_secrets(tools, old, wanted)


# --- the test ----------------------------------------------------------------------------------------


async def _mark(tools: WebTools, key: Key, rate: Rate, wanted: Wanted, forced: _Forced) -> Mark:
    """What the test says; 422 if it has failed, or if nobody can test the type. With force there is none."""
    profile = wanted.profile
    if forced.force:
        return Mark(MarkState.UNTESTED, tools.clock.now(), actor(key), forced.reason, forced=True)
    if profile.type not in (types := tools.profile_test.types):
        rule = "No node of this version can test servers of this type, so the profile is not saved."
        remedy = f"Save it untested with force=true; these types can be tested: {', '.join(types) or 'none'}."
        raise invalid((Fault("type", profile.type.value, rule, remedy),))
    result = await run_test(tools, key, rate, profile, None, as_saved=False)
    if not result.ok:
        raise _refused(result)
    return mark_of(result, at=tools.clock.now(), by=actor(key))


def _refused(result: ProfileResult) -> Problem:
    faults = [
        Fault(
            f"servers[{at}]",
            server.server,
            f"The test fails at {server.stages[-1].name}: {server.stages[-1].fault}.",
            server.stages[-1].advice or "Mend the server or the profile, or save it untested with force=true.",
        )
        for at, server in enumerate(result.servers)
        if not server.ok
    ]
    detail = (
        f"The test fails at {len(faults)} of {len(result.servers)} servers, so nothing is saved. "
        "force=true saves it untested."
    )
    more = {"test": result_json(result)}
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults, more=more)


# --- answers -----------------------------------------------------------------------------------------


def _saved(
    tools: WebTools,
    key: Key,
    old: StoredProfile | None,
    document: Document,
    mark: Mark | None,
    revision: int,
    *,
    same_secrets: bool = True,
) -> StoredProfile:
    """What this change has stored, at this revision of the inventory.

    Not read again: the ETag of a change that came after it would let its reader write over what he has not seen.
    """
    was = (old.document, old.tested) if old is not None else None
    by, now = actor(key), tools.clock.now()
    tested = mark_after(mark, was, document, same_secrets=same_secrets, by=by, at=now, revision=revision)
    if old is not None and old.document == document and same_secrets:
        revision = old.revision
    return StoredProfile(document, revision, tested=tested)


def _answer(profile: StoredProfile, status: HTTPStatus) -> Json:
    """The profile as it was stored."""
    place = f"/api/v1/server-profiles/{quote(_name(profile), safe='')}"
    where = "Location" if status is HTTPStatus.CREATED else "Content-Location"
    return Json(profile_body(profile), status, {"ETag": etag(profile.revision), where: place})


def _name(profile: StoredProfile) -> str:
    return str(profile.document["name"])
