"""Trace fields: Received, counting them, reading a field, spoofed verdicts."""

from email.parser import BytesParser
from email.policy import SMTP
from email.utils import parsedate_to_datetime

import pytest

from posthouse.core.envelope import SessionFacts
from posthouse.core.trace import count_received, header_value, received_field, spoofed_fields

FACTS = SessionFacts("192.0.2.1", 4000, "client.example", "ESMTPS", "0.0.0.0:25", "TLSv1.3 TLS_AES_256_GCM_SHA384")


def field(facts: SessionFacts = FACTS, recipients: tuple[str, ...] = ("you@ours.example",)) -> str:
    return received_field(facts, "mx.example", "01ID", recipients, 1_795_563_000.9).decode()


def test_received_field_names_client_server_protocol_tls_recipient_and_time() -> None:
    lines = field().split("\r\n")
    assert lines == [
        "Received: from client.example ([192.0.2.1])",
        "\tby mx.example (posthouse) with ESMTPS id 01ID",
        "\t(TLSv1.3 TLS_AES_256_GCM_SHA384)",
        "\tfor <you@ours.example>;",
        "\tTue, 24 Nov 2026 23:30:00 +0000",
        "",
    ]
    assert parsedate_to_datetime(field().rpartition(";")[2].strip()).timestamp() == 1_795_563_000


def test_received_field_is_one_field_for_a_foreign_parser() -> None:
    parsed = BytesParser(policy=SMTP).parsebytes(field().encode() + b"\r\n")
    assert parsed.keys() == ["Received"]
    assert not parsed.defects


def test_several_recipients_are_not_told_to_each_other() -> None:
    assert "for <" not in field(recipients=("a@ours.example", "b@ours.example"))


def test_ipv6_client_is_given_as_a_literal() -> None:
    facts = SessionFacts("2001:db8::1", 1, "c.example", "SMTP", "l")
    assert "from c.example ([IPv6:2001:db8::1])" in field(facts)
    assert "TLS" not in field(facts)


@pytest.mark.parametrize("helo", ["a(b)c", 'a"b', "a;b", "a\\b", "<x>", "x" * 255, "-", "é"])
def test_odd_helo_cannot_break_the_field(helo: str) -> None:
    text = field(SessionFacts("192.0.2.1", 1, helo, "ESMTP", "l"))
    assert all(len(line) <= 998 for line in text.split("\r\n"))
    assert text.count("(") == text.count(")")
    assert text.count(";") == 1
    assert text.isascii()


def test_received_fields_are_counted_and_nothing_else() -> None:
    header = (
        b"Received: a\r\n\tby b\r\nRECEIVED: c\r\nReceived-SPF: pass\r\nX-Received: d\r\nReceived : e\r\n"
        b"Subject: Received: f\r\n Received: g\r\n"
    )
    assert count_received(header) == 3
    assert count_received(b"Received: a\r\n" * 101) == 101
    assert count_received(b"") == 0


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"Subject: hello\r\n", "hello"),
        (b"A: b\r\nSUBJECT:  hello\r\n  world \r\nC: d\r\n", "hello  world"),
        (b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= =?utf-8?b?IQ==?=\r\n", "grüße!"),
        (b"Subject: gr\xc3\xbc\xc3\x9fe\r\n", "grüße"),
        (b"Subject: =?no-such-charset?q?x?=\r\n", "=?no-such-charset?q?x?="),
        (b"Subject: =?utf-8?b?!!!?= x\r\n", None),
        (b"Subject: a\x1b[31mb\x00c\r\n", "a [31mb c"),
        (b"Subject: =?utf-8?q?a=0D=0Ab?=\r\n", "a  b"),
        (b"Subject: \xff\xfe\r\n", "\ufffd\ufffd"),
        (b"X-Subject: no\r\n", ""),
        (b"Subject:\r\n", ""),
        (b"Subject", ""),
        (b"Subject: " + b"=?" * 5000 + b"\r\n", None),
    ],
)
def test_field_is_read_for_people_and_never_raises(header: bytes, value: str | None) -> None:
    got = header_value(header, "Subject")
    assert got.isprintable()
    assert len(got) <= 2000
    if value is not None:
        assert got == value


def cut(wire: bytes, ranges: tuple[tuple[int, int], ...]) -> bytes:
    for start, end in reversed(ranges):
        wire = wire[:start] + wire[end:]
    return wire


@pytest.mark.parametrize(
    "spoofed",
    [
        b"X-Metadefender-Verdict: clean\r\n",
        b"x-md-score: 0\r\n\tmore\r\n more\r\n",
        b"X-MD-Folded:\r\n clean\r\n",
        b"Authentication-Results: mx.example; spf=pass\r\n",
        b"AUTHENTICATION-RESULTS:MX.Example.;\r\n dkim=pass\r\n",
        b"Authentication-Results: (a (nested\\)) b) mx.example 1; none\r\n",
        b'Authentication-Results: "mx.example"; none\r\n',
        b"Authentication-Results :\r\n mx.example; none\r\n",
        b"Authentication-Results: mx.example\r\n",
    ],
)
# Three and more stuffed lines: a range off by one or two would cut the CRLF before instead of the one behind.
@pytest.mark.parametrize("before", [b"", b"A: b\r\n", b".A: b\r\n" * 3, b"A: b\r\n" + b".C: d\r\n" * 4])
def test_spoofed_field_is_cut_whole_out_of_the_wire_form(spoofed: bytes, before: bytes) -> None:
    header = before + spoofed + b"To: x\r\n" + spoofed
    wire = (b"\r\n" + header).replace(b"\r\n.", b"\r\n..")[2:] + b"\r\n..body\r\n.\r\n"
    left = cut(wire, spoofed_fields(header, "mx.example"))
    assert left == (b"\r\n" + before).replace(b"\r\n.", b"\r\n..")[2:] + b"To: x\r\n\r\n..body\r\n.\r\n"


@pytest.mark.parametrize(
    "honest",
    [
        b"Authentication-Results: other.example; spf=pass\r\n",
        b"Authentication-Results: mx.example.evil; none\r\n",
        b"Authentication-Results-Original: mx.example; none\r\n",
        b"Subject: x\r\n X-MD-Score: in a continuation\r\n",
        b"X-MDaemon: y\r\n",
        b"X-Metadefender: y\r\n",
    ],
)
def test_fields_of_others_stay(honest: bytes) -> None:
    assert spoofed_fields(b"A: b\r\n" + honest, "mx.example") == ()
