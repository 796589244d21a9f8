"""Writes an inventory into a file that is there: comments, layout and spelling of what does not differ stay.

The file is cut into its entries (a `[[server_profiles]]` or `[[rules]]` with the comments right above it) and what
stands between them. Entries that differ are changed value by value, those that are gone go with their comments; what
stands between stays. Rules come in their order, which is their priority; profiles stay where they are.
"""

import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from posthouse.core.faults import Fault
from posthouse.core.fields import name_key
from posthouse.core.inventory import export_document, load_toml, parse_inventory
from posthouse.core.profile import profile_json
from posthouse.core.rule import rule_json

if TYPE_CHECKING:
    from tomlkit.items import Array

Document = Mapping[str, object]
KINDS = ("server_profiles", "rules")

_HEADER = re.compile(r"\s*\[\[\s*(?:\"(?P<quoted>\w+)\"|'(?P<literal>\w+)'|(?P<bare>\w+))\s*\]\]\s*(?:#.*)?$")


class NotMergeable(Exception):
    """The file cannot be cut into its entries; the text says why."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a file: an entry, or what stands between two."""

    text: str
    kind: str = ""
    """One of KINDS; empty between entries."""
    key: str = ""
    """The entry's `name_key`."""


def to_toml(document: Document) -> str:
    """As inventory.toml: a table for each profile and rule, inner tables on one line."""
    import tomlkit

    root = tomlkit.document()
    for name in document:
        tables = tomlkit.aot()
        for entry in _entries(document, name):
            table = tomlkit.table()
            for key, value in entry.items():
                if isinstance(value, dict):
                    inline = tomlkit.inline_table()
                    inline.update(value)
                    table.add(key, inline)
                else:
                    table.add(key, value)
            tables.append(table)
        root.add(name, tables)
    return tomlkit.dumps(root)


def faults_of(text: str) -> tuple[Fault, ...]:
    """What keeps a file from being an inventory."""
    document, fault = load_toml(text)
    return (fault,) if fault is not None else parse_inventory(document)[2]


def merge_into(text: str, wanted: Document) -> str:
    """`text`, a file without faults, with exactly the profiles and rules of `wanted`, as export gives them.

    Raises NotMergeable.
    """
    before = {kind: _by_key(entries) for kind, entries in _canonical(text).items()}
    after = {kind: _by_key(_entries(wanted, kind)) for kind in KINDS}
    pieces = _cut(text, before)
    edited = {
        (piece.kind, piece.key): _edited(piece, before[piece.kind][piece.key], after[piece.kind][piece.key], wanted)
        for piece in pieces
        if piece.kind and piece.key in after[piece.kind]
    }
    merged = _arranged(pieces, edited, after)
    if _canonical(merged) != {kind: list(after[kind].values()) for kind in KINDS}:
        raise NotMergeable("what comes of it is not the inventory")
    return merged


def _canonical(text: str) -> dict[str, list[dict[str, object]]]:
    """As export gives it. Raises NotMergeable if there are faults."""
    document, fault = load_toml(text)
    profiles, rules, faults = parse_inventory(document)
    if fault is not None or faults:
        raise NotMergeable("it has faults")
    found = export_document([profile_json(profile) for profile in profiles], [rule_json(rule) for rule in rules])
    return {kind: _entries(found, kind) for kind in KINDS}


