"""A content that is written anew is looked at as it passes: dot-stuffed, no bare CR or LF, and what it measures."""

import pytest

from posthouse.core.wire_check import NotWireForm, WireCheck
from posthouse.core.wire_form import plain_form, wire_form

PLAIN = b"Subject: a\r\n.folded\r\nTo: b\r\n\r\n.one\r\n..two\r\nthree\r\n\r\n."


def pieces(octets: bytes, size: int) -> list[bytes]:
    return [octets[start : start + size] for start in range(0, len(octets), size)]


def checked(octets: bytes, size: int, header_octets: int = 1000) -> WireCheck:
    check = WireCheck(header_octets)
    for piece in pieces(octets, size):
        check.pass_on(piece)
    return check


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 1000])
def test_wire_form_passes_whatever_the_pieces_and_is_measured(size: int) -> None:
    wire = wire_form(PLAIN)
    check = checked(wire.removesuffix(b".\r\n"), size)
    assert check.finish() == b""
    assert check.size == len(plain_form(wire))
    assert check.header == b"Subject: a\r\n.folded\r\nTo: b\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1000])
@pytest.mark.parametrize(
    "octets",
    [
        b".",
        b".a\r\n",
        b"a\r\n.\r\nb",
        b"a\r\n.b\r\n",
        b"a\rb",
        b"a\nb",
        b"a\r\r\n",
        b"a\n\r\n",
        b"\n",
        b"\r",
        b"a\r\n.",
    ],
)
def test_what_is_not_wire_form_is_refused(octets: bytes, size: int) -> None:
    with pytest.raises(NotWireForm):
        checked(octets, size).finish()


@pytest.mark.parametrize("octets", [b"a", b"a: b\r\n\r\nc", b"..", b"..\r\n.."])
def test_a_last_line_that_does_not_end_is_ended(octets: bytes) -> None:
    check = checked(octets, 2)
    assert check.finish() == b"\r\n"
    assert check.size == len(plain_form(octets, whole=False)) + 2


def test_no_octets_need_no_line_end() -> None:
    check = WireCheck(1000)
    assert (check.finish(), check.size, check.header) == (b"", 0, b"")


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("octets", "header"),
    [
        (b"\r\nbody\r\n\r\n", b""),
        (b"a: b\r\n", b"a: b\r\n"),
        (b"a: b\r\n\r\n\r\n\r\n", b"a: b\r\n"),
        (b"..: b\r\n\r\n", b".: b\r\n"),
        (b"a: 0123456789\r\n\r\n", b"a: 0123456"),
    ],
)
def test_the_header_is_kept_up_to_the_empty_line_or_its_bound(octets: bytes, header: bytes, size: int) -> None:
    assert checked(octets, size, 10).header == header
