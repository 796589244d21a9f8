"""Hostile containers: nothing raises, no budget is passed, and what a reader of Python's finds is shown or told."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.content_type import types_of
from posthouse.core.examination import ExaminationLimits, ItemKind
from posthouse.core.file_name import kept, spellings
from posthouse.core.part_filter import PartFilter, parse_filter
from support.archives import opened, tarred, zipped, zipped_as_stream
from support.examining import Examined

LIMITS = ExaminationLimits(
    made_octets=200_000, container_entries=30, container_depth=3, readings=40, parts=20, part_depth=5
)
CONTENT = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"MZ" + bytes(300), b"text\n" * 50, bytes(5000), b"PK\3\4", b"PK\5\6"])
)
NAMES = st.text(st.sampled_from("ab./\\é\x00\u202e:"), min_size=1, max_size=12)
MEMBERS = st.dictionaries(NAMES.filter(lambda name: "\x00" not in name), CONTENT, max_size=4)
METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    make = draw(st.sampled_from([zipped, zipped_as_stream]))
    return make(draw(MEMBERS), draw(METHODS))


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    form = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    return tarred([(name, octets) for name, octets in draw(MEMBERS).items()], form)


WHOLE = st.recursive(
    st.one_of(zips(), tars(), CONTENT),
    lambda inner: st.one_of(
        st.dictionaries(NAMES.filter(lambda name: "\x00" not in name), inner, max_size=3).map(zipped),
        inner.map(lambda octets: gzip.compress(octets, mtime=0)),
        inner.map(bz2.compress),
        inner.map(lambda octets: lzma.compress(octets, preset=0)),
        st.tuples(inner, inner).map(b"".join),
    ),
    max_leaves=4,
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Octets changed, left out, repeated."""
    octets = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(octets) - 1)))
        match draw(st.sampled_from(["change", "cut", "repeat", "signature"])):
            case "change":
                octets[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del octets[at : at + draw(st.integers(1, 40))]
            case "repeat":
                octets[at:at] = octets[at : at + draw(st.integers(1, 80))]
            case _:
                octets[at:at] = draw(st.sampled_from([b"PK\3\4", b"PK\1\2", b"PK\5\6", b"\x1f\x8b\x08"]))
    return bytes(octets)


@given(damaged(WHOLE))
def test_nothing_raises_and_no_budget_is_passed(octets: bytes) -> None:
    members, faults = opened(octets, ("a.gz",), LIMITS)
    assert sum(len(member.octets) for member in members) <= LIMITS.made_octets * 2
    assert len(members) <= 2 * LIMITS.container_entries
    assert all(faults)
    types_of(octets)


def read_by_zipfile(octets: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(octets)) as archive:
            for info in archive.infolist()[:50]:
                try:
                    with archive.open(info) as member:
                        found = member.read(LIMITS.made_octets + 1)
                except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, lzma.LZMAError):
                    continue
                yield info.filename, found
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, LookupError):
        return


@given(damaged(zips()))
def test_what_zipfile_reads_is_shown_or_told(octets: bytes) -> None:
    members, faults = opened(octets, (), LIMITS)
    shown = {member.octets for member in members}
    names = {name.replace("\\", "/") for member in members for name in member.names}
    for name, found in read_by_zipfile(octets):
        assert faults or not found or found in shown, name
        assert faults or not found or name.replace("\\", "/") in names


@given(damaged(tars()))
def test_what_tarfile_reads_is_shown_or_told(octets: bytes) -> None:
    members, faults = opened(octets, (), LIMITS)
    shown = {member.octets for member in members}
    try:
        with tarfile.open(fileobj=io.BytesIO(octets), mode="r:") as archive:
            for info in archive:
                stream = archive.extractfile(info) if info.isreg() else None
                if stream is not None:
                    assert faults or stream.read() in shown, info.name
    except (tarfile.TarError, OSError, ValueError, EOFError, UnicodeError):
        return


@given(st.binary(max_size=400), damaged(WHOLE))
def test_an_examination_stays_within_its_limits_and_its_places(text: bytes, octets: bytes) -> None:
    plain = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + text
    plain += b"\n--b\nContent-Type: application/zip; name=a.zip\nContent-Transfer-Encoding: 8bit\n\n" + octets
    examined = Examined(plain + b"\n--b--\n", LIMITS)
    items = examined.items
    assert items[0].kind is ItemKind.MAIL
    assert len(items) <= LIMITS.readings
    paths = {part.path for part in examined.examination.parts} | {""}
    for item in items:
        examined.octets(item)
        assert item.part in paths
        assert all(name.isascii() or "\x00" not in name for name in item.names)
        assert all(len(name) <= 255 for name in item.names)
    assert all(reason and len(reason.splitlines()) == 1 for reason in examined.examination.ambiguous)


@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=3))
def test_any_text_is_a_filter_or_a_fault_and_matches_or_not(text: str, names: list[str]) -> None:
    found = parse_filter(text)
    if isinstance(found, PartFilter):
        for name in kept(names):
            spellings(name)
    else:
        assert all(found)


@given(
    st.text(st.characters(exclude_characters="/\\:*?", exclude_categories=["C", "Z", "M"]), min_size=1, max_size=20)
)
def test_a_name_is_matched_by_itself_and_by_its_end(name: str) -> None:
    for text in (name, f"*{name}", f"*{name[-1]}"):
        found = parse_filter(text)
        if isinstance(found, PartFilter):
            item = Examined(b"\n").items[1]
            assert found.matches(type(item)(item.kind, "1", "1", (name,), (), item.place, item.sha256)), (text, name)
