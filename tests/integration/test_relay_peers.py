"""Servers that nobody here wrote take mail from our SMTP client."""

from pathlib import Path

import pytest

from posthouse.clients.smtp import SmtpRelay
from posthouse.core.limits import Limits
from posthouse.core.mail import Content, FileOctets, InlineOctets
from posthouse.core.outcome import Result, ServerAnswer
from posthouse.core.wire_form import plain_form, wire_form
from support.peers import smtp_sink
from support.recording import Recorder, recording_sink
from support.servers import CONTENT, LOOPS, PREFIX, profile, run, transaction


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def contents(folder: Path) -> list[Content]:
    """Small, with dots and 8-bit octets, and one in a file."""
    large = wire_form(b"Subject: large\r\n\r\n" + (b"." * 70 + b"\r\n") * 20_000)
    path = folder / "content"
    path.write_bytes(large)
    return [
        Content(InlineOctets(CONTENT)),
        Content(InlineOctets(wire_form(b".\r\n..\r\n\r\n\xe4\xf6\r\n"))),
        Content(FileOctets(str(path), len(large))),
    ]


def relay_all(loop: str, port: int, mails: list[Content]) -> list[ServerAnswer]:
    async def go() -> list[ServerAnswer]:
        relay = SmtpRelay("mx1.example", Limits())
        answers = [
            await relay.send(
                profile(f"smtp://127.0.0.1:{port}"),
                f"smtp://127.0.0.1:{port}",
                transaction("a@x.example", "b@x.example", content=c),
                lambda: True,
            )
            for c in mails
        ]
        relay.close()
        return answers

    return run(loop, go())


def test_aiosmtpd_takes_every_octet(loop: str, tmp_path: Path) -> None:
    mails = contents(tmp_path)
    with recording_sink(Recorder()) as recorder:
        answers = relay_all(loop, recorder.port, mails)
    assert [recipient.result for answer in answers for recipient in answer.recipients] == [Result.RELAYED] * 6
    large = (tmp_path / "content").read_bytes()
    wires = [mail.source.octets if isinstance(mail.source, InlineOctets) else large for mail in mails]
    assert [taken.content for taken in recorder.taken] == [PREFIX + plain_form(wire) for wire in wires]
    assert recorder.taken[0].recipients == ("a@x.example", "b@x.example")


@pytest.mark.parametrize("arguments", [(), ("-p",), ("-e",)])
def test_smtp_sink_takes_mail_with_and_without_pipelining_and_ehlo(
    loop: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with smtp_sink(arguments=arguments) as peer:
        answers = relay_all(loop, peer.port, contents(tmp_path))
    assert [recipient.result for answer in answers for recipient in answer.recipients] == [Result.RELAYED] * 6


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-f", "rcpt"), Result.PERMANENT),
        (("-r", "mail"), Result.TRANSIENT),
        (("-r", "rcpt"), Result.LATER),
        (("-f", "."), Result.PERMANENT),
        (("-r", "."), Result.TRANSIENT),
        (("-q", "mail"), Result.SERVER_FAULT),
        (("-q", "."), Result.UNCERTAIN),
    ],
)
def test_refusals_of_smtp_sink_are_read_as_what_they_are(
    loop: str, arguments: tuple[str, ...], expected: Result
) -> None:
    with smtp_sink(dump=False, arguments=arguments) as peer:
        (answer,) = relay_all(loop, peer.port, [Content(InlineOctets(CONTENT))])
    assert [recipient.result for recipient in answer.recipients] == [expected] * 2
