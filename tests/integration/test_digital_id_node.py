"""The digital ID of a real node: renewed and replaced while sessions are open, shown to next hops, told by nobody."""

import smtplib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from posthouse.core.certificate import facts_of
from posthouse.core.digital_id import DigitalId, key_pem
from posthouse.digital_id.store import DigitalIds, KeyType
from support.backlog_drill import send
from support.certificates import DAY, issuer, pem
from support.command_line import CommandLine, command_line
from support.processes import Node, serving
from support.server_drill import events
from support.tls_servers import NAME, ServerKind, TlsServer, tls_server
from support.waiting import eventually

HOST = "mx1.example"
CONFIG = f"""
hostname = "{HOST}"
[[listeners]]
listen = "127.0.0.1:0"
tls = "starttls-optional"
[[listeners]]
listen = "127.0.0.1:0"
tls = "implicit"
[console]
tls = true
"""


def profile(name: str, server: TlsServer, more: str) -> str:
    return f"""
[[server_profiles]]
name = "{name}"
type = "smtp"
servers = ["127.0.0.1:{server.port}"]
tls = "starttls-required"
tls_name = "{NAME}"
{more}
[[rules]]
name = "to {name}"
match = {{ recipients = ["*@{name}.example"] }}
relay = {{ profile = "{name}" }}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return command_line(tmp_path, monkeypatch, capsys)


@dataclass
class Files:
    """Pairs as a CA gives them, and what of their keys may be found nowhere."""

    folder: Path
    ca: Any = field(default_factory=lambda: issuer("Test CA", since=time.time() - DAY, until=time.time() + 99 * DAY))
    canaries: list[bytes] = field(default_factory=list)

    def ca_file(self) -> str:
        path = self.folder / "test-ca.pem"
        path.write_bytes(pem(self.ca.certificate))
        return str(path)

    def issue(self, name: str) -> tuple[DigitalId, list[str]]:
        """For HOST, of the common name `name`; and the arguments of `digital-id import`."""
        made = self.ca.leaf(names=(name, HOST), since=time.time() - DAY, until=time.time() + 90 * DAY)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(pem(made.certificate))
        key.write_bytes(key_pem(made.key))
        self.keep(key_pem(made.key))
        return made, ["digital-id", "import", str(certificate), "--key", str(key), "--json"]

    def keep(self, octets: bytes) -> None:
        self.canaries += octets.splitlines()[1:-1]


def shown_by(connection: ssl.SSLSocket) -> str:
    certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return facts_of(x509.load_der_x509_certificate(certificate)).sha256


def unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def session(node: Node) -> Iterator[tuple[smtplib.SMTP, str]]:
    """A session under STARTTLS, and what the listener has shown."""
    with smtplib.SMTP("127.0.0.1", node.port, timeout=30) as client:
        client.starttls(context=unverified())
        yield client, shown_by(cast(ssl.SSLSocket, client.sock))


def shown_by_implicit(host: str, port: int) -> str:
    connected = socket.create_connection((host, port), 30)
    with unverified().wrap_socket(connected, server_hostname=HOST) as connection:
        return shown_by(connection)


def everywhere(node: Node) -> set[str]:
    """What both listeners and the console show, each often enough to meet every worker."""
    found: set[str] = set()
    implicit = int(cast(Sequence[str], node.facts()["smtp"])[1].rpartition(":")[2])
    console = urlsplit(str(node.facts()["console"]))
    assert console.scheme == "https"
    for _ in range(6):
        with session(node) as (_, shown):
            found.add(shown)
        found.add(shown_by_implicit("127.0.0.1", implicit))
    found.add(shown_by_implicit(str(console.hostname), console.port or 0))
    return found


def found_nowhere(node: Node, canaries: list[bytes], said: str) -> None:
    """Neither in what was said, nor in the log, nor in any file but those of the digital ID."""
    places = {"said": said.encode(), "the log": node.log.read_bytes()}
    for path in node.data_dir.rglob("*"):
        if path.is_file() and path.parent.name != "digital-id":
            places[str(path)] = path.read_bytes()
    assert canaries
    assert not [where for where, octets in places.items() if any(canary in octets for canary in canaries)]


@pytest.mark.timeout(180)
def test_a_new_digital_id_is_in_force_everywhere_at_once_and_open_sessions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    files = Files(tmp_path)
    with (
        tls_server(ServerKind.WANTS_CERTIFICATE, client_ca=files.ca_file()) as next_hop,
        serving(
            tmp_path,
            profile(
                "good", next_hop, f'tls_ca = "{next_hop.ca}"\nclient_certificate = true\npool = {{ enabled = true }}'
            ),
            config=CONFIG,
            workers=2,
        ) as node,
    ):
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        said = ""

        def keep_current() -> None:
            files.keep(b"-----BEGIN PRIVATE".join(current(node).split(b"-----BEGIN PRIVATE")[1:]))

        def run(*arguments: str) -> Any:
            nonlocal said
            ran = cli(*arguments)
            said += ran.out + ran.err
            assert ran.code == 0, ran
            return ran.json

        # Made at the start, by the first that needed it.
        state = run("digital-id", "show", "--json")
        assert state["used_by"] == {
            "listeners": ["127.0.0.1:0", "127.0.0.1:0"],
            "server_profiles": ["good"],
            "console": True,
        }
        first = state["certificate"]["sha256"]
        keep_current()
        assert everywhere(node) == {first}
        with session(node) as (open_session, shown):
            assert shown == first
            made, arguments = files.issue("one.example")
            second = run(*arguments)["certificate"]["sha256"]
            assert second == facts_of(made.certificate).sha256
            assert everywhere(node) == {second}
            # The session from before is what it was, and its mail is relayed with the new certificate.
            assert shown_by(cast(ssl.SSLSocket, open_session.sock)) == first
            open_session.sendmail("me@x.example", ["you@good.example"], "Subject: 1\r\n\r\nhello\r\n")
        eventually(lambda: len(next_hop.mails) == 1, "the first mail")
        assert next_hop.sessions[-1].client_subject == "one.example"
        _, arguments = files.issue("two.example")
        run(*arguments)
        send(node.port, "you@good.example", 1)
        eventually(lambda: len(next_hop.mails) == 2, "the second mail")
        assert next_hop.sessions[-1].client_subject == "two.example"
        # Self-signed again, then renewed with a key of another kind and without.
        run("digital-id", "generate", "--replace", "--rsa", "--json")
        keep_current()
        renewed = run("digital-id", "renew", "--json")["certificate"]["sha256"]
        assert everywhere(node) == {renewed}
        run("digital-id", "request", "--new-key", "--json")
        rows = cast(list[dict[str, Any]], node.get("audit")["items"])
        what = [row["what"] for row in rows if str(row["what"]).startswith("digital ID")]
        assert what == [
            "digital ID requested",
            "digital ID renewed",
            "digital ID generated",
            "digital ID imported",
            "digital ID imported",
        ]
        assert rows[1]["detail"]["after"]["sha256"] == renewed
        assert {event["file"] for event in events(node, "digital ID in force")} > {
            str(DigitalIds(str(node.data_dir)).path())
        }
        said += str(rows) + str(node.get("digital-id")) + str(node.get("config")) + cli("doctor", "--json").out
        found_nowhere(node, files.canaries, said)
        assert node.stop() == 0
        found_nowhere(node, files.canaries, said)


def current(node: Node) -> bytes:
    path = DigitalIds(str(node.data_dir)).path()
    assert path is not None
    return Path(path).read_bytes()


@pytest.mark.timeout(180)
def test_an_own_ca_is_trusted_by_test_and_relay_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    with tls_server() as server, serving(tmp_path, profile("good", server, "")) as node:
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        ran = cli("profile", "test", "good")
        assert (ran.code, "unknown CA" in ran.out, "digital-id ca" in ran.out) == (1, True, True), ran
        added = cli("digital-id", "ca", "add", server.ca, "--json")
        assert added.code == 0, added
        tested = cli("profile", "test", "good")
        assert tested.code == 0, tested
        send(node.port, "you@good.example", 1)
        eventually(lambda: server.mails, "the mail")
        assert cli("digital-id", "ca", "remove", added.json["items"][0]["id"]).code == 0
        assert cli("profile", "test", "good").code == 1


@pytest.mark.timeout(120)
def test_a_broken_digital_id_stops_no_mail_and_is_mended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: CommandLine
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    ids = DigitalIds(str(tmp_path / "data"))
    ids.ensure(HOST, time.time())
    Path(str(ids.path())).unlink()
    with tls_server() as next_hop, serving(tmp_path, profile("good", next_hop, ""), config=CONFIG) as node:
        monkeypatch.setenv("POSTHOUSE_DATA_DIR", str(node.data_dir))
        with session(node) as (client, temporary):
            client.sendmail("me@x.example", ["you@good.example"], "Subject: 1\r\n\r\nhello\r\n")
        told = list(events(node, "digital ID cannot be used, a temporary self-signed one is shown"))
        assert {line["process"] for line in told} == {"worker-0", "console"}
        assert len(told) == 2
        assert all("posthouse digital-id import" in str(line["remedy"]) for line in told)
        ran = cli("digital-id", "show")
        assert (ran.code, "cannot be read" in ran.out) == (0, True), ran
        made = cli("digital-id", "generate", "--json")
        assert made.code == 0, made
        assert everywhere(node) == {made.json["certificate"]["sha256"]}
        assert temporary != made.json["certificate"]["sha256"]


@pytest.mark.timeout(120)
def test_the_log_warns_at_the_start_of_a_certificate_that_ends(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    ids = DigitalIds(str(tmp_path / "data"))
    ids.generate([HOST], 13, KeyType.ECDSA, time.time(), replace=False)
    with serving(tmp_path, "") as node:
        (line,) = eventually(lambda: list(events(node, "certificate expires")), "the warning")
        assert line["what"] == "the digital ID expires in 12 days"
        assert "posthouse digital-id renew" in str(line["remedy"])
        assert line["process"] == "console"
