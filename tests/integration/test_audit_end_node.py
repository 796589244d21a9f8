"""The console of a node removes audit rows that are older than `audit_days`."""

import time
from pathlib import Path

from posthouse.storage.open import open_shared
from support.processes import inventory_for, serving
from support.waiting import eventually

DAY = 86400.0


def test_a_node_removes_old_audit_rows_once_it_runs(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with serving(tmp_path, inventory_for(9), config='hostname = "a.test"\naudit_days = 30\n'):
        pass  # makes the database
    shared = open_shared(str(data_dir), "sqlite")

    def rows() -> set[object]:
        return {row["what"] for row in shared.inventory.audit(99, None)} & {"old", "young"}

    try:
        for what, days in (("old", 31), ("young", 29)):
            shared.inventory.note(by="op", what=what, detail={}, now=time.time() - days * DAY)
        assert rows() == {"old", "young"}
        with serving(tmp_path, inventory_for(9), config='hostname = "a.test"\naudit_days = 30\n'):
            eventually(lambda: rows() == {"young"}, "the old row to go", 20)
    finally:
        shared.close()
