"""Shards: the numbered parts of a data dir, each owned by one worker through a file lock.

On SQLite shard NNN is `mail-NNN.db` and `content/NNN/`; on PostgreSQL only the content folder, a cache. The lock
ends with the process that holds it, however that ends.
"""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

from posthouse.storage import files

_DATABASE = re.compile(r"mail-(\d{3})\.db")
_SHARDS = 1000


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard this process owns until `release`."""

    data_dir: Path
    number: int
    lock: int
    """Descriptor of the locked file."""

    @property
    def database(self) -> Path:
        return database_path(self.data_dir, self.number)

    @property
    def content_folder(self) -> Path:
        return content_folder(self.data_dir, self.number)

    def release(self) -> None:
        os.close(self.lock)


def database_path(data_dir: Path, number: int) -> Path:
    return data_dir / f"mail-{number:03d}.db"


def content_folder(data_dir: Path, number: int) -> Path:
    return data_dir / "content" / f"{number:03d}"


def numbers(data_dir: Path) -> list[int]:
    """Numbers of the shards that have a mail database, lowest first."""
    return sorted(int(found[1]) for name in os.listdir(data_dir) if (found := _DATABASE.fullmatch(name)))


def claim(data_dir: Path) -> Shard:
    """The lowest free shard, a new one if none is free."""
    for number in range(_SHARDS):
        shard = claim_if_free(data_dir, number)
        if shard is not None:
            return shard
    raise OSError(f"{data_dir}: all {_SHARDS} shards are taken")


def claim_if_free(data_dir: Path, number: int) -> Shard | None:
    """Shard `number`, unless a process owns it."""
    descriptor = os.open(data_dir / f"mail-{number:03d}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    shard = Shard(data_dir, number, descriptor)
    shard.content_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A file's name is only as durable as the names of the folders it is in.
    files.fsync_folder(shard.content_folder.parent)
    files.fsync_folder(data_dir)
    return shard
