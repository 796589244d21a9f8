"""Whatever an examiner says: the worker reads a value within bounds, or that it is out of form; nothing else."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.examination import Examination, ExaminationLimits, Item, ItemKind, PartFacts, Place
from posthouse.examiner.answers import Bounds, examination_document, read_examination, read_pieces
from posthouse.examiner.frames import HEAD, Frame, FrameReader, OutOfForm, document_of

BOUNDS = Bounds(103, 50, ExaminationLimits())
MAIL = Item(ItemKind.MAIL, "", "", ("a",), ("text/plain",), Place(False, 0, 100), "0" * 64)
PART = Item(ItemKind.PART, "1", "1", ("b", "c"), (), Place(True, 10, 50), "f" * 64)
FACTS = PartFacts("1", "text/plain", ("text/plain",), ("b",), 40, True, False, "zip", "f" * 64)
VALID = Examination((MAIL, PART), (FACTS,), ("It is odd.",), (("Subject", "grüße"),))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["mail", "0" * 64]),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def as_sent(examination: Examination) -> Any:
    return json.loads(json.dumps(examination_document(examination)))


def spots(document: Any) -> list[tuple[Any, Any]]:
    """Every place in a document: its container and key."""
    found = []
    left = [document]
    while left:
        container = left.pop()
        for key in range(len(container)) if isinstance(container, list) else container:
            found.append((container, key))
            if isinstance(container[key], list | dict):
                left.append(container[key])
    return found


def read(document: object) -> Examination | None:
    try:
        examination = read_examination(document, BOUNDS)
    except OutOfForm:
        return None
    for item in examination.items:
        assert 0 <= item.place.start <= item.place.end <= (50 if item.place.made else 103)
        assert all(isinstance(text, str) for text in (item.path, item.part, *item.names, *item.types))
        assert len(item.sha256) == 64
    for part in examination.parts:
        assert part.size >= 0
        assert isinstance(part.attachment, bool)
    repr(examination).encode()
    return examination


def test_what_is_sent_is_what_is_read() -> None:
    assert read(as_sent(VALID)) == VALID


@given(JSON)
def test_any_document(document: object) -> None:
    assert read(document) is None
    try:
        places = read_pieces(document, BOUNDS)
    except OutOfForm:
        return
    assert all(0 <= place.start <= place.end <= 103 for place in places)


@given(st.data())
def test_an_examination_with_one_value_exchanged(data: st.DataObject) -> None:
    document = as_sent(VALID)
    container, key = data.draw(st.sampled_from(spots(document)))
    container[key] = data.draw(JSON)
    read(document)


@given(st.text(), st.text(), st.text())
def test_texts_of_any_kind_are_sent_so_that_they_can_be_read(name: str, reason: str, value: str) -> None:
    odd = Item(ItemKind.MAIL, name, "", (name,), (value,), Place(False, 0, 100), "0" * 64)
    examination = read(as_sent(Examination((odd,), (), (reason,), ((name, value),))))
    assert examination is not None
    assert len(examination.items[0].names) == 1


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(0, 30), st.integers(0, 30), st.integers(0, 4))
def test_frames_of_any_octets_in_any_pieces(pieces: list[bytes], document: int, band: int, descriptors: int) -> None:
    reader = FrameReader()
    sent = b""
    for octets in (HEAD.pack(document, band, descriptors), *pieces):
        sent += octets
        try:
            frame = reader.feed(octets, ())
        except OutOfForm:
            assert descriptors or len(sent) > HEAD.size + document + band
            return
        if frame is not None:
            assert sent[HEAD.size :] == frame.document + bytes(frame.band)
            assert (len(frame.document), len(frame.band), descriptors) == (document, band, 0)
            return
    assert len(sent) < HEAD.size + document + band


@given(st.binary(max_size=50) | st.text('[]{}",:0123456789eE.-', max_size=50).map(str.encode))
def test_any_octets_as_a_document(octets: bytes) -> None:
    try:
        document_of(Frame(octets))
    except OutOfForm:
        pass
