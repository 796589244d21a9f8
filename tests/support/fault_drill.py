"""The fault drill: the n-th call that changes a file in the data dir fails, is torn, or kills the node there.

`fault_shim.c` counts those calls over all processes of a node. Each round arms it, sends three mails, and then asks
three things: is everything acknowledged at the next hop and whole, does the node take mail again by itself (after a
restart if the round killed it), and how long did a restart take.

    python -m support.fault_drill
"""

import argparse
import mmap
import random
import smtplib
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from support.drill_record import record
from support.ledger import HELD, LARGE, SMALL, Arrivals, Ledger, send_one, settle
from support.peers import need
from support.processes import Node, NodeEnded, inventory_for
from support.recording import recording_sink
from support.waiting import eventually

CALLS = ("", "write", "sync", "rename", "link", "unlink", "truncate", "create")
RECOVERY_SECONDS = 30.0
"""A node that was not killed takes mail again this soon after the fault."""
FOREVER = 10**9


class Action(IntEnum):
    """What happens at the n-th call; numbers as in fault_shim.c."""

    EIO = 1
    ENOSPC = 2
    KILL = 3
    TEAR = 4
    """Half of the write is done, then the node is killed."""

    @property
    def kills(self) -> bool:
        return self in (Action.KILL, Action.TEAR)


class Shim:
    """The compiled shim and the file it is steered by."""

    def __init__(self, folder: Path, watched: Path) -> None:
        library, control = folder / "fault_shim.so", folder / "control"
        source = Path(__file__).with_name("fault_shim.c")
        subprocess.run(
            [need("gcc", "gcc libc6-dev"), "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
            check=True,
        )
        control.write_bytes(bytes(64))
        with control.open("r+b") as file:
            self._words = mmap.mmap(file.fileno(), 64)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAULT_CONTROL": str(control),
            "FAULT_FOLDER": str(watched),
        }

    def arm(self, action: Action, n: int, in_a_row: int = 1) -> None:
        """From now on the n-th call fails, and so many after it."""
        struct.pack_into("<8Q", self._words, 0, 0, n, action, in_a_row, 0, 0, 0, 0)

    def disarm(self) -> None:
        struct.pack_into("<Q", self._words, 8, 0)

    @property
    def seen(self) -> int:
        """Calls since it was armed."""
        return int(struct.unpack_from("<Q", self._words, 0)[0])

    @property
    def fired(self) -> bool:
        return bool(struct.unpack_from("<Q", self._words, 32)[0])

    @property
    def call(self) -> str:
        """The kind of call it last happened at."""
        return CALLS[struct.unpack_from("<Q", self._words, 40)[0]]


@dataclass
class Result:
    """What a drill saw."""

    seed: int
    rounds: dict[str, int] = field(default_factory=dict)
    """Rounds in which the fault happened, by action and kind of call."""
    faults: list[str] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    acknowledged: int = 0
    duplicates: int = 0

    def line(self) -> str:
        """One line for people and for docs/drills.md."""
        starts = self.restarts or [0.0]
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.rounds.items()))
        return (
            f"faults {sum(self.rounds.values())} ({kinds}), seed {self.seed}: acknowledged {self.acknowledged}, "
            f"faulty rounds {len(self.faults)}, duplicates {self.duplicates}, "
            f"start {statistics.median(starts):.2f} s (median) {max(starts):.2f} s (longest)"
        )


