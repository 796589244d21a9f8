"""However input is cut, replies and content are the same; DATA and BDAT carry the same content."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.smtp_data import BdatReader, DataReader, Newlines
from support.receiving import assert_wire_form, converse, new_session, unstuffed

ODD = st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"\0", b"x", b": ", b"\r\n.\r\n", b"\r\n.", b"\r\n\r\n", b"\xff"])
BODY = st.lists(ODD, max_size=20).map(b"".join)
LINES = st.lists(
    st.lists(st.sampled_from([b".", b"x", b"\0", b": "]), max_size=4).map(b"".join), max_size=8
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))  # fmt: skip
COMMAND = st.sampled_from(
    [b"EHLO t.example\r\n", b"HELO t\r\n", b"MAIL FROM:<a@b.example>\r\n", b"MAIL FROM:<>\r\n", b"MAIL FROM: x\r\n",
     b"RCPT TO:<a@b.example>\r\n", b"RCPT TO:<a%b@c.example>\r\n", b"RSET\r\n", b"NOOP\r\n", b"FOO\r\n",
     b"VRFY x\r\n", b"BAD\rCR\r\n", b"BAD\nLF\r\n", b"NOOP " + b"x" * 3000 + b"\r\n", b"BDAT 0 LAST\r\n"]
)  # fmt: skip
# RSET first: octets behind a refused DATA end the session only if they came with it, which depends on the cut.
MAIL = BODY.map(
    lambda body: b"RSET\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n" + body + b"\r\n.\r\n"
)
CHUNKS = st.tuples(BODY, st.booleans()).map(
    lambda part: b"BDAT %d%s\r\n%s" % (len(part[0]), b" LAST" if part[1] else b"", part[0])
)
DIALOGUE = st.lists(COMMAND | MAIL | CHUNKS, max_size=12).map(lambda parts: b"EHLO t.example\r\n" + b"".join(parts))
MODE = st.sampled_from(list(Newlines))


@st.composite
def cut_up(draw: st.DrawFn, octets: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Octets, and the same octets in pieces."""
    whole = draw(octets)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=10)))
    return whole, [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@given(cut_up(DIALOGUE), MODE)
def test_any_cut_of_a_dialogue_gives_the_same_replies_and_mails(
    dialogue: tuple[bytes, list[bytes]], newlines: Newlines
) -> None:
    whole, pieces = dialogue
    once = converse([whole], new_session(newlines))
    assert converse(pieces, new_session(newlines)) == once
    for mail in once.mails:
        assert_wire_form(mail.wire)
        assert mail.size == len(unstuffed(mail.wire))


@given(LINES, MODE)
def test_bdat_and_data_of_the_same_content_yield_the_same(content: bytes, newlines: Newlines) -> None:
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    data = DataReader(1 << 20, 1 << 20, newlines)
    bdat = BdatReader(1 << 20, 1 << 20, newlines)
    bdat.begin(len(content), True)
    wire, _ = data.feed(stuffed, 0)
    assert wire == stuffed == bdat.feed(content, 0)[0]
    assert unstuffed(wire) == content
    assert (
        (data.size, data.header, data.fault)
        == (bdat.size, bdat.header, bdat.fault)
        == (len(content), data.header, None)
    )


@given(BODY)
def test_normalised_content_has_the_lines_of_the_original(body: bytes) -> None:
    reader = BdatReader(1 << 20, 1 << 20, Newlines.NORMALISE)
    reader.begin(len(body), True)
    wire, _ = reader.feed(body, 0)
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    assert unstuffed(wire) == b"".join(line + b"\r\n" for line in lines)
    assert reader.normalised == body.count(b"\r") + body.count(b"\n") - 2 * body.count(b"\r\n")