def _entries(document: Document, kind: str) -> list[dict[str, object]]:
    listed = document.get(kind)
    return [dict(entry) for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []


def _by_key(entries: Sequence[dict[str, object]]) -> dict[str, dict[str, object]]:
    return {name_key(str(entry["name"])): entry for entry in entries}


# --- cutting -----------------------------------------------------------------------------------------


def _cut(text: str, entries: Mapping[str, Mapping[str, Document]]) -> list[_Piece]:
    """The pieces of a file, which joined are the file. Raises NotMergeable where entries are written otherwise than
    as `[[...]]`, or where a text over several lines looks like one."""
    lines = _lines(text)
    headers = [(at, kind) for at, line in enumerate(lines) if (kind := _kind(line))]
    starts = [_with_comments(lines, at) for at, _ in headers]
    pieces = [_Piece("".join(lines[: starts[0] if starts else len(lines)]))]
    for (at, kind), start, end in zip(headers, starts, [*starts, len(lines)][1:], strict=True):
        last = max(number for number in range(at, end) if not _is_idle(lines[number]))
        while last + 1 < end and lines[last + 1].lstrip().startswith("#"):
            last += 1
        body = "".join(lines[start : last + 1])
        document, fault = load_toml(body)
        found = _entries(document, kind)
        if fault is not None or len(found) != 1 or len(document) != 1:
            raise NotMergeable(f"line {at + 1} is not the begin of an entry")
        pieces += [_Piece(body, kind, name_key(str(found[0].get("name")))), _Piece("".join(lines[last + 1 : end]))]
    named = {kind: {piece.key for piece in pieces if piece.kind == kind} for kind in KINDS}
    if named != {kind: set(entries[kind]) for kind in KINDS}:
        raise NotMergeable("its entries are not written as [[server_profiles]] and [[rules]]")
    return [piece for piece in pieces if piece.text]


def _lines(text: str) -> list[str]:
    """As TOML counts them: nothing but a line feed ends one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _kind(line: str) -> str:
    found = _HEADER.match(line.rstrip("\r\n"))
    kind = (found["quoted"] or found["literal"] or found["bare"]) if found else ""
    return kind if kind in KINDS else ""


def _with_comments(lines: Sequence[str], header: int) -> int:
    """Where the comments right above a header begin; those at the top of the file are the file's."""
    start = header
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return start if start > 0 else header


def _is_idle(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


# --- changing one entry ------------------------------------------------------------------------------


def _edited(piece: _Piece, before: Document, after: Document, wanted: Document) -> str:
    """The entry as it is to be, as little changed as can be."""
    import tomlkit

    if before == after:
        return piece.text
    document = tomlkit.parse(piece.text)
    entry: Any = document[piece.kind][0]
    _update(entry, before, after)
    text = tomlkit.dumps(document)
    return (
        text
        if _stands_for(text, piece.kind, after, wanted)
        else _comments_above(piece.text) + _new(piece.kind, after)
    )


def _update(table: MutableMapping[str, Any], before: Document, after: Document) -> None:
    """Only what differs; a default that is written out stays."""
    for name in [name for name in table if name in before and name not in after]:
        del table[name]
    for name, value in after.items():
        old = before.get(name)
        if value == old:
            continue
        if name not in table:
            table[name] = _inline(value)
        elif isinstance(value, Mapping) and isinstance(table[name], MutableMapping):
            _update(table[name], old if isinstance(old, Mapping) else {}, value)
        elif isinstance(value, list) and isinstance(old, list) and len(table[name]) == len(old):
            _update_array(table[name], old, value)
        else:
            table[name] = _inline(value)


def _update_array(array: "Array", before: list[object], after: list[object]) -> None:
    """Entry by entry from the end, so that comments in the array stay."""
    changes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for kind, begin, end, new_begin, new_end in reversed(changes):
        new = after[new_begin:new_end] if kind != "equal" else []
        if kind == "equal":
            continue
        common = min(end - begin, len(new))
        for at in reversed(range(begin + common, end)):
            del array[at]
        for at in reversed(range(common, len(new))):
            array.insert(begin + common, new[at])
        for at in range(common):
            array[begin + at] = new[at]


def _inline(value: object) -> object:
    import tomlkit

    if not isinstance(value, Mapping):
        return value
    table = tomlkit.inline_table()
    table.update(value)
    return table


def _stands_for(text: str, kind: str, after: Document, wanted: Document) -> bool:
    """Whether the entry is what it is to be, a rule among the profiles that are wanted."""
    document, fault = load_toml(text)
    if fault is not None:
        return False
    profiles, rules, _ = parse_inventory({"server_profiles": wanted["server_profiles"], **document})
    found = export_document([profile_json(profile) for profile in profiles], [rule_json(rule) for rule in rules])
    return _entries(found, kind) == [dict(after)]


def _comments_above(text: str) -> str:
    lines = _lines(text)
    return "".join(lines[: next(at for at, line in enumerate(lines) if _kind(line))])


def _new(kind: str, entry: Document) -> str:
    return to_toml({kind: [dict(entry)]})


# --- putting together --------------------------------------------------------------------------------


def _arranged(
    pieces: Sequence[_Piece],
    edited: Mapping[tuple[str, str], str],
    after: Mapping[str, Mapping[str, Document]],
) -> str:
    """The pieces, those that are gone left out, those that are new put where their order says."""
    kept = {kind: [piece.key for piece in pieces if (kind, piece.key) in edited] for kind in KINDS}
    orders = {
        "server_profiles": [
            *kept["server_profiles"],
            *(k for k in after["server_profiles"] if k not in kept["server_profiles"]),
        ],
        "rules": list(after["rules"]),
    }
    # A rule that moves takes the place of another one; what stands between them stays there.
    places = {kind: iter([key for key in orders[kind] if key in kept[kind]]) for kind in KINDS}
    out: list[_Piece] = []
    gone = False
    for piece in pieces:
        if piece.kind and (piece.kind, piece.key) in edited:
            key = next(places[piece.kind])
            out.append(_Piece(edited[piece.kind, key], piece.kind, key))
        elif not piece.kind and not (gone and not piece.text.strip()):
            out.append(piece)
        gone = bool(piece.kind) and (piece.kind, piece.key) not in edited
    for kind in KINDS:
        place = _first_place(out, kind)
        for key in orders[kind]:
            if key in kept[kind]:
                place = next(at for at, piece in enumerate(out) if (piece.kind, piece.key) == (kind, key)) + 1
            else:
                out.insert(place, _Piece(_new(kind, after[kind][key]), kind, key))
                place += 1
    return _joined(out, kept)


def _first_place(pieces: Sequence[_Piece], kind: str) -> int:
    """Where the first entry of that kind goes: before the others, profiles before rules, else at the end."""
    for kinds in ((kind,), ("rules",)):
        for at, piece in enumerate(pieces):
            if piece.kind in kinds:
                return at
    return len(pieces)


def _joined(pieces: Sequence[_Piece], kept: Mapping[str, Sequence[str]]) -> str:
    """One text; a new entry has an empty line before it and after it."""
    text, apart = "", False
    for piece in pieces:
        new = bool(piece.kind) and piece.key not in kept[piece.kind]
        if text and (new or apart):
            text += "" if text.endswith("\n") else "\n"
            if not text.endswith("\n\n") and not piece.text.startswith(("\n", "\r\n")):
                text += "\n"
        text += piece.text
        apart = new
    return text
