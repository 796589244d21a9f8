"""What an examiner makes: decoded parts, members, re-coded texts, one after the other. Little of it goes in band,
more in a sealed memory file, so that nobody changes what is scanned after it has been shown."""

import fcntl
import os
from collections.abc import Iterable

from posthouse.core.examination import Place
from posthouse.examiner.frames import IN_BAND_OCTETS
from posthouse.examiner.questions import Portion

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Made:
    """Takes octets; `portion` ends it."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._descriptor = -1
        self.size = 0

    def write(self, octets: bytes | bytearray | memoryview) -> int:
        """Where they begin. Raises OSError when there is no room."""
        start = self.size
        if self._descriptor < 0 and start + len(octets) <= IN_BAND_OCTETS:
            self._held += octets
        else:
            if self._descriptor < 0:
                self._descriptor = os.memfd_create("made", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                held, self._held = bytes(self._held), bytearray()
                self._append(held)
            self._append(octets)
        self.size += len(octets)
        return start

    def take(self, octets: Iterable[bytes]) -> Place:
        """Piece by piece; where they all are. Raises OSError."""
        start = self.size
        for piece in octets:
            self.write(piece)
        return Place(True, start, self.size)

    def _append(self, octets: bytes | bytearray | memoryview) -> None:
        left = memoryview(octets)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def portion(self) -> tuple[Portion, bytes, tuple[int, ...]]:
        """The portion, its octets in band, and its descriptor, sealed; there is one of the two. `close` is due when
        it has been sent."""
        if self._descriptor < 0:
            return Portion(True, self.size), bytes(self._held), ()
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, SEALS)
        return Portion(False, self.size), b"", (self._descriptor,)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        self._held = bytearray()
