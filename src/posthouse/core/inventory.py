"""The inventory: server profiles and security rules together.

Reading a file or JSON with cross checks, laying a file over what is stored, differences, and the snapshot that
workers swap whole. Documents are JSON objects `{server_profiles: [...], rules: [...]}` (design section 4).
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from posthouse.core import profile as profiles_module
from posthouse.core import rule as rules_module
from posthouse.core.drain import Drain
from posthouse.core.faults import Fault, InvalidInput
from posthouse.core.fields import FieldSpec, FieldType, Secret, indexed, join, name_key, near, read, shown
from posthouse.core.kept_secret import keep_secrets, with_secrets
from posthouse.core.policy import Policy
from posthouse.core.profile import KEPT, ServerProfile, ServiceType, parse_profile, profile_json
from posthouse.core.rule import Rule, parse_rule, rule_json, with_spelling
from posthouse.core.rule_references import Reference, references

Document = Mapping[str, object]

INVENTORY_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("server_profiles", FieldType.TABLES, "server profiles"),
    FieldSpec("rules", FieldType.TABLES, "security rules, first match first"),
)


@dataclass(frozen=True, slots=True)
class Inventory:
    """An immutable snapshot; open sessions keep theirs until their mail transaction ends."""

    revision: int
    profiles: Mapping[str, ServerProfile]
    """By name as written; a rule's `relay_profile` is one of these names."""
    policy: Policy
    drains: Mapping[tuple[str, str], Drain] = field(default_factory=dict)
    """By profile and server; some may have ended by themselves."""
    former: Mapping[str, str] = field(default_factory=dict)
    """Names of now by former ones."""

    def next_hop(self, name: str) -> ServerProfile | None:
        """The profile of this name, or that had it, if mail can be relayed by it: profiles of other types are kept
        here, too."""
        profile = self.profiles.get(name) or self.profiles.get(self.former.get(name, ""))
        return profile if profile is not None and profile.type is ServiceType.SMTP else None

    def next_hops(self) -> tuple[ServerProfile, ...]:
        """All profiles that mail can be relayed by."""
        return tuple([profile for profile in self.profiles.values() if profile.type is ServiceType.SMTP])


class Change(StrEnum):
    """What became of a profile or rule."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between two inventories."""

    change: Change
    field: str
    """`server_profiles[exchange].servers[0]`, or without the last part for a whole one."""
    old: object
    new: object

    def json(self) -> dict[str, object]:
        """As REST answers it and the audit log keeps it."""
        return {"change": self.change.value, "field": self.field, "old": self.old, "new": self.new}


def load_toml(text: str) -> tuple[dict[str, object], Fault | None]:
    """The document, or an empty one and a fault that tells line and column."""
    try:
        return tomllib.loads(text), None
    except tomllib.TOMLDecodeError as error:
        remedy = "Mend the file; the line and column are told."
        return {}, Fault("file", "", f"This is no TOML: {error}.", remedy)
    except RecursionError:
        return {}, Fault("file", "", "This is no TOML: nested too deeply.", "Mend the file.")


def parse_inventory(
    document: object, path: str = "", known: Sequence[Document] = ()
) -> tuple[tuple[ServerProfile, ...], tuple[Rule, ...], tuple[Fault, ...]]:
    """Profiles and rules that are valid in themselves, and every fault, cross checks included.

    `known`: server profiles that rules may name besides those of the document.
    """
    values, found = read(document, INVENTORY_FIELDS, path)
    faults = list(found)
    profiles: list[ServerProfile] = []
    rules: list[Rule] = []
    for where, table in values.tables("server_profiles"):
        profile, profile_faults = parse_profile(table, where)
        faults.extend(profile_faults)
        if profile is not None:
            profiles.append(profile)
    for where, table in values.tables("rules"):
        rule, rule_faults = parse_rule(table, where)
        faults.extend(rule_faults)
        if rule is not None:
            rules.append(rule)
    faults.extend(_check_unique(values.tables("server_profiles"), "server profile"))
    faults.extend(_check_unique(values.tables("rules"), "rule"))
    spelt = {name_key(profile.name): profile.name for profile in profiles}
    named = [*(table for _, table in values.tables("server_profiles")), *known]
    faults.extend(_check_references(named, values.tables("rules")))
    rules = [with_spelling(rule, spelt) for rule in rules]
    return tuple(profiles), tuple(rules), tuple(faults)


def check_rule(value: object, profiles: Sequence[Document]) -> tuple[Rule | None, tuple[Fault, ...]]:
    """One rule by itself among these server profiles: the rule, and every fault, cross checks included."""
    rule, faults = parse_rule(value, "")
    table = value if isinstance(value, Mapping) else {}
    faults = (*faults, *_check_references(profiles, [("", table)]))
    if rule is None:
        return None, faults
    return with_spelling(rule, {name_key(_name(profile)): _name(profile) for profile in profiles}), faults


