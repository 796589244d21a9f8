"""Drains on a real node: mail goes to the other server, waits where there is none, and comes back; none is lost."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.backlog_drill import send
from support.processes import Node, serving
from support.recording import Recorder, recording_sink
from support.waiting import eventually

INVENTORY = """
[[server_profiles]]
name = "next"
type = "smtp"
servers = ["127.0.0.1:{first}", "127.0.0.1:{second}"]
pool = {{ enabled = true }}

[[rules]]
name = "inbound"
match = {{ recipients = ["*@ours.example"] }}
relay = {{ profile = "next" }}
"""
DRAIN = "server-profiles/next/drain"


@contextmanager
def two_servers(folder: Path, workers: int = 1) -> Iterator[tuple[Node, Recorder, Recorder]]:
    with recording_sink(Recorder()) as first, recording_sink(Recorder()) as second:
        inventory = INVENTORY.format(first=first.port, second=second.port)
        with serving(folder, inventory, workers=workers) as node:
            yield node, first, second


def items(node: Node, path: str, name: str = "items") -> list[Mapping[str, Any]]:
    found = node.get(path)[name]
    assert isinstance(found, list)
    return found


def servers(node: Node) -> list[Mapping[str, Any]]:
    return items(node, "server-profiles/next/state", "servers")


def in_force(node: Node, *why: str) -> None:
    """Until every worker says of each server that it may be addressed (`""`), or why not."""

    def said() -> bool:
        told = [[str(row["not_now"]) for row in server["workers"]] for server in servers(node)]
        return all(map(_all_begin, told, why))

    eventually(said, f"workers that say {why}", 10)


def _all_begin(told: list[str], why: str) -> bool:
    return bool(told) and all(said.startswith(why) if why else not said for said in told)


def attempts(node: Node) -> list[str]:
    """Servers of all attempts of all mails."""
    found = items(node, "mails?limit=500")
    return [attempt["server"] for one in found for attempt in items(node, f"mails/{one['id']}", "attempts")]


def ordered(node: Node, body: Mapping[str, object]) -> None:
    status, answer = node.api("POST", DRAIN, body)
    assert status == 200, answer


def undrained(node: Node, server: str) -> None:
    status, answer = node.api("DELETE", f"{DRAIN}?server={server}")
    assert (status, bool(answer["before"])) == (200, True), answer


@pytest.mark.timeout(180)
def test_while_a_server_is_drained_all_mail_goes_to_the_other_also_after_a_restart(tmp_path: Path) -> None:
    with two_servers(tmp_path, workers=2) as (node, first, second):
        send(node.port, "you@ours.example", 20)
        node.wait_empty()
        assert (len(first.taken), len(second.taken)) == (20, 0)
        eventually(lambda: servers(node)[0]["idle"] > 0, "kept connections to the first server")
        eventually(lambda: servers(node)[0]["times"]["transaction"]["samples"] == 20, "all transactions timed", 5)
        told = servers(node)[0]
        assert 0 < told["times"]["transaction"]["p50"] <= told["times"]["transaction"]["p95"] < 10
        assert told["times"]["connect"]["samples"] == told["reuse"]["opened"] == 20 - told["reuse"]["tcp_saved"]
        began = time.monotonic()
        ordered(node, {"server": "1", "reason": "new disks"})
        in_force(node, "drained by key console.key (", "")
        assert time.monotonic() - began < 5
        eventually(lambda: sum(node.connections_to(first.port)) == 0, "no connection to the drained server", 5)
        send(node.port, "you@ours.example", 20)
        node.wait_empty()
        assert (len(first.taken), len(second.taken)) == (20, 20)
        node.stop()
        node.start()
        in_force(node, "drained by key console.key (", "")
        send(node.port, "you@ours.example", 20)
        node.wait_empty()
        assert (len(first.taken), len(second.taken)) == (20, 40)
        tried = attempts(node)
        assert (tried.count(f"smtp://127.0.0.1:{first.port}"), len(tried)) == (20, 60)
        undrained(node, "1")
        in_force(node, "", "")
        send(node.port, "you@ours.example", 20)
        node.wait_empty()
        assert (len(first.taken), len(second.taken)) == (40, 40)


@pytest.mark.timeout(120)
def test_with_all_servers_out_mail_waits_and_says_why_until_the_rehearsal_is_over(tmp_path: Path) -> None:
    with two_servers(tmp_path) as (node, first, second):
        ordered(node, {"server": f"127.0.0.1:{first.port}"})
        ordered(node, {"server": "2", "seconds": 10, "simulate": True})
        over = time.monotonic() + 10
        in_force(node, "drained by", "treated as down until")
        send(node.port, "you@ours.example", 10)
        (row,) = items(node, "queue")
        told = row["waits_for"].split("; ")
        assert told[0].startswith(f"smtp://127.0.0.1:{first.port}: drained by key console.key (")
        assert told[1].startswith(f"smtp://127.0.0.1:{second.port}: treated as down until ")
        assert node.queued() == 10
        assert attempts(node) == []
        node.wait_empty(30)
        assert time.monotonic() > over - 1
        assert (len(first.taken), len(second.taken)) == (0, 10)
        assert {r["tries"] for one in items(node, "mails") for r in one["recipients"]} == {0}
        undrained(node, "1")
        in_force(node, "", "")
        send(node.port, "you@ours.example", 1)
        node.wait_empty()
        assert len(first.taken) == 1