class Drill:
    """One node under the shim, its next hop and the books."""

    def __init__(self, node: Node, shim: Shim, ledger: Ledger, sink: Arrivals, result: Result) -> None:
        self.node, self.shim, self.ledger, self.sink, self.result = node, shim, ledger, sink, result
        self._chance = random.Random(result.seed)
        self._mails = 0

    def clean_round(self) -> int:
        """A round without a fault; how many calls it made."""
        self.shim.arm(Action.EIO, FOREVER)
        self._send_some()
        self._settled()
        return self.shim.seen

    def round(self, action: Action, n: int, in_a_row: int = 1) -> bool:
        """False if the n-th call was not reached. What must not be is added to the result."""
        self.shim.arm(action, n, in_a_row)
        self._send_some()
        self._pass_the_fault()
        fired, call = self.shim.fired, self.shim.call
        self.shim.disarm()
        if not fired:
            return False
        name = f"{action.name} at {call}"
        self.result.rounds[name] = self.result.rounds.get(name, 0) + 1
        try:
            if action.kills:
                self._restart()
            doubled = self.result.duplicates
            self._takes_mail_again()
            self._settled()
            assert action.kills or self.result.duplicates == doubled, "a mail arrived twice though nothing was killed"
        except (AssertionError, OSError) as fault:
            self.result.faults.append(f"{name}, n = {n}: {fault}\n{self.node.log_tail()}")
            self.node.kill()
            self.start()
        return True

    def start(self) -> None:
        began = time.monotonic()
        self.node.start()
        self.result.restarts.append(time.monotonic() - began)

    def _restart(self) -> None:
        """Waits for the killed node's end and starts it; now and then it is killed in its start as well."""
        eventually(lambda: not self.node.alive(), "the end of the killed node", 10)
        self.node.kill()
        if self._chance.randrange(3) == 0:
            self.shim.arm(Action.KILL, self._chance.randrange(1, 80))
            try:
                self.node.start()
            except NodeEnded:
                pass
            self.shim.disarm()
            self.node.kill()
        self.start()

    def _send_some(self) -> None:
        """Of all kinds of content, some for two recipients: in one session as long as it holds."""
        with self._session() as client:
            for size, recipients in ((SMALL, 1), (HELD, 2), (LARGE, 1), (HELD, 1)):
                self._send(client, size, recipients)

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        try:
            with smtplib.SMTP(*self.node.smtp, timeout=10) as client:
                yield client
        except (OSError, smtplib.SMTPException):
            pass  # the fault ended the session: what was not acknowledged does not count

    def _send(self, client: smtplib.SMTP, size: int, recipients: int) -> int:
        self._mails += 1
        to = [f"r{number}@ours.example" for number in range(recipients)]
        return send_one(client, f"f{self.result.seed}-{self._mails}", size, to, self.ledger)[0]

    def _pass_the_fault(self) -> None:
        """Until the fault has happened, or everything that was to be done is done without reaching it."""

        def passed() -> bool:
            if self.shim.fired or not self.node.alive():
                return True
            try:
                return self._all_arrived() and self.node.queued() == 0
            except OSError:
                return False

        eventually(passed, "the fault, or an empty queue", 30)

    def _takes_mail_again(self) -> None:
        def taken() -> bool:
            code = 0
            with self._session() as client:
                code = self._send(client, SMALL, 1)
            return code == 250

        assert self.node.alive(), f"the node ended with {self.node.process and self.node.process.returncode}"
        eventually(taken, "mail being taken again", RECOVERY_SECONDS)

    def _settled(self) -> None:
        """Until everything acknowledged has arrived and the queue is empty; deferred mail is made due."""

        def empty() -> bool:
            try:
                if self._all_arrived() and self.node.queued() == 0:
                    return True
                self.node.api("POST", "queue/retry", {"all": True})
            except OSError:
                pass  # the console is being started again
            return False

        try:
            eventually(empty, "an empty queue", 60)
        finally:
            account = settle(self.ledger, self.sink.arrivals)
            self.result.acknowledged = account.acknowledged
            self.result.duplicates = len(account.duplicates)
        assert not account.lost, f"lost {account.lost}"
        assert not account.damaged, f"damaged {account.damaged}"

    def _all_arrived(self) -> bool:
        return self.ledger.acknowledged.keys() <= {arrival.mail_id for arrival in list(self.sink.arrivals)}


@contextmanager
def drill(folder: Path, seed: int, workers: int = 1) -> Iterator[Drill]:
    """A node under the shim, ready."""
    folder.mkdir(parents=True, exist_ok=True)
    with Ledger(folder / "ledger") as ledger, recording_sink(Arrivals()) as sink:
        node = Node(folder, inventory_for(sink.port), workers=workers)
        shim = Shim(folder, node.data_dir)
        node.environment = shim.environment
        running = Drill(node, shim, ledger, sink, Result(seed))
        try:
            running.start()
            yield running
        except BaseException:
            sys.stderr.write(node.log_tail())
            raise
        finally:
            if node.process is not None:
                node.kill()


def sample(running: Drill, actions: Sequence[Action], points: int) -> None:
    """The short form: `points` values of n for each action, spread over the calls of a clean round."""
    calls = running.clean_round()
    chance = random.Random(running.result.seed)
    for action in actions:
        for part in range(points):
            low, high = part * calls // points, (part + 1) * calls // points
            running.round(action, chance.randint(low + 1, max(high, low + 1)))


def every_call(running: Drill, action: Action, limit: int, in_a_row: int = 1) -> None:
    """The full form: n = 1, 2, ... until three rounds in a row end without reaching the n-th call."""
    unreached = 0
    for n in range(1, limit + 1):
        unreached = 0 if running.round(action, n, in_a_row) else unreached + 1
        if unreached == 3:
            return
    raise AssertionError(f"{action.name}: {limit} calls are not the end of a round")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/drills faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--actions", default="EIO,ENOSPC,KILL,TEAR")
    parser.add_argument("--limit", type=int, default=2000, help="the round must have ended before this n")
    parser.add_argument("--points", type=int, default=0, help="only so many values of n for each action")
    parser.add_argument("--no-record", action="store_true", help="do not add the result to docs/drills.md")
    given = parser.parse_args(arguments)
    actions = [Action[name] for name in given.actions.split(",")]
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="posthouse-drill-") as folder, drill(Path(folder), given.seed) as running:
        if given.points:
            sample(running, actions, given.points)
        else:
            for action in actions:
                every_call(running, action, given.limit)
                if action is Action.ENOSPC:
                    every_call(running, action, given.limit, FOREVER)
                print(f"{action.name} done: {running.result.line()}", flush=True)
        result = running.result
    print(result.line())
    for fault in result.faults:
        print(f"FAULT {fault}")
    if not given.no_record:
        record("faults", result.line(), passed=not result.faults)
    return 1 if result.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
