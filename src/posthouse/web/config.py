"""`config`: the inventory as one document: export, diff, apply."""

from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import Body, Header, Query
from pydantic import WithJsonSchema

from posthouse.core.fields import Secret
from posthouse.core.inventory import Change, Difference, apply_document, diff, export_document
from posthouse.core.kept_secret import Secrets, changed_secrets, given_texts
from posthouse.core.profile import KEPT
from posthouse.core.profile_change import lost_to_own_mail
from posthouse.ports import StoredInventory
from posthouse.web.auth import CurrentKey, Right, guarded, may
from posthouse.web.changing import Draft, change_inventory, check_match, unstorable
from posthouse.web.inventory import etag
from posthouse.web.problems import Json, invalid
from posthouse.web.schemas import CHANGE, COUNT, FLAG, INVENTORY, answer, of, problem
from posthouse.web.tools import Tools, WebTools

reading = guarded(Right.CONFIG_READ)
changing = guarded(Right.CONFIG_CHANGE)

_DOCUMENT = {
    "server_profiles": [{"name": "exchange", "type": "smtp", "servers": ["10.0.0.1", "10.0.0.2:2525"]}],
    "rules": [{"name": "inbound", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "exchange"}}],
}
_CHANGES = {
    "changes": [
        {
            "change": "changed",
            "field": "server_profiles[exchange].preference",
            "old": "failover",
            "new": "round-robin",
        }
    ],
}

_CHANGED = {"type": "array", "items": CHANGE}

Document = Annotated[
    dict[str, object],
    Body(examples=[_DOCUMENT], description="the inventory, as inventory.toml"),
    WithJsonSchema(INVENTORY),
]
Prune = Annotated[bool, Query(description="remove profiles and rules that the document does not name")]


@reading.get(
    "/config",
    summary="Export the inventory",
    responses={
        200: answer("ETag: revision of the inventory", INVENTORY, _DOCUMENT),
    },
)
def export(tools: Tools) -> Json:
    """In the shape of inventory.toml, defaults left out."""
    stored = tools.inventory.load()
    return Json(
        export_document([p.document for p in stored.profiles], stored.rules), headers={"ETag": etag(stored.revision)}
    )


@reading.post(
    "/config/diff",
    summary="What applying a document would change",
    responses={200: answer("Differences", of(changes=_CHANGED, revision=COUNT), {**_CHANGES, "revision": 3})},
)
def compare(tools: Tools, key: CurrentKey, document: Document, prune: Prune = False) -> Json:
    """Validated whole: all faults at once. A secret given as a text is compared only for who may change it: nobody
    else can find one out by trying."""
    stored = tools.inventory.load()
    same = tools.inventory.same_secret if may(key.role, Right.CONFIG_CHANGE) else _taken_as_same
    _, _, changes = _merged(tools, stored, document, prune, given_texts(document), same)
    return Json({"changes": changes, "revision": stored.revision}, headers={"ETag": etag(stored.revision)})


@changing.post(
    "/config/apply",
    summary="Put a document in force",
    responses={
        200: answer(
            "Differences, and the revision now in force",
            of(applied=FLAG, revision=COUNT, changes=_CHANGED),
            {"applied": True, "revision": 4, **_CHANGES},
        ),
        409: problem("Another change came first, or there is no key to encrypt a secret"),
        412: problem("If-Match does not match"),
    },
)
def apply(
    tools: Tools,
    key: CurrentKey,
    document: Document,
    prune: Prune = False,
    dry_run: Annotated[bool, Query(description="validate and compare only")] = False,
    if_match: Annotated[str | None, Header(description="ETag of /config")] = None,
) -> Json:
    """What the document names is overwritten; what it does not name stays, its rules after the document's."""
    secrets = given_texts(document)
    changes: list[dict[str, object]] = []

    def draft(stored: StoredInventory) -> Draft:
        nonlocal changes
        check_match(if_match, stored.revision)
        profiles, rules, changes = _merged(tools, stored, document, prune, secrets, tools.inventory.same_secret)
        return Draft(profiles, rules, secrets)

    if dry_run:
        stored = tools.inventory.load()
        draft(stored)
        revision = stored.revision
    else:
        revision = change_inventory(tools, key, "config applied", draft)
    return Json({"applied": not dry_run, "revision": revision, "changes": changes}, headers={"ETag": etag(revision)})


def _taken_as_same(_stored: Secret, _text: str) -> bool:
    return True


def _merged(
    tools: WebTools,
    stored: StoredInventory,
    document: Mapping[str, object],
    prune: bool,
    secrets: Secrets,
    same: Callable[[Secret, str], bool],
) -> tuple[list[dict[str, object]], list[dict[str, object]], list[dict[str, object]]]:
    """Profiles, rules and differences once `document` is laid over what is stored; 422 with every fault."""
    faults = unstorable(document)
    if faults:
        raise invalid(faults)
    old_profiles = [profile.document for profile in stored.profiles]
    profiles, rules, found = apply_document(old_profiles, stored.rules, document, prune=prune)
    if found := found or lost_to_own_mail(old_profiles, profiles, tools.settings.own_mail_profile):
        raise invalid(found)
    differences = list(diff(old_profiles, stored.rules, profiles, rules))
    named = [(str(p.document["name"]), p.secrets) for p in stored.profiles]
    for field in changed_secrets(named, secrets, same):
        differences.append(Difference(Change.CHANGED, field, dict(KEPT), dict(KEPT)))
    return profiles, rules, [difference.json() for difference in differences]
