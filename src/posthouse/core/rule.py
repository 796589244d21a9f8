"""Security rules: the values, their validation with the open-relay guard, their JSON form.

Standards: design sections 1 and 4. The conditions of a rule must all be met; each is met by any of its entries;
one that is absent is always met.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from posthouse.core import scan_section, vault_section
from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, Values, join, name_key, read, shown
from posthouse.core.network import Network, cover_more_than, read_networks
from posthouse.core.pattern import Pattern, parse_pattern
from posthouse.core.scan_section import ScanSection, parse_scan, scan_json
from posthouse.core.vault_section import VaultSection, parse_vault, vault_json

OPEN_RELAY_PREFIXES = (8, 32)
"""Clients beyond one network of this size (IPv4, IPv6) count as anybody."""

RULE_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("name", FieldType.NAME, "unique name, case ignored", required=True),
    FieldSpec("enabled", FieldType.BOOLEAN, "a disabled rule matches nothing", True),
    FieldSpec("direction", FieldType.TEXT, "label, never a condition", choices=("inbound", "outbound", "internal")),
    FieldSpec("match", FieldType.TABLE, "conditions", shown_default="every mail"),
    FieldSpec("scan", FieldType.TABLE, "scanning"),
    FieldSpec("vault", FieldType.TABLE, "storing of attachments in a vault"),
    FieldSpec("relay", FieldType.TABLE, "where matching mail goes", required=True),
    FieldSpec("open_relay", FieldType.BOOLEAN, "anybody may relay anywhere by this rule", False),
)
MATCH_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("clients", FieldType.TEXTS, "client networks (CIDR)", minimum=1, maximum=10000, shown_default="any"),
    FieldSpec("senders", FieldType.TEXTS, "patterns of reverse-paths", minimum=1, maximum=10000, shown_default="any"),
    FieldSpec("recipients", FieldType.TEXTS, "patterns of recipients", minimum=1, maximum=10000, shown_default="any"),
)
RELAY_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("profile", FieldType.NAME, "server profile of type smtp", required=True),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One security rule; empty conditions are met by every mail."""

    name: str
    relay_profile: str
    enabled: bool = True
    direction: str = ""
    clients: tuple[Network, ...] = ()
    senders: tuple[Pattern, ...] = ()
    recipients: tuple[Pattern, ...] = ()
    open_relay: bool = False
    scan: ScanSection | None = None
    """None: what it matches is relayed unscanned."""
    vault: VaultSection | None = None

    @property
    def examined(self) -> bool:
        """Its mail is looked into before it goes on."""
        return self.scan is not None or self.vault is not None


def parse_rule(value: object, path: str) -> tuple[Rule | None, tuple[Fault, ...]]:
    """The rule, or None and every fault; `path` is where it stands, such as `rules[0]`."""
    values, found = read(value, RULE_FIELDS, path)
    faults = list(found)
    scan_table, vault_table = values.table("scan"), values.table("vault")
    scan = parse_scan(scan_table, join(path, "scan"), faults) if scan_table is not None else None
    vault = None
    if vault_table is not None:
        vault = parse_vault(vault_table, join(path, "vault"), faults, scan)
    where = join(path, "match")
    match, match_faults = read(values.table("match") or {}, MATCH_FIELDS, where)
    faults.extend(match_faults)
    clients = read_networks(match, "clients", faults)
    senders = _parse_patterns(match, "senders", faults)
    recipients = _parse_patterns(match, "recipients", faults)
    relay_profile = ""
    relay_table = values.table("relay")
    if relay_table is not None:
        relay, relay_faults = read(relay_table, RELAY_FIELDS, join(path, "relay"))
        relay_profile = relay.text("profile")
        faults.extend(relay_faults)
    conditions_valid = not any(fault.field.startswith(where) for fault in faults)
    if conditions_valid and not values.boolean("open_relay") and is_open_relay(clients, recipients):
        faults.append(_open_relay_fault(where, recipients))
    if faults:
        return None, tuple(faults)
    return Rule(
        name=values.text("name"),
        relay_profile=relay_profile,
        enabled=values.boolean("enabled"),
        direction=values.optional_text("direction") or "",
        clients=clients,
        senders=senders,
        recipients=recipients,
        open_relay=values.boolean("open_relay"),
        scan=scan,
        vault=vault,
    ), ()


def with_spelling(rule: Rule, names: Mapping[str, str]) -> Rule:
    """The rule with the names of profiles as the profiles spell them (`names`: by `name_key`), so that look-ups need
    no case rules."""

    def spelt(name: str) -> str:
        return names.get(name_key(name), name)

    scan, vault = rule.scan, rule.vault
    return replace(
        rule,
        relay_profile=spelt(rule.relay_profile),
        scan=scan and replace(scan, profiles=tuple([spelt(name) for name in scan.profiles])),
        vault=vault and replace(vault, profile=spelt(vault.profile)),
    )


def is_open_relay(clients: tuple[Network, ...], recipients: tuple[Pattern, ...]) -> bool:
    """Anybody could relay anywhere: recipients not confined to literal domains, and clients as good as anybody."""
    confined = bool(recipients) and all(pattern.confined for pattern in recipients)
    return not confined and (not clients or cover_more_than(clients, *OPEN_RELAY_PREFIXES))


def rule_json(rule: Rule) -> dict[str, object]:
    """Canonical JSON, defaults included; conditions that are met by every mail are left out."""
    match: dict[str, object] = {
        "clients": [str(network) for network in rule.clients],
        "senders": [pattern.text for pattern in rule.senders],
        "recipients": [pattern.text for pattern in rule.recipients],
    }
    document: dict[str, object] = {"name": rule.name, "enabled": rule.enabled}
    if rule.direction:
        document["direction"] = rule.direction
    document["match"] = {name: entries for name, entries in match.items() if entries}
    if rule.scan is not None:
        document["scan"] = scan_json(rule.scan)
    if rule.vault is not None:
        document["vault"] = vault_json(rule.vault)
    document["relay"] = {"profile": rule.relay_profile}
    document["open_relay"] = rule.open_relay
    return document


def without_defaults(document: Mapping[str, object]) -> dict[str, object]:
    """A rule's JSON as export writes it: what equals its default is left out."""
    defaults: dict[str, object] = {"enabled": True, "open_relay": False, "match": {}}
    kept = {name: value for name, value in document.items() if name not in defaults or defaults[name] != value}
    for section, less in (("scan", scan_section.without_defaults), ("vault", vault_section.without_defaults)):
        table = kept.get(section)
        if isinstance(table, Mapping):
            kept[section] = less(table)
    return kept


def _parse_patterns(match: Values, name: str, faults: list[Fault]) -> tuple[Pattern, ...]:
    patterns: list[Pattern] = []
    for where, text in match.entries(name):
        pattern = parse_pattern(text, null_path=name == "senders")
        if isinstance(pattern, tuple):
            faults.append(Fault(where, shown(text), *pattern))
        else:
            patterns.append(pattern)
    return tuple(patterns)


def _open_relay_fault(where: str, recipients: tuple[Pattern, ...]) -> Fault:
    loose = next((pattern.text for pattern in recipients if not pattern.confined), "")
    return Fault(
        join(where, "recipients"),
        loose,
        "Anybody could relay mail anywhere by this rule: it is an open relay.",
        "Name recipients of literal domains (*@ours.example), or clients of a /8 (IPv6 /32) at most,"
        " or set open_relay = true.",
    )
