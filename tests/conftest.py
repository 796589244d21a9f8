"""What all tests need: the environment of the person who runs them changes nothing, nor does a slow machine; and for
those that ask, both databases."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from support.postgres import new_database, server

for _name in [name for name in os.environ if name.startswith("POSTHOUSE_") and name != "POSTHOUSE_CORPUS"]:
    del os.environ[_name]

# How long an example took says something about the machine, not about the code.
settings.register_profile("posthouse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("posthouse")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The setting `database`: a test that takes it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return "sqlite"
    return new_database(request.getfixturevalue("postgres"))
