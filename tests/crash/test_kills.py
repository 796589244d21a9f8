"""The kill drill in short form; `scripts/drills kills` is the long one."""

import random
from pathlib import Path

import pytest

from support.kill_drill import run


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 3])
def test_no_acknowledged_mail_is_lost_when_a_node_is_killed_under_load(
    tmp_path: Path, database: str, workers: int
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    result = run(tmp_path, kills=3, seed=seed, workers=workers, database=database)
    print(result.line())
    assert result.faults() == []
