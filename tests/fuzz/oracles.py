"""What must hold for every mail, however odd: each function raises Broken where it does not.

Octets are compared without line ends: readers write their own, and none changes what a file is.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fuzz.by_email import Seen, seen
from posthouse.core.examination import AddField, CannotEdit, Edit, ExaminationLimits, ItemKind, RemovePart
from posthouse.core.examination_of import examine
from posthouse.core.file_name import fold, spellings
from posthouse.core.mime.readings import read
from posthouse.core.mime.surgery import edit
from posthouse.core.mime.tree import tree
from posthouse.core.mime.wire import unstuffed
from posthouse.core.wire_form import wire_form
from support.surgery import Made, materialised

LIMITS = ExaminationLimits(made_octets=32 * 1024 * 1024)
_ADDED = b"X-Fuzz: =?utf-8?B?w6Q=?=\r\n"
LEAST = 8
"""Octets of a thing whose removal is looked for: fewer may stand anywhere."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_LINE_ENDS = b"\r\n"


class Broken(AssertionError):
    """An oracle found fault; its name, and what it saw."""

    def __init__(self, oracle: str, what: str) -> None:
        super().__init__(f"{oracle}: {what[:600]}")
        self.oracle = oracle


@dataclass(frozen=True)
class Shown:
    """One thing that the scanner is shown."""

    kind: ItemKind
    part: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    octets: bytes


@dataclass(frozen=True)
class Examined:
    """A mail as the flow gets it."""

    plain: bytes
    shown: tuple[Shown, ...]
    ambiguous: tuple[str, ...]

    def beside_the_mail(self) -> Iterator[Shown]:
        return (one for one in self.shown if one.kind is not ItemKind.MAIL)


@dataclass
class Tally:
    """How much was compared: an oracle that compares nothing finds nothing."""

    mails: int = 0
    ambiguous: int = 0
    readings: int = 0
    """Mails with more than their parts."""
    bodies: int = 0
    names: int = 0
    types: int = 0
    removed: int = 0
    refused: int = 0
    """Edits that surgery would not carry out."""
    clamd: int = 0
    """Mails with a hidden marker that a clamd was asked about."""
    clamd_found: int = 0
    """Of these, those in which it found the marker; so did we, or the mail was ambiguous."""
    both_missed: int = 0


def received(octets: bytes) -> bytes:
    """Plain content as the receiver would hand it on: no bare CR or LF, the last line whole."""
    plain = _LINE_END.sub(b"\r\n", octets)
    return plain if not plain or plain.endswith(b"\r\n") else plain + b"\r\n"


def is_bare(octets: bytes) -> bool:
    """It has line ends that the receiver would not let in; only mails inside others come like this."""
    return _BARE.search(octets) is not None


def examined(plain: bytes) -> Examined:
    """By the examination, as `examiner` runs it."""
    wire = wire_form(plain)
    made = bytearray()

    def write(octets: bytes) -> int:
        made.extend(octets)
        return len(made) - len(octets)

    found = examine(wire, LIMITS, write)
    shown = []
    for item in found.items:
        source = made if item.place.made else wire
        if not 0 <= item.place.start <= item.place.end <= len(source):
            raise Broken("place", f"{item.kind} {item.path} is not there")
        octets = bytes(source[item.place.start : item.place.end])
        shown.append(Shown(item.kind, item.part, item.names, item.types, octets))
    paths = {part.path for part in found.parts}
    for one in shown:
        if one.part and one.part not in paths:
            raise Broken("place", f"the part {one.part} of an item is not in the tree")
    return Examined(plain, tuple(shown), found.ambiguous)


def read_as_it_is(octets: bytes) -> Examined:
    """Without the receiver and without containers: as a mail inside another is read."""
    found = read(octets, LIMITS)
    leaves = (
        Shown(
            *(leaf.kind, leaf.part, leaf.names, leaf.types),
            leaf.octets if isinstance(leaf.octets, bytes) else octets[leaf.octets.start : leaf.octets.end],
        )
        for leaf in found.leaves
    )
    return Examined(octets, tuple(leaves), found.ambiguous)