def build_inventory(
    revision: int,
    profiles: Iterable[tuple[Document, int]],
    rules: Iterable[Document],
    secrets: Mapping[str, Mapping[str, Secret]] | None = None,
    drains: Iterable[Drain] = (),
    former: Mapping[str, str] = MappingProxyType({}),
) -> Inventory:
    """The snapshot of what is stored. Raises InvalidInput if it does not hold by the rules of this version.

    `secrets`: by profile and property, those stored encrypted, for who is to log in with them.
    """
    stored = list(profiles)
    document = {"server_profiles": [profile for profile, _ in stored], "rules": list(rules)}
    parsed, parsed_rules, faults = parse_inventory(document)
    if faults:
        raise InvalidInput(faults)
    by_name = {
        profile.name: replace(
            with_secrets(profile, (secrets or {}).get(profile.name, {})),
            revision=profile_revision,
        )
        for profile, (_, profile_revision) in zip(parsed, stored, strict=True)
    }
    return Inventory(revision, by_name, Policy(parsed_rules), {(d.profile, d.server): d for d in drains}, former)


def apply_document(
    stored_profiles: Sequence[Document], stored_rules: Sequence[Document], document: object, *, prune: bool
) -> tuple[list[dict[str, object]], list[dict[str, object]], tuple[Fault, ...]]:
    """What is stored with `document` laid over it (`merge`), canonical, and every fault of the whole.

    Stored secrets are kept where the document does not give or remove them (`keep_secrets`). With faults nothing may
    be stored. Field paths are those of the document, whose entries come first.
    """
    _, top_faults = read(document, INVENTORY_FIELDS, "")
    if top_faults or not isinstance(document, Mapping):
        return [], [], parse_inventory(document, known=stored_profiles)[2]
    merged_profiles, merged_rules = merge(stored_profiles, stored_rules, document, prune=prune)
    before = {name_key(_name(entry)): entry for entry in stored_profiles}
    kept_profiles: list[Document] = []
    kept_faults: list[Fault] = []
    for where, profile in indexed("server_profiles", merged_profiles):
        kept, found = keep_secrets(profile, before.get(name_key(_name(profile))), where)
        kept_profiles.append(kept)
        kept_faults.extend(found)
    profiles, rules, faults = parse_inventory({"server_profiles": kept_profiles, "rules": merged_rules})
    documents = [profile_json(profile) for profile in profiles]
    return documents, [rule_json(rule) for rule in rules], (*faults, *kept_faults)


def merge(
    stored_profiles: Sequence[Document], stored_rules: Sequence[Document], document: Document, *, prune: bool
) -> tuple[list[Document], list[Document]]:
    """What `document` names comes first, in its order; what it does not name stays after it, unless `prune`."""
    return (
        _merge(stored_profiles, document.get("server_profiles"), prune),
        _merge(stored_rules, document.get("rules"), prune),
    )


def diff(
    old_profiles: Sequence[Document],
    old_rules: Sequence[Document],
    new_profiles: Sequence[Document],
    new_rules: Sequence[Document],
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Difference, ...]:
    """Differences from old to new, canonical documents assumed; for rules also where the order changed.

    `renamed`: profiles that are the same under another name, which is told as a change of the name.
    """
    found = _diff_named("server_profiles", old_profiles, new_profiles, renamed)
    found += _diff_named("rules", old_rules, new_rules)
    found += _diff_order(old_rules, new_rules)
    return tuple(found)


def secrets_replaced(
    old: Iterable[tuple[Document, Mapping[str, Secret]]],
    new: Iterable[tuple[Document, Mapping[str, Secret]]],
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Difference, ...]:
    """Stored secrets that another one takes the place of: `diff` sees `{ set = true }` before and after."""
    before = {name_key(renamed.get(_name(document), _name(document))): secrets for document, secrets in old}
    return tuple(
        Difference(Change.CHANGED, f"server_profiles[{_name(document)}].{field}", dict(KEPT), dict(KEPT))
        for document, secrets in new
        for field, secret in secrets.items()
        if before.get(name_key(_name(document)), {}).get(field, secret) != secret
    )


def rules_using(profile_name: str, rules: Iterable[Document]) -> tuple[tuple[str, Reference], ...]:
    """Names of the rules that name this profile, and where: it cannot be removed (design 2.4)."""
    key = name_key(profile_name)
    return tuple((_name(rule), used) for rule in rules for used in references(rule) if name_key(used.name) == key)


