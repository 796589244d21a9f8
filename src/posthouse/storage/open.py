"""How the composition root opens the stores."""

import asyncio
from dataclasses import dataclass

from posthouse.ports import Clock
from posthouse.storage.accounts import Accounts
from posthouse.storage.commands import Commands
from posthouse.storage.database import Database, SchemaTooNew, open_shared_database
from posthouse.storage.history import History
from posthouse.storage.inventory import Inventory
from posthouse.storage.secrets import Keyring
from posthouse.storage.spool import MailSpool

__all__ = ["History", "MailSpool", "SchemaTooNew", "SharedStore", "open_history", "open_shared", "open_spool"]


@dataclass(frozen=True, slots=True)
class SharedStore:
    """What all processes share."""

    inventory: Inventory
    accounts: Accounts
    commands: Commands
    database: Database
    keyring: Keyring

    def unseal(self, token: str) -> str:
        """ports.Unseal."""
        return self.keyring.unseal(token)

    def close(self) -> None:
        self.database.close()


def open_shared(data_dir: str, database: str) -> SharedStore:
    """Raises SchemaTooNew."""
    opened = open_shared_database(data_dir, database)
    keyring = Keyring(data_dir)
    return SharedStore(Inventory(opened, keyring), Accounts(opened), Commands(opened), opened, keyring)


def open_history(data_dir: str, database: str) -> History:
    return History(data_dir, database)


def open_spool(data_dir: str, database: str, owner: str, clock: Clock, loop: asyncio.AbstractEventLoop) -> MailSpool:
    """Claims a shard. Raises SchemaTooNew."""
    return MailSpool(data_dir, database, owner, clock, loop)
