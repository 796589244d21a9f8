"""Bodies that surgery writes: any octets come back, and no line can be taken for something else."""

import base64
import quopri

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.mime.written import base64_body, quoted_printable

TEXT = st.lists(
    st.sampled_from([b"a", b" ", b"\t", b"=", b".", b"--", b"From ", b"\xc3\xa4", b"\r\n", b"x" * 70, b"\xff" * 25]),
    max_size=40,
).map(b"".join)


@given(TEXT)
def test_quoted_printable_gives_the_octets_back_in_short_lines_that_mean_nothing_else(octets: bytes) -> None:
    coded = quoted_printable(octets)
    assert quopri.decodestring(coded) == octets
    for line in coded.split(b"\r\n"):
        assert len(line) <= 76
        assert not line.startswith((b".", b"--", b"From "))
        assert not line.endswith((b" ", b"\t"))
        assert line.isascii()


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_base64_is_the_same_however_the_octets_are_cut(pieces: list[bytes]) -> None:
    coded = b"".join(base64_body(pieces))
    assert coded == base64.encodebytes(b"".join(pieces)).rstrip().replace(b"\n", b"\r\n")
