"""A kept mail as it can be looked at: header fields, texts, sanitized HTML, parts with what was found in them.

Made of values that the examiner has given; the console never reads a mail itself.
"""

from collections.abc import Iterator, Mapping, Sequence

from posthouse.core.examination import Examination, Item, ItemKind, PartFacts
from posthouse.scan_ports import Examined, Octets
from posthouse.web.safe_html import safe_html

TEXT_CHARACTERS = 1024 * 1024
"""Of all texts of a mail together."""
BODIES = 20
PARTS = 500
MEMBERS = 200
"""Of containers, in all."""
_OCTETS = 4 * TEXT_CHARACTERS

VIEW: dict[str, object] = {
    "id": "01K9Z6Q3W8V5T2",
    "header": [{"name": "Subject", "value": "Invoice"}],
    "ambiguous": ["Part 1 has two boundaries."],
    "bodies": [
        {
            "part": "1.1",
            "type": "text/html",
            "text": "",
            "html": "<p>Pay here</p>",
            "links": ["https://pay.example/"],
            "cut": False,
        }
    ],
    "parts": [
        {
            "path": "1.2",
            "type": "application/zip",
            "types": ["application/zip"],
            "names": ["invoice.zip"],
            "size": 70,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "attachment": True,
            "inline": False,
            "encrypted": "",
            "verdicts": [
                {
                    "at": 1764000000.0,
                    "rule": "inbound",
                    "profile": "core",
                    "path": "1.2/invoice.zip/a.exe",
                    "verdict": "blocked",
                    "threat": "Eicar-Test-Signature",
                    "reason": "",
                }
            ],
        }
    ],
    "members": [{"path": "1.2/invoice.zip/a.exe", "part": "1.2", "names": ["a.exe"], "types": [], "size": 68}],
    "more": False,
}
"""The example of OpenAPI."""


def view_of(mail_id: str, examined: Examined, scans: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Raises ContentUnreadable."""
    examination = examined.examination
    members = [item for item in examination.items if item.kind is ItemKind.MEMBER]
    said: dict[str, list[dict[str, object]]] = {}
    for row in scans:
        said.setdefault(str(row["part"]), []).append({name: row[name] for name in _VERDICT})
    bodies = list(_bodies(examined))
    return {
        "id": mail_id,
        "header": [{"name": name, "value": value} for name, value in examination.header],
        "ambiguous": list(examination.ambiguous),
        "bodies": bodies,
        "parts": [_part(part, said.get(part.path, [])) for part in examination.parts[:PARTS]],
        "members": [_member(item) for item in members[:MEMBERS]],
        "more": len(examination.parts) > PARTS or len(members) > MEMBERS or len(bodies) < len(_shown(examination)),
    }


def part_octets(examined: Examined, path: str) -> tuple[PartFacts, Octets] | None:
    """What most readers would save of a part; None if there is no such part, or it has no octets of its own."""
    facts = next((part for part in examined.examination.parts if part.path == path), None)
    item = _item(examined.examination, ItemKind.PART, path)
    return None if facts is None or item is None else (facts, examined.octets(item))


_VERDICT = ("at", "rule", "profile", "path", "verdict", "threat", "reason")


def _shown(examination: Examination) -> list[PartFacts]:
    return [part for part in examination.parts if not part.attachment and part.type.startswith("text/")]


def _bodies(examined: Examined) -> Iterator[dict[str, object]]:
    left = TEXT_CHARACTERS
    for part in _shown(examined.examination)[:BODIES]:
        text, cut = _text(examined, part.path, left)
        left -= len(text)
        links: list[str] = []
        html = ""
        if part.type == "text/html":
            safe = safe_html(text)
            text, html, links, cut = "", safe.html, list(safe.links), cut or safe.cut
        yield {"part": part.path, "type": part.type, "text": text, "html": html, "links": links, "cut": cut}


def _text(examined: Examined, path: str, most: int) -> tuple[str, bool]:
    """The characters of a text part, and whether there are more."""
    examination = examined.examination
    item = _item(examination, ItemKind.TEXT, path) or _item(examination, ItemKind.PART, path)
    if item is None:
        return "", False
    octets = b""
    for piece in examined.octets(item).pieces():
        octets += piece
        if len(octets) > _OCTETS:
            break
    text = octets.decode("utf-8", "replace")
    return text[:most], len(text) > most or len(octets) < item.place.size


def _item(examination: Examination, kind: ItemKind, path: str) -> Item | None:
    return next((item for item in examination.items if (item.kind, item.path, item.part) == (kind, path, path)), None)


def _part(part: PartFacts, verdicts: list[dict[str, object]]) -> dict[str, object]:
    return {
        "path": part.path,
        "type": part.type,
        "types": list(part.types),
        "names": list(part.names),
        "size": part.size,
        "sha256": part.sha256,
        "attachment": part.attachment,
        "inline": part.inline,
        "encrypted": part.encrypted,
        "verdicts": verdicts,
    }


def _member(item: Item) -> dict[str, object]:
    return {
        "path": item.path,
        "part": item.part,
        "names": list(item.names),
        "types": list(item.types),
        "size": item.place.size,
    }
