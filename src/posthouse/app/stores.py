"""The shared database, for the commands that work on a data dir, and what the node makes of it."""

from posthouse.core.inventory import Inventory, build_inventory
from posthouse.ports import InventoryStore
from posthouse.storage import open as storage

open_shared = storage.open_shared


def load_inventory(store: InventoryStore) -> Inventory:
    """The stored inventory as the snapshot that the flow works with."""
    stored = store.load()
    return build_inventory(
        stored.revision,
        [(p.document, p.revision) for p in stored.profiles],
        stored.rules,
        {str(p.document["name"]): p.secrets for p in stored.profiles},
        stored.drains,
        {name: str(p.document["name"]) for p in stored.profiles for name in p.former},
    )
