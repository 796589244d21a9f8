"""What is read together is of one state, whatever is committed between the statements."""

from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from posthouse.core.drain import Drain, DrainKind
from posthouse.storage import schema
from posthouse.storage.database import Database
from posthouse.storage.open import SharedStore, open_shared

OLD = {"name": "exchange", "type": "smtp", "servers": ["smtp://10.0.0.1:25"]}
NEW = {"name": "gate", "type": "smtp", "servers": ["smtp://10.0.0.2:25"]}
RULES = tuple(
    {"name": "inbound", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": name}}
    for name in ("exchange", "gate")
)


def change_after(statement: str, reader: SharedStore, data_dir: str, database: str) -> list[str]:
    """Once the reader has run `statement`, another process changes everything; the list then tells that it did."""
    done: list[str] = []

    @event.listens_for(reader.database.engine, "after_cursor_execute")
    def ran(_connection: object, _cursor: object, text: str, *_more: object) -> None:
        if statement in text and not done:
            done.append(text)
            other = open_shared(data_dir, database)
            other.inventory.replace([NEW], [RULES[1]], expected_revision=1, by="other", now=2.0)
            other.inventory.drain(Drain("gate", "smtp://10.0.0.2:25", DrainKind.DRAINED, 3.0, None, "other"))
            other.close()

    return done


@pytest.mark.parametrize("statement", ["FROM server_profile", "FROM rule", "FROM inventory_revision"])
def test_an_inventory_is_read_as_it_was_at_one_time(
    shared: SharedStore, data_dir: str, database: str, statement: str
) -> None:
    shared.inventory.replace([OLD], [RULES[0]], expected_revision=0, by="op", now=1.0)
    done = change_after(statement, shared, data_dir, database)
    stored = shared.inventory.load()
    assert done
    assert (stored.revision, [p.document for p in stored.profiles], stored.rules) == (1, [OLD], (RULES[0],))
    assert stored.drains == ()
    assert shared.inventory.load().revision == 3


def test_a_backup_is_of_one_time(shared: SharedStore, data_dir: str, database: str, tmp_path: Path) -> None:
    shared.inventory.replace([OLD], [RULES[0]], expected_revision=0, by="op", now=1.0)
    done = change_after("FROM rule", shared, data_dir, database)
    made = shared.backup(tmp_path / "backup", 5.0)
    assert done
    assert made.rows["audit"] == 1
    shared.restore(tmp_path / "backup", "op", 6.0)
    stored = shared.inventory.load()
    assert ([p.document for p in stored.profiles], stored.rules) == ([OLD], (RULES[0],))


def test_a_connection_that_was_read_from_can_be_written_to(shared: SharedStore) -> None:
    """It goes back to the pool as it was."""
    database: Database = shared.database
    for _ in range(3):
        with database.read() as connection:
            assert connection.scalar(select(func.count()).select_from(schema.audit)) is not None
        shared.inventory.note(by="op", what="noted", detail={}, now=1.0)
    assert len(shared.inventory.audit(10, None)) == 3
