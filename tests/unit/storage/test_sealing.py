"""Content sealed for the quarantine: it comes back whole, and whatever is done to it is found."""

from collections.abc import Iterator

import pytest

from posthouse.ports import ContentUnreadable
from posthouse.storage.sealing import CHUNK, sealed, unsealed

KEY, OTHER = bytes(range(32)), bytes(32)
HEADER, WHOLE = 27, CHUNK + 16
LENGTHS = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5)


def text(length: int) -> bytes:
    return bytes(n * 7 % 251 for n in range(length))


def seal(octets: bytes) -> bytes:
    return b"".join(sealed(KEY, [octets]))


def unseal(octets: bytes, key: bytes = KEY) -> bytes:
    return b"".join(unsealed(key, [octets]))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("step", [1000, CHUNK, 256 * 1024])
def test_what_is_sealed_comes_back_in_whatever_pieces_it_comes(length: int, step: int) -> None:
    def pieces(octets: bytes) -> Iterator[bytes]:
        return (octets[start : start + step] for start in range(0, len(octets), step))

    hidden = b"".join(sealed(KEY, pieces(text(length))))
    assert b"".join(unsealed(KEY, pieces(hidden))) == text(length)
    assert length < 64 or text(length)[:64] not in hidden


def test_equal_contents_are_sealed_differently() -> None:
    assert seal(text(100))[HEADER:] != seal(text(100))[HEADER:]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_cut_at_any_chunk_or_octet_is_found(length: int) -> None:
    hidden = seal(text(length))
    ends = {*range(HEADER, len(hidden), WHOLE), len(hidden) - 1, HEADER, HEADER - 1, 0}
    for end in sorted(ends - {len(hidden)}):
        with pytest.raises(ContentUnreadable):
            unseal(hidden[:end])


@pytest.mark.parametrize("length", LENGTHS)
def test_octets_after_the_end_are_found(length: int) -> None:
    hidden = seal(text(length))
    for more in (b"x", hidden[HEADER : HEADER + WHOLE] or b"xx"):
        with pytest.raises(ContentUnreadable):
            unseal(hidden + more)


def test_a_changed_octet_anywhere_is_found() -> None:
    hidden = seal(text(CHUNK + 100))
    for at in (*range(HEADER), HEADER, HEADER + CHUNK, HEADER + WHOLE, len(hidden) - 1):
        spoilt = bytearray(hidden)
        spoilt[at] ^= 1
        with pytest.raises(ContentUnreadable):
            unseal(bytes(spoilt))


def test_chunks_in_another_order_or_of_another_content_are_found() -> None:
    one, two = seal(text(4 * CHUNK)), seal(text(4 * CHUNK))
    at = [HEADER + n * WHOLE for n in range(4)]
    swapped = one[: at[0]] + one[at[1] : at[2]] + one[at[0] : at[1]] + one[at[2] :]
    missing = one[: at[1]] + one[at[2] :]
    doubled = one[: at[1]] + one[at[0] :]
    mixed = one[: at[1]] + two[at[1] : at[2]] + one[at[2] :]
    for spoilt in (swapped, missing, doubled, mixed):
        assert spoilt != one
        with pytest.raises(ContentUnreadable):
            unseal(spoilt)


def test_another_key_does_not_fit() -> None:
    with pytest.raises(ContentUnreadable, match="another key"):
        unseal(seal(b"x"), OTHER)


def test_memory_is_bounded_by_the_chunk() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(CHUNK)

    stream = unsealed(KEY, sealed(KEY, endless()))
    assert max(len(next(stream)) for _ in range(50)) == CHUNK
