"""An inventory that is asked about and not saved: a document laid over what is stored, as `config/apply` would."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import Field, JsonValue

from posthouse.core.faults import Fault
from posthouse.core.fields import join
from posthouse.core.inventory import Inventory, apply_document, build_inventory
from posthouse.ports import StoredInventory
from posthouse.web.changing import unstorable

UNSAVED: dict[str, JsonValue] = {
    "server_profiles": [{"name": "exchange", "type": "smtp", "servers": ["10.0.0.2:2525"]}],
    "rules": [{"name": "inbound", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "exchange"}}],
}
"""For examples."""

Prune = Annotated[bool, Field(strict=True, description="leave out profiles and rules that `inventory` does not name")]


def laid_over(
    stored: StoredInventory, document: Mapping[str, object], prune: bool, field: str = "inventory"
) -> tuple[Inventory | None, list[Fault]]:
    """The inventory as applying the document would leave it, or every fault; `field`: where the document stands.

    Secrets that it gives as texts are only looked at for their form.
    """
    if faults := unstorable(document):
        return None, [replace(fault, field=field) for fault in faults]
    profiles, rules, found = apply_document(
        [p.document for p in stored.profiles], stored.rules, document, prune=prune
    )
    if found:
        return None, [replace(fault, field=join(field, fault.field)) for fault in found]
    return build_inventory(stored.revision, [(profile, 0) for profile in profiles], rules), []
