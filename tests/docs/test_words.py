"""Code and documents use the words of docs/glossary.md and none of those that it rules out."""

import re
from pathlib import Path

from support.processes import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
_SUFFIXES = {".py", ".md", ".html", ".js", ".css", ".toml"}
_VENDORED = "vendor"
"""Folders of this name hold the work of others."""


def ruled_out() -> list[str]:
    """The words under the heading `Not used` of the glossary: the first column of its table."""
    section = GLOSSARY.read_text("utf-8").partition("## Not used")[2]
    return re.findall(r"(?m)^\| ([A-Za-z]+) \|", section)[1:]


def written_here() -> list[Path]:
    """Sources and documents, the glossary excepted, which must name what it rules out."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
    for folder in (ROOT / "src", ROOT / "docs"):
        files += [path for path in folder.rglob("*") if path.suffix in _SUFFIXES and _VENDORED not in path.parts]
    return [path for path in files if path != GLOSSARY]


def test_the_glossary_rules_out_the_words_of_the_design() -> None:
    assert {"upstream", "smarthost", "backend", "NDR", "bounce", "job"} <= set(ruled_out())


def test_no_word_that_the_glossary_rules_out_is_used() -> None:
    words = re.compile(rf"\b(?:{'|'.join(ruled_out())})(?:s|d|ed|ing)?\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in written_here()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := words.search(line))
    ]
    assert found == []
