"""The counterparts: what the sender sends the sink records; rules make the sink misbehave."""

import asyncio
import json
from pathlib import Path

import pytest

from posthouse.lab.send import SendOptions, SendResult, send
from posthouse.lab.sink import RecordedMail, Sink, SinkOptions
from posthouse.lab.sink_rules import Rule, RuleBook, parse_rule


def exchange(sink_options: SinkOptions, **send_options: object) -> tuple[SendResult, Sink, list[RecordedMail]]:
    seen: list[RecordedMail] = []

    async def go() -> tuple[SendResult, Sink]:
        async with Sink(sink_options, seen.append) as sink:
            result = await send(SendOptions(port=sink.port, **send_options))  # type: ignore[arg-type]
            await sink.quiet()
            return result, sink

    return *asyncio.run(go()), seen


@pytest.mark.parametrize("without", [frozenset(), frozenset({"PIPELINING"})])
def test_sender_and_sink_agree_on_every_mail(without: frozenset[str]) -> None:
    result, sink, seen = exchange(SinkOptions(without=without), count=20, size=1000, sessions=3, per_session=4)
    assert result.accepted == 20
    assert len(sink.accepted) == 20
    assert list(sink.mails) == seen
    sent = {message_id for message_id, _ in result.ids}
    assert {mail.octets.split(b"Message-ID: ")[1].split(b"\r\n")[0].decode() for mail in seen} == sent
    assert len(sink.sessions) >= 5
    assert all(session.ended == "quit" for session in sink.sessions)


def test_ledger_holds_every_250_with_its_queue_id(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    rules = (parse_rule("dot:*:2=250 2.0.0 queued as Q7"), parse_rule("dot:*:1=451 4.3.0 no"))
    result, _, _ = exchange(SinkOptions(rules=rules), count=3, ledger=ledger, tag="t")
    assert result.accepted == 2
    assert result.refused == {"451 4.3.0 no": 1}
    assert ledger.read_text() == "<0.t@client.example>\tQ7\n<1.t@client.example>\tQ7\n"


def test_files_are_sent_octet_for_octet_and_pure_lf_as_crlf(tmp_path: Path) -> None:
    crlf = b"Message-ID: <a@b>\r\n\r\n.dot\r\n..\r\n"
    (tmp_path / "crlf.eml").write_bytes(crlf)
    (tmp_path / "lf.eml").write_bytes(b"Subject: x\n\n.\n")
    result, sink, _ = exchange(SinkOptions(), files=(tmp_path / "crlf.eml", tmp_path / "lf.eml"))
    assert [mail.octets for mail in sink.mails] == [crlf, b"Subject: x\r\n\r\n.\r\n"]
    assert [message_id for message_id, _ in result.ids] == ["<a@b>", "lf.eml"]


def test_sender_counts_what_breaks_and_reports_progress() -> None:
    progress: list[tuple[int, int]] = []

    async def go() -> SendResult:
        async with Sink(
            SinkOptions(rules=(parse_rule("MAIL:*:1=drop"), parse_rule("RCPT:*:1=550 5.1.1 no")))
        ) as sink:
            return await send(
                SendOptions(port=sink.port, count=4), lambda done, total: progress.append((done, total))
            )

    result = asyncio.run(go())
    assert (result.accepted, result.refused.total(), result.broken.total()) == (2, 1, 1)
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_sink_writes_mails_to_its_folder(tmp_path: Path) -> None:
    _, sink, _ = exchange(SinkOptions(out=tmp_path / "out"), count=1)
    assert (tmp_path / "out" / "000001.eml").read_bytes() == sink.mails[0].octets
    facts = json.loads((tmp_path / "out" / "000001.json").read_text())
    assert facts["from"] == "sender@client.example"
    assert facts["to"] == ["recipient@ours.example"]
    assert facts["sha256"] == sink.mails[0].sha256


def test_sink_refuses_what_is_too_long_without_keeping_it() -> None:
    result, sink, _ = exchange(SinkOptions(max_size=1000), count=1, size=5_000_000)
    assert result.refused == {"552 5.3.4 too long": 1}
    assert len(sink.mails[0].octets) < 200_000


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("mail=451 4.3.0 busy", Rule("MAIL", "451 4.3.0 busy")),
        ("RCPT:bob@*=550 no", Rule("RCPT", "550 no", "bob@*")),
        ("dot:*:2=drop", Rule("dot", "drop", "*", 2)),
        ("greeting=421", Rule("greeting", "421")),
    ],
)
def test_rule_is_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize("text", ["", "MAIL", "FOO=451 x", "MAIL=nonsense", "MAIL:*:x=drop", "MAIL=99 x"])
def test_bad_rule_is_told_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        parse_rule(text)


def test_rule_holds_as_often_as_it_says_and_only_where_it_matches() -> None:
    book = RuleBook([Rule("RCPT", "550 no", "a@*", 2)])
    said = [book.action("RCPT", (path,)) for path in ("a@x", "b@x", "a@y", "a@z")]
    assert said == ["550 no", None, "550 no", None]
    assert book.action("MAIL") is None


def test_forward_path_can_ask_for_a_refusal_by_itself() -> None:
    book = RuleBook([])
    assert book.action("RCPT", ("rcpt-550@x",)) == "550 5.0.0 as the forward-path asks"
    assert book.action("dot", ("b@x", "dot-drop@x")) == "drop"
    assert book.action("DATA", ("dot-drop@x",)) is None
