"""Files for content that was held in memory: used again, for overwriting costs the disk half of what a new file does.

A file is free when the commit that deleted the content of its mail is done. It may be longer than what it holds: the
row of the content says how long that is. At the end of the process free files are removed, after a crash they are
leftovers for the sweep.
"""

import os
import uuid
from pathlib import Path

from posthouse.storage import files

KEPT = 32
"""Free files that are kept, and files in use that are kept open."""
_NOT_MADE = -1


class ReusedFiles:
    """Those of one folder. `take` on the event loop, the rest in the writer thread while no mail is taken over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free: list[tuple[Path, int]] = []
        self._in_use: dict[Path, int] = {}

    def take(self) -> Path:
        """A file that no row names. It may not exist until `write`."""
        path, descriptor = self._free.pop() if self._free else (self._folder / uuid.uuid4().hex, _NOT_MADE)
        self._in_use[path] = descriptor
        return path

    def write(self, path: Path, octets: bytes) -> bool:
        """Whether the file is new, so that its name has to be synced. Raises OSError."""
        descriptor = self._in_use[path]
        new = descriptor == _NOT_MADE
        if new:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._in_use[path] = descriptor
        files.write_all(descriptor, octets, 0)
        files.start_writing_back(descriptor)
        return new

    def sync(self, path: Path) -> None:
        """Raises OSError."""
        files.sync_octets(self._in_use[path])

    def stored(self, path: Path) -> None:
        """A row names the file from now on: it is not kept open if many are."""
        if len(self._in_use) > KEPT:
            os.close(self._in_use.pop(path))

    def leave(self, path: Path) -> bool:
        """No row names the file any more; False if it is to be removed by the caller."""
        if path not in self._in_use or len(self._free) >= KEPT:
            self._forget(path)
            return False
        self._free.append((path, self._in_use.pop(path)))
        return True

    def drop(self, path: Path) -> None:
        """The file was not stored: what it holds is unknown. To be removed by the caller."""
        self._forget(path)

    def _forget(self, path: Path) -> None:
        descriptor = self._in_use.pop(path, _NOT_MADE)
        if descriptor != _NOT_MADE:
            os.close(descriptor)

    def close(self) -> None:
        for path, _ in self._free:
            files.unlink(path)
        for descriptor in (*self._in_use.values(), *(descriptor for _, descriptor in self._free)):
            if descriptor != _NOT_MADE:
                os.close(descriptor)
        self._in_use.clear()
        self._free.clear()
