"""Several workers of one node: one port, shared numbers, what happens when one of them is killed, reload, SIGTERM."""

import asyncio
import os
import signal
import smtplib
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from support.contents import queue_id
from support.plain_client import PlainClient
from support.processes import STOP_SECONDS, Node, NodeEnded, inventory_for, serving
from support.recording import Recorder, recording_sink
from support.waiting import eventually

WORKERS = 3
MEANWHILE = 12
"""Connections made while a worker is gone: all but one run in a hundred have some in its accept queue."""
CHANGES = 5
TEXT = "Subject: x\r\n\r\nx\r\n"


@dataclass
class Gate(Recorder):
    """A next hop that reads contents and answers none of them before it is opened."""

    offered: list[str] = field(default_factory=list)
    """Queue ids in the order they came, once for every time."""
    _opened: asyncio.Event = field(default_factory=asyncio.Event)
    _loop: asyncio.AbstractEventLoop | None = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content
        assert isinstance(content, bytes)
        self.offered.append(queue_id(content))
        self._loop = asyncio.get_running_loop()
        await self._opened.wait()
        return await super().handle_DATA(server, session, envelope)

    def open(self) -> None:
        """From the thread of a test, once something was offered: it answers from now on."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._opened.set)

    def arrived(self) -> Counter[str]:
        """How often each mail was taken."""
        return Counter(queue_id(taken.content) for taken in list(self.taken))


@contextmanager
def session_with_each(node: Node, workers: int = WORKERS) -> Iterator[dict[int, smtplib.SMTP]]:
    """An open session with each worker, by its process id: as many are opened as it takes, for the kernel deals
    them out by chance."""
    found: dict[int, smtplib.SMTP] = {}
    with ExitStack() as sessions:

        def one_more() -> bool:
            client = smtplib.SMTP(*node.smtp, timeout=30)
            sessions.callback(client.close)  # without QUIT: the server may have ended it
            assert client.sock is not None
            client.ehlo()
            found.setdefault(node.holder(client.sock), client)
            return len(found) == workers

        eventually(one_more, f"a session with each of {workers} workers")
        assert sorted(found) == sorted(node.worker_processes())
        yield found


def send(client: smtplib.SMTP) -> str:
    """One mail; the queue id from the 250."""
    assert client.mail("a@out.example")[0] == 250
    assert client.rcpt("you@ours.example")[0] == 250
    code, text = client.data(TEXT)
    assert code == 250, text
    return text.decode().rpartition(" ")[2]


def admits(client: smtplib.SMTP, recipient: str) -> bool:
    """In an open transaction."""
    return client.rcpt(recipient)[0] == 250


def all_are_called(node: Node, hostname: str) -> bool:
    """By a new session with each worker: open ones keep the settings that they began with."""
    with session_with_each(node) as sessions:
        return all(client.ehlo()[1].decode().startswith(hostname) for client in sessions.values())


def config_for(database: str) -> str:
    return f'hostname = "mx.test"\ndatabase = "{database}"\n'


def settle(gate: Gate, node: Node, sent: Sequence[str], offered_before: Sequence[str]) -> None:
    """All of `sent` arrive, and only those that were at the next hop when the worker died may arrive twice."""
    gate.open()
    eventually(lambda: set(sent) <= gate.arrived().keys(), "all mails at the next hop", 60)
    node.wait_empty()
    twice = {mail_id for mail_id, times in gate.arrived().items() if times > 1}
    assert twice <= set(offered_before)


def test_workers_take_sessions_on_one_port_and_share_the_transactions_of_a_server(tmp_path: Path) -> None:
    with recording_sink(Gate()) as gate, serving(tmp_path, inventory_for(gate.port), workers=WORKERS) as node:
        with session_with_each(node) as sessions:
            accepted_by = {send(client): pid for pid, client in sessions.items() for _ in range(10)}
            eventually(lambda: len(gate.offered) >= 20, "20 transactions at the next hop")
            # What is over the limit would have come by now: all was accepted before the last of these began.
            assert sorted(Counter(accepted_by[mail_id] for mail_id in gate.offered).values()) == [6, 7, 7]
        settle(gate, node, list(accepted_by), [])


def test_workers_share_the_connections_that_a_pool_keeps(tmp_path: Path) -> None:
    pooled = 'type = "smtp"\npool = { enabled = true, connections = 5 }\n'
    with (
        recording_sink(Gate()) as gate,
        serving(tmp_path, inventory_for(gate.port).replace('type = "smtp"\n', pooled), workers=WORKERS) as node,
    ):
        with session_with_each(node) as sessions:
            sent = [send(client) for client in sessions.values() for _ in range(6)]
            eventually(lambda: len(gate.offered) == len(sent), "all transactions at the next hop at the same time")
            assert sorted(node.connections_to(gate.port)) == [6, 6, 6]
        settle(gate, node, sent, [])
        eventually(lambda: sorted(node.connections_to(gate.port)) == [1, 2, 2], "5 connections kept, shared out")


def test_a_killed_worker_is_replaced_and_its_mail_and_connections_go_on(tmp_path: Path, database: str) -> None:
    with (
        recording_sink(Gate()) as gate,
        serving(tmp_path, inventory_for(gate.port), config=config_for(database), workers=WORKERS) as node,
    ):
        with session_with_each(node) as sessions:
            sent = [send(client) for client in sessions.values() for _ in range(10)]
            eventually(lambda: len(gate.offered) >= 20, "transactions of each worker at the next hop")
            offered_before = list(gate.offered)
            killed, *others = sessions
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: killed not in node.children(), "the end of the killed worker")
            waiting = [PlainClient(node.port) for _ in range(MEANWHILE)]
            for client in waiting:
                with client:
                    assert client.reply().startswith("220")
                    replies = client.say("EHLO a", "MAIL FROM:<a@out.example>", "RCPT TO:<you@ours.example>", "DATA")
                    assert replies.startswith("354")
                    client.send(TEXT.encode() + b".\r\n")
                    accepted = client.reply()
                    assert accepted.startswith("250")
                    sent.append(accepted.rpartition(" ")[2])
            for pid in others:
                sent.append(send(sessions[pid]))  # the sessions of the others are as they were
        with session_with_each(node) as sessions:
            assert killed not in sessions
            sent += [send(client) for client in sessions.values()]
        settle(gate, node, sent, offered_before)
        assert node.stop() == 0


def test_mail_of_a_worker_that_is_not_replaced_is_delivered_by_another(tmp_path: Path, database: str) -> None:
    with (
        recording_sink(Gate()) as gate,
        serving(tmp_path, inventory_for(gate.port), config=config_for(database), workers=2) as node,
    ):
        assert node.process is not None
        with session_with_each(node, workers=2) as sessions:
            killed, client = next(iter(sessions.items()))
            sent = [send(client) for _ in range(3)]
            eventually(lambda: len(gate.offered) == 3, "the mails at the next hop")
            os.kill(node.process.pid, signal.SIGSTOP)
            os.kill(killed, signal.SIGKILL)
            if database != "sqlite":
                lease_runs_out(database, sent[0])
            gate.open()
            eventually(lambda: gate.offered[3:] and set(sent) <= set(gate.offered[3:]), "the mails once more", 60)
            os.kill(node.process.pid, signal.SIGCONT)
        settle(gate, node, sent, sent)


def lease_runs_out(database: str, mail_id: str) -> None:
    """As if 30 s had passed since the worker that holds the mail renewed its lease."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "UPDATE lease SET lease_until = 0 WHERE owner = (SELECT lease_owner FROM mail WHERE id = %s)", (mail_id,)
        )


