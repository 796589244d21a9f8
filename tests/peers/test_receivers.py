"""A real node relays to servers nobody here wrote: what they keep is what was sent, after Received fields."""

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.contents import awkward, fields_in_front
from support.peers import exim, postfix, smtp_sink
from support.processes import Node, inventory_for, serving
from support.recording import Recorder, recording_sink
from support.waiting import eventually

SIZES = pytest.mark.parametrize("lines", [0, 5000], ids=["small", "large"])


@contextmanager
def relaying_to(port: int, folder: Path) -> Iterator[Node]:
    with serving(folder, inventory_for(port)) as node:
        yield node


def send(node: Node, content: bytes, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", node.port, timeout=30) as client:
        client.sendmail("a@sender.test", recipients or ["b@ours.example"], content, ["BODY=8BITMIME"])


@SIZES
def test_postfix_relays_on_what_it_got_from_us(tmp_path: Path, lines: int) -> None:
    content = awkward("to-postfix", lines)
    with recording_sink(Recorder()) as sink, postfix(sink.port) as peer, relaying_to(peer.port, tmp_path) as node:
        send(node, content, "b@ours.example", "c@ours.example")
        taken = eventually(lambda: list(sink.taken), "a mail out of Postfix")
        node.wait_empty()
    assert len(taken) == 1
    assert fields_in_front(taken[0].content, content) == ["Received", "Received"]
    assert taken[0].recipients == ("b@ours.example", "c@ours.example")
    assert taken[0].reverse_path == "a@sender.test"


@SIZES
def test_exim_delivers_what_it_got_from_us(tmp_path: Path, lines: int) -> None:
    content = awkward("to-exim", lines)
    with exim() as peer, relaying_to(peer.port, tmp_path) as node:
        send(node, content)
        maildir = peer.folder / "maildir" / "new"
        files = eventually(lambda: list(maildir.glob("*")), "a mail in Exim's maildir")
        node.wait_empty()
        arrived = [each.read_bytes() for each in files]
    assert len(arrived) == 1
    on_disk = content.replace(b"\r\n", b"\n")
    names = fields_in_front(arrived[0], on_disk)
    assert names == ["Return-path", "Envelope-to", "Received", "Received"]


@SIZES
def test_aiosmtpd_takes_what_we_were_given(tmp_path: Path, lines: int) -> None:
    content = awkward("to-aiosmtpd", lines)
    with recording_sink(Recorder()) as sink, relaying_to(sink.port, tmp_path) as node:
        send(node, content)
        node.wait_empty()
    assert [fields_in_front(taken.content, content) for taken in sink.taken] == [["Received"]]


@SIZES
def test_smtp_sink_takes_what_we_were_given(tmp_path: Path, lines: int) -> None:
    content = awkward("to-smtp-sink", lines)
    with smtp_sink() as peer, relaying_to(peer.port, tmp_path) as node:
        send(node, content)
        node.wait_empty()
        arrived = [each.read_bytes() for each in (peer.folder / "mails").iterdir()]
    assert len(arrived) == 1
    # smtp-sink writes LF line ends, its own fields in front and one LF behind.
    names = fields_in_front(arrived[0].removesuffix(b"\n"), content.replace(b"\r\n", b"\n"))
    assert names[-2:] == ["Received", "Received"]
    assert all(name.startswith("X-") for name in names[:-2])


def test_smtp_sink_that_speaks_only_helo_is_served(tmp_path: Path) -> None:
    with smtp_sink(dump=False, arguments=["-e"]) as peer, relaying_to(peer.port, tmp_path) as node:
        send(node, awkward("helo-only"))
        node.wait_empty()
        mails = node.get("mails")["items"]
    assert isinstance(mails, list)
    assert [mail["status"] for mail in mails] == ["relayed"]


def test_500_mails_reach_postfix_once_each(tmp_path: Path) -> None:
    with recording_sink(Recorder()) as sink, postfix(sink.port) as peer, relaying_to(peer.port, tmp_path) as node:
        with smtplib.SMTP("127.0.0.1", node.port, timeout=30) as client:
            for number in range(500):
                client.sendmail("a@sender.test", ["b@ours.example"], awkward(f"number-{number}"), ["BODY=8BITMIME"])
        eventually(lambda: len(sink.taken) >= 500, "500 mails out of Postfix", 90)
        node.wait_empty()
    subjects = sorted(taken.content.split(b"Subject: ")[1].split(b"\r\n")[0] for taken in sink.taken)
    assert subjects == sorted(f"number-{number}".encode() for number in range(500))
