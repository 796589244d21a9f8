"""Media types as text."""

import pytest

from posthouse.core.media_type import is_type


@pytest.mark.parametrize("text", ["text/plain", "application/vnd.ms-excel", "image/svg+xml", "X/y"])
def test_types(text: str) -> None:
    assert is_type(text)


@pytest.mark.parametrize(
    "text", ["", "text", "text/", "/plain", "text/plain; charset=x", " text/plain", "a/b/c", "a/b\n"]
)
def test_other_texts(text: str) -> None:
    assert not is_type(text)
