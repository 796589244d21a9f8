"""`config`: the inventory as one document: export, diff, apply."""

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import Body, Header, Query

from posthouse.core.faults import Fault
from posthouse.core.fields import Secret
from posthouse.core.inventory import Change, Difference, apply_document, diff, export_document
from posthouse.core.kept_secret import Secrets, changed_secrets, given_texts
from posthouse.core.profile import KEPT
from posthouse.ports import RevisionConflict, SecretKeyUnusable, StoredInventory
from posthouse.web.auth import CurrentKey, Right, actor, guarded, may
from posthouse.web.inventory import etag
from posthouse.web.problems import Json, Problem, invalid
from posthouse.web.tools import Tools

reading = guarded(Right.CONFIG_READ)
changing = guarded(Right.CONFIG_CHANGE)

TRIES = 5
"""Against other changes that come first, where no If-Match forbids to try again."""

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

Document = Annotated[dict[str, object], Body(examples=[_DOCUMENT], description="the inventory, as inventory.toml")]
Prune = Annotated[bool, Query(description="remove profiles and rules that the document does not name")]


@reading.get(
    "/config",
    summary="Export the inventory",
    responses={
        200: {
            "description": "ETag: revision of the inventory",
            "content": {"application/json": {"example": _DOCUMENT}},
        }
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
    responses={200: {"description": "Differences", "content": {"application/json": {"example": _CHANGES}}}},
)
def compare(tools: Tools, key: CurrentKey, document: Document, prune: Prune = False) -> Json:
    """Validated whole: all faults at once. A secret given as a text is compared only for who may change it: nobody
    else can find one out by trying."""
    stored = tools.inventory.load()
    same = tools.inventory.same_secret if may(key.role, Right.CONFIG_CHANGE) else _taken_as_same
    _, _, changes = _merged(stored, document, prune, given_texts(document), same)
    return Json({"changes": changes, "revision": stored.revision}, headers={"ETag": etag(stored.revision)})


@changing.post(
    "/config/apply",
    summary="Put a document in force",
    responses={
        200: {
            "description": "Differences, and the revision now in force",
            "content": {"application/json": {"example": {"applied": True, "revision": 4, **_CHANGES}}},
        },
        409: {
            "description": "Another change came first, or there is no key to encrypt a secret",
            "content": {"application/problem+json": {}},
        },
        412: {"description": "If-Match does not match", "content": {"application/problem+json": {}}},
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
    for _ in range(TRIES):
        stored = tools.inventory.load()
        _check_match(if_match, stored.revision)
        profiles, rules, changes = _merged(stored, document, prune, secrets, tools.inventory.same_secret)
        revision = stored.revision
        if changes and not dry_run:
            try:
                revision = tools.inventory.replace(
                    profiles,
                    rules,
                    expected_revision=stored.revision,
                    by=actor(key),
                    now=tools.clock.now(),
                    secrets=secrets,
                )
            except RevisionConflict:
                continue
            except SecretKeyUnusable as error:
                detail = f"The secrets cannot be stored: {error}. {error.remedy}"
                raise Problem(HTTPStatus.CONFLICT, detail) from error
        return Json(
            {"applied": not dry_run, "revision": revision, "changes": changes}, headers={"ETag": etag(revision)}
        )
    raise Problem(HTTPStatus.CONFLICT, "Other changes came first again and again; try later.")


def _check_match(if_match: str | None, revision: int) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if etag(revision) not in (tag.strip() for tag in if_match.split(",")):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "The configuration has changed since it was read.")


def _taken_as_same(_stored: Secret, _text: str) -> bool:
    return True


def _merged(
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
    if found:
        raise invalid(found)
    differences = list(diff(old_profiles, stored.rules, profiles, rules))
    named = [(str(p.document["name"]), p.secrets) for p in stored.profiles]
    for field in changed_secrets(named, secrets, same):
        differences.append(Difference(Change.CHANGED, field, dict(KEPT), dict(KEPT)))
    return profiles, rules, _changes_json(differences)


def _changes_json(differences: Sequence[Difference]) -> list[dict[str, object]]:
    return [
        {"change": difference.change.value, "field": difference.field, "old": difference.old, "new": difference.new}
        for difference in differences
    ]


def unstorable(document: Mapping[str, object]) -> list[Fault]:
    """What JSON allows but no database and no answer can carry: NaN, lone surrogates. (Control characters: core.)"""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        return [Fault("body", "", "There is a lone surrogate in a text.", "Send well-formed Unicode.")]
    except ValueError:
        return [Fault("body", "", "NaN and Infinity are no JSON.", "Send a number.")]
    return []
