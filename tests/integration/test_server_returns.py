"""A server that was gone comes back: what people are told of it meanwhile, and when its mail goes on."""

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.backlog_drill import send
from support.limited_server import LimitedServer, running
from support.processes import Node, inventory_for, serving
from support.server_drill import events
from support.waiting import eventually

MAILS = 12
FIRST_STEP_SECONDS = 60
"""Of the retry schedule (core/retry.py)."""


def state(node: Node, circuit: str) -> Mapping[str, Any] | None:
    """The state of the one server, if its circuit is so."""
    (server,) = items(node.get("server-profiles/next/state"), "servers")
    return server if server["circuit"] == circuit else None


def items(document: Mapping[str, object], name: str = "items") -> list[Mapping[str, Any]]:
    found = document[name]
    assert isinstance(found, list)
    return found


@pytest.mark.timeout(120)
def test_a_server_that_returns_is_told_and_gets_all_deferred_mail_soon(tmp_path: Path) -> None:
    server = LimitedServer(100)
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        with serving(tmp_path, inventory_for(gone.getsockname()[1])) as node:
            assert eventually(lambda: state(node, "closed"), "a row of the server", 5)["workers"][0]["limit"] == 20
            began, sent_at = time.monotonic(), time.time()
            send(node.port, "you@ours.example", MAILS)
            found = eventually(lambda: state(node, "open"), "an open circuit in the state", 5)
            assert found["reason"] == found["last_fault"] == "connection refused"
            assert sent_at - 1 < found["last_fault_at"] < found["next_probe"] < sent_at + 20
            deferred = next(events(node, "deferred"))
            (row,) = items(node.get("queue"))
            assert row["waits_for"].startswith(f"{found['server']}: circuit open: connection refused, next probe ")
            mail = node.get(f"mails/{deferred['id']}")
            assert [r["waits_for"] for r in items(mail, "recipients")] == [row["waits_for"]]
            with running(server, gone):
                eventually(lambda: server.taken == MAILS, "all mails", 60)
                assert time.monotonic() - began < FIRST_STEP_SECONDS
                found = eventually(lambda: state(node, "closed"), "a closed circuit in the state", 5)
                eventually(lambda: (state(node, "closed") or {})["relayed"] == MAILS, "all counted", 5)
                assert found["workers"][0]["not_now"] == ""
                node.wait_empty(5)


@pytest.mark.timeout(120)
def test_with_probe_seconds_a_dead_server_is_found_before_mail_is_sent_to_it(tmp_path: Path) -> None:
    server = LimitedServer(100)
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
        config = 'hostname = "mx.test"\n[limits]\nprobe_seconds = 1\n'
        with serving(tmp_path, inventory_for(port), config=config) as node:
            assert eventually(lambda: state(node, "open"), "an open circuit", 20)["reason"] == "connection refused"
            send(node.port, "you@ours.example", 1)
            with running(server, gone):
                node.wait_empty(30)
            assert server.taken == 1
            (mail,) = items(node.get("mails"))
            assert [(r["state"], r["tries"]) for r in mail["recipients"]] == [("relayed", 0)]
