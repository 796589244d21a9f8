"""docs/standards.md lists every standard, and every section of one, that a source names: no more, no fewer."""

import re

from support.processes import ROOT

_SECTION = r"\d+(?:\.\d+)*"
_NAMED = re.compile(rf"RFC (\d+)(?: sections? ({_SECTION}(?:(?:, and |, | and | to ){_SECTION})*))?")


def sections(text: str) -> set[str]:
    """`RFC 5321` and `RFC 5321 section 4.5.2` for all that `text` names, line breaks or not."""
    found = set()
    for number, listed in _NAMED.findall(re.sub(r"\s+(?:# )?", " ", text)):
        found.add(f"RFC {number}")
        found |= {f"RFC {number} section {section}" for section in re.findall(_SECTION, listed)}
    return found


def in_sources() -> set[str]:
    return set().union(*(sections(path.read_text("utf-8")) for path in (ROOT / "src").rglob("*.py")))


def in_document() -> set[str]:
    """The first column of its tables."""
    text = (ROOT / "docs" / "standards.md").read_text("utf-8")
    return set(re.findall(r"(?m)^\| (RFC \d+(?: section [\d.]+)?) \|", text))


def test_every_section_that_a_source_names_is_listed() -> None:
    assert sorted(in_sources() - in_document()) == []


def test_nothing_is_listed_that_no_source_names() -> None:
    assert sorted(in_document() - in_sources()) == []


def test_lists_of_sections_over_line_breaks_are_understood() -> None:
    assert sections("RFC 5321 sections 3.3, 4.1\n    and 4.5.2; RFC 2920") == {
        *("RFC 5321", "RFC 5321 section 3.3", "RFC 5321 section 4.1", "RFC 5321 section 4.5.2", "RFC 2920"),
    }
