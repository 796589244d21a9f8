"""Octets that nobody else sees: in a file without a name, gone with its last reference or with the process."""

import os
import tempfile
import weakref
from collections.abc import Iterator

from posthouse.clients.content_pieces import PIECE_OCTETS
from posthouse.ports import ContentUnreadable


class TemporaryOctets:
    """scan_ports.Octets that are written once, then read as often as one likes."""

    def __init__(self, folder: str | None = None) -> None:
        """`folder` None: that of the system. Raises OSError."""
        self._descriptor, path = tempfile.mkstemp(prefix="posthouse-", dir=folder)
        weakref.finalize(self, os.close, self._descriptor)
        os.unlink(path)
        self._size = 0

    def write(self, octets: bytes) -> None:
        """At the end. Raises OSError."""
        view = memoryview(octets)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    @property
    def size(self) -> int:
        return self._size

    def pieces(self) -> Iterator[bytes | memoryview]:
        """At most `PIECE_OCTETS` each. Raises ContentUnreadable."""
        for offset in range(0, self._size, PIECE_OCTETS):
            length = min(PIECE_OCTETS, self._size - offset)
            try:
                octets = os.pread(self._descriptor, length, offset)
            except OSError as error:
                raise ContentUnreadable(f"a temporary file cannot be read here: {error.strerror}") from error
            if len(octets) != length:
                raise ContentUnreadable("a temporary file cannot be read here: it is too short")
            yield octets
