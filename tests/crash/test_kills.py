"""The kill drill in short form; `scripts/drills kills` is the long one."""

import random
from pathlib import Path

import pytest

from support.kill_drill import Kill, run

KINDS = (Kill.ALL, Kill.CHILD, Kill.SUPERVISOR)
"""Once each, in random order."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 3])
def test_no_acknowledged_mail_is_lost_when_a_node_is_killed_under_load(
    tmp_path: Path, database: str, workers: int
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    result = run(tmp_path, kills=len(KINDS), seed=seed, workers=workers, database=database, kinds=KINDS)
    print(result.line())
    assert result.faults() == []
