"""Which server profiles a rule names, and where: for cross checks, for profiles in use, for renames (design 2.4).

Works on documents, faulty ones too: what is no name where one should be is passed over, its own fault tells it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from posthouse.core.service_type import ServiceType

Document = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reference:
    """One server profile that a rule names."""

    field: str
    """`relay.profile`, `scan.profiles[0]`."""
    name: str
    types: tuple[ServiceType, ...]
    """That it may have."""
    task: str
    """`relays`: what the rule does by it."""


_SCANNERS = (ServiceType.METADEFENDER_CORE, ServiceType.CLAMAV)


def references(rule: Document) -> tuple[Reference, ...]:
    """In the order of the sections."""
    found = []
    if name := _name(_table(rule, "relay").get("profile")):
        found.append(Reference("relay.profile", name, (ServiceType.SMTP,), "relays"))
    for at, each in enumerate(_list(_table(rule, "scan").get("profiles"))):
        if name := _name(each):
            found.append(Reference(f"scan.profiles[{at}]", name, _SCANNERS, "scans"))
    if name := _name(_table(rule, "vault").get("profile")):
        found.append(Reference("vault.profile", name, (ServiceType.METADEFENDER_VAULT,), "stores attachments"))
    return tuple(found)


def respelt(rule: Document, spell: Callable[[str], str]) -> dict[str, object]:
    """The rule with another spelling, or another name, for each profile that it names."""
    document = dict(rule)
    for section in ("relay", "vault"):
        if name := _name(_table(rule, section).get("profile")):
            document[section] = {**_table(rule, section), "profile": spell(name)}
    if profiles := _list(_table(rule, "scan").get("profiles")):
        spelt = [spell(name) if isinstance(name, str) else name for name in profiles]
        document["scan"] = {**_table(rule, "scan"), "profiles": spelt}
    return document


def _table(rule: Document, section: str) -> Mapping[str, object]:
    value = rule.get(section)
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""
