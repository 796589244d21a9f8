"""What an examiner answers: an examination, the pieces of an edited mail, or why there is neither.

Written by the child; the parent reads it as it would read a stranger's: types, lengths and places are checked, and
what is not in form is OutOfForm.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from posthouse.core.examination import (
    NAME_LENGTH,
    Examination,
    ExaminationLimits,
    Item,
    ItemKind,
    PartFacts,
    Place,
)
from posthouse.examiner.frames import OutOfForm

PATH_LENGTH = 4096
TYPE_LENGTH = 255
SENTENCE_LENGTH = 1000
VALUE_LENGTH = 64 * 1024
SEVERAL = 1000
"""Names, types, reasons, header fields of one thing, at most."""
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, and halves of surrogate pairs, which no file and no database takes."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FINAL_DOT = b".\r\n"
_KINDS = {kind.value: kind for kind in ItemKind}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where places may lie, and how many values there may be."""

    mail: int
    """Octets of the mail."""
    made: int
    """Octets that the examiner made."""
    limits: ExaminationLimits

    @property
    def items(self) -> int:
        return self.limits.readings + self.limits.parts + 1


# --- The child's side ------------------------------------------------------------------------------------


def examination_document(examination: Examination) -> dict[str, object]:
    """Texts are cut and cleaned here, so that one odd name costs no mail."""
    return {
        "items": [_item(item) for item in examination.items],
        "parts": [_part(part) for part in examination.parts],
        "ambiguous": _cleaned(examination.ambiguous, SENTENCE_LENGTH),
        "header": [
            [clean(name, NAME_LENGTH), clean(value, VALUE_LENGTH)] for name, value in examination.header[:SEVERAL]
        ],
    }


def place_document(place: Place) -> list[int]:
    return [int(place.made), place.start, place.end]


def clean(text: str, length: int) -> str:
    return _UNFIT.sub("\ufffd", text[:length])


def _cleaned(texts: tuple[str, ...], length: int) -> list[str]:
    return [clean(text, length) for text in texts[:SEVERAL]]


def _item(item: Item) -> list[object]:
    return [
        item.kind.value,
        clean(item.path, PATH_LENGTH),
        item.part,
        _cleaned(item.names, NAME_LENGTH),
        _cleaned(item.types, TYPE_LENGTH),
        *place_document(item.place),
        item.sha256,
    ]


def _part(part: PartFacts) -> list[object]:
    return [
        part.path,
        clean(part.type, TYPE_LENGTH),
        _cleaned(part.types, TYPE_LENGTH),
        _cleaned(part.names, NAME_LENGTH),
        part.size,
        part.attachment,
        part.inline,
        clean(part.encrypted, TYPE_LENGTH),
        part.sha256,
    ]


# --- The parent's side -----------------------------------------------------------------------------------


def read_examination(document: object, bounds: Bounds) -> Examination:
    """Raises OutOfForm."""
    match document:
        case {"items": items, "parts": parts, "ambiguous": ambiguous, "header": header}:
            examination = Examination(
                _several(items, bounds.items, lambda value: _read_item(value, bounds)),
                _several(parts, 2 * bounds.limits.parts, lambda value: _read_part(value, bounds)),
                _texts(ambiguous, SENTENCE_LENGTH),
                _several(header, SEVERAL, _read_field),
            )
        case _:
            raise OutOfForm("what is no examination")
    if not examination.items or not _is_mail(examination.items[0], bounds):
        raise OutOfForm("an examination that does not begin with the mail")
    return examination


def _is_mail(item: Item, bounds: Bounds) -> bool:
    """All of it: if no dots had to be taken out, the very octets that are stored."""
    whole = item.place.made or item.place == Place(False, 0, max(0, bounds.mail - len(_FINAL_DOT)))
    return item.kind is ItemKind.MAIL and not item.part and whole


def read_pieces(document: object, bounds: Bounds) -> tuple[Place, ...]:
    """Of an edited mail. Raises OutOfForm."""
    return _several(document, None, lambda value: _read_piece(value, bounds))


def text(value: object, length: int) -> str:
    """Raises OutOfForm."""
    if not isinstance(value, str) or len(value) > length or _UNFIT.search(value):
        raise OutOfForm("what is no text of ours")
    return value


def number(value: object, most: int) -> int:
    """Raises OutOfForm."""
    if type(value) is not int or not 0 <= value <= most:
        raise OutOfForm("a number out of bounds")
    return value


def flag(value: object) -> bool:
    """Raises OutOfForm."""
    if not isinstance(value, bool):
        raise OutOfForm("what is no truth value")
    return value


def _several(value: object, most: int | None, read: Callable[[object], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list) or (most is not None and len(value) > most):
        raise OutOfForm("what is no list, or one that is too long")
    return tuple([read(one) for one in value])


def _texts(value: object, length: int) -> tuple[str, ...]:
    return _several(value, SEVERAL, lambda one: text(one, length))


def _place(made: object, start: object, end: object, bounds: Bounds) -> Place:
    in_made = number(made, 1) == 1
    last = number(end, bounds.made if in_made else bounds.mail)
    return Place(in_made, number(start, last), last)


def _read_piece(value: object, bounds: Bounds) -> Place:
    match value:
        case [made, start, end]:
            return _place(made, start, end, bounds)
        case _:
            raise OutOfForm("what is no place")


def _read_item(value: object, bounds: Bounds) -> Item:
    match value:
        case [str(kind), path, part, names, types, made, start, end, sha256] if kind in _KINDS:
            return Item(
                _KINDS[kind],
                text(path, PATH_LENGTH),
                text(part, PATH_LENGTH),
                _texts(names, NAME_LENGTH),
                _texts(types, TYPE_LENGTH),
                _place(made, start, end, bounds),
                _hash(sha256),
            )
        case _:
            raise OutOfForm("what is no item")


def _read_part(value: object, bounds: Bounds) -> PartFacts:
    match value:
        case [path, kind, types, names, size, attachment, inline, encrypted, sha256]:
            return PartFacts(
                text(path, PATH_LENGTH),
                text(kind, TYPE_LENGTH),
                _texts(types, TYPE_LENGTH),
                _texts(names, NAME_LENGTH),
                number(size, max(bounds.mail, bounds.limits.made_octets)),
                flag(attachment),
                flag(inline),
                text(encrypted, TYPE_LENGTH),
                _hash(sha256) if sha256 else "",
            )
        case _:
            raise OutOfForm("what is no part")


def _read_field(value: object) -> tuple[str, str]:
    match value:
        case [name, content]:
            return text(name, NAME_LENGTH), text(content, VALUE_LENGTH)
        case _:
            raise OutOfForm("what is no header field")


def _hash(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise OutOfForm("what is no SHA-256")
    return value
