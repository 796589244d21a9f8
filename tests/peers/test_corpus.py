"""Every message of the corpus goes through a real node: octet for octet, or refused with the documented reply.

Files with LF only are sent with CRLF; files that mix line ends are sent as they are. A node refuses those by
default (550 5.6.11) and makes CRLF of every bare CR or LF for trusted clients: here 127.0.0.2. Both are counted, and
the counts add up to the whole corpus. Without the corpus the same is done with messages made here.
"""

import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.contents import awkward, fields_in_front, stuffed
from support.corpus import corpus
from support.processes import inventory_for, serving
from support.recording import Recorder, recording_sink

STRICT, TRUSTED = "127.0.0.1", "127.0.0.2"
CONFIG = f'hostname = "mx.test"\ntrusted_clients = ["{TRUSTED}/32"]\n'
PER_SESSION = 40
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_NOT_MESSAGES = {"README.md", "LICENSE-of-source.txt", ".gitattributes"}


def messages() -> list[bytes]:
    """The corpus, or some messages of each kind of line end where it is absent."""
    root = corpus()
    if root is None:
        made = [awkward(f"made-{number}", number) for number in range(10)]
        made += [content.replace(b"\r\n", b"\n") for content in made[:3]]
        return [*made, made[0] + b"bare\nline\r\n", made[1] + b"bare\rreturn\r\n", b"", b"no line end"]
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".json")
    return [path.read_bytes() for path in files if path.name not in _NOT_MESSAGES]


def as_sent(message: bytes) -> bytes:
    """What goes over the wire, unstuffed: CRLF for files with LF only, and a CRLF at the end."""
    if b"\r" not in message:
        message = message.replace(b"\n", b"\r\n")
    return message if message.endswith(b"\r\n") or not message else message + b"\r\n"


@contextmanager
def session(port: int, source: str) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", port, timeout=60, source_address=(source, 0)) as client:
        client.ehlo("corpus.test")
        yield client


def send_all(port: int, source: str, contents: dict[str, bytes]) -> dict[str, tuple[int, str]]:
    """Each content to its own recipient, in sessions of `PER_SESSION`; the reply to each final dot."""
    replies: dict[str, tuple[int, str]] = {}
    names = list(contents)
    for start in range(0, len(names), PER_SESSION):
        with session(port, source) as client:
            for name in names[start : start + PER_SESSION]:
                assert client.mail("corpus@sender.test", ["BODY=8BITMIME"])[0] == 250
                assert client.rcpt(f"{name}@ours.example")[0] == 250
                assert client.docmd("DATA")[0] == 354
                client.send(stuffed(contents[name]) + b".\r\n")
                code, text = client.getreply()
                replies[name] = code, text.decode()
    return replies


def by_recipient(sink: Recorder) -> dict[str, bytes]:
    """What arrived; each recipient exactly once."""
    arrived = {taken.recipients[0].partition("@")[0]: taken.content for taken in sink.taken}
    assert len(arrived) == len(sink.taken)
    return arrived


def test_every_message_passes_octet_for_octet_or_is_refused(tmp_path: Path) -> None:
    contents = {f"m{number}": as_sent(message) for number, message in enumerate(messages())}
    mixed = {name: content for name, content in contents.items() if _BARE.search(content)}

    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port), config=CONFIG) as node:
        replies = send_all(node.port, STRICT, contents)
        node.wait_empty()
    arrived = by_recipient(sink)
    refused = {name for name, (code, _) in replies.items() if code != 250}
    assert refused == set(mixed), {name: replies[name] for name in refused ^ set(mixed)}
    assert {replies[name][1].split()[0] for name in refused} <= {"5.6.11"}
    assert {replies[name][0] for name in refused} <= {550}
    assert arrived.keys() == contents.keys() - refused
    assert len(arrived) + len(refused) == len(contents)
    for name, content in arrived.items():
        assert fields_in_front(content, contents[name]) == ["Received"], name


def test_messages_with_bare_line_ends_are_normalised_for_trusted_clients(tmp_path: Path) -> None:
    contents = {f"m{number}": as_sent(message) for number, message in enumerate(messages())}
    mixed = {name: content for name, content in contents.items() if _BARE.search(content)}
    assert mixed

    with recording_sink(Recorder()) as sink, serving(tmp_path, inventory_for(sink.port), config=CONFIG) as node:
        replies = send_all(node.port, TRUSTED, mixed)
        node.wait_empty()
    assert {code for code, _ in replies.values()} == {250}
    arrived = by_recipient(sink)
    assert arrived.keys() == mixed.keys()
    for name, content in arrived.items():
        assert fields_in_front(content, _LINE_END.sub(b"\r\n", mixed[name])) == ["Received"], name


def test_the_corpus_is_whole() -> None:
    """Its README counts 727 messages: none may drop out of this test unseen."""
    assert corpus() is None or len(messages()) == 727
