"""A data dir for every contract test; `database` gives each of them both databases."""

from pathlib import Path

import pytest


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return str(tmp_path)
