"""The connection pool against a naive model: a plain list, every rule of the seed spelled out."""

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from posthouse.core.pool import ConnectionPool
from posthouse.core.profile import Pool

SERVERS = ("smtp://a:25", "smtp://b:25")


class PoolAgainstModel(RuleBasedStateMachine):
    """The model is the list of kept connections, oldest first: (connection, server, idle since)."""

    @initialize(most=st.integers(0, 6), expiry=st.integers(1, 10), age=st.integers(1, 30), mails=st.integers(0, 3))
    def begin(self, most: int, expiry: int, age: int, mails: int) -> None:
        self.settings = Pool(True, max(most, 1), expiry, age, mails)
        self.pool: ConnectionPool[int] = ConnectionPool(self.settings, most)
        self.most, self.now, self.last = most, 0.0, 0
        self.model: list[tuple[int, str, float]] = []
        self.open: list[tuple[int, str, float, int]] = []
        self.idle_facts: list[tuple[int, str, float, int]] = []

    @rule(server=st.sampled_from(SERVERS))
    def need(self, server: str) -> None:
        known = {c: (opened, mails) for c, _, opened, mails in self.made}
        fitting = [entry for entry in self.model if entry[1] == server]
        got = self.pool.acquire(server)
        if fitting:  # rule 3
            assert got == fitting[-1][0]
            self.model.remove(fitting[-1])
            self.open.append((got, server, *known[got]))
        else:  # rule 1
            assert got is None
            self.last += 1
            self.open.append((self.last, server, self.now, 0))

    @property
    def made(self) -> list[tuple[int, str, float, int]]:
        return self.open + self.idle_facts

    @rule(pick=st.integers(0, 100))
    def complete(self, pick: int) -> None:
        if not self.open:
            return
        connection, server, opened, mails = self.open.pop(pick % len(self.open))
        mails += 1
        worn = self.now - opened >= self.settings.max_age_seconds
        worn = worn or (self.settings.max_messages > 0 and mails >= self.settings.max_messages)
        gone = self.pool.give_back(server, connection, self.now, opened_at=opened, messages=mails)
        if worn or len(self.model) >= self.most:  # rule 4
            assert gone == (connection,)
        else:  # rule 2
            assert gone == ()
            self.model.append((connection, server, self.now))
            self.idle_facts.append((connection, server, opened, mails))

    @rule(seconds=st.integers(0, 6))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        stale = [c for c, _, since in self.model if self.now - since >= self.settings.expiry_seconds]
        assert self.pool.expire(self.now) == tuple(stale)  # rule 5
        self.model = [entry for entry in self.model if entry[0] not in stale]

    @rule(pick=st.integers(0, 100))
    def server_closes_one(self, pick: int) -> None:
        connection = self.model[pick % len(self.model)][0] if self.model else -1
        assert self.pool.remove(connection) == bool(self.model)
        self.model = [entry for entry in self.model if entry[0] != connection]

    @rule(server=st.sampled_from(SERVERS))
    def server_drained(self, server: str) -> None:
        dropped = tuple(c for c, s, _ in self.model if s == server)
        assert sorted(self.pool.drop(server)) == sorted(dropped)
        self.model = [entry for entry in self.model if entry[1] != server]

    @rule()
    def profile_edited(self) -> None:
        assert self.pool.clear() == tuple(c for c, _, _ in self.model)
        self.model = []

    @invariant()
    def same(self) -> None:
        if hasattr(self, "pool"):
            assert self.pool.idle == len(self.model) <= self.most
            first = self.model[0][2] + self.settings.expiry_seconds if self.model else None
            assert self.pool.next_expiry() == first
            for server in {server for _, server, _ in self.model}:
                assert self.pool.idle_to(server) == [s for _, s, _ in self.model].count(server)


TestPoolAgainstModel = PoolAgainstModel.TestCase
# 50 steps each; scripts/test asks for 100,000 steps in all.
TestPoolAgainstModel.settings = settings(
    max_examples=int(os.environ.get("POOL_MODEL_RUNS", "200")), stateful_step_count=50, deadline=None
)
