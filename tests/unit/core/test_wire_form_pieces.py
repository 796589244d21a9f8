"""Wire form to plain form piece by piece: however the pieces fall, it is what it is as a whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.mime.wire import unstuffed
from posthouse.core.wire_form import PlainPieces, wire_form


def plain(pieces: list[bytes]) -> bytes:
    reading = PlainPieces()
    return b"".join([*map(reading.feed, pieces), reading.end()])


def cut(octets: bytes, lengths: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for length in lengths:
        pieces.append(octets[at : at + length])
        at += length
    return [*pieces, octets[at:]]


@pytest.mark.parametrize(
    "content", [b"", b".\r\n", b"..\r\n.\r\n", b"a\r\n", b"\r\n", b"\r\n.\r\n", b"a: b\r\n\r\n.c\r\n.\r\n\r\n.\r\n"]
)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 1000])
def test_pieces_of_any_size_are_the_plain_content(content: bytes, size: int) -> None:
    wire = wire_form(content)
    assert plain([wire[at : at + size] for at in range(0, len(wire), size)]) == content


@given(
    st.lists(st.sampled_from([b"\r\n", b".", b"a", b"..", b"\r\n.\r\n"])).map(b"".join),
    st.lists(st.integers(0, 4), max_size=12),
)
def test_pieces_are_what_the_examiner_reads_as_a_whole(content: bytes, lengths: list[int]) -> None:
    wire = wire_form(content)
    assert plain(cut(wire, lengths)) == unstuffed(wire).octets
