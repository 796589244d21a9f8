"""What the opening of containers may cost, for a whole mail and for each container."""

from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.core.examination import ExaminationLimits

RATIO_FREE = 1024 * 1024
"""Octets that a container may hold however small it is."""
_READINGS = 4
"""Times that each octet of a container may be unpacked."""


@dataclass(frozen=True, slots=True)
class Member:
    """What a container holds."""

    names: tuple[str, ...]
    """Every reading of its path in the container, as it stands there; empty if the format has none."""
    octets: bytes
    """Empty if it is encrypted."""
    encrypted: str = ""
    """As in `PartFacts.encrypted`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Not all of a container could be shown, or its readings differ."""

    why: str
    """Completes "not opened whole: "."""


Contents = Iterator[Member | Fault]
"""Made one by one, so that no more than one member of each level is in memory."""


class Exhausted(Exception):
    """A limit of the mail or of the container is reached; the text is why."""


class Budget:
    """What is left for a mail; each container takes an `Allowance` from it."""

    def __init__(self, limits: ExaminationLimits) -> None:
        self.octets = limits.made_octets
        self.entries = limits.container_entries
        self.ratio = limits.container_ratio
        self._limits = limits

    def take_octets(self, count: int) -> None:
        """Raises Exhausted."""
        if count > self.octets:
            self.octets = 0
            raise Exhausted(f"more than {self._limits.made_octets} octets decoded and unpacked")
        self.octets -= count

    def take_entry(self) -> None:
        """Raises Exhausted."""
        if self.entries < 1:
            raise Exhausted(f"more than {self._limits.container_entries} entries")
        self.entries -= 1


class Allowance:
    """What one container may give. The ratio is that of all its members together to its own octets: so entries that
    overlap pay for each time that they are unpacked."""

    def __init__(self, budget: Budget, packed: int) -> None:
        self._budget = budget
        self._packed = packed
        self._left = max(RATIO_FREE, packed * budget.ratio)
        self._input = packed * _READINGS + RATIO_FREE

    @property
    def entries(self) -> int:
        """How many are left."""
        return self._budget.entries

    def take_entry(self) -> None:
        """Raises Exhausted."""
        self._budget.take_entry()

    def take(self, count: int) -> None:
        """Octets that were unpacked. Raises Exhausted."""
        self._left -= count
        if self._left < 0:
            raise Exhausted(f"unpacks to more than {self._budget.ratio} times its size")
        self._budget.take_octets(count)

    def take_input(self, count: int) -> None:
        """Octets that were read to be unpacked; less than 0: given back. Raises Exhausted."""
        self._input -= count
        if self._input < 0:
            raise Exhausted("its entries overlap")
