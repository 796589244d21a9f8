"""Stored secrets when a server profile is given anew: kept, replaced or removed, and never by a weaker way.

| given | what is stored afterwards |
| --- | --- |
| absent, or `{ set = true }` | what was stored; a reference that is absent is gone, for it is no secret |
| null | nothing |
| a text | the text, encrypted |
| `{ env }`, `{ file }` | the reference as written |

A password that is absent goes with its user name: without it, it is removed. Design sections 2.9 and 4.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from posthouse.core.faults import Fault
from posthouse.core.fields import Secret, join, name_key
from posthouse.core.profile import KEPT, SECRET_FIELDS, ServerProfile
from posthouse.core.protection import weaker_way
from posthouse.core.service_type import ROWS, ServiceType

Document = Mapping[str, object]
Secrets = Mapping[str, Mapping[str, Secret]]
"""By profile (`name_key`) and property."""
ENTER_AGAIN = "Enter the secret again."


def keep_secrets(given: Document, stored: Document | None, path: str) -> tuple[Document, tuple[Fault, ...]]:
    """`given` with `{ set = true }` wherever a stored secret is kept, and a fault wherever it cannot be.

    `stored`: the same profile as it is now, canonical; None if there is none. `path`: where `given` stands.
    """
    kept = dict(given)
    faults: list[Fault] = []
    for name in SECRET_FIELDS:
        is_stored = stored is not None and stored.get(name) == KEPT
        if name not in given and is_stored and has_use(given, name):
            kept[name] = dict(KEPT)
        if kept.get(name) != KEPT:
            continue
        where = join(path, name)
        if stored is None or not is_stored:
            remedy = 'Give the secret as a text, or as { env = "NAME" } or { file = "PATH" }.'
            faults.append(Fault(where, "", "set = true keeps a stored secret, but none is stored.", remedy))
        elif rule := weaker_way(given, stored):
            faults.append(Fault(where, "***", rule, ENTER_AGAIN))
    return kept, tuple(faults)


def given_texts(document: Document) -> dict[str, dict[str, Secret]]:
    """The secrets that a valid inventory document gives as texts."""
    profiles = document.get("server_profiles")
    found: dict[str, dict[str, Secret]] = {}
    for profile in profiles if isinstance(profiles, list | tuple) else ():
        if isinstance(profile, Mapping):
            texts = ((name, profile.get(name)) for name in SECRET_FIELDS)
            secrets = {name: Secret("text", text) for name, text in texts if isinstance(text, str)}
            if secrets:
                found[name_key(str(profile.get("name")))] = secrets
    return found


def without_texts(document: Document) -> dict[str, object]:
    """An inventory document that keeps what is stored instead of giving texts."""
    profiles = document.get("server_profiles")
    if not isinstance(profiles, list | tuple):
        return dict(document)
    return {**document, "server_profiles": [_without_texts(profile) for profile in profiles]}


def with_secrets(profile: ServerProfile, secrets: Mapping[str, Secret]) -> ServerProfile:
    """The profile with its stored secrets in place of "set", so that it can log in."""
    return replace(
        profile,
        password=secrets.get("password", profile.password),
        api_key=secrets.get("api_key", profile.api_key),
    )


def changed_secrets(
    stored: Iterable[tuple[str, Mapping[str, Secret]]], given: Secrets, same: Callable[[Secret, str], bool]
) -> list[str]:
    """Fields (`server_profiles[exchange].password`) whose stored text is replaced by another one.

    `stored`: names and stored secrets; `same` tells whether a stored secret has this text.
    """
    return [
        f"server_profiles[{name}].{field}"
        for name, secrets in stored
        for field, secret in secrets.items()
        if (text := given.get(name_key(name), {}).get(field)) is not None and not same(secret, text.value)
    ]


def has_use(given: Document, name: str) -> bool:
    """Whether a secret `name` belongs to a profile as it is given: its type has one, and a password a user name."""
    kind = given.get("type")
    if kind not in list(ServiceType) or name not in ROWS[ServiceType(str(kind))].properties:
        return False
    return name != "password" or given.get("username") is not None


def _without_texts(profile: object) -> object:
    if not isinstance(profile, Mapping):
        return profile
    return {
        name: dict(KEPT) if name in SECRET_FIELDS and isinstance(value, str) else value
        for name, value in profile.items()
    }
