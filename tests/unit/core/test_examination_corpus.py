"""The corpus under examination: containers are opened, names are matched, and ordinary mail is not ambiguous."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.core.examination import ItemKind
from posthouse.core.part_filter import PartFilter, parse_filter
from support.corpus import corpus
from support.examining import Examined

CORPUS = corpus()
pytestmark = pytest.mark.skipif(CORPUS is None, reason="the corpus is not there")


def folder() -> Path:
    assert CORPUS is not None
    return CORPUS


def cases(name: str, start: str) -> Iterator[tuple[str, bytes, Examined]]:
    """The messages of one class of a set: file, marker, examination."""
    manifest = json.loads((folder() / name / "manifest.json").read_text())
    for case in manifest["cases"]:
        if case["file"].startswith(start):
            yield case["file"], manifest["marker"].encode(), Examined((folder() / name / case["file"]).read_bytes())


def ham() -> list[Path]:
    return [
        path
        for root in ("spamassassin/nice", "spamassassin/dkim", "spamassassin/welcomelists", "rspamd")
        for path in sorted((folder() / root).rglob("*"))
        if path.is_file() and path.name != "LICENSE-of-source.txt"
    ]


def test_what_is_hidden_in_containers_is_shown() -> None:
    found = list(cases("mime-ambiguity", "container/"))
    assert len(found) == 6
    for file, marker, examined in found:
        assert any(marker in examined.octets(item) for item in examined.items), file
        assert any(item.kind is ItemKind.MEMBER for item in examined.items), file


def test_a_filter_finds_every_hidden_name_or_the_mail_is_ambiguous() -> None:
    filters = parse_filter("*.zip")
    assert isinstance(filters, PartFilter)
    found = [case for case in cases("noxxi-mime-is-broken", "hide-filename/") if ".png-" not in case[0]]
    assert len(found) == 68
    missed = [
        file
        for file, _, examined in found
        if not any(filters.matches(item) for item in examined.items) and not examined.examination.ambiguous
    ]
    assert missed == []


def test_ordinary_mail_is_not_ambiguous() -> None:
    paths = ham()
    assert len(paths) > 100
    ambiguous = [path.name for path in paths if Examined(path.read_bytes()).examination.ambiguous]
    assert len(ambiguous) <= len(paths) // 200


def test_an_encrypted_document_is_recognised() -> None:
    examined = Examined((folder() / "rspamd" / "pdf_encrypted.eml").read_bytes())
    assert [part.encrypted for part in examined.examination.parts if part.encrypted] == ["pdf"]
