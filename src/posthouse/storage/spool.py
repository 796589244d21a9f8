"""ports.Spool: mail accepted and not yet disposed of, over one writer thread and one or more stores.

On SQLite the first store is this worker's own file; free files of others that hold mail are adopted. On
PostgreSQL there is one store, and a row per owner is its lease, renewed every 10 s.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import TypeVar

from sqlalchemy import select

from posthouse.core.mail import Content, FileOctets, Mail, MailId, TrailEntry
from posthouse.ports import Acted, Age, Clock, ContentSink, Done, Findings, Kept, LeaseLost, Outcome, QueueCommand
from posthouse.storage import acting, keeping, leases, schema, shards, taking
from posthouse.storage.batch import Batch
from posthouse.storage.content import FileSink, OpenFiles, Room, sweep
from posthouse.storage.database import create, creating, is_sqlite, open_postgresql, open_sqlite
from posthouse.storage.mail_store import MailStore
from posthouse.storage.new_files import NewFiles
from posthouse.storage.quarantine_key import QuarantineKey
from posthouse.storage.sealer import Sealer
from posthouse.storage.staging import new_versions, stored_versions
from posthouse.storage.units import Accept, Call, Record
from posthouse.storage.writer import GroupWriter
from posthouse.telemetry import logger

T = TypeVar("T")
log = logger("spool")

WOKEN_AT_ONCE = 1000
"""Recipients in one transaction, so that waking a long queue does not hold up new mail."""


class MailSpool:
    """One worker's spool."""

    def __init__(
        self, data_dir: str, database: str, owner: str, clock: Clock, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._data_dir = Path(data_dir).absolute()
        self._database = database
        self._owner = owner
        self._clock = clock
        self._loop = loop
        self._writer = GroupWriter(loop)
        self._open_files = OpenFiles()
        self._room = Room()
        self._free = (float("-inf"), 0)
        self._stores = [self._open_store(shards.claim(self._data_dir))]
        key = QuarantineKey(str(self._data_dir), database)
        self._sealer = Sealer(key, self._stores[0].folder, self._open_files)
        self._renewed = clock.monotonic()
        self._renewing: asyncio.Task[None] | None = None
        if not self._sqlite:
            with self._stores[0].database.write() as connection:
                leases.begin(connection, owner)
            self._renewing = loop.create_task(self._keep_renewing())

    @property
    def _sqlite(self) -> bool:
        return is_sqlite(self._database)

    def _open_store(self, shard: shards.Shard) -> MailStore:
        with creating(self._data_dir):
            database = open_sqlite(shard.database) if self._sqlite else open_postgresql(self._database)
            create(database, schema.mails, schema.mail_version)
        store = MailStore(database, self._owner, self._clock.now, shard.content_folder, shard.release)
        swept = sweep(shard.content_folder, lambda: _named(store))
        if swept:
            log.info("leftover files removed", shard=shard.number, files=swept)
        return store

    # --- new mail and outcomes ----------------------------------------------------------------------------

    def open_content(self) -> ContentSink:
        return FileSink(self._stores[0].folder, self._open_files, self._room)

    def accept(
        self,
        mail: Mail,
        trail: Sequence[TrailEntry],
        done: Done,
        alone: Callable[[], None] = lambda: None,
        findings: Findings | None = None,
    ) -> None:
        store = self._stores[0]
        quarantined = findings is not None and findings.quarantine is not None
        versions = stored_versions(mail, quarantined=quarantined)
        new = NewFiles(new_versions(mail, versions), store.reused, self._open_files)
        self._writer.submit(Accept(store, mail, trail, new, done, alone, versions, findings))

    def record(self, outcome: Outcome, done: Done) -> None:
        store = self._store_of(outcome.mail.id)
        if store is None:
            NewFiles(_brought(outcome), None, self._open_files).discard()
            self._loop.call_soon(done, LeaseLost(outcome.mail.id))
            return
        new = NewFiles(_brought(outcome), store.reused, self._open_files)
        self._writer.submit(Record(store, outcome, new, done))

    async def seal(self, content: Content) -> Content:
        return await self._sealer.seal(content)

    async def unseal(self, content: Content) -> Content:
        return await self._sealer.unseal(content)

    def discard(self, content: Content) -> None:
        if isinstance(content.source, FileOctets):
            self._open_files.discard(content.source.path)

    def _store_of(self, mail_id: MailId) -> MailStore | None:
        return next((store for store in self._stores if mail_id in store.hands), None)

    # --- the queue ----------------------------------------------------------------------------------------

    async def take_due(self, profile: str, now: float, limit: int, octets: int, age: Age | None = None) -> list[Mail]:
        taken: list[Mail] = []
        for store in list(self._stores):
            if len(taken) < limit:
                left = limit - len(taken)
                taken += await self._call(store, _taking(store, profile, now, left, octets, age))
        return taken

    async def take_unscanned(self, now: float, limit: int, octets: int, age: Age | None = None) -> list[Mail]:
        taken: list[Mail] = []
        for store in list(self._stores):
            if len(taken) < limit:
                left = limit - len(taken)
                taken += await self._call(store, _taking_unscanned(store, now, left, octets, age))
        return taken

    async def take_kept(self, mail_id: MailId, command: int) -> Kept | None:
        for store in list(self._stores):
            kept = await self._call(store, _taking_kept(store, mail_id, command))
            if kept is not None:
                return kept
        return None

    async def give_back(self, mail_id: MailId) -> None:
        store = self._store_of(mail_id)
        if store is not None:
            await self._call(store, _giving_back(store, mail_id))

    async def next_due(self) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for store in list(self._stores):
            for profile, due_at in (await self._call(store, taking.next_due)).items():
                found[profile] = min(due_at, found.get(profile, due_at))
        return found

    async def wake(self, profiles: Collection[str], now: float, seconds: float, most: int | None = None) -> int:
        woken = 0
        for store, profile in product(list(self._stores), sorted(profiles)):
            while True:
                asked = WOKEN_AT_ONCE if most is None else min(WOKEN_AT_ONCE, most - woken)
                if asked == 0:
                    return woken
                count = await self._call(store, _waking(store, profile, now, seconds, asked))
                woken += count
                if count < asked:
                    break
        return woken

    async def take_back(self, now: float) -> int:
        if self._sqlite:
            self._stores += await self._loop.run_in_executor(None, self._adopted)
        return sum([await self._call(store, _taking_back(store, now)) for store in list(self._stores)])

    def _adopted(self) -> list[MailStore]:
        """Opens the files that no worker owns and that hold mail, open or kept: they are ours too now."""
        found = []
        for number in shards.numbers(self._data_dir):
            shard = shards.claim_if_free(self._data_dir, number)
            if shard is None:
                continue
            store = self._open_store(shard)
            with store.database.read() as connection:
                wanted = taking.holds_mail(connection)
            if wanted:
                log.info("adopted", shard=number)
                found.append(store)
            else:
                store.close()
        return found

    async def act(self, command: QueueCommand, now: float) -> Acted:
        recipients, mails = 0, list[MailId]()
        for store in list(self._stores):
            while True:
                acted = await self._call(store, _acting(store, command, now))
                recipients += acted.recipients
                mails += acted.mails
                if acted.recipients < acting.AT_ONCE:
                    break
        return Acted(recipients, tuple(dict.fromkeys(mails)))

    async def purge(self, now: float, failed_seconds: float) -> int:
        purged = 0
        for store in list(self._stores):
            while count := await self._call(store, _purging(store, now, now - failed_seconds)):
                purged += count
        return purged

    def _call(self, store: MailStore, work: "Callable[[Batch], T]") -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self._loop.create_future()
        self._writer.submit(Call(store, work, future))
        return future

    # --- lease --------------------------------------------------------------------------------------------

    def lease_fresh(self) -> bool:
        if self._sqlite:
            return True
        return not self._stores[0].orphans and self._clock.monotonic() - self._renewed < leases.FRESH_SECONDS

    async def renew(self) -> bool:
        if self._sqlite:
            return True
        asked = self._clock.monotonic()
        try:
            held = await self._call(self._stores[0], _renewing(self._stores[0]))
        except Exception as error:
            log.error("lease not renewed", error=repr(error))
            return False
        self._renewed = asked
        return held

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(leases.RENEW_SECONDS)
            await self.renew()

    # --- the rest -----------------------------------------------------------------------------------------

    def free_octets(self) -> int:
        looked, free = self._free
        now = self._clock.monotonic()
        if now - looked >= 1.0:
            status = os.statvfs(self._data_dir)
            free = status.f_bavail * status.f_frsize
            self._free = (now, free)
        return free

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        await self._loop.run_in_executor(None, self._sealer.close)
        await self._writer.close()
        self._open_files.discard_all()
        if not self._sqlite:
            try:
                with self._stores[0].database.write() as connection:
                    leases.end(connection, self._owner)
            except Exception as error:
                log.warning("lease not given back, it runs out by itself", error=repr(error))
        for store in self._stores:
            store.close()


def _brought(outcome: Outcome) -> list[tuple[MailId, int, Content]]:
    """What the outcome has to be stored, with octets of its own."""
    if not outcome.contents and not outcome.generated:
        return []
    generated = [new_versions(mail, stored_versions(mail, quarantined=False)) for mail, _ in outcome.generated]
    return [*new_versions(outcome.mail, outcome.contents), *chain.from_iterable(generated)]


def _named(store: MailStore) -> set[str]:
    """Names of files that rows name; on PostgreSQL none, for there they are a cache."""
    if not store.keeps_files:
        return set()
    column = schema.content.c.file
    with store.database.read() as connection:
        return set(connection.execute(select(column).where(column.is_not(None))).scalars())


def _taking(
    store: MailStore, profile: str, now: float, limit: int, octets: int, age: Age | None
) -> Callable[[Batch], list[Mail]]:
    return lambda batch: taking.take_due(store, batch, profile, now, limit, octets, age)


def _taking_unscanned(
    store: MailStore, now: float, limit: int, octets: int, age: Age | None
) -> Callable[[Batch], list[Mail]]:
    return lambda batch: taking.take_unscanned(store, batch, now, limit, octets, age)


def _taking_kept(store: MailStore, mail_id: MailId, command: int) -> Callable[[Batch], Kept | None]:
    return lambda batch: keeping.take_kept(store, batch, mail_id, command)


def _giving_back(store: MailStore, mail_id: MailId) -> Callable[[Batch], None]:
    return lambda batch: keeping.give_back(store, batch, mail_id)


def _waking(store: MailStore, profile: str, now: float, seconds: float, most: int) -> Callable[[Batch], int]:
    return lambda batch: taking.wake(store, batch, profile, now, seconds, most)


def _taking_back(store: MailStore, now: float) -> Callable[[Batch], int]:
    return lambda batch: taking.take_back(store, batch, now)


def _renewing(store: MailStore) -> Callable[[Batch], bool]:
    def renew(batch: Batch) -> bool:
        left = leases.renew(batch.connection, store.owner)
        if left is not None:
            store.orphans = {mail_id for mail_id in store.hands if mail_id not in left}
            log.warning("lease had run out", mails_lost=len(store.orphans))
        return not store.orphans

    return renew


def _acting(store: MailStore, command: QueueCommand, now: float) -> Callable[[Batch], Acted]:
    return lambda batch: acting.act(store, batch, command, now)


def _purging(store: MailStore, now: float, before: float) -> Callable[[Batch], int]:
    return lambda batch: acting.purge(store, batch, now, before)
