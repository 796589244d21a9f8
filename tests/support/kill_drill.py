"""The kill drill: a node under load is killed with SIGKILL at random moments and started again on its data dir.

At the end every mail that was acknowledged must have arrived, whole, and only mails in flight at a kill may have
arrived twice. Where the supervisor alone is killed nothing may: the workers that it leaves behind finish what they
have begun, and the next start waits for them. A kill does not lose the page cache: the drill shows that nothing is
acknowledged or forgotten too early, not that the disk is synced; `fault_drill` looks at the syncs.

    python -m support.kill_drill --kills 200 --database postgresql --workers 3
"""

import argparse
import itertools
import os
import random
import signal
import smtplib
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from support.drill_record import record
from support.ledger import HELD, LARGE, SMALL, Account, Arrivals, Ledger, send_one, settle
from support.postgres import new_database, server
from support.processes import Node, inventory_for
from support.recording import recording_sink
from support.waiting import eventually

IN_FLIGHT = 20
"""Transactions that may be open at the next hop, all workers together, so duplicates that one kill may make."""


class Kill(Enum):
    """What is killed, at a random moment."""

    ALL = auto()
    """All processes at once."""
    STARTING = auto()
    """All processes, and again while the node comes up: counts as two."""
    CHILD = auto()
    """A worker or the console, which the supervisor must replace."""
    SUPERVISOR = auto()
    """The supervisor alone; the node is started again at once, beside the children that it left behind."""


KILLS = (*(6 * [Kill.ALL]), *(2 * [Kill.CHILD]), Kill.STARTING, Kill.SUPERVISOR)
"""Dealt out in random order, again and again."""

SINK_LAG_SECONDS = 2.0
"""So much later than it was sent the next hop may note a mail: what a dying node has written is still read."""


@dataclass
class Result:
    """What a drill saw."""

    seed: int
    workers: int
    database: str = "sqlite"
    """`sqlite` or `postgresql`."""
    kills: list[float] = field(default_factory=list)
    """Times of the monotonic clock of all kills after which mail may arrive twice: those of workers."""
    supervisor_kills: int = 0
    restarts: list[float] = field(default_factory=list)
    """Seconds from the start of the process to `ready`."""
    replies: Counter[int] = field(default_factory=Counter)
    account: Account = field(default_factory=lambda: Account(0, 0, 0, (), (), {}))

    def faults(self) -> list[str]:
        """What must not be; empty if the drill passed."""
        found = []
        if self.account.lost:
            found.append(f"lost: {self.account.lost}")
        if self.account.damaged:
            found.append(f"damaged: {self.account.damaged}")
        for mail_id, times in self.account.duplicates.items():
            for first, second in itertools.pairwise(times):
                if not any(first - SINK_LAG_SECONDS <= kill <= second for kill in self.kills):
                    found.append(f"{mail_id} arrived twice with no kill in between")
        if len(self.account.duplicates) > IN_FLIGHT * len(self.kills):
            found.append("more duplicates than transactions in flight at the kills")
        if not self.account.acknowledged:
            found.append("nothing was acknowledged")
        return found

    def line(self) -> str:
        """One line for people and for docs/drills.md."""
        account = self.account
        return (
            f"kills {len(self.kills) + self.supervisor_kills} ({self.supervisor_kills} of the supervisor alone), "
            f"database {self.database}, workers {self.workers}, seed {self.seed}: "
            f"acknowledged {account.acknowledged}, lost {len(account.lost)}, damaged {len(account.damaged)}, "
            f"duplicates {len(account.duplicates)}, "
            f"arrived without a 250 seen {account.unacknowledged}, "
            f"start {statistics.median(self.restarts):.2f} s (median) {max(self.restarts):.2f} s (longest)"
        )


