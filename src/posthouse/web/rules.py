"""`rules`: security rules one by one; their order is their priority.

Standards: design section 4 (ETag, 409, 412, 422, 428). A rule's ETag is a digest of it: a rule that moves stays the
same rule. Where a position is given, If-Match means the list that it counts in, whose ETag is the revision.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import Body, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from posthouse.core.faults import Fault
from posthouse.core.fields import name_key, shown
from posthouse.core.inventory import check_rule
from posthouse.core.rule import rule_json
from posthouse.ports import StoredInventory
from posthouse.web.auth import CurrentKey, Right, guarded
from posthouse.web.changing import Draft, change_inventory, check_match, check_tag, digest_tag, unstorable
from posthouse.web.inventory import etag
from posthouse.web.paging import LARGEST_PAGE, AfterName, ListLimit, page_after
from posthouse.web.problems import Json, Problem, invalid
from posthouse.web.schemas import COUNT, NAME, RULE, Responses, answer, of, page_of, problem
from posthouse.web.tools import Tools

reading = guarded(Right.CONFIG_READ)
changing = guarded(Right.CONFIG_CHANGE)

Document = Mapping[str, object]
MOST_RULES = 100_000
"""Highest position that is looked at."""

_INBOUND = {
    "name": "inbound",
    "enabled": True,
    "match": {"clients": ["192.0.2.0/24"], "recipients": ["*@ours.example"]},
    "relay": {"profile": "exchange"},
    "open_relay": False,
}
_NEW = {"name": "inbound", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "exchange"}}
_MOVED = {"name": "inbound", "position": 1}

Name = Annotated[str, WithJsonSchema(NAME)]
RuleBody = Annotated[
    dict[str, object],
    Body(examples=[_NEW], description="a security rule, as in inventory.toml"),
    WithJsonSchema(RULE),
]
Position = Annotated[
    int | None, Query(ge=1, le=MOST_RULES, description="where it stands then, from 1; default: the last")
]
IfMatch = Annotated[str | None, Header(description="ETag of the rule; needed, 428 without")]
IfListMatches = Annotated[str | None, Header(description="ETag of the list of rules")]

_GONE: Responses = {412: problem("If-Match does not match"), 428: problem("If-Match is missing")}
_TAKEN = problem("Another rule has this name, or other changes came first")


class NewPosition(BaseModel):
    """Where a rule shall stand."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"position": 1}]})

    position: Annotated[int, Field(ge=1, le=MOST_RULES, description="from 1, which is looked at first")]


@reading.get(
    "/rules",
    summary="All security rules, first match first",
    responses={
        200: answer("ETag: revision of the inventory", page_of(RULE), {"items": [_INBOUND], "next": None}),
        409: problem("The entry that the page begins after is gone"),
    },
)
def list_rules(tools: Tools, limit: ListLimit = LARGEST_PAGE, cursor: AfterName = "") -> Json:
    """Canonical, defaults included."""
    stored = tools.inventory.load()
    return Json(page_after(stored.rules, "name", limit, cursor), headers={"ETag": etag(stored.revision)})


@changing.post(
    "/rules",
    status_code=HTTPStatus.CREATED,
    summary="Add a security rule",
    responses={
        201: answer("The rule, canonical; ETag: its own", RULE, _INBOUND),
        409: _TAKEN,
        412: problem("If-Match does not match"),
    },
)
def add_rule(
    tools: Tools, key: CurrentKey, body: RuleBody, position: Position = None, if_match: IfListMatches = None
) -> Json:
    """In force within a second. Without `position` it is looked at last."""
    added: Document = {}

    def draft(stored: StoredInventory) -> Draft:
        nonlocal added
        check_match(if_match, stored.revision)
        added = _checked(stored, body, None)
        at = len(stored.rules) + 1 if position is None else _position(position, len(stored.rules) + 1)
        return _draft(stored, [*stored.rules[: at - 1], added, *stored.rules[at - 1 :]])

    change_inventory(tools, key, "rule added", draft)
    return Json(dict(added), HTTPStatus.CREATED, {"Location": _address(added), "ETag": digest_tag(added)})


@reading.get(
    "/rules/{name}",
    summary="One security rule",
    responses={200: answer("ETag: its own", RULE, _INBOUND)},
)
def get_rule(tools: Tools, name: Name) -> Json:
    """By name, case ignored."""
    stored = tools.inventory.load()
    rule = stored.rules[_index(stored, name)]
    return Json(dict(rule), headers={"ETag": digest_tag(rule)})


