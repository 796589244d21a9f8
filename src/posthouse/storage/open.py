"""How the composition root opens the stores."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from posthouse import __version__
from posthouse.ports import BackedUp, Clock, Restored, SecretUnreadable
from posthouse.storage import backup
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
    data_dir: str
    setting: str
    """`sqlite` or a postgresql:// URL."""

    def unseal(self, token: str) -> str:
        """ports.Unseal."""
        return self.keyring.unseal(token)

    def backup(self, target: Path, now: float) -> BackedUp:
        """See `backup.write_backup`. Raises OSError."""
        return backup.write_backup(self.database, target, version=__version__, now=now)

    def restore(self, source: Path, by: str, now: float) -> Restored:
        """See `backup.restore_backup`. Raises BackupUnusable, OSError."""
        return backup.restore_backup(self.database, source, by=by, now=now, fits=self._fits)

    def check(self) -> list[str]:
        """What is wrong with the databases, a sentence each."""
        return backup.check(Path(self.data_dir), self.setting, self.database)

    def _fits(self, token: str) -> bool:
        try:
            self.keyring.unseal(token)
        except SecretUnreadable:
            return False
        return True

    def close(self) -> None:
        self.database.close()


def open_shared(data_dir: str, database: str, *, make: bool = True) -> SharedStore:
    """Tables that are missing are created, or with `make` False NoTables is raised. Raises SchemaTooNew."""
    opened = open_shared_database(data_dir, database, make=make)
    keyring = Keyring(data_dir)
    return SharedStore(
        Inventory(opened, keyring), Accounts(opened), Commands(opened, keyring), opened, keyring, data_dir, database
    )


def open_history(data_dir: str, database: str) -> History:
    return History(data_dir, database)


def open_spool(data_dir: str, database: str, owner: str, clock: Clock, loop: asyncio.AbstractEventLoop) -> MailSpool:
    """Claims a shard. Raises SchemaTooNew."""
    return MailSpool(data_dir, database, owner, clock, loop)
