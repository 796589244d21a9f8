"""Faults of the calls that durability hangs on, and a day in a spool's life to have them in."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from pathlib import Path

from posthouse.core.mail import FileOctets, InlineOctets, Mail, MailRecipient, RecipientState, TrailEntry
from posthouse.ports import Done, LeaseLost, MailQuery, Outcome
from posthouse.storage import files
from posthouse.storage.open import open_history, open_spool
from support.flow import FakeClock, mail

NOW = 1_000_000.0
HELD = (b"h" * 98 + b"\r\n") * 4000 + b".\r\n"
LARGE = (b"x" * 98 + b"\r\n") * 14_000 + b".\r\n"
_SHORTER = 200
"""Octets by which each mail of a day is shorter than the one before."""
SMALL = b"Subject: x\r\n\r\nx\r\n.\r\n"


class Fault(Enum):
    """What befalls the n-th call."""

    EIO = "EIO"
    ENOSPC = "ENOSPC"
    LATE = "carried out, yet reported as failed"
    KILL_BEFORE = "the process ends before it"
    KILL_AFTER = "the process ends after it"


@dataclass
class FaultyCalls:
    """files.calls whose n-th call meets a fault; n counts from 1, 0 means none."""

    fault: Fault
    at: int
    made: list[str] = field(default_factory=list)

    def _around(self, name: str, call: Callable[[], int | None], half: Callable[[], object] | None = None) -> int:
        self.made.append(name)
        if len(self.made) != self.at:
            return call() or 0
        match self.fault:
            case Fault.EIO | Fault.ENOSPC:
                if half is not None:
                    half()
                code = errno.EIO if self.fault is Fault.EIO else errno.ENOSPC
                raise OSError(code, os.strerror(code))
            case Fault.LATE:
                call()
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            case Fault.KILL_BEFORE:
                if half is not None:
                    half()
                os._exit(0)
            case Fault.KILL_AFTER:
                call()
                os._exit(0)

    def write(self, descriptor: int, octets: memoryview, offset: int, /) -> int:
        half = octets[: len(octets) // 2]
        return self._around(
            "write", lambda: os.pwrite(descriptor, octets, offset), lambda: os.pwrite(descriptor, half, offset)
        )

    def fdatasync(self, descriptor: int, /) -> None:
        self._around("fdatasync", lambda: os.fdatasync(descriptor))

    def fsync(self, descriptor: int, /) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        self._around(f"fsync {name}", lambda: os.fsync(descriptor))

    def rename(self, source: Path, target: Path, /) -> None:
        self._around("rename", lambda: os.rename(source, target))

    def unlink(self, path: Path, /) -> None:
        self._around("unlink", lambda: os.unlink(path))

    def commit(self, transaction: files.Transaction, /) -> None:
        self._around("commit", transaction.commit)


@contextmanager
def faulty(fault: Fault, at: int) -> Iterator[FaultyCalls]:
    before = files.calls
    calls = FaultyCalls(fault, at)
    files.calls = calls
    try:
        yield calls
    finally:
        files.calls = before


Told = Callable[[str, str], None]
"""Told of each mail's id and what became of it: `whole` (acknowledged), `refused`, `relayed`, `failed`, `unsure`."""


async def day(data_dir: str, database: str, told: Told, before: Callable[[], None] = lambda: None) -> None:
    """Accepts mails of all kinds of content and records outcomes, one after the other.

    `before` is called when the spool is open. A failed outcome is recorded once more, as the flow does.
    """
    spool = open_spool(
        data_dir, database, f"node/0/{os.urandom(4).hex()}", FakeClock(NOW), asyncio.get_running_loop()
    )
    before()

    async def wait(submit: Callable[[Done], None]) -> Exception | None:
        future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        submit(future.set_result)
        return await future

    shorter = count()

    async def accepted(base: bytes) -> Mail | None:
        one = mail("a@ours.example", "b@ours.example")
        octets = _beginning(one) + base[_SHORTER * next(shorter) :] if base is not SMALL else SMALL
        told(one.id, "started")
        sink = spool.open_content()
        try:
            for start in range(0, len(octets), 500_000):
                sink.write(octets[start : start + 500_000])
            content = sink.close(size=len(octets) - 3, header=b"", normalised=0).content
        except OSError:
            sink.release()
            told(one.id, "refused")
            return None
        one = replace(one, contents=(content,))
        error = await wait(lambda done: spool.accept(one, (TrailEntry(NOW, "received"),), done))
        told(one.id, "whole" if error is None else "refused")
        if error is not None:
            sink.release()
        return one if error is None else None

    async def recorded(outcome: Outcome, what: str) -> None:
        told(outcome.mail.id, "unsure")
        for _ in range(2):
            error = await wait(lambda done: spool.record(outcome, done))
            if error is None or isinstance(error, LeaseLost):
                break
        if error is None:
            told(outcome.mail.id, what)
            for dsn, _ in outcome.generated:
                told(dsn.id, "whole")

    for octets in (SMALL, HELD, LARGE):
        await accepted(octets)
        relayed = await accepted(octets)
        if relayed is not None:
            await recorded(Outcome(relayed, ended(relayed, RecipientState.RELAYED)), "relayed")
        failed = await accepted(octets)
        if failed is not None:
            dsn = replace(mail("sender@outside.example"), own=True, reverse_path="")
            states = ended(failed, RecipientState.FAILED)
            await recorded(
                Outcome(failed, states, generated=((dsn, (TrailEntry(NOW, "generated"),)),)),
                "failed",
            )
    for _ in range(2):  # the second one cleans up after a fault in the first
        with contextlib.suppress(OSError):
            await spool.next_due()
    await spool.close()


