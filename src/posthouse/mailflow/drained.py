"""Which servers of which profiles a worker leaves out at present (`core.drain`)."""

from collections.abc import Collection, Hashable, Iterable, Mapping

from posthouse.core.drain import Drain
from posthouse.telemetry import logger

log = logger("servers")

Key = tuple[str, str]
"""Profile and server."""


class Drained:
    """Drains in force; one that has ended by itself is in force until `look` is called, so whoever asks for the
    drain of one server asks it whether it holds."""

    def __init__(self) -> None:
        self._given: Mapping[Key, Drain] = {}
        """Those that have ended by themselves, too: a clock that has jumped ahead may go back."""
        self._drains: Mapping[Key, Drain] = {}
        self._behind: Mapping[Key, Collection[Hashable]] = {}
        """Keys of the circuits of all servers."""
        self.left_alone: frozenset[Hashable] = frozenset()
        """Keys of circuits behind drained servers only, of whichever profiles: no probe goes there."""

    @property
    def servers(self) -> Collection[Key]:
        """All that are left out."""
        return self._drains.keys()

    def of(self, profile: str, server: str) -> Drain | None:
        """The drain of a server, if there is one."""
        return self._drains.get((profile, server))

    def serve(self, behind: Mapping[Key, Collection[Hashable]]) -> None:
        """The inventory changed: all servers there are, each with the keys of its circuits."""
        self._behind = behind
        self._look_again()

    def take(self, drains: Mapping[Key, Drain], now: float) -> set[str] | None:
        """Exactly those that hold are in force from now on. Returns what `look` does."""
        self._given = drains
        return self.look(now)

    def look(self, now: float) -> set[str] | None:
        """Which of them hold now. None if nothing changes, else the profiles that have a server back."""
        holding = {key: drain for key, drain in self._given.items() if drain.holds(now)}
        if holding == self._drains:
            return None
        back = self._drains.keys() - holding.keys()
        for profile, server in back:
            log.info("server serves again", profile=profile, server=server)
        for (profile, server), drain in holding.items():
            if self.of(profile, server) != drain:
                log.info("server left out", profile=profile, server=server, why=drain.why)
        self._drains = holding
        self._look_again()
        return {profile for profile, _ in back}

    def _look_again(self) -> None:
        drained = _keys(self._behind.get(key, ()) for key in self._drains)
        serving = _keys(keys for key, keys in self._behind.items() if key not in self._drains) if drained else set()
        self.left_alone = frozenset(drained - serving)


def _keys(many: Iterable[Collection[Hashable]]) -> set[Hashable]:
    return {key for keys in many for key in keys}
