"""Filters of rules for names and types."""

import pytest

from posthouse.core.examination import Item, ItemKind, Place
from posthouse.core.part_filter import PartFilter, parse_filter


def item(*names: str, types: tuple[str, ...] = (), kind: ItemKind = ItemKind.PART) -> Item:
    return Item(kind, "1", "1", names, types, Place(False, 0, 1), "0" * 64)


def matches(text: str, *names: str, types: tuple[str, ...] = (), kind: ItemKind = ItemKind.PART) -> str:
    found = parse_filter(text)
    assert isinstance(found, PartFilter), found
    return found.matches(item(*names, types=types, kind=kind))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("*.exe", "Setup.EXE"),
        ("*.EXE", "setup.exe. "),
        ("*.doc?", "letter.docm"),
        ("invoice*.p?f", "Invoice 7.PDF"),
        ("setup.exe", "SETUP.EXE"),
        ("*", "anything"),
        ("a[1].txt", "A[1].txt"),
        ("*.tar.*", "b.tar.gz"),
        ("**.exe", ".exe"),
        ("*.exe", "a.txt:b.exe"),
        ("*.exe", "ｂ．ｅｘｅ"),
        ("*.exe", "folder\\b.exe"),
        ("*STRASSE*", "straße.txt"),
    ],
)
def test_names_match(text: str, name: str) -> None:
    assert matches(text, *(() if text == "*" else ("other",)), name) == f"The name {name} is filtered by {text}."


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("*.exe", "a.exe.txt"), ("*.exe", "exe"), ("*.doc?", "a.doc"), ("*.doc?", "a.docxx")),
        *(("setup.exe", "my setup.exe"), ("a.txt", "aXtxt"), ("a[1].txt", "a1.txt")),
    ],
)
def test_other_names_do_not(text: str, name: str) -> None:
    assert matches(text, name) == ""


@pytest.mark.parametrize("text", ["application/x-dosexec", "Application/*"])
def test_types_match_as_declared_and_by_content(text: str) -> None:
    for types in (("application/x-dosexec",), ("text/plain", "Application/X-DosExec")):
        assert matches(text, "a", types=types) == f"The type {types[-1]} is filtered by {text}."
    assert matches(text, "application/x-dosexec", types=("text/plain",)) == ""


def test_the_mail_as_a_whole_is_never_meant() -> None:
    assert matches("message/*", types=("message/rfc822",), kind=ItemKind.MAIL) == ""
    assert matches("message/*", types=("message/rfc822",), kind=ItemKind.MEMBER)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "A filter has 1 to 255 characters"),
        ("x" * 256, "A filter has 1 to 255 characters"),
        (" *.exe", "no blanks around it"),
        ("a\n", "no control characters"),
        ("application/", "no media type"),
        ("application/x-*", "the whole subtype only"),
        ("*/zip", "the whole subtype only"),
        ("folder/*.exe", "the whole subtype only"),
        ("a b/c", "no media type"),
        ("c:\\*.exe", "no \\ and no :"),
        (".exe", "whole name"),
        ("...", "matches no name"),
    ],
)
def test_faults_are_told(text: str, rule: str) -> None:
    found = parse_filter(text)
    assert isinstance(found, tuple)
    assert rule in found[0]
    assert found[1]


def test_the_suggestion_for_a_bare_suffix_is_the_filter_that_was_meant() -> None:
    assert parse_filter(".exe") == ("This matches a file whose whole name it is.", "Did you mean *.exe?")


def test_many_stars_cost_no_more_than_linear_time() -> None:
    assert matches("*a" * 100 + "b", *("a" * 255 for _ in range(1000))) == ""


def test_a_reason_is_one_short_line() -> None:
    assert (
        matches("*.exe", "\u202e" + "x" * 200 + "\u2028.exe") == f"The name ...{'x' * 75}?.exe is filtered by *.exe."
    )
