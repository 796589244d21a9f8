"""What the parent asks an examiner: a mail to be examined, or edits of one. Written by the parent, read by the child,
which has no reason to doubt it.
"""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict, cast

from posthouse.core.examination import (
    AddField,
    AddNotice,
    AddPart,
    Edit,
    ExaminationLimits,
    Position,
    RemovePart,
    ReplacePart,
)
from posthouse.examiner import frames


@dataclass(frozen=True, slots=True)
class Portion:
    """Octets that go with a question or an answer."""

    in_band: bool
    """Else the next descriptor, from its beginning."""
    size: int
    cuts: tuple[tuple[int, int], ...] = ()
    """What is left out of a descriptor: half-open, sorted, disjoint."""


@dataclass(frozen=True, slots=True)
class Question:
    """About one mail."""

    limits: ExaminationLimits
    content: Portion
    edits: tuple[Edit, ...] | None = None
    """None: the mail is to be examined."""
    files: Portion = Portion(True, 0)
    """All files together that the edits name by number."""
    file_sizes: tuple[int, ...] = ()


class _Asked(TypedDict):
    limits: dict[str, int]
    content: tuple[bool, int, list[tuple[int, int]]]
    edits: list[list[str | int]] | None
    files: tuple[bool, int, list[tuple[int, int]]]
    file_sizes: list[int]


def question_document(question: Question) -> bytes:
    return frames.written(
        {
            "limits": asdict(question.limits),
            "content": _portion(question.content),
            "edits": None if question.edits is None else [_edit(edit) for edit in question.edits],
            "files": _portion(question.files),
            "file_sizes": question.file_sizes,
        }
    )


def question_of(frame: frames.Frame) -> Question:
    asked = cast(_Asked, frames.document_of(frame))
    edits = asked["edits"]
    return Question(
        ExaminationLimits(**asked["limits"]),
        _read_portion(*asked["content"]),
        None if edits is None else tuple(_read_edit(fields) for fields in edits),
        _read_portion(*asked["files"]),
        tuple(asked["file_sizes"]),
    )


def _portion(portion: Portion) -> tuple[bool, int, Sequence[tuple[int, int]]]:
    return portion.in_band, portion.size, portion.cuts


def _read_portion(in_band: bool, size: int, cuts: Sequence[Sequence[int]]) -> Portion:
    return Portion(in_band, size, tuple((start, end) for start, end in cuts))


def _edit(edit: Edit) -> list[str | int]:
    match edit:
        case RemovePart(path):
            return ["remove", path]
        case ReplacePart(path, octets, kind, name):
            return ["replace", path, _octets(octets), kind, name]
        case AddPart(octets, kind, name):
            return ["add", _octets(octets), kind, name]
        case AddField(name, value):
            return ["field", name, value]
        case AddNotice(position, text, html):
            return ["notice", position, text, html]


def _read_edit(fields: list[str | int]) -> Edit:
    match fields:
        case ["remove", str(path)]:
            return RemovePart(path)
        case ["replace", str(path), octets, str(kind), str(name)]:
            return ReplacePart(path, _read_octets(octets), kind, name)
        case ["add", octets, str(kind), str(name)]:
            return AddPart(_read_octets(octets), kind, name)
        case ["field", str(name), str(value)]:
            return AddField(name, value)
        case ["notice", str(position), str(text), str(html)]:
            return AddNotice(Position(position), text, html)
        case _:
            raise frames.OutOfForm("an edit that is unknown")


def _octets(octets: int | bytes) -> str | int:
    return octets if isinstance(octets, int) else base64.b64encode(octets).decode()


def _read_octets(written: str | int) -> int | bytes:
    return written if isinstance(written, int) else base64.b64decode(written)
