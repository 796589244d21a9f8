"""`posthouse serve` as a process: what it refuses, how it reloads, how it ends, what it holds in memory."""

import os
import re
import signal
import smtplib
from pathlib import Path

import pytest

from support.peers import smtp_source
from support.processes import Node, NodeEnded, inventory_for, serving
from support.recording import Recorder, recording_sink
from support.waiting import eventually

LARGE = 25 * 1024 * 1024
TEXT = "Subject: x\r\n\r\nx\r\n"


def worker_peak_mib(node: Node) -> float:
    """The largest peak of resident memory among the workers."""
    peaks = []
    for pid in node.worker_processes():
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"))
        assert found is not None
        peaks.append(int(found.group(1)) / 1024)
    assert peaks
    return max(peaks)


def test_twenty_sessions_of_25_mib_stay_under_100_mib_a_worker(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Sizes(Recorder):
        def take(self, taken: object) -> None:
            sizes.append(len(taken.content))  # type: ignore[attr-defined]

    with recording_sink(Sizes()) as sink, serving(tmp_path, inventory_for(sink.port)) as node:
        sent = smtp_source(
            node.port, "-s", "20", "-m", "20", "-l", str(LARGE), "-f", "a@out.example", "-t", "you@ours.example"
        )
        assert sent.returncode == 0, sent
        eventually(lambda: len(sizes) == 20, "all mails at the next hop", 100)
        assert min(sizes) >= LARGE
        assert worker_peak_mib(node) <= 100


def test_an_open_session_goes_on_over_a_reload_and_meets_the_new_rules(tmp_path: Path) -> None:
    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port)) as node:
        with smtplib.SMTP(*node.smtp, timeout=10) as client:
            client.ehlo()
            client.mail("a@out.example")
            assert client.rcpt("you@new.example")[0] == 550
            (tmp_path / "inventory.toml").write_text(inventory_for(sink.port, recipients="*@new.example"), "utf-8")
            assert node.process is not None
            os.kill(node.process.pid, signal.SIGHUP)
            in_force = '"revision": 2, "event": "inventory in force"'
            eventually(lambda: in_force in node.log.read_text("utf-8"), "the new rules in the worker", 20)
            assert client.rcpt("you@new.example")[0] == 250
            assert client.data(TEXT)[0] == 250
        eventually(lambda: len(sink.taken) == 1, "the mail at the next hop", 20)


def test_files_with_faults_are_refused_at_reload_and_the_old_ones_stay(tmp_path: Path) -> None:
    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port)) as node:
        (tmp_path / "inventory.toml").write_text("[[rules]]\nname = 3\n", "utf-8")
        assert node.process is not None
        os.kill(node.process.pid, signal.SIGHUP)
        eventually(lambda: "files refused" in node.log.read_text("utf-8"), "the refusal in the log", 10)
        with smtplib.SMTP(*node.smtp, timeout=10) as client:
            client.sendmail("a@out.example", "you@ours.example", TEXT)
        eventually(lambda: len(sink.taken) == 1, "the mail at the next hop", 20)


def test_sigterm_ends_with_0_though_mail_is_queued(tmp_path: Path) -> None:
    node = Node(tmp_path, inventory_for(1))
    node.start()
    with smtplib.SMTP(*node.smtp, timeout=10) as client:
        client.sendmail("a@out.example", "you@ours.example", TEXT)
    assert node.queued() == 1
    assert node.stop() == 0


def test_a_second_serve_on_the_same_port_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "one", inventory_for(1)) as node:
        second = Node(tmp_path / "two", inventory_for(1), arguments=("--smtp", f"127.0.0.1:{node.port}"))
        with pytest.raises(NodeEnded, match="Address already in use"):
            second.start()
        assert second.process is not None
        assert second.process.returncode == 1
