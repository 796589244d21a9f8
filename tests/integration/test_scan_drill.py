"""The drill of a scanner that lies, hangs, is busy or gone, and recovers, in short form; `scripts/drills scans` is
the long one."""

from pathlib import Path

import pytest

from support.scan_drill import drill


@pytest.mark.timeout(300)
def test_nothing_is_delivered_that_the_scanner_has_not_found_clean(tmp_path: Path) -> None:
    figures = drill(tmp_path, 300, rate=20, answers=4, between=4, retries=True)
    assert figures["delivered"] + figures["quarantined"] == figures["mails"] >= 300
