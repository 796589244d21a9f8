"""Waiting for what another process does: asks again until it holds, and says at the end what was seen last."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_SECONDS = 0.02


def eventually(look: Callable[[], T | None], what: str, seconds: float = 30.0) -> T:
    """The first result of `look` that is true. AssertionError naming `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(_PAUSE_SECONDS)
