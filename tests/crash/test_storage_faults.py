"""Each call that durability hangs on fails, or is the process's last: no acknowledged mail is lost or halved."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.postgres import new_database, server
from support.storage_faults import Fault, FaultyCalls, day, faults_after, faulty


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Gives an empty database; which kind, `cases` says."""
    if request.param == "sqlite":
        return lambda: "sqlite"
    url: str = request.getfixturevalue("postgres")
    return lambda: new_database(url)


def cases(*faults: tuple[str, Fault, str]) -> pytest.MarkDecorator:
    """`relayed` is a day of mails that are relayed or fail, `scanned` one of mails whose outcomes add content."""
    ids = [f"{name}-{fault.name}-{kind}" for name, fault, kind in faults]
    return pytest.mark.parametrize(("database", "fault", "kind"), faults, indirect=["database"], ids=ids)


def a_day_with(
    data_dir: Path, database: str, fault: Fault, at: int, kind: str = "relayed"
) -> tuple[FaultyCalls, dict[str, str]]:
    """The n-th call once the spool is open meets the fault."""
    told: dict[str, str] = {}
    data_dir.mkdir()
    with faulty(fault, 0) as calls:

        def begin() -> None:
            calls.made.clear()
            calls.at = at

        asyncio.run(day(str(data_dir), database, told.__setitem__, begin, scanned=kind == "scanned"))
    return calls, told


@pytest.mark.timeout(300)
@cases(
    ("sqlite", Fault.EIO, "relayed"),
    ("sqlite", Fault.ENOSPC, "relayed"),
    ("sqlite", Fault.LATE, "relayed"),
    ("sqlite", Fault.EIO, "scanned"),
    ("sqlite", Fault.LATE, "scanned"),
    ("postgresql", Fault.EIO, "relayed"),
    ("postgresql", Fault.LATE, "relayed"),
    ("postgresql", Fault.LATE, "scanned"),
)
def test_whichever_call_fails_what_was_acknowledged_is_whole(
    tmp_path: Path, database: Callable[[], str], fault: Fault, kind: str
) -> None:
    for n in range(1, 200):
        url = database()
        calls, told = a_day_with(tmp_path / str(n), url, fault, n, kind)
        assert faults_after(str(tmp_path / str(n)), url, told) == [], f"call {n}: {calls.made[n - 1 : n]}"
        if len(calls.made) < n:
            break
    assert n > 15, "the day made hardly any calls"


def a_day_ended_by(data_dir: Path, database: str, fault: Fault, at: int, kind: str) -> dict[str, str]:
    """As `a_day_with`, in a process of its own, which tells through a pipe."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)

        def tell(mail_id: str, what: str) -> None:
            os.write(writer, f"{mail_id} {what}\n".encode())

        status = 1
        try:
            data_dir.mkdir()
            with faulty(fault, 0) as calls:

                def begin() -> None:
                    calls.made.clear()
                    calls.at = at

                asyncio.run(day(str(data_dir), database, tell, begin, scanned=kind == "scanned"))
            tell("-", "over")
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, encoding="ascii") as lines:
        told = dict(line.split() for line in lines)
    assert os.waitpid(child, 0)[1] == 0, "the child failed on its own"
    return told


@pytest.mark.timeout(300)
@cases(
    ("sqlite", Fault.KILL_BEFORE, "relayed"),
    ("sqlite", Fault.KILL_AFTER, "relayed"),
    ("sqlite", Fault.KILL_BEFORE, "scanned"),
    ("postgresql", Fault.KILL_AFTER, "relayed"),
    ("postgresql", Fault.KILL_AFTER, "scanned"),
)
def test_whichever_call_is_the_last_what_was_acknowledged_is_whole(
    tmp_path: Path, database: Callable[[], str], fault: Fault, kind: str
) -> None:
    for n in range(1, 200):
        url = database()
        told = a_day_ended_by(tmp_path / str(n), url, fault, n, kind)
        over = told.pop("-", "") == "over"
        assert faults_after(str(tmp_path / str(n)), url, told) == [], f"call {n}"
        if over:
            break
    assert n > 15, "the day made hardly any calls"


def test_content_in_a_file_and_a_new_name_are_synced_before_the_commit_that_names_it(tmp_path: Path) -> None:
    calls, _ = a_day_with(tmp_path / "data", "sqlite", Fault.EIO, 0)
    to_commits = "\n".join(calls.made).split("commit")
    assert to_commits.count("\nwrite\nfdatasync\nfsync 000\n") == 2, "content that was held, to new files"
    assert to_commits.count("\nwrite\nfdatasync\n") == 1, "content that was held, to a file used again"
    assert sum(made.endswith("write\nrename\nfdatasync\nfsync 000\n") for made in to_commits) == 3, "streamed"


def test_a_new_content_folder_is_durable_before_mail_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with faulty(Fault.EIO, 0) as calls:
        opened: list[str] = []
        asyncio.run(day(str(tmp_path / "data"), "sqlite", lambda *_: None, lambda: opened.extend(calls.made)))
    assert {"fsync content", "fsync data"} <= set(opened)
