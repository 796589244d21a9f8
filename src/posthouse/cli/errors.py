"""How a command ends when it cannot do what was asked: exit code and lines for people, never a traceback."""

from collections.abc import Mapping, Sequence
from enum import IntEnum

from posthouse.core.faults import Fault


class Exit(IntEnum):
    """Exit codes of all commands (design section 4)."""

    OK = 0
    FAULT = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    """Refused by policy: a role without the right, a mail refused with 5.7.x."""


class Stop(Exception):
    """Ends the command with `code`; `faults` are shown one a line."""

    def __init__(
        self,
        code: Exit,
        message: str,
        faults: Sequence[Fault] = (),
        remedy: str = "",
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`more`: what else a problem has told, for `--json`."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.faults = tuple(faults)
        self.remedy = remedy
        self.more = dict(more or {})

    def document(self) -> Mapping[str, object]:
        """The same for `--json`."""
        return {
            "error": self.message,
            "remedy": self.remedy,
            "errors": [{"field": f.field, "value": f.value, "rule": f.rule, "remedy": f.remedy} for f in self.faults],
            **self.more,
        }
