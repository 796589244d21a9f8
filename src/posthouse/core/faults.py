"""A fault in a value that somebody gave: field, value, rule broken, remedy.

Validators return every fault at once and never raise for bad input. The same words
appear in REST (`errors` of the problem details), CLI and console.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `field` is a dotted path such as `server_profiles[0].servers[1]`."""

    field: str
    value: str
    """What was given, as text; secrets are given as `***`."""
    rule: str
    """The rule that the value breaks, one sentence."""
    remedy: str
    """What would be right, one sentence."""

    def __str__(self) -> str:
        return f"{self.field}: {self.value!r}: {self.rule} {self.remedy}"


class InvalidInput(ValueError):
    """Raised by shells that cannot go on; carries all faults."""

    def __init__(self, faults: "tuple[Fault, ...]") -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults
