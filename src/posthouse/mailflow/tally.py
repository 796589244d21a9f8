"""What one server has done for a profile since the worker began: recipients relayed, and what went wrong last."""

from collections.abc import Callable
from dataclasses import dataclass

ERRORS_KEPT = 5
ERROR_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class _Error:
    """The same again right after it is no further one."""

    at: float
    stage: str
    text: str
    times: int = 1


class Tally:
    """Bounded, whatever the server does."""

    __slots__ = ("_errors", "relayed")

    def __init__(self) -> None:
        self.relayed = 0
        """Recipients."""
        self._errors: tuple[_Error, ...] = ()
        """The newest last."""

    def error(self, at: float, stage: str, text: str) -> None:
        """Something went wrong there; `at` as `facts` is to translate it."""
        text = text[:ERROR_CHARACTERS]
        last = self._errors[-1] if self._errors else None
        if last is not None and (last.stage, last.text) == (stage, text):
            self._errors = (*self._errors[:-1], _Error(at, stage, text, last.times + 1))
        else:
            self._errors = (*self._errors, _Error(at, stage, text))[-ERRORS_KEPT:]

    def facts(self, epoch: Callable[[float], float | None]) -> dict[str, object]:
        """For the live row, the newest first. `epoch` makes epoch seconds."""
        errors = [
            {"at": epoch(each.at), "stage": each.stage, "text": each.text, "times": each.times}
            for each in reversed(self._errors)
        ]
        return {"relayed": self.relayed, "last_errors": errors}
