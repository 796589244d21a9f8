"""Names of files: what is kept of them, and what they become where they are saved."""

import pytest

from posthouse.core.file_name import kept, spellings


def test_controls_go_and_a_nul_ends_a_name_for_some() -> None:
    assert kept(["a\r\n.exe", "b.exe\x00.txt", "", "a.exe"]) == ("a.exe", "b.exe.txt", "b.exe")


def test_both_ends_of_a_long_name_are_kept() -> None:
    long = "x" * 251 + ".exe" + " " * 300 + ".txt"
    names = kept([long])
    assert [len(name) for name in names] == [255, 255]
    assert names[0].endswith(".exe")
    assert names[1].endswith(".txt")


def test_a_name_has_no_more_than_64_readings() -> None:
    assert len(kept(str(number) for number in range(10_000))) == 64


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("A.EXE", "a.exe"),
        ("a.exe . .", "a.exe"),
        ("a.exe:stream.txt", "a.exe"),
        ("a.txt:b.exe", "b.exe"),
        ("a.exe::$DATA", "a.exe"),
        ("folder/a.exe", "a.exe"),
        ("..\\folder\\a.exe", "a.exe"),
        ("folder/a.exe/", "a.exe"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("photo\u202eexe.gpj", "photojpg.exe"),
        ("a.e\u200bxe", "a.exe"),
        ("ａ．ｅｘｅ", "a.exe"),
        ("a\u2024exe", "a.exe"),
        ('"a.exe"', "a.exe"),
        ("a.e\u0301xe", "a.éxe"),
        ("straße.exe", "strasse.exe"),
        ("a.exe".encode("utf-16-le").decode("utf-16-be"), "a.exe"),
    ],
)
def test_names_become_what_they_are_saved_as(name: str, spelling: str) -> None:
    assert spelling in spellings(name)
