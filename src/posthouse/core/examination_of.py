"""Makes the examination of a mail: its parts under every reading, what is in their containers, types, facts.

What is not a span of the mail as it is stored is handed to a writer, which tells where it begins. Never raises for
what a mail holds. Source: design section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from posthouse.core.container.budget import Budget, Exhausted, Fault
from posthouse.core.container.encrypted import encryption_of
from posthouse.core.container.opening import Opened, open_container
from posthouse.core.content_type import types_of
from posthouse.core.examination import Examination, ExaminationLimits, Item, ItemKind, PartFacts, Place
from posthouse.core.file_name import kept
from posthouse.core.mime.header import value
from posthouse.core.mime.leaves import Leaf, Span
from posthouse.core.mime.part import Part
from posthouse.core.mime.readings import Mime, read, walk
from posthouse.core.mime.wire import Plain, unstuffed
from posthouse.core.mime.words import decoded_words_in
from posthouse.core.mime_text import one_line
from posthouse.core.part_facts import declared_encryption, is_attachment, is_named, referred

Write = Callable[[bytes], int]
"""Takes octets that were made and tells where they begin (`Place.start` with `made`)."""

HEADER_FIELDS = ("From", "To", "Subject", "Date", "Message-ID")
_VALUE = 4000
"""Characters of a header field that are kept."""
_REASONS = 50
_NAMES, _TYPES = 64, 16
"""Of one item."""
_PATH = 500
_MAIL_SUFFIXES = (".eml", ".mht", ".mhtml", ".mim")
_MAIL_OCTETS = 64 * 1024 * 1024
"""Of a mail in a container that is read as one."""


def examine(wire: bytes, limits: ExaminationLimits, write: Write) -> Examination:
    """`wire`: the content in wire form, with its final dot or without. Raises what `write` raises."""
    plain = unstuffed(wire)
    return _Examining(plain, read(plain.octets, limits), limits, write).examination()


@dataclass(slots=True)
class _Shown:
    """An item in the making: the same octets may get further names."""

    kind: ItemKind
    path: str
    part: str
    names: dict[str, None]
    types: dict[str, None]
    place: Place
    sha256: str

    def item(self) -> Item:
        return Item(self.kind, self.path, self.part, tuple(self.names), tuple(self.types), self.place, self.sha256)


@dataclass(frozen=True, slots=True)
class _Content:
    """By content, of a part of the tree."""

    types: tuple[str, ...]
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Thing:
    """Octets that are shown, before it is known where they are."""

    kind: ItemKind
    path: str
    part: str
    names: tuple[str, ...]
    declared: tuple[str, ...]
    octets: bytes
    span: Span | None = None


class _Examining:
    def __init__(self, plain: Plain, mime: Mime, limits: ExaminationLimits, write: Write) -> None:
        self._plain = plain
        self._mime = mime
        self._limits = limits
        self._write = write
        self._budget = Budget(limits)
        self._copied = write(plain.octets) if plain.dots else -1
        """Where the mail without dot-stuffing was written; -1 if it is what is stored."""
        self._shown: list[_Shown] = []
        self._known: dict[tuple[str, str], _Shown] = {}
        self._contents: dict[str, _Content] = {}
        self._encrypted: dict[str, str] = {}
        self._referred: set[str] = set()
        self._reasons = dict.fromkeys(mime.ambiguous)

    def examination(self) -> Examination:
        whole = memoryview(self._plain.octets)
        place = self._place(Span(0, len(whole)))
        mail = _Shown(ItemKind.MAIL, "", "", {}, {"message/rfc822": None}, place, sha256(whole).hexdigest())
        self._shown.append(mail)
        parts = list(walk(self._mime.root))
        for part in parts:
            self._whole(part)
        for leaf in self._mime.leaves:
            self._leaf(leaf)
        return Examination(
            tuple(shown.item() for shown in self._shown),
            tuple(self._facts(part) for part in parts),
            tuple(self._reasons)[:_REASONS],
            self._header(),
        )

    # --- Items -------------------------------------------------------------------------------------------

    def _whole(self, part: Part) -> None:
        """A message in the mail, or a multipart with a name: readers may save it as it is."""
        if not part.path or not (part.parts or part.boundary) or (part.boundary and not part.names):
            return
        span = Span(part.body, part.end)
        octets = self._plain.octets[part.body : part.end]
        self._show(_Thing(ItemKind.PART, part.path, part.path, part.names, (part.type,), octets, span))

    def _leaf(self, leaf: Leaf) -> None:
        span = leaf.octets if isinstance(leaf.octets, Span) else None
        octets = self._plain.octets[span.start : span.end] if span else leaf.octets
        assert isinstance(octets, bytes)
        thing = _Thing(leaf.kind, leaf.path, leaf.part, leaf.names, leaf.types, octets, span)
        new = self._show(thing)
        if leaf.kind is ItemKind.TEXT:
            return
        if "text/html" in leaf.types:
            self._referred |= referred(octets)
        if new:
            self._open(thing, 0)

    def _show(self, thing: _Thing, digest: str = "") -> bool:
        """Makes an item of it; False if the same octets of the same part are one already, or there is no room."""
        digest = digest or sha256(thing.octets).hexdigest()
        known = self._known.get((thing.part, digest))
        by_content: tuple[str, ...] = ()
        if known is not None:
            if len(known.names.keys() | thing.names) <= _NAMES:
                known.names.update(dict.fromkeys(thing.names))
                known.types.update(dict.fromkeys(thing.declared[: max(0, _TYPES - len(known.types))]))
                return False
            place, types = known.place, dict(known.types)
        else:
            types = dict.fromkeys(thing.declared[:_TYPES])
            by_content = types_of(thing.octets)
            types.update(dict.fromkeys(by_content))
        if len(self._shown) >= self._limits.readings:
            self._reasons[f"There are more than {self._limits.readings} things to be shown to the scanner."] = None
            return False
        if known is None:
            placed = self._placed(thing)
            if placed is None:
                return False
            place = placed
        shown = _Shown(thing.kind, thing.path[:_PATH], thing.part, dict.fromkeys(thing.names), types, place, digest)
        self._shown.append(shown)
        self._known[thing.part, digest] = shown
        if known is None and thing.kind is ItemKind.PART and thing.path == thing.part:
            self._contents[thing.part] = _Content(by_content, len(thing.octets), digest)
        if thing.part and thing.part not in self._encrypted and (how := encryption_of(thing.octets)):
            self._encrypted[thing.part] = how
        return known is None

    def _placed(self, thing: _Thing) -> Place | None:
        if thing.span is not None:
            return self._place(thing.span)
        if thing.kind is not ItemKind.MEMBER:
            # Members were paid for when they were unpacked.
            try:
                self._budget.take_octets(len(thing.octets))
            except Exhausted as limit:
                self._reasons[f"Not all of the mail could be shown: {limit}."] = None
                return None
        start = self._write(thing.octets)
        return Place(True, start, start + len(thing.octets))

    def _place(self, span: Span) -> Place:
        if self._copied < 0:
            return Place(False, span.start, span.end)
        return Place(True, self._copied + span.start, self._copied + span.end)

    # --- Containers --------------------------------------------------------------------------------------

    def _open(self, thing: _Thing, depth: int) -> None:
        """What is in it, and what is in the mails in it, one after the other."""
        left = [(thing, depth)]
        while left:
            outer, depth = left.pop()
            allowed = self._limits.container_depth - depth
            path = (
                f"{outer.path}/{outer.names[0]}" if outer.names and outer.kind is not ItemKind.MEMBER else outer.path
            )
            for found in open_container(outer.octets, outer.names, self._budget, allowed):
                if isinstance(found, Fault):
                    self._reasons[f"Part {one_line(path)[:_PATH]} was not opened whole: {found.why}."] = None
                    continue
                if found.encrypted and outer.part:
                    self._encrypted.setdefault(outer.part, found.encrypted)
                member = self._member(outer, path, found)
                if self._show(member, found.sha256) and self._is_mail(member):
                    left.extend((inner, depth + found.level) for inner in self._mail(member))

    def _member(self, outer: _Thing, path: str, found: Opened) -> _Thing:
        names = kept(found.names)
        return _Thing(ItemKind.MEMBER, f"{path}/{one_line(found.path)}"[:_PATH], outer.part, names, (), found.octets)

    def _is_mail(self, member: _Thing) -> bool:
        types = self._shown[-1].types
        return "message/rfc822" in types or any(name.lower().endswith(_MAIL_SUFFIXES) for name in member.names)

    def _mail(self, member: _Thing) -> list[_Thing]:
        """The parts of a mail in a container, shown."""
        if len(member.octets) > _MAIL_OCTETS:
            self._reasons[f"{one_line(member.path)} was not read as a mail: it is too large."] = None
            return []
        mime = read(member.octets, self._limits)
        self._reasons.update(dict.fromkeys(mime.ambiguous))
        things = []
        for leaf in mime.leaves:
            octets = leaf.octets
            if isinstance(octets, Span):
                octets = member.octets[octets.start : octets.end]
            thing = _Thing(leaf.kind, f"{member.path}/{leaf.path}", member.part, leaf.names, leaf.types, octets)
            if self._show(thing) and leaf.kind is not ItemKind.TEXT:
                things.append(thing)
        return things

    # --- Facts -------------------------------------------------------------------------------------------

    def _facts(self, part: Part) -> PartFacts:
        content = self._contents.get(part.path) if not part.boundary else None
        by_content = content.types if content else ()
        octets = self._plain.octets
        inline = not part.boundary and is_named(octets, part, self._referred)
        return PartFacts(
            path=part.path,
            type=part.type,
            types=by_content,
            names=part.names,
            size=content.size if content else 0,
            attachment=is_attachment(part, by_content, inline=inline),
            inline=inline,
            encrypted=declared_encryption(octets, part) or self._encrypted.get(part.path, ""),
            sha256=content.sha256 if content else "",
        )

    def _header(self) -> tuple[tuple[str, str], ...]:
        fields = []
        for name in HEADER_FIELDS:
            field = next((field for field in self._mime.root.fields if field.name == name.lower()), None)
            if field is not None:
                raw = value(self._plain.octets, field)[: 4 * _VALUE]
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError:
                    text = raw.decode("latin-1")
                fields.append((name, one_line(decoded_words_in(text).replace("\t", " "))[:_VALUE]))
        return tuple(fields)
