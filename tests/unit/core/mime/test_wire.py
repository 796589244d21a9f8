"""Plain octets and wire form: dots taken out and put back, spans mapped."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.core.examination import Place
from posthouse.core.mime.wire import Assembly, Plain, unstuffed
from support.contents import stuffed
from support.surgery import materialised

LINES = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x", b"x.", b"--b", b" ."]), max_size=12).map(
    lambda lines: b"".join(line + b"\r\n" for line in lines)
)


@given(LINES)
@example(b"")
@example(b".\r\n")
def test_unstuffing_takes_out_what_stuffing_put_in(content: bytes) -> None:
    for wire in (stuffed(content) + b".\r\n", stuffed(content)):
        plain = unstuffed(wire)
        assert plain.octets == content
        assert len(plain.octets) + len(plain.dots) == len(stuffed(content))


def test_nothing_is_copied_where_nothing_is_stuffed() -> None:
    content = b"Subject: x\r\n\r\ntext.\r\n" * 10
    assert unstuffed(content).octets is content


@given(LINES, st.data())
def test_spans_and_literals_in_any_order_give_the_octets_that_they_name(content: bytes, data: st.DataObject) -> None:
    wire = stuffed(content)
    plain = unstuffed(wire)
    # No cut between CR and LF, nor a literal with half of them.
    cuts = [at for at in range(len(content) + 1) if content[at - 1 : at] != b"\r"]
    span = st.tuples(st.sampled_from(cuts), st.sampled_from(cuts)).map(sorted)
    literal = st.sampled_from([b".", b"x", b"\r\n", b"..\r\n.", b""])
    pieces = data.draw(st.lists(span | literal, max_size=8))
    out = Assembly(plain)
    expected = b""
    for piece in pieces:
        if isinstance(piece, bytes):
            out.literal(piece)
            expected += piece
        else:
            out.span(*piece)
            expected += content[piece[0] : piece[1]]
    if expected and not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    assert materialised(wire, b"", out.pieces()) == stuffed(expected)


@given(LINES, st.data())
def test_a_content_put_together_from_its_own_spans_is_one_piece(content: bytes, data: st.DataObject) -> None:
    wire = stuffed(content)
    starts = [at for at in range(len(content) + 1) if at == 0 or content[at - 2 : at] == b"\r\n"]
    cuts = sorted({0, len(content), *data.draw(st.sets(st.sampled_from(starts)))})
    out = Assembly(unstuffed(wire))
    for start, end in pairwise(cuts):
        out.span(start, end)
    pieces = out.pieces()
    assert materialised(wire, b"", pieces) == wire
    assert len(pieces) <= 1


def test_no_line_of_made_octets_is_touched_and_a_line_end_follows() -> None:
    out = Assembly(Plain(b""))
    out.made(Place(True, 5, 9))
    out.line_start()
    out.literal(b".x")
    assert out.pieces() == (Place(True, 5, 9), b"\r\n..x\r\n")
