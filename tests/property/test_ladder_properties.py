"""Whatever a server says, in whatever pieces: a ladder ends, tells one fault at most, and shows no other service."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.limits import Limits
from posthouse.core.profile import Tls
from posthouse.core.profile_test import Inquiry, StageName
from posthouse.core.smtp_ladder import LadderSession
from posthouse.core.smtp_opening import Login, Phase, Security
from posthouse.core.way import Certificate

SECRET = "hunter2-canary"
ORDER = list(StageName)
replies = st.one_of(
    st.sampled_from(
        [
            b"220 next ESMTP\r\n",
            b"250-next\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n",
            b"250-next\r\n250 STARTTLS\r\n",
            b"250-next\r\n250-AUTH LOGIN\r\n250 SIZE\r\n",
            b"250 ok\r\n",
            b"334 VXNlcm5hbWU6\r\n",
            b"235 2.7.0 in\r\n",
            b"221 bye\r\n",
            b"354 go\r\n",
            b"421 4.3.2 later\r\n",
            b"450 4.2.0 later\r\n",
            b"535 5.7.8 " + SECRET.encode() + b"\r\n",
            b"550 5.1.1 no\r\n",
            b"220 a\r\n250 b\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"250-",
        ]
    ),
    st.binary(max_size=40),
)
events = st.lists(
    st.one_of(replies, st.sampled_from(["secured", "tls failed", "lost", "timed out", "over"])), max_size=14
)
securities = st.builds(
    Security,
    tls=st.sampled_from(list(Tls)),
    implicit=st.booleans(),
    clear_allowed=st.booleans(),
    login=st.sampled_from([None, Login("relay", SECRET), Login("relay", SECRET, True)]),
)


def climb(session: LadderSession, happened: list[bytes | str]) -> bytes:
    """All that the session wrote."""
    written = session.output()
    for event in happened:
        match event:
            case bytes():
                session.receive(event)
            case "secured" if session.phase is Phase.HANDSHAKE:
                session.secured("TLSv1.3 TLS_AES_256_GCM_SHA384", Certificate.VERIFIED)
            case "tls failed" if session.phase in (Phase.HANDSHAKE, Phase.GREETING, Phase.EHLO):
                session.tls_failed("self-signed certificate")
            case "lost":
                session.lost("connection lost")
            case "timed out":
                session.timed_out()
            case "over":
                session.out_of_time(10.0)
            case _:
                continue
        written += session.output()
    session.lost("connection lost")
    return written + session.output()


@given(securities, events, st.sampled_from([None, Inquiry("", "b@ours.example")]))
def test_a_ladder_ends_with_one_fault_at_most_and_never_sends_mail(
    security: Security, happened: list[bytes | str], inquiry: Inquiry | None
) -> None:
    ticks = iter(range(10_000))
    session = LadderSession("mx1.example", Limits(), security, inquiry, lambda: float(next(ticks)))
    written = climb(session, happened)
    assert session.phase is Phase.UNFIT
    stages = session.stages
    assert stages
    assert all(stage.ok for stage in stages[:-1])
    assert stages[-1].ok == (stages[-1].name is StageName.QUIT)
    assert bool(stages[-1].fault) != stages[-1].ok
    assert all(stage.seconds > 0 for stage in stages)
    assert b"DATA" not in written
    assert (b"MAIL FROM" in written) <= (inquiry is not None)
    shown = str([(stage.detail, stage.transcript) for stage in stages])
    assert b"535 5.7.8 " + SECRET.encode() + b"\r\n" in happened or SECRET not in shown


CANARY = b"canary"
_anything = st.binary(max_size=60)
strangers = st.one_of(
    st.builds(lambda rest: CANARY + rest + b"\r\n", _anything),
    st.builds(lambda rest: b"HTTP/1.1 400 " + CANARY + rest + b"\r\n", _anything),
    st.builds(lambda kind, rest: kind + CANARY + rest, st.sampled_from([b"\x15\x03", b"\x16\x03"]), _anything),
    st.builds(
        lambda code, end, rest: b"%d%s%s%s\r\n" % (code, end, CANARY, rest),
        st.one_of(st.sampled_from([200, 211, 221, 250, 299, 334, 354, 399]), st.integers(0, 399)).filter(
            lambda code: code != 220
        ),
        st.sampled_from([b" ", b"-", b""]),
        st.one_of(st.just(b""), _anything),
    ),
    st.builds(lambda code: b"%d-%s\r\n%d end\r\n" % (code, CANARY, code), st.integers(200, 399)).filter(
        lambda octets: not octets.startswith(b"220")
    ),
    st.builds(
        lambda code, rest: b"220-%s\r\n%d %s\r\n" % (CANARY, code, rest), st.integers(100, 999), _anything
    ).filter(lambda octets: b"\n220 " not in octets),
    st.builds(lambda rest: b"220-first\r\n" + CANARY + rest + b"\r\n", _anything),
    st.builds(lambda rest: b"220 " + CANARY * 2000 + rest, _anything),
    st.builds(lambda rest: CANARY + rest, _anything),
)
"""What greets as no SMTP server does, ended by CRLF or not."""


@given(strangers, st.lists(st.integers(1, 70), max_size=4), st.sampled_from(["lost", "timed out", "over"]))
def test_nothing_of_a_server_that_is_no_smtp_server_is_shown(octets: bytes, cuts: list[int], ended: str) -> None:
    """In whatever pieces it comes, and however it ends."""
    session = LadderSession("mx1.example", Limits(), Security(), None, lambda: 0.0)
    for cut in cuts:
        session.receive(octets[:cut])
        octets = octets[cut:]
    climb(session, [octets, ended])
    (stage,) = session.stages
    assert (stage.name, stage.ok) == (StageName.GREETING, False)
    assert stage.fault
    assert "canary" not in str(stage)
