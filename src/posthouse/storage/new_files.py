"""Large content of the mails of one unit, on its way to the disk before the commit of the rows that name it."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from posthouse.core.mail import Content, FileOctets, InlineOctets, MailId
from posthouse.storage import files
from posthouse.storage.content import HELD_OCTETS, INLINE_OCTETS, OpenFiles
from posthouse.storage.reused_files import ReusedFiles


class NewFiles:
    """Files taken over from the sinks, and files for what these held in memory (own mail that is longer lies in the
    database). Made on the event loop, then used by the writer thread."""

    def __init__(
        self, versions: Iterable[tuple[MailId, int, Content]], reused: ReusedFiles | None, open_files: OpenFiles
    ) -> None:
        """`versions`: what is to be stored. `reused`: None where large content lies in the database."""
        self._open_files = open_files
        self._reused = reused
        self._octets: dict[Path, bytes] = {}
        self.claimed: dict[str, int] = {}
        """Descriptors of the sinks, by the path of the file."""
        self.held: dict[tuple[MailId, int], Path] = {}
        """What is still to be written, by mail and version."""
        for mail_id, version, content in versions:
            self._add(mail_id, version, content.source)

    def _add(self, mail_id: MailId, version: int, source: InlineOctets | FileOctets) -> None:
        match source:
            case FileOctets(path):
                descriptor = self._open_files.claim(path)
                if descriptor is not None:
                    self.claimed[path] = descriptor
            case InlineOctets(octets) if self._reused is not None and INLINE_OCTETS < len(octets) <= HELD_OCTETS:
                own = self.held[mail_id, version] = self._reused.take()
                self._octets[own] = octets
            case InlineOctets():
                pass

    @property
    def due(self) -> bool:
        """Whether anything has to be on the disk before the rows are."""
        return self._reused is not None and bool(self._octets or self.claimed)

    def write(self) -> bool:
        """Whether the folder has to be synced for their names. Raises OSError."""
        assert self._reused is not None
        unnamed = [self._reused.write(path, octets) for path, octets in self._octets.items()]
        return any(unnamed) or bool(self.claimed)

    def sync(self) -> None:
        """Octets are on the disk, names perhaps not. Raises OSError."""
        assert self._reused is not None
        for descriptor in self.claimed.values():
            files.sync_octets(descriptor)
        for path in self._octets:
            self._reused.sync(path)

    def stored(self) -> None:
        """The commit is done, and nothing that it deletes has been removed yet."""
        if self._reused is not None:
            for path in self._octets:
                self._reused.stored(path)

    def drop(self) -> None:
        """The commit failed: what is held is not for these files. They are to be removed by the caller."""
        if self._reused is not None:
            for path in self._octets:
                self._reused.drop(path)

    def close(self) -> None:
        """The sinks' descriptors are needed no longer; what had to be on the disk has been synced."""
        for path, descriptor in self.claimed.items():
            self._open_files.settled(path)
            with suppress(OSError):
                os.close(descriptor)

    def give_back(self) -> None:
        """The sinks' files will come again, with the next try of the outcome that brings them."""
        for path, descriptor in self.claimed.items():
            self._open_files.add(path, descriptor)

    def doubt(self) -> None:
        """Rows may name the files unseen."""
        for path in self.claimed:
            self._open_files.doubt(path)

    def discard(self) -> None:
        """The sinks' files will not come again: away, but for those that rows may name."""
        self.give_back()
        for path in self.claimed:
            self._open_files.discard(path)

    @property
    def written(self) -> list[Path]:
        """Files of what was held."""
        return list(self._octets)

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [*map(Path, self.claimed), *self._octets]
