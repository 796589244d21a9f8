"""What is shown of a mail, as it is gathered: leaves, each once, within bounds."""

from dataclasses import dataclass, replace

from posthouse.core.examination import ExaminationLimits, ItemKind
from posthouse.core.mime.names import MOST as MOST_NAMES


@dataclass(frozen=True, slots=True)
class Span:
    """Octets of the mail without dot-stuffing, half-open."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """One thing that is shown to the scanner."""

    kind: ItemKind
    """PART, READING or TEXT."""
    path: str
    """For people: that of the part; `2?` for another reading of it; `2/1.1` inside an encoded mail."""
    part: str
    """Path of the part of the tree that holds it; empty if the mail as a whole does."""
    names: tuple[str, ...]
    """Every reading, the usual one first."""
    types: tuple[str, ...]
    """As declared, every reading, lower case."""
    octets: bytes | Span
    """Decoded; a span where it is what stands in the mail."""


WORK, WORK_LEAST = 64, 16 * 1024 * 1024
"""Octets that may be read to find parts, in all manners and in mails inside the mail: so many times its size, and so
many at least."""


class Gathered:
    """Leaves and doubts; every bound that is met is a doubt."""

    def __init__(self, size: int, limits: ExaminationLimits) -> None:
        self._limits = limits
        self._leaves: list[Leaf] = []
        self._known: dict[bytes | Span, dict[str, int]] = {}
        self._doubts: dict[str, None] = {}
        self._made = 0
        self._work = WORK_LEAST + WORK * size

    def leaves(self) -> tuple[Leaf, ...]:
        """Those of the tree first, in its order."""
        return tuple(sorted(self._leaves, key=lambda leaf: leaf.kind is not ItemKind.PART))

    def doubts(self) -> tuple[str, ...]:
        return tuple(self._doubts)

    def doubt(self, *sentences: str) -> None:
        self._doubts.update(dict.fromkeys(sentences))

    def add(self, leaf: Leaf) -> bool:
        """False if the same octets are known of that part (the mail as a whole has what any part has): then only
        names and types that are new are kept; or if it is empty, or one too many."""
        empty = not leaf.octets or (isinstance(leaf.octets, Span) and leaf.octets.start >= leaf.octets.end)
        if empty and leaf.kind is not ItemKind.PART:
            return False
        known = self._known.setdefault(leaf.octets, {})
        at = known.get(leaf.part)
        if at is None and known and not leaf.part and leaf.kind is not ItemKind.PART:
            at = next(iter(known.values()))
        if at is not None:
            self._merge(at, leaf)
            return False
        if self.full():
            return False
        known[leaf.part] = len(self._leaves)
        self._leaves.append(leaf)
        return True

    def _merge(self, at: int, leaf: Leaf) -> None:
        known = self._leaves[at]
        names = tuple(dict.fromkeys((*known.names, *leaf.names)))[:MOST_NAMES]
        types = tuple(dict.fromkeys((*known.types, *leaf.types)))[:MOST_NAMES]
        if names != known.names or types != known.types:
            self._leaves[at] = replace(known, names=names, types=types)

    def makes(self, octets: int) -> bool:
        """False once more has been decoded than may be."""
        self._made += octets
        if self._made > self._limits.made_octets:
            self.doubt(f"Decoded, the parts have more than {self._limits.made_octets} octets.")
            return False
        return True

    def left(self) -> int:
        """Octets that may still be made."""
        return max(0, self._limits.made_octets - self._made)

    def works(self, octets: int) -> bool:
        """False once reading again and again has taken too much."""
        self._work -= octets
        if self._work < 0:
            self.doubt("There are too many mails in it, or too many readings of them.")
        return self._work >= 0

    def full(self) -> bool:
        if len(self._leaves) < self._limits.readings:
            return False
        self.doubt(f"There are more than {self._limits.readings} readings.")
        return True
