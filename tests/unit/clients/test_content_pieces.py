"""Content as pieces to write."""

from posthouse.clients.content_pieces import PIECE_OCTETS, pieces
from posthouse.core.mail import Content, InlineOctets


def test_content_in_memory_is_given_in_pieces_too_so_that_the_last_one_can_be_held_back() -> None:
    octets = bytes(range(256)) * 3000
    given = [bytes(piece) for piece in pieces(Content(InlineOctets(octets)))]
    assert b"".join(given) == octets
    assert {len(piece) for piece in given[:-1]} == {PIECE_OCTETS}
    assert 0 < len(given[-1]) <= PIECE_OCTETS


def test_cuts_are_left_out_across_pieces() -> None:
    octets = bytes(range(256)) * 3000
    cuts = ((10, 20), (PIECE_OCTETS - 5, 2 * PIECE_OCTETS + 5))
    given = [bytes(piece) for piece in pieces(Content(InlineOctets(octets), cuts))]
    assert b"".join(given) == octets[:10] + octets[20 : PIECE_OCTETS - 5] + octets[2 * PIECE_OCTETS + 5 :]
    assert all(given)
