"""However many mails wait for other next hops, looking for due mail stays a step in an index, and so does waking
mail that waits for a server (SQLite)."""

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from posthouse.core.mail import RecipientState, Stage
from posthouse.ports import KeptQuery, QueueCommand
from posthouse.storage.open import open_history, open_spool
from support.flow import FakeClock, mail

NOW = 1_000_000.0
ELSEWHERE = 200_000
Statement = tuple[str, tuple[str | float, ...]]


@contextmanager
def statements_seen() -> Iterator[list[Statement]]:
    """Every SELECT and UPDATE that SQLAlchemy sends in the block, with its parameters."""
    seen: list[Statement] = []

    def note(
        _c: Connection, _cursor: object, statement: str, parameters: tuple[str | float, ...], *_: object
    ) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH", "UPDATE")):
            seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def wait_elsewhere(database: Path) -> None:
    """As many mails wait for three other next hops, one recipient each, and every third for its scan: due later."""
    tables: dict[str, dict[str, object]] = {"mail": {"open": 1}, "recipient": {"state": "queued"}}
    with sqlite3.connect(database) as connection:
        for table, values in tables.items():
            columns = [row[1:3] for row in connection.execute(f"PRAGMA table_info({table})")]
            marks = ",".join("?" * len(columns))

            def row(
                number: int, columns: list[tuple[str, str]] = columns, values: dict[str, object] = values
            ) -> list[object]:
                return [
                    f"m{number:07d}"
                    if name in ("id", "mail_id")
                    else f"hop{number % 3}"
                    if name == "profile"
                    else (NOW - number if number % 4 else NOW + 1 + number)
                    if name == "due_at"
                    else ("relay" if number % 4 else "scan")
                    if name == "stage"
                    else None
                    if name in ("lease_owner", "kept_since")
                    else values.get(name, b"" if kind == "BLOB" else "" if kind == "TEXT" else 0)
                    for name, kind in columns
                ]

            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", map(row, range(ELSEWHERE)))
    connection.close()


def plans(database: Path, statements: list[Statement]) -> dict[str, str]:
    """The plan of each statement, without ANALYZE as in operation."""
    connection = sqlite3.connect(database)
    found = {
        statement: "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))
        for statement, parameters in statements
    }
    connection.close()
    return found


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Plans of what `take_due`, `next_due` and `wake` do, on a spool where much waits elsewhere."""
    data_dir = tmp_path_factory.mktemp("plans")
    database = data_dir / "mail-000.db"
    seen: dict[str, list[Statement]] = {}

    async def main() -> None:
        spool = open_spool(str(data_dir), "sqlite", "node/0/boot", FakeClock(NOW), asyncio.get_running_loop())
        one = mail("a@ours.example")
        queued = tuple(replace(r, state=RecipientState.QUEUED) for r in one.recipients)
        future: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        spool.accept(replace(one, recipients=queued), (), future.set_result)
        assert await future is None
        future = asyncio.get_running_loop().create_future()
        unscanned = mail("b@ours.example")
        to_scan = tuple(replace(r, state=RecipientState.QUEUED, stage=Stage.SCAN) for r in unscanned.recipients)
        spool.accept(replace(unscanned, recipients=to_scan), (), future.set_result)
        assert await future is None
        wait_elsewhere(database)
        with statements_seen() as seen["next_due"]:
            due = await spool.next_due()
        waiting = {hop: [n for n in range(hop, ELSEWHERE, 3) if n % 4] for hop in range(3)}
        assert due == {"exchange": NOW, **{f"hop{hop}": NOW - max(numbers) for hop, numbers in waiting.items()}}
        with statements_seen() as seen["wake"]:
            assert await spool.wake({"exchange", "other"}, NOW, 10) == 0
        with statements_seen() as seen["take_due"]:
            assert [m.id for m in await spool.take_due("exchange", NOW, 50, 1 << 30)] == [one.id]
        with statements_seen() as seen["take_unscanned"]:
            assert [m.id for m in await spool.take_unscanned(NOW, 50, 1 << 30)] == [unscanned.id]
        with statements_seen() as seen["act"]:
            assert (await spool.act(QueueCommand(1, "retry", "ann", (), "nowhere"), NOW)).recipients == 0
        with statements_seen() as seen["purge"]:
            assert await spool.purge(NOW, 1) == 0
        history = open_history(str(data_dir), "sqlite")
        with statements_seen() as seen["kept"]:
            assert history.failed(KeptQuery()) == history.quarantined(KeptQuery()) == []
        history.close()
        await spool.close()

    asyncio.run(main())
    return {call: plans(database, statements) for call, statements in seen.items()}


@pytest.mark.parametrize(
    ("call", "index"),
    [("take_due", "recipient_due"), ("next_due", "recipient_due"), ("take_unscanned", "recipient_unscanned")],
)
def test_no_look_for_due_mail_reads_a_whole_table(looked: dict[str, dict[str, str]], call: str, index: str) -> None:
    of_recipients = {sql: plan for sql, plan in looked[call].items() if "recipient" in sql}
    assert any(index in plan for plan in of_recipients.values())
    for sql, plan in looked[call].items():
        assert not re.search(r"SCAN (recipient|mail|content|r|m)\b", plan), f"{sql}\n{plan}"
        assert "AUTOMATIC" not in plan, f"{sql}\n{plan}"


def test_mail_is_woken_by_its_own_index(looked: dict[str, dict[str, str]]) -> None:
    (plan,) = looked["wake"].values()
    assert "recipient_server_fault (deferral=? AND profile=? AND due_at>?)" in plan
    assert "TEMP B-TREE" not in plan, plan
    assert not re.search(r"SCAN (recipient|mail)\b", plan), plan


@pytest.mark.parametrize(
    ("call", "index"), [("take_due", "recipient_due"), ("take_unscanned", "recipient_unscanned")]
)
def test_the_oldest_due_are_found_without_sorting(looked: dict[str, dict[str, str]], call: str, index: str) -> None:
    by_age = {sql: plan for sql, plan in looked[call].items() if "ORDER BY recipient.due_at" in sql}
    assert by_age
    for sql, plan in by_age.items():
        assert index in plan, f"{sql}\n{plan}"
        assert "TEMP B-TREE" not in plan, f"{sql}\n{plan}"


@pytest.mark.parametrize(
    ("call", "indexes"),
    [("purge", {"mail_kept", "quarantine_expires"}), ("kept", {"mail_failed"})],
)
def test_kept_mail_is_found_without_reading_the_history(
    looked: dict[str, dict[str, str]], call: str, indexes: set[str]
) -> None:
    """The quarantine itself may be read in its order, newest first; it holds what is listed."""
    whole = "\n".join(looked[call].values())
    assert indexes <= set(re.findall(r"USING (?:COVERING )?INDEX (\w+)", whole)), whole
    for sql, plan in looked[call].items():
        assert not re.search(r"SCAN mail\b(?! USING (COVERING )?INDEX mail_failed)", plan), f"{sql}\n{plan}"
        assert "TEMP B-TREE" not in plan, f"{sql}\n{plan}"


def test_a_command_reads_what_waits_only(looked: dict[str, dict[str, str]]) -> None:
    for sql, plan in looked["act"].items():
        assert not re.search(r"SCAN (recipient|mail)\b(?! USING)", plan), f"{sql}\n{plan}"