def test_an_inventory_changed_through_rest_is_in_force_in_every_worker_within_a_second(tmp_path: Path) -> None:
    # Each look at a rule that is not there yet is a 550, and a session may have only so many.
    config = 'hostname = "mx.test"\n[limits]\nerrors = 1000\n'
    with (
        recording_sink(Recorder()) as sink,
        serving(tmp_path, inventory_for(sink.port), config=config, workers=WORKERS) as node,
        session_with_each(node) as sessions,
    ):
        slowest = []
        for number in range(CHANGES):
            to = f"you@new{number}.example"
            for client in sessions.values():
                client.mail("a@out.example")
                assert client.rcpt(to)[0] == 550
            rule = {"name": to, "match": {"recipients": [to]}, "relay": {"profile": "next"}}
            assert node.api("POST", "config/apply", {"rules": [rule]})[0] == 200
            answered = time.monotonic()
            for client in sessions.values():
                eventually(partial(admits, client, to), "the new rule in every worker")
            slowest.append(time.monotonic() - answered)
            for client in sessions.values():
                assert client.data(TEXT)[0] == 250
        assert statistics.median(slowest) <= 1.0  # of several: a busy machine may hold up one
        eventually(lambda: len(sink.taken) == CHANGES * WORKERS, "the mails at the next hop")


