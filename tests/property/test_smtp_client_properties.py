"""Whatever the next hop says, and however the network cuts it up, the client's answer is the same and complete."""

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.core.limits import Limits
from posthouse.core.outcome import Result, ServerAnswer
from posthouse.core.smtp_client import ClientSession, Phase
from support.servers import transaction

POSITIVE = ["250 ok", "250-a\r\n250 2.1.5 b", "251 2.1.5 will forward"]
NEGATIVE = [
    "421 4.3.2 bye",
    "450 4.2.0 grey",
    "451 x",
    "452 4.5.3 many",
    "552 many",
    "503 x",
    "530 x",
    "550-5.1.1 a\r\n550 5.1.1 b",
]
replies = st.sampled_from(POSITIVE * 3 + NEGATIVE)
scripts = st.fixed_dictionaries(
    {
        "greeting": st.sampled_from(["220 hi"] * 9 + ["554 no", "220-a\r\n220 b"]),
        "EHLO": st.sampled_from(
            [
                "250-x\r\n250-PIPELINING\r\n250 DSN",
                "250 x",
                "250-x\r\n250-8BITMIME\r\n250 PIPELINING",
                "502 no",
                "421 no",
            ]
        ),
        "HELO": st.sampled_from(["250 x", "550 no"]),
        "MAIL": st.lists(replies, min_size=1, max_size=4),
        "RCPT": st.lists(replies, min_size=1, max_size=8),
        "DATA": st.lists(st.sampled_from(["354 go"] * 5 + NEGATIVE + ["250 what"]), min_size=1, max_size=4),
        "dot": st.lists(st.sampled_from([*POSITIVE, *NEGATIVE, "354 what", "what?"]), min_size=1, max_size=4),
        "RSET": st.sampled_from(["250 ok", "500 no"]),
        "count": st.integers(1, 6),
        "lost_after": st.integers(0, 40),
    }
)


def play(script: dict[str, object], cut: Callable[[bytes], list[bytes]]) -> tuple[ServerAnswer, bytes, bool]:
    """A next hop that answers each command from `script`, its octets cut up by `cut`."""
    session = ClientSession("mx1.example", Limits())
    count = script["count"]
    lost_after = script["lost_after"]
    assert isinstance(count, int)
    assert isinstance(lost_after, int)
    session.begin(transaction(*(f"r{n}@x.example" for n in range(count))))
    used: dict[str, int] = {}
    written = b""

    def reply(verb: str) -> bytes:
        told = script[verb]
        number = used[verb] = used.get(verb, -1) + 1
        text = told[number % len(told)] if isinstance(told, list) else told
        return f"{text}\r\n".encode()

    to_say = reply("greeting")
    for _ in range(lost_after):
        for piece in cut(to_say):
            session.receive(piece)
        to_say = b""
        commands = session.output()
        written += commands
        for line in commands.splitlines():
            verb = "dot" if line == b"." else line.split(b" ")[0].decode()
            to_say += reply(verb)
        if session.phase is Phase.CONTENT:
            session.dot_leaves(10)
            to_say += reply("dot")
        if not to_say:
            break
    else:
        session.lost("connection lost")
    idle = session.idle
    session.lost("connection lost")
    answer = session.take_answer()
    assert answer is not None
    return answer, written, idle


def whole(octets: bytes) -> list[bytes]:
    return [octets]


@settings(max_examples=300, deadline=None)
@given(scripts, st.data())
def test_any_chunking_of_the_replies_gives_the_same_answer(script: dict[str, object], data: st.DataObject) -> None:
    def chunks(octets: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(octets)), max_size=8)))
        edges = [0, *cuts, len(octets)]
        return [octets[start:end] for start, end in pairwise(edges)]

    expected = play(script, whole)
    assert play(script, lambda octets: [octets[i : i + 1] for i in range(len(octets))]) == expected
    assert play(script, chunks) == expected


@settings(max_examples=500, deadline=None)
@given(scripts)
def test_every_recipient_gets_one_final_result(script: dict[str, object]) -> None:
    answer, written, _ = play(script, whole)
    assert len(answer.recipients) == script["count"]
    results = [recipient.result for recipient in answer.recipients]
    assert Result.AGAIN not in results
    assert bool(answer.fault) is (Result.SERVER_FAULT in results)
    for recipient in answer.recipients:
        assert recipient.reply
        assert recipient.status
    if Result.RELAYED in results or Result.UNCERTAIN in results:
        assert b"DATA\r\n" in written


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(0, 20))
def test_garbage_never_raises_and_always_ends_in_an_answer(pieces: list[bytes], finish_at: int) -> None:
    session = ClientSession("mx1.example", Limits(reply_octets=4096))
    session.begin(transaction("a@x", "b@x"))
    for number, piece in enumerate(pieces):
        session.receive(piece)
        session.output()
        if session.phase is Phase.CONTENT and number >= finish_at:
            session.dot_leaves(1)
    session.lost("connection lost")
    answer = session.take_answer()
    assert answer is not None
    assert len(answer.recipients) == 2
