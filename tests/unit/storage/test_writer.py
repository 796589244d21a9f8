"""GroupWriter: what shares a commit."""

import asyncio
from typing import cast

from posthouse.storage.mail_store import MailStore
from posthouse.storage.units import MailUnit
from posthouse.storage.writer import TURNS, GroupWriter


class Store:
    """Notes how many units each commit has."""

    def __init__(self) -> None:
        self.commits: list[int] = []

    def stage(self, units: list[MailUnit]) -> None:
        pass

    def run(self, units: list[MailUnit]) -> None:
        self.commits.append(len(units))


class Unit(MailUnit):
    def __init__(self, store: Store, settled: list[MailUnit]) -> None:
        super().__init__(cast(MailStore, store))
        self._settled = settled

    def settle(self) -> None:
        self._settled.append(self)


async def submitted(turns: int) -> list[int]:
    """One unit in each of so many turns of the loop; the sizes of the commits."""
    store, settled = Store(), list[MailUnit]()
    writer = GroupWriter(asyncio.get_running_loop())
    for _ in range(turns):
        writer.submit(Unit(store, settled))
        await asyncio.sleep(0)
    await writer.close()
    assert len(settled) == turns
    return store.commits


def test_a_commit_waits_while_each_turn_of_the_loop_brings_more() -> None:
    assert asyncio.run(submitted(3)) == [3]


def test_a_commit_waits_for_a_bounded_number_of_turns() -> None:
    assert 1 < asyncio.run(submitted(100))[0] <= TURNS + 2