def test_sighup_reaches_every_worker_and_sigterm_waits_no_longer_than_it_says(tmp_path: Path) -> None:
    config = 'hostname = "{0}"\n[limits]\ndrain_seconds = {1}\n'
    with (
        recording_sink(Gate()) as gate,
        serving(tmp_path, inventory_for(gate.port), config=config.format("old.test", 600), workers=WORKERS) as node,
    ):
        assert node.process is not None
        node.config = config.format("mx.test", 1)
        (tmp_path / "posthouse.toml").write_text(node.config, "utf-8")
        os.kill(node.process.pid, signal.SIGHUP)
        eventually(partial(all_are_called, node, "mx.test"), "the new settings in every worker")
        with session_with_each(node) as sessions:
            sent = [send(client) for client in sessions.values()]
            eventually(lambda: len(gate.offered) == WORKERS, "a transaction of each worker at the next hop")
            for client in sessions.values():
                client.mail("a@out.example")
                client.rcpt("you@ours.example")
                assert client.docmd("DATA")[0] == 354
            offered_before = list(gate.offered)
            assert node.stop() == 0
        assert "process did not end, killed" not in node.log.read_text("utf-8")
        node.start()
        settle(gate, node, sent, offered_before)


def test_settings_that_need_a_restart_do_not_reach_a_worker_that_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, inventory_for(1), workers=WORKERS) as node:
        assert node.process is not None
        (tmp_path / "posthouse.toml").write_text(
            'hostname = "new.test"\ndatabase = "postgresql://nobody@127.0.0.1:1/none"\n'
            '[[listeners]]\nlisten = "127.0.0.1:0"\n[[listeners]]\nlisten = "127.0.0.1:0"\n',
            "utf-8",
        )
        os.kill(node.process.pid, signal.SIGHUP)
        eventually(lambda: "files applied again" in node.log.read_text("utf-8"), "the new settings")
        killed = node.worker_processes()[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: killed not in node.children(), "the end of the killed worker")
        eventually(lambda: len(node.worker_processes()) == WORKERS, "a worker in its place")
        with session_with_each(node) as sessions:
            for client in sessions.values():
                assert client.ehlo()[1].startswith(b"new.test")
                send(client)
        eventually(lambda: node.queued() == WORKERS, "the mails in the queue that was there before")


def test_mail_goes_on_without_the_console_which_is_replaced_when_it_dies(tmp_path: Path) -> None:
    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port), workers=WORKERS) as node:
        (console,) = set(node.children()) - set(node.worker_processes())
        os.kill(console, signal.SIGSTOP)
        with smtplib.SMTP(*node.smtp, timeout=30) as client:
            client.ehlo()
            send(client)
        eventually(lambda: len(sink.taken) == 1, "the mail at the next hop")
        os.kill(console, signal.SIGKILL)
        eventually(lambda: console not in node.children(), "the end of the console")
        node.wait_empty()


