"""A window of a content counts its octets without the cuts."""

from pathlib import Path

import pytest

from posthouse.clients.content_pieces import content_octets, pieces
from posthouse.core.mail import Content, FileOctets, InlineOctets

OCTETS = b"abcdefghij"
CUTS = ((0, 1), (3, 5), (9, 10))
KEPT = b"bcfghi"


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize(("cuts", "kept"), [(CUTS, KEPT), ((), OCTETS), (((0, 10),), b"")])
def test_every_window_of_what_is_kept(
    tmp_path: Path, in_file: bool, cuts: tuple[tuple[int, int], ...], kept: bytes
) -> None:
    (tmp_path / "content").write_bytes(OCTETS)
    source = FileOctets(str(tmp_path / "content"), len(OCTETS)) if in_file else InlineOctets(OCTETS)
    content = Content(source, cuts)
    assert content_octets(content) == len(kept)
    for first in range(len(kept) + 1):
        assert b"".join(pieces(content, first)) == kept[first:]
        for last in range(first, len(kept) + 1):
            assert b"".join(pieces(content, first, last)) == kept[first:last]
