"""The folder `digital-id` of a data dir: written whole, read at any time, by one writer at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex


class Folder:
    """Made at the first write. What root writes belongs to the owner of the data dir."""

    def __init__(self, data_dir: str) -> None:
        self.path = Path(data_dir) / "digital-id"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Other writers, of this process too, wait until the block has ended. Raises OSError."""
        if not self.path.exists():
            self.path.mkdir(mode=0o700, exist_ok=True)
            self._own(self.path)
        with open(self.path / "lock", "a", encoding="ascii") as lock:
            self._own(self.path / "lock")
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def write(self, name: str, octets: bytes) -> Path:
        """A file that only its owner reads, whole or not there. Raises OSError."""
        fresh = self.path / f"{name}.{token_hex(6)}.new"
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            self._own(fresh)
            os.rename(fresh, self.path / name)
        finally:
            with suppress(FileNotFoundError):
                fresh.unlink()
        self.sync()
        return self.path / name

    def link(self, name: str, target: str) -> None:
        """The symbolic link `name` leads to the file `target` beside it, from one moment to the next."""
        fresh = self.path / f"{name}.{token_hex(6)}.new"
        try:
            fresh.symlink_to(target)
            self._own(fresh)
            os.rename(fresh, self.path / name)
        finally:
            with suppress(FileNotFoundError):
                fresh.unlink()
        self.sync()

    def keep_plain(self, name: str, under: str) -> None:
        """A file `name` that is no link gets the name `under`, so that a link in its place destroys nothing."""
        path = self.path / name
        if path.is_file() and not path.is_symlink():
            os.rename(path, self.path / under)

    def remove(self, name: str) -> None:
        """A file that is not there is fine."""
        with suppress(FileNotFoundError):
            (self.path / name).unlink()

    def read(self, name: str) -> bytes | None:
        """None if there is no such file."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def sync(self) -> None:
        """Names are on the disk."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            owner = self.path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
