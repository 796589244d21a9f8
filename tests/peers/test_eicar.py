"""EICAR, made at run time, through a real node with a real clamd: in every wrapping, it is never delivered."""

import base64
import binascii
import bz2
import gzip
import io
import smtplib
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from support.clamd_peer import EICAR, clamd
from support.processes import Node, serving
from support.recording import Recorder, recording_sink
from support.waiting import eventually

YOU = "you@ours.example"


class Taken(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.contents: list[bytes] = []

    def take(self, taken: object) -> None:
        self.contents.append(taken.content)  # type: ignore[attr-defined]


def inventory(relay: int, scanner: str, scan: str) -> str:
    return f"""
[[server_profiles]]
name = "next"
type = "smtp"
servers = ["127.0.0.1:{relay}"]

[[server_profiles]]
name = "clam"
type = "clamav"
servers = ["{scanner}"]

[[rules]]
name = "inbound"
match = {{ recipients = ["*@ours.example"] }}
scan = {{ profiles = ["clam"], {scan} }}
relay = {{ profile = "next" }}
"""


def zipped(octets: bytes, name: str = "eicar.com") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, octets)
    return made.getvalue()


def tarred(octets: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo("eicar.com")
        member.size = len(octets)
        archive.addfile(member, io.BytesIO(octets))
    return made.getvalue()


def attached(octets: bytes, name: str) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = "a@out.example", YOU, f"with {name}"
    message.set_content("See the attachment.\n")
    message.add_attachment(octets, "application", "octet-stream", filename=name)
    return message.as_bytes()


def wrapped() -> Mapping[str, bytes]:
    nested = zipped(zipped(zipped(EICAR), "b.zip"), "c.zip")
    uuencoded = b"begin 644 eicar.com\r\n" + binascii.b2a_uu(EICAR[:45]).replace(b"\n", b"\r\n")
    uuencoded += binascii.b2a_uu(EICAR[45:]).replace(b"\n", b"\r\n") + b"`\r\nend\r\n"
    inner = attached(EICAR, "eicar.com")
    encapsulated = (
        b'From: a@out.example\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n'
        b"Content-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--x--\r\n"
    )
    utf16 = base64.encodebytes(EICAR.decode().encode("utf-16")).replace(b"\n", b"\r\n")
    return {
        "bare": b"Subject: bare\r\n\r\n" + EICAR + b"\r\n",
        "bare without a header": EICAR + b"\r\n",
        "base64": attached(EICAR, "eicar.com"),
        "zip": attached(zipped(EICAR), "a.zip"),
        "nested zip": attached(nested, "a.zip"),
        "gzip": attached(gzip.compress(EICAR), "eicar.com.gz"),
        "bzip2": attached(bz2.compress(EICAR), "eicar.com.bz2"),
        "tar.gz": attached(tarred(EICAR), "a.tar.gz"),
        "uuencoded": b"Subject: uu\r\n\r\nHello.\r\n" + uuencoded,
        "in a mail in the mail": encapsulated,
        "in UTF-16": b"Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n" + utf16,
    }


CLEAN = attached(b"nothing bad", "a.bin")


def send(node: Node, content: bytes) -> tuple[int, str]:
    with smtplib.SMTP(*node.smtp, timeout=30) as client:
        client.ehlo("out.example")
        client.mail("a@out.example")
        client.rcpt(YOU)
        client.putcmd("data")
        assert client.getreply()[0] == 354
        assert client.sock is not None
        client.sock.sendall(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        code, text = client.getreply()
        return code, text.decode()


@pytest.fixture(scope="module")
def scanner() -> Iterator[str]:
    with clamd({"Eicar": EICAR}, markers={"EicarAnywhere": EICAR}) as peer:
        yield peer.tcp


@pytest.mark.parametrize("action", ["quarantine", "strip", "discard"])
def test_eicar_is_never_delivered(tmp_path: Path, scanner: str, action: str) -> None:
    taken = Taken()
    with (
        recording_sink(taken) as sink,
        serving(tmp_path, inventory(sink.port, scanner, f'on_blocked = "{action}"')) as node,
    ):
        for name, content in wrapped().items():
            assert send(node, content)[0] == 250, name
        assert send(node, CLEAN)[0] == 250
        eventually(lambda: any(b"nothing bad" in base64_of(each) for each in taken.contents), "the clean mail", 60)
        node.wait_empty()
        items = node.get("mails")["items"]
    assert isinstance(items, list)
    ended = {str(item["status"]) for item in items}
    assert ended <= {"relayed", "quarantined", "discarded"}
    for content in taken.contents:
        assert EICAR not in content
        assert EICAR not in base64_of(content)
    if action != "strip":
        assert len(taken.contents) == 1


def test_eicar_is_rejected_before_acceptance(tmp_path: Path, scanner: str) -> None:
    taken = Taken()
    scan = 'when = "before-accept", on_blocked = "reject"'
    with recording_sink(taken) as sink, serving(tmp_path, inventory(sink.port, scanner, scan)) as node:
        for name, content in wrapped().items():
            code, text = send(node, content)
            assert code == 550, name
            assert "Eicar" in text
        assert send(node, CLEAN)[0] == 250
        eventually(lambda: len(taken.contents) == 1, "the clean mail", 60)
        node.wait_empty()
        items = node.get("mails")["items"]
    assert isinstance(items, list)
    assert sorted(str(item["status"]) for item in items) == ["rejected"] * len(wrapped()) + ["relayed"]


def base64_of(content: bytes) -> bytes:
    """All that looks like base64 in it, decoded."""
    found = b""
    for block in content.split(b"\r\n\r\n"):
        try:
            found += base64.b64decode(block.split(b"\r\n--")[0], validate=False)
        except (ValueError, binascii.Error):
            continue
    return found