@changing.put(
    "/rules/{name}",
    summary="Replace a security rule",
    responses={200: answer("The rule, canonical; ETag: its new one", RULE, _INBOUND), 409: _TAKEN, **_GONE},
)
def replace_rule(tools: Tools, key: CurrentKey, name: Name, body: RuleBody, if_match: IfMatch = None) -> Json:
    """Its place stays. Another `name` in the body renames it. What is not given is the default."""
    new: Document = {}

    def draft(stored: StoredInventory) -> Draft:
        nonlocal new
        at = _index(stored, name)
        check_tag(if_match, digest_tag(stored.rules[at]), needed=True)
        new = _checked(stored, body, at)
        what = "" if new["name"] == stored.rules[at]["name"] else "rule renamed"
        return _draft(stored, [*stored.rules[:at], new, *stored.rules[at + 1 :]], what)

    change_inventory(tools, key, "rule changed", draft)
    return Json(dict(new), headers={"ETag": digest_tag(new), "Content-Location": _address(new)})


@changing.delete(
    "/rules/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove a security rule",
    responses={409: problem("Other changes came first"), 412: problem("If-Match does not match")},
)
def remove_rule(
    tools: Tools,
    key: CurrentKey,
    name: Name,
    if_match: Annotated[str | None, Header(description="ETag of the rule")] = None,
) -> Response:
    """Mail that it has matched already goes on as it said."""

    def draft(stored: StoredInventory) -> Draft:
        at = _index(stored, name)
        check_tag(if_match, digest_tag(stored.rules[at]))
        return _draft(stored, [*stored.rules[:at], *stored.rules[at + 1 :]])

    change_inventory(tools, key, "rule removed", draft)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@changing.post(
    "/rules/{name}/move",
    summary="Move a security rule to another place in the order",
    responses={
        200: answer("Where it stands now; ETag: revision of the inventory", of(name=NAME, position=COUNT), _MOVED),
        409: problem("Other changes came first"),
        412: problem("If-Match does not match"),
    },
)
def move_rule(tools: Tools, key: CurrentKey, name: Name, body: NewPosition, if_match: IfListMatches = None) -> Json:
    """The others keep their order among themselves. Position 1 is looked at first."""
    moved: Document = {}

    def draft(stored: StoredInventory) -> Draft:
        nonlocal moved
        at = _index(stored, name)
        check_match(if_match, stored.revision)
        to = _position(body.position, len(stored.rules))
        moved = stored.rules[at]
        others = [*stored.rules[:at], *stored.rules[at + 1 :]]
        return _draft(stored, [*others[: to - 1], moved, *others[to - 1 :]])

    revision = change_inventory(tools, key, "rule moved", draft)
    return Json({"name": moved["name"], "position": body.position}, headers={"ETag": etag(revision)})


def _draft(stored: StoredInventory, rules: Sequence[Document], what: str = "") -> Draft:
    return Draft([profile.document for profile in stored.profiles], rules, what=what)


def _index(stored: StoredInventory, name: str) -> int:
    """Of the rule of that name, case ignored; 404 if there is none."""
    for at, rule in enumerate(stored.rules):
        if name_key(str(rule["name"])) == name_key(name):
            return at
    raise Problem(HTTPStatus.NOT_FOUND, "There is no rule of that name.")


def _checked(stored: StoredInventory, body: Document, own: int | None) -> Document:
    """The rule, canonical; 422 with every fault, 409 if only its name is taken. `own`: where what it replaces is."""
    if faults := unstorable(body):
        raise invalid(faults)
    rule, found = check_rule(body, [profile.document for profile in stored.profiles])
    wanted = body.get("name")
    others = [str(other["name"]) for at, other in enumerate(stored.rules) if at != own]
    taken = [other for other in others if isinstance(wanted, str) and name_key(other) == name_key(wanted)]
    faults = list(found)
    if taken:
        remedy = "Give it another name, or change that rule."
        faults.append(Fault("name", shown(wanted), f"There is a rule {taken[0]!r} already; case is ignored.", remedy))
    if rule is None or found:
        raise invalid(faults)
    if taken:
        raise Problem(HTTPStatus.CONFLICT, f"The name {rule.name!r} is taken.", faults)
    return rule_json(rule)


def _position(position: int, most: int) -> int:
    if position > most:
        rule = f"There are no more than {most} places."
        raise invalid([Fault("position", str(position), rule, f"Give a number from 1 to {most}.")])
    return position


def _address(rule: Document) -> str:
    return f"/api/v1/rules/{quote(str(rule['name']), safe='')}"
