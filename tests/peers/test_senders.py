"""Programs and libraries nobody here wrote send to a real node; what they sent arrives at a recording next hop."""

import asyncio
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiosmtplib
import pytest

from support.contents import awkward, fields_in_front, queue_id, stuffed
from support.peers import smtp_source, swaks
from support.processes import Node, NodeEnded, inventory_for, serving
from support.recording import Recorder, Taken, recording_sink
from support.waiting import eventually


@dataclass
class Way:
    """A node and the next hop behind it."""

    node: Node
    sink: Recorder

    def arrived(self, subject: str) -> Taken:
        """The mail with this subject, once it is there."""
        want = b"Subject: " + subject.encode() + b"\r\n"
        return eventually(
            lambda: next((taken for taken in list(self.sink.taken) if want in taken.content), None), f"mail {subject}"
        )


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with (
        recording_sink(Recorder()) as sink,
        serving(tmp_path_factory.mktemp("senders"), inventory_for(sink.port)) as node,
    ):
        yield Way(node, sink)


def test_swaks_sends_and_is_told_the_id(way: Way, tmp_path: Path) -> None:
    data = tmp_path / "mail.eml"
    data.write_bytes(awkward("swaks"))
    run = swaks(
        way.node.port, "--from", "a@sender.test", "--to", "b@ours.example,c@ours.example", "--data", f"@{data}"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    taken = way.arrived("swaks")
    assert fields_in_front(taken.content, awkward("swaks") + b"\r\n") == ["Received"]  # swaks ends with a CRLF more
    assert (taken.reverse_path, taken.recipients) == ("a@sender.test", ("b@ours.example", "c@ours.example"))
    assert f"250 2.0.0 queued as {queue_id(taken.content)}" in run.stdout


def test_swaks_with_pipelining_gets_the_same(way: Way) -> None:
    run = swaks(
        way.node.port, "--pipeline", "--from", "a@sender.test", "--to", "b@ours.example", "--h-Subject", "pipelined"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "PIPELINING" in run.stdout
    assert way.arrived("pipelined").recipients == ("b@ours.example",)


def test_swaks_is_refused_for_a_recipient_without_a_rule(way: Way) -> None:
    run = swaks(way.node.port, "--from", "a@sender.test", "--to", "b@elsewhere.example")
    assert run.returncode != 0
    assert "550 5.7.1" in run.stdout
    assert "No policy for recipient" in run.stdout


def test_smtp_source_sends_from_many_sessions(way: Way) -> None:
    run = smtp_source(
        way.node.port,
        *("-s", "10", "-m", "100", "-l", "4096", "-S", "from-smtp-source"),
        *("-f", "a@sender.test", "-t", "b@ours.example"),
    )
    assert run.returncode == 0, run.stderr

    def ids() -> set[str]:
        mine = (taken for taken in list(way.sink.taken) if b"Subject: from-smtp-source\r\n" in taken.content)
        return {queue_id(taken.content) for taken in mine}

    eventually(lambda: len(ids()) == 100, "100 mails of smtp-source")


def test_smtp_source_sends_many_mails_and_recipients_in_one_session(way: Way) -> None:
    run = smtp_source(
        way.node.port,
        *("-d", "-s", "1", "-m", "20", "-r", "5", "-l", "400000", "-S", "kept-session"),
        *("-f", "a@sender.test", "-t", "b@ours.example"),
    )
    assert run.returncode == 0, run.stderr

    def recipients() -> int:
        return sum(
            len(taken.recipients)
            for taken in list(way.sink.taken)
            if b"Subject: kept-session\r\n" in taken.content[:2000]
        )

    eventually(lambda: recipients() == 100, "100 recipients of smtp-source")


@pytest.mark.parametrize("lines", [0, 5000], ids=["small", "large"])
def test_smtplib_content_arrives_octet_for_octet(way: Way, lines: int) -> None:
    subject = f"smtplib-{lines}"
    content = awkward(subject, lines)
    with smtplib.SMTP("127.0.0.1", way.node.port, timeout=30) as client:
        refused = client.sendmail(
            "a@sender.test", ["b@ours.example", "c@elsewhere.example"], content, ["BODY=8BITMIME"]
        )
    assert list(refused) == ["c@elsewhere.example"]
    taken = way.arrived(subject)
    assert fields_in_front(taken.content, content) == ["Received"]
    assert taken.recipients == ("b@ours.example",)
    assert "BODY=8BITMIME" in taken.mail_options


def test_bdat_content_arrives_as_data_content_does(way: Way) -> None:
    content = awkward("chunked")
    with smtplib.SMTP("127.0.0.1", way.node.port, timeout=30) as client:
        client.ehlo("client.test")
        assert client.has_extn("chunking")
        client.mail("a@sender.test")
        client.rcpt("b@ours.example")
        client.send(b"BDAT 7\r\n" + content[:7] + f"BDAT {len(content) - 7} LAST\r\n".encode() + content[7:])
        assert [client.getreply()[0], client.getreply()[0]] == [250, 250]
    assert fields_in_front(way.arrived("chunked").content, content) == ["Received"]


def test_the_null_reverse_path_is_kept(way: Way) -> None:
    with smtplib.SMTP("127.0.0.1", way.node.port, timeout=30) as client:
        client.sendmail("", ["b@ours.example"], awkward("null-path"))
    assert way.arrived("null-path").reverse_path == "<>"


def test_aiosmtplib_sends_several_mails_in_one_session(way: Way) -> None:
    subjects = [f"aiosmtplib-{number}" for number in range(5)]

    async def send() -> None:
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=way.node.port, use_tls=False, start_tls=False
        ) as client:
            for subject in subjects:
                await client.sendmail("a@sender.test", ["b@ours.example"], awkward(subject))

    asyncio.run(send())
    for subject in subjects:
        assert fields_in_front(way.arrived(subject).content, awkward(subject)) == ["Received"]


def test_a_client_that_leaves_before_the_final_dot_leaves_no_mail(way: Way) -> None:
    with smtplib.SMTP("127.0.0.1", way.node.port, timeout=30) as client:
        client.ehlo("client.test")
        client.mail("a@sender.test")
        client.rcpt("b@ours.example")
        assert client.docmd("DATA")[0] == 354
        client.send(stuffed(awkward("cut-off"))[:-2])
        client.close()
    with smtplib.SMTP("127.0.0.1", way.node.port, timeout=30) as client:
        client.sendmail("a@sender.test", ["b@ours.example"], awkward("after-cut-off"))
    way.arrived("after-cut-off")
    way.node.wait_empty()
    assert not [taken for taken in way.sink.taken if b"Subject: cut-off\r\n" in taken.content]


def test_the_trail_of_a_mail_is_found_by_the_id_of_the_reply(way: Way) -> None:
    with smtplib.SMTP("127.0.0.1", way.node.port, timeout=30) as client:
        client.ehlo("client.test")
        client.mail("a@sender.test")
        client.rcpt("b@ours.example")
        code, text = client.data(awkward("traced"))
    assert code == 250
    words = text.decode().split()
    assert words[:-1] == ["2.0.0", "queued", "as"]
    way.arrived("traced")
    way.node.wait_empty()
    document = way.node.get(f"mails/{words[-1]}")
    assert document["id"] == words[-1]
    assert document["subject"] == "traced"


def test_sigterm_ends_a_node_with_exit_code_0(tmp_path: Path) -> None:
    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port)) as node:
        assert node.stop() == 0


def test_a_second_node_on_the_same_data_dir_is_refused(tmp_path: Path) -> None:
    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port)) as node:
        second = Node(node.folder, node.inventory)
        with pytest.raises(NodeEnded, match=r"(?s)came b''.*another posthouse serves this data dir"):
            second.start()
        assert second.process is not None
        assert second.process.returncode == 1
