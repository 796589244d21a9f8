"""The composition root: parts of a per-node number, and what SIGHUP changes."""

from dataclasses import replace

import pytest

from posthouse.app.serve import after_reload
from posthouse.app.worker import Worker
from posthouse.core.limits import Limits
from posthouse.node import Boot
from posthouse.settings import Address, ListenerSettings, NodeSettings


def workers(count: int, limits: Limits | None = None) -> list[Worker]:
    settings = NodeSettings(hostname="mx.test", workers=count, limits=limits or Limits())
    return [Worker(Boot("worker", index, f"n/{index}/b", settings, ())) for index in range(count)]


@pytest.mark.parametrize(
    ("number", "count", "parts"),
    [(20, 1, [20]), (20, 3, [7, 7, 6]), (21, 3, [7, 7, 7]), (2, 3, [1, 1, 0]), (0, 2, [0, 0])],
)
def test_a_number_of_the_node_is_split_over_its_workers(number: int, count: int, parts: list[int]) -> None:
    assert [worker._share(number) for worker in workers(count)] == parts


def test_every_worker_may_have_one_transaction_open() -> None:
    few = Limits(transactions_per_server=2)
    assert [worker._transactions(worker._settings) for worker in workers(4, few)] == [1, 1, 1, 1]


def test_a_reload_changes_what_it_may_and_names_what_needs_a_restart() -> None:
    running = NodeSettings(hostname="old.test", data_dir="/old", workers=3)
    fresh = replace(
        running,
        hostname="new.test",
        limits=Limits(errors=5),
        data_dir="/new",
        database="postgresql://new",
        workers=2,
        listeners=(*running.listeners, ListenerSettings(Address("127.0.0.1", 2526))),
        console=Address("127.0.0.1", 1),
        console_tls=True,
    )
    reloaded, waiting = after_reload(running, fresh)
    assert reloaded == replace(running, hostname="new.test", limits=Limits(errors=5))
    assert waiting == ["data_dir", "database", "workers", "listeners", "console", "console_tls"]


def test_a_reload_that_changes_nothing_names_nothing() -> None:
    settings = NodeSettings(hostname="mx.test")
    assert after_reload(settings, settings) == (settings, [])
