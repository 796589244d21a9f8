"""Content on its way in: a sink that holds 256 KiB in memory and streams what is longer to a file.

A file is written as `.tmp-<name>` and renamed to its name when it is whole; that name goes into the mail. It is
synced just before the commit that names it (`units`); a file that no committed row names is a leftover.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.ports import ReceivedContent
from posthouse.storage import files

INLINE_OCTETS = 256 * 1024
"""Content up to this size lies in the database, longer content in a file."""
TEMPORARY = ".tmp-"


class OpenFiles:
    """Files that sinks of this process have made and no mail has claimed yet, with their descriptors.

    The descriptor that wrote stays open until the sync: the system reports a failed write-back to it.
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def add(self, path: str, descriptor: int) -> None:
        self._descriptors[path] = descriptor

    def claim(self, path: str) -> int | None:
        """The file belongs to a mail now; the caller closes the descriptor. None if it is not here."""
        return self._descriptors.pop(path, None)

    def discard(self, path: str) -> None:
        """Removes the file unless a mail has claimed it."""
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)
            files.unlink(Path(path))

    def discard_all(self) -> None:
        for path in list(self._descriptors):
            self.discard(path)


class FileSink:
    """ports.ContentSink. `abort` is safe at any time: it does nothing once a mail has claimed the content."""

    def __init__(self, folder: Path, open_files: OpenFiles) -> None:
        self._folder = folder
        self._open_files = open_files
        self._chunks: list[bytes] = []
        self._held = 0
        self._written = 0
        self._descriptor = -1
        self._path: Path | None = None
        self._closed = False

    def write(self, octets: bytes) -> None:
        """Raises OSError when the disk refuses; `abort` is due then."""
        if self._descriptor >= 0:
            files.write_all(self._descriptor, octets)
            self._written += len(octets)
            return
        self._chunks.append(octets)
        self._held += len(octets)
        if self._held > INLINE_OCTETS:
            self._spill()

    def _spill(self) -> None:
        name = uuid.uuid4().hex
        self._path = self._folder / name
        self._descriptor = os.open(self._temporary(self._path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        held, self._chunks = self._chunks, []
        for octets in held:
            files.write_all(self._descriptor, octets)
        self._written = self._held

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(TEMPORARY + path.name)

    def close(self, *, size: int, header: bytes, normalised: int) -> ReceivedContent:
        """End of content. Raises OSError when the disk refuses; `abort` is due then."""
        source: InlineOctets | FileOctets
        if self._path is None:
            source = InlineOctets(b"".join(self._chunks))
            self._chunks = []
        else:
            files.rename(self._temporary(self._path), self._path)
            self._open_files.add(str(self._path), self._descriptor)
            self._descriptor = -1
            self._closed = True
            source = FileOctets(str(self._path), self._written)
        return ReceivedContent(Content(source), size, header, normalised)

    def abort(self) -> None:
        self._chunks = []
        if self._path is None:
            return
        if self._closed:
            self._open_files.discard(str(self._path))
        elif self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            files.unlink(self._temporary(self._path))


def sweep(folder: Path, named: Callable[[], set[str]]) -> int:
    """Removes files that no row names (`named` tells which are); for a folder this process has just claimed.

    Returns how many.
    """
    present = set(os.listdir(folder))
    leftovers = present - named() if present else present
    for name in leftovers:
        files.unlink(folder / name)
    return len(leftovers)
