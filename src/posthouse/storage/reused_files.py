"""Files for content that was held in memory: used again, for overwriting costs the disk half of what a new file does.

A file is taken for new content, stored once a row names it, and free again when the commit that deleted the content
is done. It may be longer than what it holds: the row says how long that is. At the end of the process free files are
removed, after a crash they are leftovers for the sweep.
"""

import os
import uuid
from contextlib import suppress
from pathlib import Path

from posthouse.storage import files

KEPT = 32
"""Free files that are kept, and stored ones that are kept open so that they can be used again."""
_NOT_MADE = -1


class ReusedFiles:
    """Those of one folder. The event loop may `take` at any time; all else is done by the writer thread, and `close`
    when that has ended. Only `take` removes what is free, and each step is one operation of a list or dict."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._free: list[tuple[Path, int]] = []
        self._taken: dict[Path, int] = {}
        self._stored: dict[Path, int] = {}
        """In the order in which they were stored. Of what is no longer here the descriptor is closed."""
        self._unnamed: set[Path] = set()
        """Their names are perhaps not on the disk yet."""

    def take(self) -> Path:
        """A file that no row names. It may not exist until `write`."""
        path, descriptor = self._free.pop() if self._free else (self._folder / uuid.uuid4().hex, _NOT_MADE)
        self._taken[path] = descriptor
        return path

    def write(self, path: Path, octets: bytes) -> bool:
        """Whether the folder has to be synced for the name. May be done again. Raises OSError."""
        if self._taken[path] == _NOT_MADE:
            self._taken[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._unnamed.add(path)
        files.write_all(self._taken[path], octets, 0)
        files.start_writing_back(self._taken[path])
        return path in self._unnamed

    def sync(self, path: Path) -> None:
        """Raises OSError."""
        files.sync_octets(self._taken[path])

    def named(self) -> None:
        """The folder has been synced."""
        self._unnamed.clear()

    def stored(self, path: Path) -> None:
        """A row names the file from now on. Of many that are stored the oldest is given up: it may stay for long."""
        self._stored[path] = self._taken.pop(path)
        if len(self._stored) > KEPT:
            _close(self._stored.pop(next(iter(self._stored))))

    def leave(self, path: Path) -> bool:
        """No row names the file any more: it is free. False if it is to be removed by the caller."""
        if path not in self._stored or len(self._free) >= KEPT:
            self.drop(path)
            return False
        self._free.append((path, self._stored.pop(path)))
        return True

    def drop(self, path: Path) -> None:
        """The file is no longer for use, and to be removed by the caller."""
        for known in (self._taken, self._stored):
            _close(known.pop(path, _NOT_MADE))
        self._unnamed.discard(path)

    def close(self) -> None:
        for path, descriptor in self._free:
            _close(descriptor)
            with suppress(OSError):  # a leftover
                files.unlink(path)
        for descriptor in (*self._taken.values(), *self._stored.values()):
            _close(descriptor)
        self._free.clear()
        self._taken.clear()
        self._stored.clear()


def _close(descriptor: int) -> None:
    """Nothing depends on it: what had to be on the disk has been synced."""
    if descriptor != _NOT_MADE:
        with suppress(OSError):
            os.close(descriptor)
