"""How many notices an address gets: no flood of mail about a flood of mail."""

HOUR = 3600.0
REMEMBERED = 10_000
"""Addresses; past it the oldest are forgotten."""


class NoticeRate:
    """At most `most` in any hour for each address; counts those that were left out."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.left_out = 0
        self._sent: dict[str, list[float]] = {}

    def allows(self, address: str, now: float) -> bool:
        """One more may leave now, and is counted."""
        key = address.casefold()
        sent = [at for at in self._sent.pop(key, []) if now - at < HOUR]
        allowed = len(sent) < self.most
        self._sent[key] = [*sent, now] if allowed else sent  # at the end again: the oldest stand first
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self.left_out += not allowed
        return allowed
