"""One way to change the inventory through REST: laid over what is stored now, audited, in one transaction.

Standards: design section 4 (If-Match, 409, 412, 422, 428); RFC 9110 section 13.1.1 (If-Match).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from posthouse.core.faults import Fault
from posthouse.core.kept_secret import Secrets
from posthouse.core.profile_mark import Mark
from posthouse.ports import Key, RevisionConflict, SecretKeyUnusable, StoredInventory
from posthouse.web.auth import actor
from posthouse.web.inventory import etag
from posthouse.web.problems import Problem
from posthouse.web.tools import WebTools

TRIES = 5
"""Against other changes that come first, where no If-Match forbids to try again."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the inventory shall be; both lists whole, canonical and free of faults."""

    profiles: Sequence[Mapping[str, object]]
    rules: Sequence[Mapping[str, object]]
    secrets: Secrets = field(default_factory=dict)
    """What `{ set = true }` stands for, where it is not what the profile of that name has."""
    tested: Mapping[str, Mark] = field(default_factory=dict)
    """By name (`name_key`): marks of profiles that have been tested, or are saved by force."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """New names of profiles by the old ones."""
    what: str = ""
    """Of the audit row, where that depends on what is stored."""
    reason: str = ""
    """Why, for the audit row; that of a save by force is in its mark."""


def change_inventory(tools: WebTools, key: Key, what: str, draft_of: Callable[[StoredInventory], Draft]) -> int:
    """Saves what `draft_of` makes of what is stored; returns the revision then in force.

    `draft_of` is asked again when another change came first, and raises Problem where it may not be. Raises Problem
    409 if there is no key to encrypt a secret, or if others come first again and again.
    """
    for _ in range(TRIES):
        stored = tools.inventory.load()
        draft = draft_of(stored)
        try:
            return tools.inventory.replace(
                draft.profiles,
                draft.rules,
                expected_revision=stored.revision,
                by=actor(key),
                now=tools.clock.now(),
                secrets=draft.secrets,
                what=draft.what or what,
                tested=draft.tested,
                renamed=draft.renamed,
                reason=draft.reason,
            )
        except RevisionConflict:
            continue
        except SecretKeyUnusable as error:
            detail = f"The secrets cannot be stored: {error}. {error.remedy}"
            raise Problem(HTTPStatus.CONFLICT, detail) from error
    raise Problem(HTTPStatus.CONFLICT, "Other changes came first again and again; try later.")


def check_match(if_match: str | None, revision: int, *, needed: bool = False) -> None:
    """412 if `if_match` names other revisions than this; without it 428 where it is needed."""
    check_tag(if_match, etag(revision), needed=needed)


def digest_tag(document: Mapping[str, object]) -> str:
    """Strong entity tag of what has no revision of its own: two that have the same are the same."""
    text = json.dumps(document, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def check_tag(if_match: str | None, tag: str, *, needed: bool = False) -> None:
    """412 if `if_match` names other entity tags than this; without it 428 where it is needed."""
    if if_match is None:
        if needed:
            detail = "Send If-Match with the ETag of what you read, so that no other change is overwritten."
            raise Problem(HTTPStatus.PRECONDITION_REQUIRED, detail)
        return
    if if_match.strip() != "*" and tag not in (each.strip() for each in if_match.split(",")):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "It has changed since it was read.")


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
