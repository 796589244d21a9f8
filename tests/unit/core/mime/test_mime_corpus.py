"""Hostile and ordinary mail of the corpus: nothing is hidden from the scanner, and ham is not ambiguous.

The payload of the hidden parts is an uncompressed zip, so its marker stands in the decoded octets.
"""

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest

from posthouse.core.examination import ExaminationLimits
from posthouse.core.mime.leaves import Leaf, Span
from posthouse.core.mime.readings import Mime, read
from support.corpus import corpus
from support.mime_oracle import payloads, squeezed

FOLDER = corpus() or Path("absent")
LIMITS = ExaminationLimits()
PACKED = {"container/gz.eml", "container/tar-gz.eml"}
"""The marker is in there compressed: it is the container reader's to find."""
DAMAGED = ("-binhex-", "-mac-binhex-", "-mac-binhex40-")
"""In these the collection's own generator wrote the name of a variable in place of the payload: no marker, and a
checksum that is wrong."""
NAMED_ELSE = ("fname-cdisp.png-", "fname-ctype.png-")
"""A zip that is called png under every reading: the type by content tells."""
pytestmark = pytest.mark.skipif(corpus() is None, reason="the corpus is not here")


def content(path: Path) -> bytes:
    """As it would be received."""
    octets = path.read_bytes()
    return octets if b"\r" in octets else octets.replace(b"\n", b"\r\n")


def cases(folder: str) -> tuple[bytes, list[dict[str, object]]]:
    manifest = json.loads((FOLDER / folder / "manifest.json").read_text())
    return manifest["marker"].encode(), manifest["cases"]


def shown(octets: bytes, leaf: Leaf) -> bytes:
    return octets[leaf.octets.start : leaf.octets.end] if isinstance(leaf.octets, Span) else leaf.octets


def is_shown(octets: bytes, found: Mime, marker: bytes) -> bool:
    return any(marker in shown(octets, leaf) for leaf in found.leaves)


def read_file(path: Path) -> tuple[bytes, Mime]:
    octets = content(path)
    return octets, read(octets, LIMITS)


def test_mime_ambiguity() -> None:
    marker, all_cases = cases("mime-ambiguity")
    unseen, ambiguous = set(), set()
    for case in all_cases:
        name = str(case["file"])
        octets, found = read_file(FOLDER / "mime-ambiguity" / name)
        if not is_shown(octets, found, marker):
            unseen.add(name)
        if found.ambiguous:
            ambiguous.add(name)
    assert len(all_cases) == 88
    assert unseen == PACKED | {"encapsulated/external-body.eml"}
    assert ambiguous == {"encapsulated/external-body.eml", "depth/deep-rfc822-60.eml"}


def test_file_names_of_mime_ambiguity() -> None:
    _, all_cases = cases("mime-ambiguity")
    for case in all_cases:
        if case["cls"] == "file-name":
            _, found = read_file(FOLDER / "mime-ambiguity" / str(case["file"]))
            names = [name for leaf in found.leaves if leaf.part == "2" for name in leaf.names]
            assert any(name.endswith(".exe") for name in names), (case["file"], names)


def test_content_that_noxxi_hides() -> None:
    marker, all_cases = cases("noxxi-mime-is-broken")
    hidden = [case for case in all_cases if str(case["file"]).startswith("hide-content/")]
    unseen, ambiguous, valid = [], [], 0
    for case in hidden:
        octets, found = read_file(FOLDER / "noxxi-mime-is-broken" / str(case["file"]))
        seen = is_shown(octets, found, marker)
        if not seen:
            unseen.append(str(case["file"]))
        if found.ambiguous:
            ambiguous.append(str(case["file"]))
        if case["validity"] in (2, 3):
            assert seen, case
            assert not found.ambiguous, case
            valid += 1
    assert (len(hidden), valid) == (161, 11)
    assert unseen == ambiguous
    assert len(unseen) == 3
    assert all(any(kind in name for kind in DAMAGED) for name in unseen), unseen


def test_names_that_noxxi_hides() -> None:
    _, all_cases = cases("noxxi-mime-is-broken")
    hidden = [str(case["file"]) for case in all_cases if str(case["file"]).startswith("hide-filename/")]
    missed = []
    for name in hidden:
        _, found = read_file(FOLDER / "noxxi-mime-is-broken" / name)
        assert found.ambiguous == (), name
        names = [one for leaf in found.leaves if leaf.part == "2" for one in leaf.names]
        if not any(fnmatch(one.lower(), "*.zip") for one in names):
            missed.append(name)
    assert len(hidden) == 70
    assert len(missed) == len(NAMED_ELSE)
    assert all(any(kind in name for kind in NAMED_ELSE) for name in missed), missed


def files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((FOLDER / folder).rglob("*")) if path.is_file()]
    return [path for path in found if path.name != "LICENSE-of-source.txt" and path.suffix != ".json"]


def test_ordinary_mail_is_not_ambiguous() -> None:
    """At most 0.5 % of the ham may be: here none of it, and none of the spam either."""
    mails = files("spamassassin", "rspamd")
    assert [path for path in mails if read_file(path)[1].ambiguous] == []
    assert len(mails) == 199


def test_most_ordinary_mail_has_no_readings_but_its_parts() -> None:
    odd = [path for path in files("spamassassin", "rspamd") if len(ways(path)) > 1]
    assert len(odd) <= 12, odd


def ways(path: Path) -> set[str]:
    return {leaf.kind.value for leaf in read_file(path)[1].leaves} - {"text"}


def test_all_that_the_standard_library_decodes_is_shown() -> None:
    """Python's `email` as another reader: what it gets out of a mail stands in it, or in one of its leaves."""
    compared = 0
    for path in files("cpython-test_email", "mimekit", "perl-mime-tools-testmsgs", "ruby-mail", "rspamd",
                      "spamassassin", "mime-ambiguity", "noxxi-mime-is-broken"):  # fmt: skip
        octets, found = read_file(path)
        if found.ambiguous:
            continue
        lines = {squeezed(shown(octets, leaf)) for leaf in found.leaves}
        for newer in (False, True):
            for payload in payloads(octets, newer):
                compared += 1
                assert payload in lines or payload in squeezed(octets), (path, payload[:80])
    assert compared > 2000
