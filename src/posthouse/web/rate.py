"""How often somebody may do something: so many times in any so many seconds."""

import math
from collections import deque


class Rate:
    """`most` times in any `seconds`, counted for each name; holds only those of the last `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._times: dict[str, deque[float]] = {}

    def take(self, who: str, now: float) -> int:
        """0 if `who` may, which is counted; else the whole seconds after which it may again."""
        for name in [name for name, times in self._times.items() if times[-1] <= now - self._seconds]:
            del self._times[name]
        times = self._times.setdefault(who, deque())
        while times and times[0] <= now - self._seconds:
            times.popleft()
        if len(times) >= self._most:
            return max(1, math.ceil(times[0] + self._seconds - now))
        times.append(now)
        return 0
