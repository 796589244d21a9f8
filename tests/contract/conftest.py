"""Every contract test runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import new_database, server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The setting `database`."""
    if request.param == "sqlite":
        return "sqlite"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return str(tmp_path)
