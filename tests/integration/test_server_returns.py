"""A server that was gone comes back: what it is told of meanwhile, and when its mail goes on."""

import socket
import time
from pathlib import Path

import pytest

from support.backlog_drill import send
from support.limited_server import LimitedServer, running
from support.processes import inventory_for, serving
from support.server_drill import events
from support.waiting import eventually

MAILS = 12
FIRST_STEP_SECONDS = 60
"""Of the retry schedule (docs/standards.md)."""


@pytest.mark.timeout(120)
def test_mail_deferred_while_a_server_was_gone_goes_on_soon_after_it_returns(tmp_path: Path) -> None:
    server = LimitedServer(100)
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        with serving(tmp_path, inventory_for(gone.getsockname()[1])) as node:
            began = time.monotonic()
            send(node.port, "you@ours.example", MAILS)
            eventually(lambda: list(events(node, "circuit opened")), "an open circuit")
            assert list(events(node, "deferred"))
            with running(server, gone):
                eventually(lambda: server.taken == MAILS, "all mails", 60)
                assert time.monotonic() - began < FIRST_STEP_SECONDS
                node.wait_empty(5)
