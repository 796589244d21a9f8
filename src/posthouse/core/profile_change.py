"""A server profile added, changed, renamed, removed or put in another order: the whole inventory as it would be.

Pure: what is stored goes in, canonical documents and all faults come out; fields are those of the profile itself.
Standards: seed 3.7 ("You can set the order of the servers by drag and drop"); design 2.4 and section 4.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, Secret, name_key, read, shown
from posthouse.core.inventory import rules_using
from posthouse.core.kept_secret import keep_secrets, with_secrets
from posthouse.core.profile import KEPT, SECRET_FIELDS, ServerProfile, parse_profile, profile_json
from posthouse.core.profile_checks import problem_faults
from posthouse.core.rule_references import respelt
from posthouse.core.service_type import ServiceType
from posthouse.core.uri import Specification, parse_specification

Document = Mapping[str, object]
Secrets = Mapping[str, Secret]

ORDER_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("servers", FieldType.TEXTS, "all servers of the profile in their new order", minimum=1, required=True),
)
MARK = "tested"
"""What REST shows besides the properties; given back with them it is passed over."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A profile as it would be, valid in itself."""

    document: Document
    """Canonical."""
    profile: ServerProfile
    """The same with its secrets, given and stored, so that it can be tested."""
    texts: Secrets
    """Secrets that are given as texts."""


def read_wanted(given: Document, old: Document | None, stored: Secrets) -> tuple[Wanted | None, tuple[Fault, ...]]:
    """What somebody wants a profile to be, or every fault of it; `given` is the whole profile.

    `old`: the same profile as it is now, canonical, and `stored` its stored secrets; None and none for a new one.
    """
    values = {name: value for name, value in given.items() if name != MARK}
    kept, kept_faults = keep_secrets(values, old, "")
    profile, faults = parse_profile(kept, "")
    if profile is None or faults or kept_faults:
        return None, (*faults, *kept_faults)
    texts = {name: Secret("text", text) for name in SECRET_FIELDS if isinstance(text := values.get(name), str)}
    known = {name: secret for name, secret in stored.items() if kept.get(name) == KEPT}
    return Wanted(profile_json(profile), with_secrets(profile, known), texts), ()


def name_faults(name: object, profiles: Iterable[Document], old: Document | None) -> tuple[Fault, ...]:
    """The name is that of another profile; the words are those of a file."""
    if not isinstance(name, str):
        return ()
    others = (entry for entry in profiles if entry is not old)
    taken = next((str(entry["name"]) for entry in others if name_key(str(entry["name"])) == name_key(name)), None)
    if taken is None:
        return ()
    rule = f"The server profile {taken} has this name already; case is ignored."
    return (Fault("name", shown(name), rule, "Give each server profile a name of its own."),)


def uses(name: str, rules: Iterable[Document], own_mail: str | None) -> tuple[Fault, ...]:
    """Where a profile is named, one fault each: it cannot go. `own_mail`: the profile of that setting."""
    faults = [
        Fault(
            f"rules[{rule}].{used.field}",
            name,
            f"The rule {used.task} by this server profile.",
            "Name another one there.",
        )
        for rule, used in rules_using(name, rules)
    ]
    return (*faults, *uses_by_own_mail(name, own_mail))


def uses_by_own_mail(name: str, own_mail: str | None) -> tuple[Fault, ...]:
    """The setting is in a file of the node: it follows no new name."""
    if own_mail is None or name_key(own_mail) != name_key(name):
        return ()
    rule = "Own mail (DSNs, notices) leaves by this server profile."
    return (Fault("own_mail.profile", name, rule, "Name another one in posthouse.toml, then send SIGHUP."),)


def lost_to_own_mail(
    before: Iterable[Document], after: Iterable[Document], own_mail: str | None
) -> tuple[Fault, ...]:
    """A document laid over what is stored would leave own mail without the server profile that it leaves by: removed,
    or of a type that relays no mail. One that is not there before is not looked for: it may come later."""
    lost = _relaying(before) - _relaying(after)
    return uses_by_own_mail(own_mail, own_mail) if own_mail is not None and name_key(own_mail) in lost else ()


def with_profile(
    profiles: Sequence[Document], rules: Sequence[Document], old: Document | None, new: Document
) -> tuple[list[Document], list[Document]]:
    """`new` in the place of `old`, or at the end; rules that name `old` name `new`."""
    if old is None:
        return [*profiles, new], list(rules)
    former, name = name_key(str(old["name"])), str(new["name"])
    return [new if entry is old else entry for entry in profiles], [_following(rule, former, name) for rule in rules]


def reordered(profile: Document, given: object) -> tuple[Document | None, tuple[Fault, ...]]:
    """The profile with its servers in the order given, short forms allowed; each has to be there exactly once."""
    values, found = read(given, ORDER_FIELDS, "")
    faults = list(found)
    servers = _texts(profile.get("servers"))
    kind = ServiceType(str(profile["type"]))
    ordered: dict[str, str] = {}
    for where, text in values.entries("servers"):
        parsed = parse_specification(text, kind)
        if not isinstance(parsed, Specification):
            faults.extend(problem_faults(where, text, parsed))
        elif str(parsed) not in servers:
            rule = "The profile has no such server."
            faults.append(Fault(where, shown(text), rule, f"Its servers: {', '.join(servers)}."))
        elif (first := ordered.setdefault(str(parsed), where)) != where:
            rule = f"This is the same server as {first}: {parsed}."
            faults.append(Fault(where, shown(text), rule, "Name each server once."))
    missing = [server for server in servers if server not in ordered]
    if missing and not faults:
        rule = f"The order leaves out {', '.join(missing)}."
        faults.append(Fault("servers", f"{len(ordered)} servers", rule, "Name every server of the profile."))
    return (None, tuple(faults)) if faults else ({**profile, "servers": list(ordered)}, ())


def _following(rule: Document, former: str, name: str) -> Document:
    return respelt(rule, lambda spelt: name if name_key(spelt) == former else spelt)


def _relaying(profiles: Iterable[Document]) -> set[str]:
    return {name_key(str(entry["name"])) for entry in profiles if entry.get("type") == ServiceType.SMTP}


def _texts(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list | tuple) else []
