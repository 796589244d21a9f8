"""The fault drill in short form: a few values of n for each kind of fault; `scripts/drills faults` takes them all."""

import random
from pathlib import Path

import pytest

from support.fault_drill import FOREVER, Action, drill, sample


@pytest.mark.timeout(300)
@pytest.mark.parametrize("action", list(Action), ids=lambda action: action.name)
def test_no_acknowledged_mail_is_lost_when_the_nth_call_on_a_file_fails(tmp_path: Path, action: Action) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    with drill(tmp_path, seed) as running:
        sample(running, [action], 6)
    assert running.result.faults == []
    assert sum(running.result.rounds.values()) >= 4, "the shim did not reach most of its calls"


@pytest.mark.timeout(300)
def test_a_disk_that_is_full_for_a_while_refuses_mail_and_loses_none(tmp_path: Path) -> None:
    with drill(tmp_path, 1) as running:
        assert running.round(Action.ENOSPC, 1, FOREVER)
        assert running.round(Action.ENOSPC, 20, FOREVER)
    assert running.result.faults == []
