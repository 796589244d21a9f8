"""Items to be scanned, made from octets."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from posthouse.core.examination import Item, ItemKind, Place
from posthouse.scan_ports import Asked, ScanOrder

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Given:
    """`scan_ports.Octets`: these, or `size` that never are in memory whole."""

    octets: bytes = b""
    size: int = 0
    at_middle: Callable[[], object] | None = None
    """Called once half of it has been read."""

    def pieces(self) -> Iterator[bytes]:
        middle = self.at_middle
        for start in range(0, self.size, _PIECE):
            if middle is not None and start >= self.size // 2:
                middle()
                middle = None
            end = min(start + _PIECE, self.size)
            yield self.octets[start:end] if self.octets else bytes(end - start)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.octets or b"%d zeros" % self.size).hexdigest()


def asked(*items: bytes | Given) -> list[Asked]:
    """Items numbered from 0."""
    given = [item if isinstance(item, Given) else Given(item, len(item)) for item in items]
    return [
        Asked(
            number,
            Item(ItemKind.PART, f"{number}", f"{number}", ("a.bin",), (), Place(True, 0, each.size), each.sha256),
            each,
        )
        for number, each in enumerate(given)
    ]


def order() -> ScanOrder:
    return ScanOrder("mail-1")