# --- Python's email --------------------------------------------------------------------------------------


def check_by_email(mail: Examined, tally: Tally) -> None:
    """All that `email` sees as a part is shown from its first octet on, with its names and its type."""
    if mail.ambiguous:
        return
    bodies = [_squeezed(one.octets) for one in mail.beside_the_mail()]
    whole = _squeezed(mail.plain)
    names = {spelling for one in mail.shown for name in one.names for spelling in spellings(name)}
    types = {type_ for one in mail.shown for type_ in one.types}
    for newer in (False, True):
        for part in seen(mail.plain, newer=newer):
            tally.bodies += 1
            payload = _squeezed(part.octets)
            if payload and not _is_shown(payload, part, bodies, whole):
                raise Broken("email-body", f"newer={newer} {part.octets[:200]!r}")
            for name in part.names:
                tally.names += 1
                if not _is_known(name, names):
                    raise Broken("email-name", f"newer={newer} {name!r}, ours {sorted(names)!r}")
            if part.type:
                tally.types += 1
                _check_type(part, types)


def _is_shown(payload: bytes, part: Seen, bodies: Iterable[bytes], whole: bytes) -> bool:
    """Of a multipart in which it finds no parts `email` gives the text as it stands, which is in the mail."""
    if any(body.startswith(payload) for body in bodies):
        return True
    return part.type.startswith("multipart/") and payload in whole


def _check_type(part: Seen, types: Iterable[str]) -> None:
    if part.type not in types:
        raise Broken("email-type", f"{part.type!r}, ours {sorted(types)!r}")


def _is_known(name: str, ours: set[str]) -> bool:
    """It has no more than 255 characters with us, and none that is not seen; U+FFFD is the library's "whatever"."""
    theirs = spellings("".join(char for char in name if char.isprintable())[:255])
    if not theirs or not ours.isdisjoint(theirs) or not fold(theirs[0]).strip(" .'\""):
        return True
    if "\ufffd" not in name:
        return False
    pattern = re.compile(".*".join(re.escape(piece) for piece in fold(name).split("\ufffd")), re.DOTALL)
    return any(pattern.fullmatch(one) for one in ours)


def _squeezed(octets: bytes) -> bytes:
    return octets.translate(None, _LINE_ENDS)


# --- Surgery ---------------------------------------------------------------------------------------------


def edited(plain: bytes, edits: Iterable[Edit]) -> bytes:
    """Raises CannotEdit."""
    whole = unstuffed(wire_form(plain))
    made = Made()
    pieces = edit(whole, tree(whole.octets, LIMITS), list(edits), (), made).pieces
    return unstuffed(materialised(wire_form(plain), made.octets, pieces)).octets


def check_surgery(mail: Examined, number: int, tally: Tally) -> None:
    """No edit changes nothing; a field is all that a field adds; what is removed is gone. `number` chooses what."""
    plain = mail.plain
    if edited(plain, ()) != plain:
        raise Broken("surgery", "no edit changed something")
    field = edited(plain, [AddField("X-Fuzz", "ä")])
    if field not in (_ADDED + plain, _ADDED + b"\r\n" + plain):
        raise Broken("surgery", f"a field changed something: {field[:300]!r}")
    removable = [one for one in mail.beside_the_mail() if one.part and len(one.octets) >= LEAST]
    if removable:
        check_removal(mail, removable[number % len(removable)], tally)


def check_removal(mail: Examined, bad: Shown, tally: Tally) -> None:
    """Without the part that an item names, the item is shown no more: else a mail is thought harmless that is not."""
    try:
        new = edited(mail.plain, [RemovePart(bad.part)])
    except CannotEdit:
        tally.refused += 1
        return
    tally.removed += 1
    others = [one for one in mail.beside_the_mail() if not _within(one.part, bad.part)]
    if mail.ambiguous or any(bad.octets in one.octets for one in others):
        return
    after = examined(received(new))
    if any(bad.octets in one.octets for one in after.beside_the_mail()):
        raise Broken("removal", f"part {bad.part}, {bad.kind}: {bad.octets[:200]!r}")


def _within(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}.")
