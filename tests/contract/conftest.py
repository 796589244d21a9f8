"""A data dir for every contract test; `database` gives each of them both databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.storage.open import SharedStore, open_shared


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture
def shared(data_dir: str, database: str) -> Iterator[SharedStore]:
    store = open_shared(data_dir, database)
    yield store
    store.close()
