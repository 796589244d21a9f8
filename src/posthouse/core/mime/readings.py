"""Every plausible reading of a mail: what some mail reader, anywhere, may show or save out of it.

`read` is what the examination calls. A well-formed mail gives its parts and nothing else. Where something is odd, the
mail is read again in other manners (`header.Manner`), cut at everything that looks like a delimiter (`loose`), and
bodies whose encoding is in doubt are decoded in every way (`decode`); all that comes out is shown to the scanner. A
mail is ambiguous only where even that union cannot be whole.
Source: design section 3; draft-chen-email-mime-ambiguity-defense-00.
"""

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.core.examination import ExaminationLimits, ItemKind
from posthouse.core.mime.charset import recodable, recoded
from posthouse.core.mime.decode import decodings
from posthouse.core.mime.embedded import embedded, uudecoded
from posthouse.core.mime.evidence import IDENTITY, NEVER_WHOLE, encodings, named, types, types_in
from posthouse.core.mime.header import Buffer, Manner
from posthouse.core.mime.loose import pieces
from posthouse.core.mime.names import file_name, names
from posthouse.core.mime.parameters import parse
from posthouse.core.mime.part import Part
from posthouse.core.mime.tree import MESSAGES, Grown, grow


@dataclass(frozen=True, slots=True)
class Span:
    """Octets of the mail without dot-stuffing, half-open."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """One thing that is shown to the scanner."""

    kind: ItemKind
    """PART, READING or TEXT."""
    path: str
    """For people: that of the part; `2?` for another reading of it; `2/1.1` inside an encoded mail."""
    part: str
    """Path of the part of the tree that holds it; empty if the mail as a whole does."""
    names: tuple[str, ...]
    """Every reading, the usual one first."""
    types: tuple[str, ...]
    """As declared, every reading, lower case."""
    octets: bytes | Span
    """Decoded; a span where it is what stands in the mail."""


@dataclass(frozen=True, slots=True)
class Mime:
    """A mail, read."""

    root: Part
    """As most readers see it."""
    leaves: tuple[Leaf, ...]
    """The parts in their order, then the other readings; no two with the same octets in the same part."""
    ambiguous: tuple[str, ...]
    """Why not all could be shown, each in one sentence."""


MANNERS = (
    Manner(last=True),
    Manner(prefix=True, declared=False, after=True),
    Manner(blank=True, declared=False),
    Manner(unfolded=True),
    Manner(blank=True, unfolded=True, squeezed=True, prefix=True, declared=False, after=True),
    Manner(outer=True),
)
"""How else an odd mail is read."""
BOUNDARIES = 10
"""Readings of the boundary that get a tree of their own; the loose pieces cover the others."""
_MAIL_HEAD = re.compile(
    rb"\s*+(?:[!-9;-~]++:[^\n]*+\n(?:[ \t][^\n]*+\n)*+){0,200}?(?:content-type|mime-version)[ \t]*+:", re.I
)
_MAIL_NAMES = (".eml", ".mht", ".mhtml", ".mim", ".mime")
_HEAD = 8192
"""Octets of a part that are looked at, whether it is a mail."""
_MIME_FIELD = re.compile(rb"content-(?:type|transfer|disp)|^[ \t]*+begin ", re.I | re.M)
_BARE = re.compile(rb"\r(?!\n)")
_CONTROL = b"\x00\x0b\x0c"


def read(octets: Buffer, limits: ExaminationLimits) -> Mime:
    """The mail under every plausible reading. `octets`: the content without dot-stuffing. Never raises; the time is
    linear in the size for given limits."""
    return _Reading(octets, limits).read()


def walk(root: Part) -> Iterator[Part]:
    """The part and all in it, in the order of the mail."""
    left = [root]
    while left:
        part = left.pop()
        yield part
        left.extend(reversed(part.parts))


@dataclass(frozen=True, slots=True)
class _Source:
    """A mail to be read: the whole one, or one that was made out of it."""

    octets: Buffer
    path: str
    part: str
    depth: int = 0
    cleaned: bool = False

    def where(self, path: str) -> str:
        return f"{self.path}/{path}" if self.path else path

    def holder(self, path: str) -> str:
        return self.part if self.depth else path


class _Reading:
    def __init__(self, octets: Buffer, limits: ExaminationLimits) -> None:
        self._mail = octets
        self._limits = limits
        self._leaves: list[Leaf] = []
        self._known: dict[bytes | tuple[int, int], set[str]] = {}
        self._doubts: dict[str, None] = {}
        self._made = 0
        self._queue: deque[_Source] = deque()

    def read(self) -> Mime:
        grown = grow(self._mail, self._limits)
        self._read(_Source(self._mail, "", ""), grown)
        while self._queue and not self._full():
            source = self._queue.popleft()
            self._read(source, grow(source.octets, self._limits))
        leaves = sorted(self._leaves, key=lambda leaf: leaf.kind is not ItemKind.PART)
        return Mime(grown.root, tuple(leaves), tuple(self._doubts))

    def _read(self, source: _Source, grown: Grown) -> None:
        self._doubts.update(dict.fromkeys(grown.beyond))
        odd = grown.odd
        held: list[Part] = []
        for part in walk(grown.root):
            if self._full():
                return
            if part.parts or part.boundary:
                odd = self._between(source, part) or odd
            else:
                held.append(part)
                self._leaf(source, part, source.holder(part.path), not source.depth)
        if odd:
            self._odd(source, grown, held)
        bare = _BARE.search(source.octets) is not None
        if not source.cleaned and (bare or any(source.octets.find(b"%c" % one) >= 0 for one in _CONTROL)):
            octets = bytes(source.octets).translate(None, _CONTROL).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            self._inner(_Source(octets.replace(b"\n", b"\r\n"), source.path, source.part, source.depth + 1, True))

    def _odd(self, source: _Source, grown: Grown, held: list[Part]) -> None:
        """The same mail in other manners, and in loose pieces."""
        seen = {_key(part) for part in held}
        spans = {(part.body, part.end) for part in held}
        others = [Manner(boundary=number) for number in range(1, min(grown.boundaries, BOUNDARIES))]
        for manner in (*MANNERS, *others):
            other = grow(source.octets, self._limits, manner)
            self._doubts.update(dict.fromkeys(other.beyond))
            for part in walk(other.root):
                if self._full():
                    return
                if part.parts or part.boundary:
                    continue
                if _key(part) not in seen:
                    seen.add(_key(part))
                    spans.add((part.body, part.end))
                    self._leaf(source, part, source.holder(_holder(held, part.body, part.end)), False)
        for start, body, end in pieces(source.octets, 0, self._limits.parts):
            if self._full():
                return
            self._piece(source, start, body, end, held, (body, end) in spans)

    def _piece(self, source: _Source, start: int, body: int, end: int, held: list[Part], seen: bool) -> None:
        header = bytes(source.octets[start : min(body, start + self._limits.header_octets)])
        wanted = named(header)
        if not wanted and (seen or body == start):
            return
        flat = header.replace(b"\r", b" ").replace(b"\n", b" ")
        given = names([(flat, parse(flat))]) if b"name" in flat.lower() else ()
        holder = source.holder(_holder(held, body, end))
        made = _Made(
            source, f"{source.where(holder) or source.path}?", holder, given, types_in(header), "us-ascii", False
        )
        self._bodies(made, body, end, (*(() if seen else ("7bit",)), *wanted))

    def _leaf(self, source: _Source, part: Part, holder: str, usual: bool) -> None:
        declared = types(source.octets, part)
        for one in declared:
            if one in NEVER_WHOLE:
                self._doubts[NEVER_WHOLE[one]] = None
        path = source.where(part.path) if usual or source.depth else f"{holder}?"
        made = _Made(source, path, holder, part.names, declared, part.charset, usual)
        self._bodies(made, part.body, part.end, encodings(source.octets, part))

    def _bodies(self, made: "_Made", start: int, end: int, ways: tuple[str, ...]) -> None:
        """Shows a body in each of several encodings."""
        octets = made.source.octets
        usual = made.usual
        for way in ways:
            kind = ItemKind.PART if usual else ItemKind.READING
            usual = False
            if way not in ("base64", "quoted-printable") or way in IDENTITY:
                self._raw(made, start, end, kind)
                if way not in IDENTITY:
                    self._show(made, uudecoded(bytes(octets[start:end])), ItemKind.READING)
                continue
            for one in decodings(bytes(octets[start:end]), way):
                self._show(made, one, kind)
                kind = ItemKind.READING

    def _raw(self, made: "_Made", start: int, end: int, kind: ItemKind) -> None:
        """A body as it stands."""
        source = made.source
        if source.depth:
            self._show(made, bytes(source.octets[start:end]), kind)
            return
        self._add(made.leaf(kind, Span(start, end)), (start, end))
        find = source.octets.find
        if find(b"begin", start, end) >= 0 or find(b"=ybegin ", start, end) >= 0 or find(b"inHex", start, end) >= 0:
            self._embedded(made, bytes(source.octets[start:end]))
        self._inside(made, source.octets, start, end)

    def _show(self, made: "_Made", octets: bytes, kind: ItemKind) -> None:
        """A body that was decoded."""
        self._made += len(octets)
        if self._made > self._limits.made_octets:
            self._doubts[f"Decoded, the parts have more than {self._limits.made_octets} octets."] = None
            return
        if not self._add(made.leaf(kind, octets), octets):
            return
        if kind is not ItemKind.PART or made.types[0].startswith("text/"):
            self._embedded(made, octets)
        self._inside(made, octets, 0, len(octets))

    def _embedded(self, made: "_Made", text: bytes) -> None:
        for one in embedded(text, max(0, self._limits.made_octets - self._made)):
            self._made += len(one.octets)
            leaf = Leaf(ItemKind.READING, f"{made.path}?", made.part, file_name(one.name), (), one.octets)
            if self._made <= self._limits.made_octets and one.octets:
                self._add(leaf, one.octets)

    def _inside(self, made: "_Made", octets: Buffer, start: int, end: int) -> None:
        """What is in a body: another mail, or text in a charset."""
        head = bytes(octets[start : min(end, start + _HEAD)])
        mail = any(one in MESSAGES for one in made.types) or any(
            one.lower().endswith(_MAIL_NAMES) for one in made.names
        )
        if (mail and b":" in head) or _MAIL_HEAD.match(head):
            self._inner(_Source(bytes(octets[start:end]), made.path, made.part, made.source.depth + 1))
        if any(one.startswith("text/") for one in made.types) or not made.types:
            text = recoded(bytes(octets[start:end]), made.charset) if recodable(head, made.charset) else None
            if text is not None:
                self._made += len(text)
                if self._made <= self._limits.made_octets:
                    self._add(made.leaf(ItemKind.TEXT, text), text)

    def _between(self, source: _Source, part: Part) -> bool:
        """What is in a multipart or a message beside its parts; whether it is odd."""
        wanted = [way for way in encodings(source.octets, part) if way in ("base64", "quoted-printable")]
        declared = types(source.octets, part)
        for one in declared:
            if one in NEVER_WHOLE:
                self._doubts[NEVER_WHOLE[one]] = None
        made = _Made(
            source, source.where(part.path), source.holder(part.path), part.names, declared, "us-ascii", False
        )
        for way in wanted:
            for one in decodings(bytes(source.octets[part.body : part.end]), way):
                if part.type not in MESSAGES:
                    one = b'Content-Type: multipart/mixed; boundary="' + part.boundary + b'"\r\n\r\n' + one
                self._inner(_Source(one, made.path or "1", made.part, source.depth + 1))
        if not part.boundary:
            return bool(wanted)
        odd = bool(wanted)
        first = part.parts[0].start if part.parts else part.end
        last = part.parts[-1].end if part.parts else part.end
        for start, end in ((part.body, first), (last, part.end)):
            between = bytes(source.octets[start:end])
            self._embedded(made, between)
            odd = odd or _MIME_FIELD.search(between) is not None
        return odd

    def _inner(self, source: _Source) -> None:
        self._made += len(source.octets)
        if source.depth > self._limits.part_depth:
            self._doubts["Mails are nested too deep."] = None
        elif self._made > self._limits.made_octets:
            self._doubts[f"Decoded, the parts have more than {self._limits.made_octets} octets."] = None
        else:
            self._queue.append(source)

    def _add(self, leaf: Leaf, key: bytes | tuple[int, int]) -> bool:
        """False if the same octets are known of that part; the mail as a whole has what any part has."""
        known = self._known.setdefault(key, set())
        if leaf.part in known or (known and not leaf.part and leaf.kind is not ItemKind.PART):
            return False
        known.add(leaf.part)
        if self._full():
            return False
        self._leaves.append(leaf)
        return True

    def _full(self) -> bool:
        if len(self._leaves) < self._limits.readings:
            return False
        self._doubts[f"There are more than {self._limits.readings} readings."] = None
        return True


@dataclass(frozen=True, slots=True)
class _Made:
    """Whose readings are made."""

    source: _Source
    path: str
    part: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    charset: str
    usual: bool

    def leaf(self, kind: ItemKind, octets: bytes | Span) -> Leaf:
        path = f"{self.path}?" if self.usual and kind is ItemKind.READING else self.path
        return Leaf(kind, path, self.part, self.names, self.types, octets)


def _key(part: Part) -> tuple[int, int, int, str, str, tuple[str, ...]]:
    return part.start, part.body, part.end, part.encoding, part.type, part.names


def _holder(held: list[Part], start: int, end: int) -> str:
    """Path of the part in which these octets are; empty where they are not all in one."""
    at = bisect_right(held, start, key=lambda part: part.start) - 1
    return held[at].path if at >= 0 and end <= held[at].end else ""
