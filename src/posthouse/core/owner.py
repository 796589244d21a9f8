"""The name under which a process of a node holds leases and writes its live row: `node-id/part/boot-id`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """One start of one node: from `posthouse serve` to the end of its last process."""

    node: str
    """The same for all starts on one data dir."""
    boot: str
    """Another for each start."""

    def owner(self, part: str) -> str:
        """Of one process; `part` is the index of a worker, or `console`. A process started again has it again."""
        return f"{self.node}/{part}/{self.boot}"

    @classmethod
    def of(cls, owner: str) -> "Start":
        """The start that an owner belongs to."""
        return cls(owner.partition("/")[0], owner.rpartition("/")[2])
