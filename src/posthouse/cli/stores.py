"""The data dir of a node, for the commands that work on it; reached through the composition root only."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from posthouse.cli.errors import Exit, Stop
from posthouse.ports import Accounts, BackedUp, Commands, InventoryStore, Restored


class Shared(Protocol):
    """What all workers and nodes share."""

    @property
    def inventory(self) -> InventoryStore: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def commands(self) -> Commands: ...
    def unseal(self, token: str) -> str:
        """ports.Unseal."""

    def backup(self, target: Path, now: float) -> BackedUp:
        """Inventory, accounts and audit log as one file. Raises OSError."""

    def restore(self, source: Path, by: str, now: float) -> Restored:
        """Puts a backup in force. Raises BackupUnusable, OSError."""

    def check(self) -> list[str]:
        """What is wrong with the databases, a sentence each."""

    def close(self) -> None: ...


@contextmanager
def shared_store(data_dir: str, database: str, *, make: bool = True) -> Iterator[Shared]:
    """Opens the shared database; Stop with one line if it cannot be used.

    `make` False: also if its tables are not there, which are created otherwise.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from posthouse.app.stores import open_shared

    where = data_dir if database == "sqlite" else "the database"
    try:
        store: Shared = open_shared(data_dir, database, make=make)
    except Exception as error:  # whatever keeps it from opening is a matter of the data dir
        raise Stop(Exit.FAULT, f"{where} cannot be opened: {_cause(error)}") from error
    try:
        with closing(store):
            yield store
    except (SQLAlchemyError, OSError) as error:
        raise Stop(Exit.FAULT, f"{where} cannot be used: {_cause(error)}") from error


def operator() -> str:
    """Who works on the data dir, as the audit log names them: `cli (root)`."""
    import os
    import pwd

    try:
        return f"cli ({pwd.getpwuid(os.getuid()).pw_name})"
    except KeyError:
        return f"cli (uid {os.getuid()})"


def _cause(error: Exception) -> str:
    """What the driver says, first line."""
    said = str(getattr(error, "orig", None) or error)
    return said.splitlines()[0] if said else type(error).__name__
