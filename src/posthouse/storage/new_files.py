"""Large content of the mails of one unit, on its way to the disk before the commit of the rows that name it."""

import os
from collections.abc import Sequence
from pathlib import Path

from posthouse.core.mail import FileOctets, InlineOctets, Mail, MailId
from posthouse.storage import files
from posthouse.storage.content import INLINE_OCTETS, OpenFiles
from posthouse.storage.reused_files import ReusedFiles


class NewFiles:
    """Files taken over from the sinks, and files for what these held in memory. Made on the event loop, then used by
    the writer thread."""

    def __init__(self, mails: Sequence[Mail], reused: ReusedFiles | None, open_files: OpenFiles) -> None:
        """`reused`: None where large content lies in the database."""
        self._open_files = open_files
        self._reused = reused
        self._octets: dict[Path, bytes] = {}
        self.claimed: dict[str, int] = {}
        """Descriptors of the sinks, by the path of the file."""
        self.held: dict[tuple[MailId, int], Path] = {}
        """What is still to be written, by mail and version."""
        for mail in mails:
            for version, content in enumerate(mail.contents):
                if version == 0 or content.source != mail.contents[0].source:
                    self._add(mail.id, version, content.source)

    def _add(self, mail_id: MailId, version: int, source: InlineOctets | FileOctets) -> None:
        match source:
            case FileOctets(path):
                descriptor = self._open_files.claim(path)
                if descriptor is not None:
                    self.claimed[path] = descriptor
            case InlineOctets(octets) if self._reused is not None and len(octets) > INLINE_OCTETS:
                own = self.held[mail_id, version] = self._reused.take()
                self._octets[own] = octets
            case InlineOctets():
                pass

    @property
    def due(self) -> bool:
        """Whether anything has to be on the disk before the rows are."""
        return self._reused is not None and bool(self._octets or self.claimed)

    def write(self) -> bool:
        """Whether names are new, so that the folder has to be synced. Raises OSError."""
        if self._reused is None:
            return False
        new = [self._reused.write(path, octets) for path, octets in self._octets.items()]
        return any(new) or bool(self.claimed)

    def sync(self) -> None:
        """Octets are on the disk, names perhaps not. Raises OSError."""
        if self._reused is not None:
            for descriptor in self.claimed.values():
                files.sync_octets(descriptor)
            for path in self._octets:
                self._reused.sync(path)

    def stored(self) -> None:
        """The commit is done."""
        self._close_claimed()
        if self._reused is not None:
            for path in self._octets:
                self._reused.stored(path)

    def refused(self) -> None:
        """The commit failed, and the mails will not come again; `paths` are to be removed."""
        self._close_claimed()
        self._drop_held()

    def give_back(self) -> None:
        """The commit failed, but the mails will come again, by a unit that writes new files for what is held."""
        for path, descriptor in self.claimed.items():
            self._open_files.add(path, descriptor)
        self._drop_held()

    def _drop_held(self) -> None:
        if self._reused is not None:
            for path in self._octets:
                self._reused.drop(path)

    def _close_claimed(self) -> None:
        for descriptor in self.claimed.values():
            os.close(descriptor)

    def paths(self) -> list[Path]:
        return [*map(Path, self.claimed), *self._octets]
