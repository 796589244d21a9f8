"""The data dir of a node, for the commands that work on it; reached through the composition root only."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from posthouse.cli.errors import Exit, Stop
from posthouse.ports import Accounts, Commands, InventoryStore


class Shared(Protocol):
    """What all workers and nodes share."""

    @property
    def inventory(self) -> InventoryStore: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def commands(self) -> Commands: ...
    def close(self) -> None: ...


@contextmanager
def shared_store(data_dir: str, database: str) -> Iterator[Shared]:
    """Opens the shared database; Stop with one line if it cannot be used."""
    from sqlalchemy.exc import SQLAlchemyError

    from posthouse import app as composition

    try:
        store: Shared = composition.open_shared(data_dir, database)
        with closing(store):
            yield store
    except (SQLAlchemyError, OSError) as error:
        where = data_dir if database == "sqlite" else "the database"
        cause = getattr(error, "orig", None) or error
        raise Stop(Exit.FAULT, f"{where} cannot be used: {str(cause).splitlines()[0]}") from error
