"""SIGHUP reaches the console process, too: what it does with settings is done with the new ones."""

import os
import signal
from pathlib import Path
from typing import Any

from support.processes import Node, inventory_for, serving
from support.recording import Recorder, recording_sink
from support.waiting import eventually

CONFIG = """
hostname = "{0}.test"
own_mail = {{ profile = "next", from = "{0}@ours.example", postmaster = "p@ours.example" }}
"""


def asked_at_server(node: Node) -> tuple[str, str]:
    """The name that a TEST says EHLO with, and the sender that it asks for."""
    status, result = node.api("POST", "server-profiles/next/test", {"rcpt_to": "you@ours.example"})
    assert status == 200, result
    servers: Any = result["servers"]
    said = [line for stage in servers[0]["stages"] for line in stage["transcript"]]
    (ehlo,) = [line for line in said if line.startswith("C: EHLO ")]
    (sender,) = [line for line in said if line.startswith("C: MAIL FROM:")]
    return ehlo.removeprefix("C: EHLO "), sender.removeprefix("C: MAIL FROM:")


def test_a_test_after_sighup_uses_the_new_hostname_and_sender(tmp_path: Path) -> None:
    with (
        recording_sink(Recorder()) as sink,
        serving(tmp_path, inventory_for(sink.port), config=CONFIG.format("old")) as node,
    ):
        assert asked_at_server(node) == ("old.test", "<old@ours.example>")
        (tmp_path / "posthouse.toml").write_text(CONFIG.format("new"), "utf-8")
        assert node.process is not None
        os.kill(node.process.pid, signal.SIGHUP)
        eventually(lambda: "console has the new settings" in node.log.read_text("utf-8"), "the new settings", 20)
        assert asked_at_server(node) == ("new.test", "<new@ours.example>")
