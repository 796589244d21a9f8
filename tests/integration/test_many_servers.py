"""The drill of many servers in short form; `scripts/drills servers` runs it at length."""

from pathlib import Path

import pytest

from support.server_drill import drill


@pytest.mark.timeout(180)
def test_mail_finds_the_two_servers_of_twenty_that_serve(tmp_path: Path) -> None:
    assert drill(tmp_path, 100)["mails"] == 100