def test_sigterm_lets_the_open_transactions_of_every_worker_end(tmp_path: Path) -> None:
    # More than the default 10 s: a busy machine must not cut short what is looked at here.
    config = 'hostname = "mx.test"\n[limits]\ndrain_seconds = 60\n'
    with serving(tmp_path, inventory_for(1), config=config, workers=WORKERS) as node:
        assert node.process is not None
        with session_with_each(node) as sessions, PlainClient(node.port) as idle:
            assert idle.reply().startswith("220")
            for client in sessions.values():
                client.mail("a@out.example")
                client.rcpt("you@ours.example")
                assert client.docmd("DATA")[0] == 354
            node.process.terminate()
            assert idle.reply().startswith("421")
            for client in sessions.values():
                client.send(TEXT.encode())
                code, text = client.docmd(".")
                assert code == 250, text
        assert node.process.wait(STOP_SECONDS) == 0
        node.start()
        assert node.queued() == WORKERS


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    config = 'hostname = "mx.test"\n[limits]\ndrain_seconds = 1\n'
    with (
        recording_sink(Gate()) as gate,
        serving(tmp_path, inventory_for(gate.port), config=config, workers=WORKERS) as node,
    ):
        assert node.process is not None
        with session_with_each(node) as sessions:
            sent = [send(client) for client in sessions.values()]
            eventually(lambda: len(gate.offered) == WORKERS, "the mails at the next hop")
            node.process.kill()
            node.process.wait(STOP_SECONDS)
            eventually(lambda: not node.children(), "the end of workers and console", 30)
        offered_before = list(gate.offered)
        node.start()
        settle(gate, node, sent, offered_before)


def test_a_start_waits_for_the_workers_of_a_killed_supervisor(tmp_path: Path, database: str) -> None:
    # More than the default 10 s: a busy machine must not cut short what is looked at here.
    config = config_for(database) + "[limits]\ndrain_seconds = 60\n"
    with (
        recording_sink(Gate()) as gate,
        serving(tmp_path, inventory_for(gate.port), config=config, workers=WORKERS) as node,
    ):
        with session_with_each(node) as sessions:
            sent = [send(client) for client in sessions.values() for _ in range(10)]
            eventually(lambda: len(gate.offered) >= 20, "transactions of each worker at the next hop")
        node.arguments = ("--smtp", f"127.0.0.1:{node.port}")  # which the orphans listen on
        node.kill_parent()
        node.launch()
        eventually(
            lambda: "waiting for the processes of an earlier start" in node.log.read_text("utf-8"), "the second start"
        )
        assert len(node.orphans()) >= WORKERS
        gate.open()
        node.wait_ready()
        assert node.orphans() == []
        settle(gate, node, sent, [])  # nothing twice: the orphans have ended what they had begun


def test_ready_means_that_readyz_counts_all_workers_and_none_of_an_earlier_start(
    tmp_path: Path, database: str
) -> None:
    with serving(tmp_path, inventory_for(1), config=config_for(database), workers=WORKERS) as node:
        assert node.readyz() == {"ready": True, "workers": WORKERS}
        node.kill()
        node.workers = 2
        node.start()
        assert node.readyz() == {"ready": True, "workers": 2}
        status, acted = node.api("POST", "queue/retry", {"all": True})
        assert (status, acted["workers"], acted["reported"], acted["complete"]) == (200, 2, 2, True)


def test_neither_its_data_dir_nor_its_port_is_taken_from_a_node(tmp_path: Path) -> None:
    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port), workers=WORKERS) as node:
        beside = Node(tmp_path, node.inventory, workers=WORKERS)
        with pytest.raises(NodeEnded, match="another posthouse serves this data dir"):
            beside.start()
        elsewhere = Node(tmp_path / "two", node.inventory, workers=WORKERS)
        elsewhere.arguments = ("--smtp", f"127.0.0.1:{node.port}")
        with pytest.raises(NodeEnded, match="Address already in use"):
            elsewhere.start()
        with session_with_each(node) as sessions:
            for client in sessions.values():
                send(client)
        eventually(lambda: len(sink.taken) == WORKERS, "the mails at the next hop")
