"""The key that a node leaves in its data dir for the commands on the same machine, and keys that are not in use."""

import os
import time
from pathlib import Path

from posthouse import telemetry
from posthouse.ports import Accounts, SecretKeyUnusable
from posthouse.storage import open as storage


def renew_console_key(data_dir: Path, accounts: Accounts, *, by: str) -> None:
    """After a restore: where a node has left a key in the data dir, one that is in force."""
    if (data_dir / "console.key").exists():
        leave_console_key(data_dir, accounts, by=by)


def leave_console_key(data_dir: Path, accounts: Accounts, *, by: str) -> None:
    """Leaves a 0600 file with an administrator key, so that the CLI on this machine can act."""
    path = data_dir / "console.key"
    if path.exists() and accounts.authenticate(path.read_text(encoding="ascii").strip()) is not None:
        return
    _, secret = accounts.create_key(name="console.key", role="administrator", by=by, now=time.time())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")


def warn_of_unused_key(store: storage.SharedStore) -> None:
    """A key file that is not in use: with a copy of the data dir it opens what was ever stored under it."""
    try:
        unused = store.keyring.unused_file()
    except SecretKeyUnusable:
        return  # told where a secret is wanted
    if unused is not None:
        remedy = "Once `posthouse doctor` can read all stored secrets by the key in use, delete the file."
        telemetry.logger("serve").warning("key file is not in use", file=str(unused), remedy=remedy)
