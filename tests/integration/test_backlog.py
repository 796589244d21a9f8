"""A next hop that accepts connections and never greets holds up nobody else, and memory stays bounded."""

from pathlib import Path

from support.backlog_drill import drill


def test_mail_for_another_next_hop_passes_a_backlog(tmp_path: Path) -> None:
    figures = drill(tmp_path, mails=6000, probes=300)
    assert figures["mails"] == 6000
