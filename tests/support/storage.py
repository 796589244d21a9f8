"""What tests of the spool share: a place to open spools in, and waiting for what they store."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psycopg

from posthouse.core.mail import AttemptRow, FileOctets, InlineOctets, Mail, MailRecipient, RecipientState, TrailEntry
from posthouse.ports import Findings, Outcome
from posthouse.storage.history import History
from posthouse.storage.spool import MailSpool
from support.flow import FakeClock, mail

T = TypeVar("T")
NOW = 1_000_000.0
HELD = (b"h" * 98 + b"\r\n") * 4000 + b".\r\n"
"""Content that a sink holds in memory and the writer brings to a file."""
LARGE = (b"x" * 98 + b"\r\n") * 14_000 + b".\r\n"
"""Content that a sink streams to a file."""
YOU, TWO = "you@ours.example", "two@ours.example"


class Place:
    """A data dir and a database; opens spools there."""

    def __init__(self, data_dir: str, database: str) -> None:
        self.data_dir, self.database = data_dir, database
        self.clock = FakeClock(NOW)

    def spool(self, owner: str = "node/0/boot", data_dir: str | None = None) -> MailSpool:
        folder = data_dir or self.data_dir
        Path(folder).mkdir(exist_ok=True)
        return MailSpool(folder, self.database, owner, self.clock, asyncio.get_running_loop())

    def found(self, mail_id: str) -> Mapping[str, object]:
        history = History(self.data_dir, self.database)
        try:
            found = history.mail(mail_id)
        finally:
            history.close()
        assert found is not None
        return found

    def trail(self, mail_id: str) -> list[str]:
        entries = self.found(mail_id)["trail"]
        assert isinstance(entries, list)
        return [entry["kind"] for entry in entries]

    def states(self, mail_id: str) -> list[str]:
        rows = self.found(mail_id)["recipients"]
        assert isinstance(rows, list)
        return [row["state"] for row in rows]


def run(main: Callable[[], Awaitable[T]]) -> T:
    async def wrapped() -> T:
        return await main()

    return asyncio.run(wrapped())


async def accept(spool: MailSpool, one: Mail, findings: Findings | None = None) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: Exception | None) -> None:
        future.set_result(None) if error is None else future.set_exception(error)

    spool.accept(one, (TrailEntry(NOW, "received", {"reply": "250"}),), done, findings=findings)
    await future


async def record(spool: MailSpool, outcome: Outcome) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(error: Exception | None) -> None:
        future.set_result(None) if error is None else future.set_exception(error)

    spool.record(outcome, done)
    await future


def changed(one: Mail, state: RecipientState, seq: int = 0, **more: object) -> tuple[MailRecipient, ...]:
    return (replace(one.recipients[seq], state=state, **more),)  # type: ignore[arg-type]


def received(spool: MailSpool, octets: bytes, *addresses: str) -> Mail:
    """A mail whose content has gone through a sink."""
    sink = spool.open_content()
    for start in range(0, len(octets), 60_000):
        sink.write(octets[start : start + 60_000])
    content = sink.close(size=len(octets) - 3, header=b"", normalised=0).content
    if isinstance(content.source, InlineOctets):
        sink.release()
    return replace(mail(*addresses), contents=(content,))


def large(spool: MailSpool, *addresses: str) -> Mail:
    one = received(spool, LARGE, *addresses)
    assert isinstance(one.contents[0].source, FileOctets)
    return one


def held(spool: MailSpool, *addresses: str, octets: bytes = HELD) -> Mail:
    one = received(spool, octets, *addresses)
    assert isinstance(one.contents[0].source, InlineOctets)
    return one


def octets(one: Mail) -> bytes:
    source = one.contents[0].source
    return source.octets if isinstance(source, InlineOctets) else Path(source.path).read_bytes()[: source.size]


ATTEMPT = AttemptRow(
    NOW, 0.1, "exchange", "smtp://10.0.0.1:25", ("smtp://10.0.0.1:25",), "relayed", "250", ((0, "relayed", "250"),)
)


def lease_runs_out(database: str, owner: str) -> None:
    """As if the worker had not renewed its lease for long (PostgreSQL)."""
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE lease SET lease_until = 0 WHERE owner = %s", (owner,))


async def die(spool: MailSpool) -> None:
    """Ends as a killed process does: what it leased stays leased in its name, its locks are free."""
    await spool._writer.close()
    if spool._renewing is not None:
        spool._renewing.cancel()
    for store in spool._stores:
        store.close()