def run(
    folder: Path,
    *,
    kills: int,
    seed: int,
    workers: int = 1,
    senders: int = 4,
    database: str = "sqlite",
    kinds: Sequence[Kill] = KILLS,
) -> Result:
    """The whole drill; `database` is the setting, and the caller looks at `faults()`."""
    chance = random.Random(seed)
    dealt = itertools.chain.from_iterable(chance.sample(kinds, len(kinds)) for _ in itertools.count())
    result = Result(seed, workers, database.partition(":")[0])
    folder.mkdir(parents=True, exist_ok=True)
    end = threading.Event()
    with Ledger(folder / "ledger") as ledger, recording_sink(Arrivals()) as sink:
        config = f'hostname = "mx.test"\ndatabase = "{database}"\n'
        node = Node(folder, inventory_for(sink.port), config, workers=workers)
        threads = [
            threading.Thread(target=_send, args=(node, ledger, end, f"s{seed}-{number}", result.replies), daemon=True)
            for number in range(senders)
        ]
        try:
            _start(node, result)
            for thread in threads:
                thread.start()
            while len(result.kills) + result.supervisor_kills < kills:
                _kill(next(dealt), node, result, chance)
            # Under load once more: what the last restart took back meets new mail.
            end.wait(chance.uniform(0.1, 0.5))
            assert all(thread.is_alive() for thread in threads), "a sender ended by itself"
            end.set()
            for thread in threads:
                thread.join(60)
            node.wait_empty(180)
            stop = node.stop()
            assert stop == 0, f"SIGTERM ended the node with {stop}"
        except BaseException:
            sys.stderr.write(node.log_tail())
            raise
        finally:
            end.set()
            if node.process is not None:
                node.kill()
        result.account = settle(ledger, sink.arrivals)
    return result


def _start(node: Node, result: Result) -> None:
    began = time.monotonic()
    node.start()
    result.restarts.append(time.monotonic() - began)


def _kill(kind: Kill, node: Node, result: Result, chance: random.Random) -> None:
    time.sleep(chance.uniform(0.005, 0.5))
    match kind:
        case Kill.CHILD:
            children = node.children()
            os.kill(chance.choice(children), signal.SIGKILL)
            result.kills.append(time.monotonic())
            eventually(lambda: len(node.children()) >= len(children), "a new child in place of the killed one")
            return
        case Kill.SUPERVISOR:
            node.kill_parent()
            result.supervisor_kills += 1
        case Kill.ALL:
            node.kill()
            result.kills.append(time.monotonic())
        case Kill.STARTING:
            node.kill()
            result.kills.append(time.monotonic())
            node.launch()
            time.sleep(chance.uniform(0.05, 1.0))
            node.kill()
            result.kills.append(time.monotonic())
    _start(node, result)
    orphans = node.orphans()
    assert not orphans, f"ready beside processes of an earlier start: {orphans}"


def _send(node: Node, ledger: Ledger, end: threading.Event, tag: str, replies: "Counter[int]") -> None:
    """A sender: session after session, a few mails in each, one in six of them large, until `end`."""
    chance = random.Random(tag)
    number = 0
    while not end.is_set():
        try:
            with smtplib.SMTP(*node.smtp, timeout=30) as client:
                for _ in range(chance.randrange(1, 20)):
                    if end.is_set():
                        break
                    number += 1
                    size = {0: HELD, 1: LARGE}.get(chance.randrange(12), SMALL)
                    recipients = ["one@ours.example", "two@ours.example"][: chance.randrange(1, 3)]
                    code, _ = send_one(client, f"{tag}-{number}", size, recipients, ledger)
                    replies[code] += 1
        except (OSError, smtplib.SMTPException):
            end.wait(0.02)  # killed, or not back yet


@contextmanager
def database_for(kind: str) -> Iterator[str]:
    """The setting `database`: `sqlite`, or a PostgreSQL of the drill's own, which no kill touches."""
    if kind == "sqlite":
        yield kind
        return
    with server() as url:
        yield new_database(url)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/drills kills", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--no-record", action="store_true", help="do not add the result to docs/drills.md")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="posthouse-drill-") as folder, database_for(given.database) as database:
        result = run(
            Path(folder),
            kills=given.kills,
            seed=given.seed,
            workers=given.workers,
            senders=given.senders,
            database=database,
        )
    print(result.line())
    print(f"replies to content: {dict(sorted(result.replies.items()))}")
    faults = result.faults()
    for fault in faults:
        print(f"FAULT {fault}")
    if not given.no_record:
        record("kills", result.line(), passed=not faults)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