def respelt(before: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """New spellings by the old ones, of profiles that are the same but for the case of their names: a file may spell
    them otherwise, and what goes by the name goes along (design 2.4)."""
    spelt = {name_key(name): name for name in names}
    return {name: now for name in before if (now := spelt.get(name_key(name), name)) != name}


def former_names(
    before: Iterable[tuple[str, Sequence[str]]], renamed: Mapping[str, str], names: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """By profile (`name_key`), the names it had, as they were spelt, without those that any of `names` has taken.

    `before`: names and former names until now; `names`: those of now; `renamed`: new names by the old ones.
    """
    spelt = {name_key(name): name for name in names}
    taken = set(spelt.values())
    found: dict[str, tuple[str, ...]] = {}
    for name, former in before:
        now = spelt.get(name_key(renamed.get(name, name)))
        kept = tuple(each for each in dict.fromkeys([*former, name]) if each not in taken)
        if now is not None and kept:
            found[name_key(now)] = kept
    return found


def export_document(profiles: Iterable[Document], rules: Iterable[Document]) -> dict[str, object]:
    """The inventory as a file has it: defaults left out, profiles by name, rules in their order, which is their
    priority. The same inventory is the same document, however it came about."""
    by_name = sorted(profiles, key=lambda profile: name_key(_name(profile)))
    return {
        "server_profiles": [profiles_module.without_defaults(document) for document in by_name],
        "rules": [rules_module.without_defaults(document) for document in rules],
    }


def _name(document: Document) -> str:
    name = document.get("name")
    return name if isinstance(name, str) else ""


def _check_unique(tables: Sequence[tuple[str, Document]], kind: str) -> list[Fault]:
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    for where, table in tables:
        name = _name(table)
        first = seen.setdefault(name_key(name), where) if name else where
        if first != where:
            rule = f"{first} has this name already; case is ignored."
            faults.append(Fault(join(where, "name"), shown(name), rule, f"Give each {kind} a name of its own."))
    return faults


def _check_references(profiles: Sequence[Document], rule_tables: Sequence[tuple[str, Document]]) -> list[Fault]:
    """What rules name are profiles, of a type for their task. A faulty profile counts as there: its own faults are
    told."""
    types = {name_key(_name(profile)): profile.get("type") for profile in profiles if _name(profile)}
    names = [_name(profile) for profile in profiles]
    faults: list[Fault] = []
    for where, table in rule_tables:
        for wanted in references(table):
            field = join(where, wanted.field)
            if name_key(wanted.name) not in types:
                meant = near(wanted.name, names)
                remedy = f"Did you mean {meant}?" if meant else "Add the server profile, or name one that there is."
                faults.append(Fault(field, shown(wanted.name), "There is no server profile of this name.", remedy))
                continue
            other = types[name_key(wanted.name)]
            if other not in wanted.types and other in list(ServiceType):
                allowed = " or ".join(wanted.types)
                rule = f"A rule {wanted.task} by a profile of type {allowed}; this one is {other}."
                faults.append(Fault(field, shown(wanted.name), rule, f"Name a profile of type {allowed}."))
    return faults


def _merge(stored: Sequence[Document], given: object, prune: bool) -> list[Document]:
    first = [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list | tuple) else []
    named = {name_key(_name(entry)) for entry in first}
    return [*first, *([] if prune else [entry for entry in stored if name_key(_name(entry)) not in named])]


def _diff_named(
    kind: str, old: Sequence[Document], new: Sequence[Document], renamed: Mapping[str, str] = MappingProxyType({})
) -> list[Difference]:
    before = {name_key(renamed.get(_name(entry), _name(entry))): entry for entry in old}
    after = {name_key(_name(entry)): entry for entry in new}
    found: list[Difference] = []
    for key, entry in before.items():
        if key not in after:
            found.append(Difference(Change.REMOVED, f"{kind}[{_name(entry)}]", entry, None))
    for key, entry in after.items():
        field = f"{kind}[{_name(entry)}]"
        if key not in before:
            found.append(Difference(Change.ADDED, field, None, entry))
        else:
            found.extend(_diff_values(field, before[key], entry))
    return found


def _diff_values(field: str, old: object, new: object) -> list[Difference]:
    if old == new:
        return []
    # Without a common name one has taken the place of the other: a secret by reference that of one that is stored.
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() & new.keys():
        names = [*old, *(name for name in new if name not in old)]
        return [
            difference
            for name in names
            for difference in _diff_values(join(field, str(name)), old.get(name), new.get(name))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            difference
            for at, (before, after) in enumerate(zip(old, new, strict=True))
            for difference in _diff_values(f"{field}[{at}]", before, after)
        ]
    change = Change.ADDED if old is None else Change.REMOVED if new is None else Change.CHANGED
    return [Difference(change, field, old, new)]


def _diff_order(old: Sequence[Document], new: Sequence[Document]) -> list[Difference]:
    """One difference if the rules in both stand in another order: it decides which matches first."""
    common = {name_key(_name(entry)) for entry in old} & {name_key(_name(entry)) for entry in new}
    before = [_name(entry) for entry in old if name_key(_name(entry)) in common]
    after = [_name(entry) for entry in new if name_key(_name(entry)) in common]
    if [name_key(name) for name in before] == [name_key(name) for name in after]:
        return []
    return [Difference(Change.MOVED, "rules", before, after)]
