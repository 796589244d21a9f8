"""The `vault` section of a rule: which attachments a vault keeps, and what stands in their place.

Standards: design section 4; issue 6, item 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, join, read, shown
from posthouse.core.scan_section import OnFailed, ScanSection
from posthouse.core.vault_choice import Attachments, Which, parse_attachments

VAULT_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("profile", FieldType.NAME, "server profile of type metadefender-vault", required=True),
    FieldSpec(
        "attachments",
        FieldType.TEXT,
        "`all`, `blocked`, `sanitized` (the originals), or `larger-than 10MiB`; inline images stay",
        required=True,
        maximum=64,
    ),
    FieldSpec("remove", FieldType.BOOLEAN, "takes them out of the mail; a notice has their links", False),
    FieldSpec("expires_days", FieldType.INTEGER, "days that the vault keeps them; 0: as the vault says", 0, 0, 3650),
    FieldSpec(
        "on_failed",
        FieldType.TEXT,
        "the vault does not take one; bypass leaves it in the mail",
        OnFailed.RETRY.value,
        choices=tuple(OnFailed),
    ),
)


@dataclass(frozen=True, slots=True)
class VaultSection:
    """See `VAULT_FIELDS`."""

    profile: str
    attachments: Attachments
    remove: bool = False
    expires_days: int = 0
    on_failed: OnFailed = OnFailed.RETRY


def parse_vault(
    table: Mapping[str, object], path: str, faults: list[Fault], scan: ScanSection | None
) -> VaultSection | None:
    """The section; every fault is added. `scan`: of the same rule."""
    values, found = read(table, VAULT_FIELDS, path)
    faults.extend(found)
    where, text = join(path, "attachments"), values.text("attachments")
    attachments = parse_attachments(text, where) if text else None
    if isinstance(attachments, Fault):
        faults.append(attachments)
        return None
    if attachments is None:
        return None
    if attachments.originals and scan is None:
        rule = "Without a scan nothing is blocked or sanitized."
        faults.append(Fault(where, shown(text), rule, "Add a scan section, or choose all, or larger-than."))
    if attachments.which is Which.SANITIZED and scan is not None and not scan.sanitize:
        rule = "This rule's scan does not sanitize."
        faults.append(Fault(where, shown(text), rule, "Set scan.sanitize = true, or choose another value."))
    return VaultSection(
        values.text("profile"),
        attachments,
        values.boolean("remove"),
        values.integer("expires_days"),
        OnFailed(values.text("on_failed")),
    )


def vault_json(vault: VaultSection) -> dict[str, object]:
    """Canonical JSON, defaults included."""
    return {
        "profile": vault.profile,
        "attachments": str(vault.attachments),
        "remove": vault.remove,
        "expires_days": vault.expires_days,
        "on_failed": vault.on_failed.value,
    }


def without_defaults(document: Mapping[str, object]) -> dict[str, object]:
    """A section's JSON as export writes it."""
    defaults = {spec.name: spec.default for spec in VAULT_FIELDS if spec.default is not None}
    return {name: value for name, value in document.items() if name not in defaults or defaults[name] != value}
