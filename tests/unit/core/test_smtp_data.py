"""Content readers: one wire form for DATA and BDAT, whatever the chunking."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.smtp_data import BdatReader, ContentReader, DataReader, Newlines
from posthouse.core.smtp_reply import reply
from support.receiving import assert_wire_form, unstuffed

BIG = 1 << 20


def read(reader: ContentReader, octets: bytes, step: int) -> bytes:
    assert isinstance(reader, DataReader | BdatReader)
    wire = b""
    for at in range(0, max(len(octets), 1), step):
        piece, _ = reader.feed(octets[at : at + step], 0)
        wire += piece
    return wire


def data(octets: bytes, newlines: Newlines = Newlines.REFUSE, step: int = 1 << 20) -> tuple[DataReader, bytes]:
    reader = DataReader(BIG, BIG, newlines)
    return reader, read(reader, octets, step)


def bdat(octets: bytes, newlines: Newlines = Newlines.REFUSE, step: int = 1 << 20) -> tuple[BdatReader, bytes]:
    reader = BdatReader(BIG, BIG, newlines)
    reader.begin(len(octets), True)
    return reader, read(reader, octets, step)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("sent", "wire", "header", "size"),
    [
        (b".\r\n", b".\r\n", b"", 0),
        (b"\r\n.\r\n", b"\r\n.\r\n", b"", 2),
        (b"A: b\r\n\r\nx\r\n.\r\n", b"A: b\r\n\r\nx\r\n.\r\n", b"A: b\r\n", 11),
        (b"A: b\r\n\r\n..x\r\n..\r\n.\r\n", b"A: b\r\n\r\n..x\r\n..\r\n.\r\n", b"A: b\r\n", 15),
        (b"..A: b\r\n\r\nx\r\n.\r\n", b"..A: b\r\n\r\nx\r\n.\r\n", b".A: b\r\n", 12),
        (b"A: b\r\n\r\n.x\r\n. \r\n.\r\n", b"A: b\r\n\r\nx\r\n \r\n.\r\n", b"A: b\r\n", 14),
        (b"\r\nno header\r\n.\r\n", b"\r\nno header\r\n.\r\n", b"", 13),
        (b"no end\r\n.\r\n", b"no end\r\n.\r\n", b"no end\r\n", 8),
        (b"A: b\r\n\r\n\0\xff\r\n.\r\n", b"A: b\r\n\r\n\0\xff\r\n.\r\n", b"A: b\r\n", 12),
    ],
)
def test_data_is_kept_in_canonical_wire_form(step: int, sent: bytes, wire: bytes, header: bytes, size: int) -> None:
    reader, got = data(sent, step=step)
    assert (reader.ended, reader.fault, got) == (True, None, wire)
    assert (reader.header, reader.size) == (header, size)


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("sent", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"x", b"x\r\n.\r\n"),
        (b"x\r\n", b"x\r\n.\r\n"),
        (b".\r\n.\r\n..x", b"..\r\n..\r\n...x\r\n.\r\n"),
        (b"x\r\n.\r\nMAIL FROM:<a@b.c>\r\n", b"x\r\n..\r\nMAIL FROM:<a@b.c>\r\n.\r\n"),
    ],
)
def test_bdat_is_stuffed_and_its_last_line_ended(step: int, sent: bytes, wire: bytes) -> None:
    reader, got = bdat(sent, step=step)
    assert (reader.ended, reader.fault, got) == (True, None, wire)
    assert_wire_form(got)


def test_dot_at_the_start_of_a_second_bdat_is_stuffed_only_after_a_line_end() -> None:
    for first, second, expected in (
        (b"x\r\n", b".y", b"x\r\n..y\r\n.\r\n"),
        (b"x\r", b"\n.y", b"x\r\n..y\r\n.\r\n"),
        (b"x", b".y", b"x.y\r\n.\r\n"),
        (b"x", b"", b"x\r\n.\r\n"),
        (b"x\r\n", b"", b"x\r\n.\r\n"),
    ):
        reader = BdatReader(BIG, BIG, Newlines.REFUSE)
        reader.begin(len(first), False)
        wire = reader.feed(first, 0)[0]
        assert not reader.ended
        reader.begin(len(second), True)
        wire += reader.feed(second, 0)[0]
        assert (wire, reader.ended) == (expected, True)


@pytest.mark.parametrize("step", [1, 2, 1000])
@pytest.mark.parametrize("bare", [b"a\nb", b"a\rb", b"a\r\r\nb", b"a\n\r\nb", b"\nb", b"\rb"])
def test_bare_newline_is_refused_at_the_end_of_the_content(step: int, bare: bytes) -> None:
    reader, _ = data(bare + b"\r\n.\r\n", step=step)
    assert reader.ended
    assert reader.fault is not None
    assert reader.fault.text.startswith("550 5.6.11")
    chunk, _ = bdat(bare, step=step)
    assert chunk.ended
    assert chunk.fault is not None


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize("break_", [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
def test_normalised_newline_never_makes_an_unstuffed_terminator(step: int, break_: bytes) -> None:
    body = b"A: b\r\n\r\nfirst" + break_ + b"." + break_ + b"MAIL FROM:<evil@b.c>"
    for reader, wire in (data(body + b"\r\n.\r\n", Newlines.NORMALISE, step), bdat(body, Newlines.NORMALISE, step)):
        assert reader.fault is None
        assert reader.ended
        assert reader.normalised >= 1
        assert_wire_form(wire)
        assert wire.count(b"\r\n.\r\n") == 1
        assert reader.size == len(unstuffed(wire))


def test_only_the_exact_terminator_ends_data() -> None:
    for almost in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n. \r\n",
                   b"\r\n.\r\r\n", b"\x0b.\x0b", b"\n\n.\n"):  # fmt: skip
        reader, _ = data(b"x" + almost + b"MAIL")
        assert not reader.ended, almost


def test_reader_stops_right_behind_the_terminator() -> None:
    reader = DataReader(BIG, BIG, Newlines.REFUSE)
    assert reader.feed(b"skipx\r\n.\r\nQUIT\r\n", 4) == (b"x\r\n.\r\n", 10)
    reader = DataReader(BIG, BIG, Newlines.REFUSE)
    assert reader.feed(b"x\r\n.", 0) == (b"x", 4)
    assert reader.feed(b"\r\nQUIT\r\n", 0) == (b"\r\n.\r\n", 2)


def test_content_of_exactly_the_limit_is_taken_and_one_octet_more_refused() -> None:
    for limit, taken in ((6, True), (5, False)):
        reader = DataReader(limit, BIG, Newlines.REFUSE)
        reader.feed(b"abcd\r\n.\r\n", 0)
        assert reader.ended
        assert (reader.fault is None) is taken
        if reader.fault is not None:
            assert reader.fault.text.startswith("552 5.3.4")


def test_stuffing_dots_do_not_count_toward_the_size_limit() -> None:
    reader = DataReader(3, BIG, Newlines.REFUSE)
    reader.feed(b"..\r\n.\r\n", 0)
    assert (reader.fault, reader.size) == (None, 3)


def test_header_section_past_its_limit_is_refused_and_its_memory_freed() -> None:
    reader = DataReader(BIG, 100, Newlines.REFUSE)
    for _ in range(50):
        reader.feed(b"A: b\r\n", 0)
    reader.feed(b"\r\n.\r\n", 0)
    assert reader.ended
    assert reader.fault is not None
    assert reader.fault.text.startswith("554 5.6.0")
    assert reader.header == b""


def test_nothing_is_handed_out_after_a_refusal_from_outside() -> None:
    reader = DataReader(BIG, BIG, Newlines.REFUSE)
    reader.feed(b"abc\r\n", 0)
    reader.refuse(reply(452, "4.3.1", "full"))
    assert reader.feed(b"def\r\n.\r\nX", 0) == (b"", 8)
    assert reader.ended


@given(
    st.integers(1, 90),
    st.lists(st.tuples(st.integers(0, 40_000), st.sampled_from(b"\r\nx")), max_size=3),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_bare_newlines_are_found_in_lines_of_one_length_too(
    length: int, changes: list[tuple[int, int]], cut_front: int, cut_back: int
) -> None:
    octets = bytearray((b"x" * length + b"\r\n") * (40_000 // (length + 2)))
    for at, octet in changes:
        octets[at % len(octets)] = octet
    piece = bytes(octets[cut_front : len(octets) - cut_back])
    bare = len(re.findall(rb"(?<!\r)\n|\r(?!\n)", piece))
    reader, wire = bdat(piece, Newlines.NORMALISE)
    assert reader.normalised == bare
    assert_wire_form(wire)
    refusing, _ = bdat(piece)
    assert (refusing.fault is not None) == (bare > 0)
