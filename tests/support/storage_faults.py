"""Faults of the calls that durability hangs on, and a day in a spool's life to have them in."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from posthouse.core.mail import (
    Content,
    FileOctets,
    Mail,
    MailId,
    MailRecipient,
    QuarantineRow,
    RecipientState,
    TrailEntry,
)
from posthouse.ports import Done, Findings, LeaseLost, MailQuery, Outcome
from posthouse.storage import files
from posthouse.storage.open import open_history, open_spool
from support.flow import FakeClock, mail

NOW = 1_000_000.0
HELD = (b"h" * 98 + b"\r\n") * 4000 + b".\r\n"
LARGE = (b"x" * 98 + b"\r\n") * 14_000 + b".\r\n"
_ADDED = b"one line more\r\n"
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
"""Told of each mail's id and what became of it: `whole` (acknowledged), `refused`, `relayed`, `failed`,
`quarantined`, `modified` (a version was added), `unsure`."""


async def day(
    data_dir: str, database: str, told: Told, before: Callable[[], None] = lambda: None, *, scanned: bool = False
) -> None:
    """Accepts mails of all kinds of content and records outcomes, one after the other; `scanned`: those that add
    versions, for the quarantine or to be relayed in the place of what came.

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

    async def written(content: Content) -> Content:
        """Another version: the same with one line more."""
        sink = spool.open_content()
        octets = _of(content)
        try:
            for start in range(0, len(octets), 500_000):
                sink.write(octets[start : start + 500_000])
            sink.write(_ADDED)
            return sink.close(size=len(octets), header=b"", normalised=0).content
        except OSError:
            sink.release()
            raise

    async def made(make: Callable[[Content], Awaitable[Content]], one: Mail | None) -> Content | None:
        """None if the disk refused, or there is no mail to make it of."""
        try:
            return await make(one.contents[0]) if one is not None else None
        except (OSError, SQLAlchemyError):
            return None

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

    async def all_ends(octets: bytes) -> None:
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

    async def all_verdicts(octets: bytes) -> None:
        infected = await accepted(octets)
        sealed = await made(spool.seal, infected)
        if infected is not None and sealed is not None:
            after = replace(infected, contents=(*infected.contents, sealed))
            states = ended(infected, RecipientState.QUARANTINED)
            findings = Findings(quarantine=QuarantineRow(NOW, "blocked", "Eicar", "inbound", NOW + 1e6))
            await recorded(Outcome(after, states, contents=((1, sealed),), findings=findings), "quarantined")
        modified = await accepted(octets)
        other = await made(written, modified)
        if modified is not None and other is not None:
            after = replace(modified, contents=(*modified.contents, other))
            states = tuple(replace(r, version=1) for r in ended(modified, RecipientState.QUEUED))
            await recorded(Outcome(after, states, contents=((1, other),)), "modified")

    for octets in (SMALL, HELD, LARGE):
        await (all_verdicts(octets) if scanned else all_ends(octets))
    for _ in range(2):  # the second one cleans up after a fault in the first
        with contextlib.suppress(OSError):
            await spool.next_due()
    await spool.close()


def _beginning(one: Mail) -> bytes:
    """Of larger content: no two mails have the same, so that one with the content of another is seen."""
    return f"Subject: {one.id}\r\n".encode()


def _octets(one: Mail) -> bytes:
    return _of(one.contents[0]) if one.contents else b""


def _of(content: Content) -> bytes:
    source = content.source
    return Path(source.path).read_bytes()[: source.size] if isinstance(source, FileOctets) else source.octets


def _contents(row: Mapping[str, object] | None) -> list[Mapping[str, object]]:
    contents = row["contents"] if row is not None else []
    assert isinstance(contents, list)
    return contents


def _is_of(mail_id: str, octets: bytes) -> bool:
    """Whether it is the content of that mail, as it was received."""
    head = f"Subject: {mail_id}\r\n".encode()
    rest = octets.removeprefix(head)
    own = any(octets.startswith(head) and base.endswith(rest) and len(rest) > 200_000 for base in (HELD, LARGE))
    return octets == SMALL or own


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
        elif what == "quarantined":
            kept = await spool.take_kept(MailId(mail_id), 1)
            if states != {"quarantined"} or kept is None or [c["version"] for c in _contents(row)] != [1]:
                faults.append(f"{mail_id}: quarantined, but {states} {row['contents']}")
            elif not _is_of(mail_id, octets := _of(await spool.unseal(kept.mail.contents[1]))):
                faults.append(f"{mail_id}: {len(octets)} octets in quarantine that begin {octets[:50]!r}")
        elif what == "modified" and mail_id not in taken:
            faults.append(f"{mail_id}: modified, but {states} {row['contents']}")
        elif what == "modified":
            versions = taken[MailId(mail_id)].contents
            if len(versions) != 2 or _of(versions[1]) != _of(versions[0]) + _ADDED:
                faults.append(f"{mail_id}: modified, but its versions are {row['contents']}")
        elif what == "whole" and mail_id not in taken:
            faults.append(f"{mail_id}: acknowledged, but not taken: {states}")
    for one in taken.values():
        octets = _octets(one)
        if not _is_of(one.id, octets):
            faults.append(f"{one.id}: {len(octets)} octets of content that begins {octets[:50]!r}")
        if len(one.recipients) != (1 if one.own else 2):
            faults.append(f"{one.id}: {len(one.recipients)} recipients")
    for found in history.search(MailQuery(limit=1000)):
        if not found["recipients"]:
            faults.append(f"{found['id']}: no recipients")
    named = sum(c["kind"] == "file" for mail_id in told for c in _contents(history.mail(mail_id)))
    history.close()
    await spool.close()  # what was unsealed, and no mail has claimed, goes with it
    files_there = sum(len(names) for _, _, names in os.walk(Path(data_dir) / "content"))
    if database == "sqlite" and files_there != named:
        faults.append(f"{files_there} files for {named} rows")
    return faults
