"""Names of attachments as header fields: whatever they are, one harmless line."""

from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posthouse.core.vault_name import MOST_CHARACTERS, file_name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("report 2026 (final).pdf", "report 2026 (final).pdf"),
        ("100%.txt", "100%25.txt"),
        ("Überweisung.pdf", "%C3%9Cberweisung.pdf"),
        ("日本.txt", "%E6%97%A5%E6%9C%AC.txt"),
        ("a\r\nAuthorization: Bearer x", "a__Authorization_ Bearer x"),
        ('a"b.txt', "a_b.txt"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..\\..\\x.exe", "_.._x.exe"),
        ("a:b|c?d*e<f>", "a_b_c_d_e_f_"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("\ud800.txt", "_.txt"),
        (" . ", "attachment"),
        ("", "attachment"),
        ("name. ", "name"),
    ],
)
def test_a_name_as_header_field(name: str, value: str) -> None:
    assert file_name(name) == value


def test_a_long_name_keeps_its_ending() -> None:
    value = unquote(file_name("é" * 10_000 + ".docx"))
    assert (len(value), value[-6:]) == (MOST_CHARACTERS, "é.docx")
    assert len(file_name("\U0001f4ce" * 10_000)) == 12 * MOST_CHARACTERS
    assert unquote(file_name("a." + "b" * 400)) == "a." + "b" * (MOST_CHARACTERS - 2)


@given(st.text(max_size=400))
@example("." * 200)
@example("a" * 149 + " .b")
def test_every_name_is_one_line_that_no_path_is_in(name: str) -> None:
    value = file_name(name)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    assert 0 < len(value) <= 12 * MOST_CHARACTERS
    decoded = unquote(value, errors="strict")
    assert 0 < len(decoded) <= MOST_CHARACTERS
    assert not set(decoded) & set('/\\"')
    assert decoded.strip(".")
    assert file_name(decoded) == value
