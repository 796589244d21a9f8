"""Content on its way in: a sink that holds it in memory up to a bound and streams what is longer to a file.

On SQLite content over 256 KiB lies in a file in the end. What a sink held is written to its file by the thread that
commits the mail, off the event loop, and is relayed from memory meanwhile. What a sink streams is written as
`.tmp-<name>` and renamed to its name when it is whole; that name goes into the mail. Either file is synced just
before the commit that names it (`new_files`); a file that no committed row names is a leftover. On PostgreSQL what
was held becomes one row, and what was streamed several.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.ports import ReceivedContent
from posthouse.storage import files

INLINE_OCTETS = 256 * 1024
"""Content up to this size lies in the database, on SQLite longer content in a file."""
HELD_OCTETS = 1280 * 1024
"""Content up to this size, a mail of 1 MiB among it, is held in memory while there is room."""
ROOM_OCTETS = 16 * 1024 * 1024
"""What the sinks of a process hold at most of content over `INLINE_OCTETS`, until their mail is stored."""
TEMPORARY = ".tmp-"


class Room:
    """Memory that the sinks of a process share for content over `INLINE_OCTETS`."""

    def __init__(self) -> None:
        self._left = ROOM_OCTETS

    def take(self, octets: int) -> bool:
        """Whether there was so much."""
        if octets > self._left:
            return False
        self._left -= octets
        return True

    def give_back(self, octets: int) -> None:
        self._left += octets


class OpenFiles:
    """Files that sinks of this process have made and no mail has claimed yet, with their descriptors.

    The descriptor that wrote stays open until the sync: the system reports a failed write-back to it.
    """

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}
        self._doubtful: set[str] = set()

    def add(self, path: str, descriptor: int) -> None:
        self._descriptors[path] = descriptor

    def claim(self, path: str) -> int | None:
        """The file belongs to a mail now; the caller closes the descriptor. None if it is not here."""
        return self._descriptors.pop(path, None)

    def settled(self, path: str) -> None:
        """Its commit is done."""
        self._doubtful.discard(path)

    def doubt(self, path: str) -> None:
        """A commit that names it may have taken place unseen: it is never removed here, but by a sweep at most."""
        self._doubtful.add(path)

    def discard(self, path: str) -> None:
        """Removes the file unless a mail has claimed it, or may have."""
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)
            if path in self._doubtful:
                self._doubtful.discard(path)
            else:
                files.unlink(Path(path))

    def discard_all(self) -> None:
        for path in list(self._descriptors):
            self.discard(path)


class FileSink:
    """ports.ContentSink."""

    def __init__(self, folder: Path, open_files: OpenFiles, room: Room) -> None:
        self._folder = folder
        self._open_files = open_files
        self._room = room
        self._taken = 0
        """Of the room."""
        self._chunks: list[bytes] = []
        self._held = 0
        self._written = 0
        self._descriptor = -1
        self._path: Path | None = None
        self._closed = False

    def write(self, octets: bytes) -> None:
        if self._descriptor >= 0:
            files.write_all(self._descriptor, octets, self._written)
            self._written += len(octets)
            return
        self._chunks.append(octets)
        self._held += len(octets)
        if self._held > INLINE_OCTETS and not self._may_hold():
            self._spill()

    def _may_hold(self) -> bool:
        wanted = self._held - self._taken
        if self._held > HELD_OCTETS or not self._room.take(wanted):
            return False
        self._taken += wanted
        return True

    def _leave_room(self) -> None:
        self._room.give_back(self._taken)
        self._taken = 0

    def _spill(self) -> None:
        name = uuid.uuid4().hex
        self._path = self._folder / name
        self._descriptor = os.open(self._temporary(self._path), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        held, self._chunks = self._chunks, []
        for octets in held:
            files.write_all(self._descriptor, octets, self._written)
            self._written += len(octets)
        self._leave_room()

    @staticmethod
    def _temporary(path: Path) -> Path:
        return path.with_name(TEMPORARY + path.name)

    def close(self, *, size: int, header: bytes, normalised: int) -> ReceivedContent:
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

    def release(self) -> None:
        self._chunks = []
        self._leave_room()
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