def _beginning(one: Mail) -> bytes:
    """Of larger content: no two mails have the same, so that one with the content of another is seen."""
    return f"Subject: {one.id}\r\n".encode()


def _octets(one: Mail) -> bytes:
    source = one.contents[0].source if one.contents else InlineOctets(b"")
    return Path(source.path).read_bytes()[: source.size] if isinstance(source, FileOctets) else source.octets


def _has_file(row: Mapping[str, object] | None) -> bool:
    contents = row["contents"] if row is not None else []
    assert isinstance(contents, list)
    return any(content["kind"] == "file" for content in contents)


def ended(one: Mail, state: RecipientState) -> tuple[MailRecipient, ...]:
    return tuple(replace(recipient, state=state) for recipient in one.recipients)


def faults_after(data_dir: str, database: str, told: dict[str, str]) -> list[str]:
    """Opens the spool as the next process does; tells everything that is not as `told` promised."""
    return asyncio.run(_faults_after(data_dir, database, told))


async def _faults_after(data_dir: str, database: str, told: dict[str, str]) -> list[str]:
    clock = FakeClock(NOW + 60)  # no lease of the one before is alive
    owner = f"node/0/{os.urandom(4).hex()}"
    spool = open_spool(data_dir, database, owner, clock, asyncio.get_running_loop())
    await spool.take_back(clock.now())
    taken = {one.id: one for one in await spool.take_due("exchange", clock.now(), 100, 1 << 30)}
    history = open_history(data_dir, database)
    faults: list[str] = []
    for mail_id, what in told.items():
        row = history.mail(mail_id)
        if row is None:
            if what not in ("started", "refused"):
                faults.append(f"{mail_id}: {what}, but no rows")
            continue
        rows = row["recipients"]
        assert isinstance(rows, list)
        states = {recipient["state"] for recipient in rows}
        if len(states) != 1:
            faults.append(f"{mail_id}: half an outcome {states}")
        if what == "refused":
            faults.append(f"{mail_id}: refused, yet there")
        elif what == "relayed" and (states != {"relayed"} or row["contents"]):
            faults.append(f"{mail_id}: relayed, but {states} {row['contents']}")
        elif what == "failed" and (states != {"failed"} or not row["contents"]):
            faults.append(f"{mail_id}: failed, but {states} {row['contents']}")
        elif what == "whole" and mail_id not in taken:
            faults.append(f"{mail_id}: acknowledged, but not taken: {states}")
    for one in taken.values():
        octets, head = _octets(one), _beginning(one)
        rest = octets.removeprefix(head)
        own = any(octets.startswith(head) and base.endswith(rest) and len(rest) > 200_000 for base in (HELD, LARGE))
        if octets != SMALL and not own:
            faults.append(f"{one.id}: {len(octets)} octets of content that begins {octets[:50]!r}")
        if len(one.recipients) != (1 if one.own else 2):
            faults.append(f"{one.id}: {len(one.recipients)} recipients")
    for found in history.search(MailQuery(limit=1000)):
        if not found["recipients"]:
            faults.append(f"{found['id']}: no recipients")
    kept = sum(1 for mail_id in told if _has_file(history.mail(mail_id)))
    files_there = sum(len(names) for _, _, names in os.walk(Path(data_dir) / "content"))
    if database == "sqlite" and files_there != kept:
        faults.append(f"{files_there} files for {kept} mails")
    history.close()
    await spool.close()
    return faults
