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
from posthouse.core.mime.decode import BASE64, QUOTED_PRINTABLE, decodings
from posthouse.core.mime.embedded import embedded, uudecoded
from posthouse.core.mime.evidence import NEVER_WHOLE, UUENCODED, charsets, encodings, named, types, types_in
from posthouse.core.mime.header import Buffer, Manner
from posthouse.core.mime.leaves import Gathered, Leaf, Span
from posthouse.core.mime.loose import pieces
from posthouse.core.mime.names import file_name, names
from posthouse.core.mime.parameters import parse
from posthouse.core.mime.part import Part
from posthouse.core.mime.tree import MESSAGES, Grown, grow


@dataclass(frozen=True, slots=True)
class Mime:
    """A mail, read."""

    root: Part
    """As most readers see it."""
    leaves: tuple[Leaf, ...]
    """First one PART for each leaf of the tree, in its order (fewer only if a bound was met); then the readings and
    the texts. No two have the same octets, unless their parts differ."""
    ambiguous: tuple[str, ...]
    """Why not all could be shown, each in one sentence."""


MANNERS = (
    Manner(last=True),
    Manner(prefix=True, declared=False, after=True),
    Manner(blank=True, declared=False),
    Manner(unfolded=True),
    Manner(strict=True),
    Manner(blank=True, unfolded=True, squeezed=True, prefix=True, declared=False, after=True),
    Manner(outer=True),
)
"""How else an odd mail is read."""
GUESSED = 2
"""Decodings in an encoding that the header does not name, or of what is read as it stands, too."""
DECODING = 8
"""How much more work it is to decode octets than to look for parts in them."""
BOUNDARIES = 10
"""Readings of the boundary that get a tree of their own; the loose pieces cover the others."""
_MAIL_HEAD = re.compile(
    rb"\s*+(?:[!-9;-~]++:[^\n]*+\n(?:[ \t][^\n]*+\n)*+){0,200}?(?:content-type|mime-version)[ \t]*+:", re.I
)
_MAIL_NAMES = (".eml", ".mht", ".mhtml", ".mim", ".mime")
_HEAD = 8192
"""Octets of a part that are looked at, whether it is a mail."""
_MIME_FIELD = re.compile(rb"content-(?:type|transfer|disp)", re.I)
_CONTROL = b"\x00\x0b\x0c"
_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE_START = re.compile(rb"(?:\r(?!\n)|[\x00\x0b\x0c])[ \t]*+(?:--|begin|=ybegin)", re.I)
"""What a reader may take for the start of a line that means something."""


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
    """A mail to be read: the whole one (depth 0), or one that was made out of it."""

    octets: Buffer
    path: str
    part: str
    """Path of the part of the tree that holds all of it; of no use at depth 0."""
    depth: int = 0
    cleaned: bool = False

    def where(self, path: str) -> str:
        return f"{self.path}/{path}" if self.path else path

    def holder(self, path: str) -> str:
        return self.part if self.depth else path


@dataclass(frozen=True, slots=True)
class _Body:
    """A body, and what its header says of it."""

    source: _Source
    header: int
    start: int
    end: int
    path: str
    part: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    charsets: tuple[str, ...]
    usual: bool = False
    """A part of the tree."""

    def octets(self) -> bytes:
        return bytes(self.source.octets[self.start : self.end])

    def leaf(self, kind: ItemKind, octets: bytes | Span) -> Leaf:
        path = f"{self.path}?" if self.usual and kind is ItemKind.READING else self.path
        return Leaf(kind, path, self.part, self.names, self.types, octets)


class _Reading:
    def __init__(self, octets: Buffer, limits: ExaminationLimits) -> None:
        self._mail = octets
        self._limits = limits
        self._all = Gathered(len(octets), limits)
        self._queue: deque[_Source] = deque()
        self._decoded: dict[tuple[int, int, str, bool], tuple[bytes, ...]] = {}

    def read(self) -> Mime:
        grown = grow(self._mail, self._limits)
        self._read(_Source(self._mail, "", ""), grown)
        while self._queue and not self._all.full() and self._all.works(len(self._queue[0].octets)):
            source = self._queue.popleft()
            self._read(source, grow(source.octets, self._limits))
        return Mime(grown.root, self._all.leaves(), self._all.doubts())

    def _read(self, source: _Source, grown: Grown) -> None:
        self._all.doubt(*grown.beyond)
        self._decoded.clear()
        odd = grown.odd
        held: list[Part] = []
        for part in walk(grown.root):
            if self._all.full():
                return
            if part.parts or part.boundary:
                odd = self._between(source, part) or odd
            else:
                held.append(part)
                self._part(source, part, source.holder(part.path), True)
        if odd:
            self._odd(source, grown, held)
        if not source.cleaned and _bare(source.octets) and (odd or _BARE_START.search(source.octets)):
            octets = bytes(source.octets).translate(None, _CONTROL).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            self._inner(_Source(octets.replace(b"\n", b"\r\n"), source.path, source.part, source.depth + 1, True))

    def _odd(self, source: _Source, grown: Grown, held: list[Part]) -> None:
        """The same mail in other manners, and in loose pieces."""
        seen = {_key(part) for part in held}
        spans = {(part.body, part.end) for part in held}
        others = [Manner(boundary=number) for number in range(1, min(grown.boundaries, BOUNDARIES))]
        for manner in (*MANNERS, *others):
            if not self._all.works(len(source.octets)):
                return
            other = grow(source.octets, self._limits, manner)
            self._all.doubt(*other.beyond)
            for part in walk(other.root):
                if self._all.full():
                    return
                if not part.parts and _key(part) not in seen:
                    seen.add(_key(part))
                    spans.add((part.body, part.end))
                    self._part(source, part, source.holder(_holder(held, part.body, part.end)), False)
        for start, body, end in pieces(source.octets, 0, self._limits.parts):
            if self._all.full():
                return
            self._piece(source, start, body, end, held, (body, end) in spans)

    def _part(self, source: _Source, part: Part, holder: str, usual: bool) -> None:
        path = source.where(part.path) if usual else f"{source.where(part.path)}?"
        given = self._declared(types(source.octets, part))
        self._ways(
            _Body(
                *(source, part.start, part.body, part.end, path, holder, part.names, given),
                charsets=charsets(source.octets, part),
                usual=usual and not source.depth,
            ),
            encodings(source.octets, part),
        )

    def _piece(self, source: _Source, start: int, body: int, end: int, held: list[Part], seen: bool) -> None:
        """A piece between two lines that look like delimiters; `seen`: its octets are shown already."""
        header = bytes(source.octets[start : min(body, start + self._limits.header_octets)])
        wanted = named(header)
        if not wanted and (seen or body == start):
            return
        flat = header.replace(b"\r", b" ").replace(b"\n", b" ")
        given = names([(flat, parse(flat))]) if b"name" in flat.lower() else ()
        holder = source.holder(_holder(held, body, end))
        path = f"{source.where(holder) or source.path}?"
        found = _Body(source, start, body, end, path, holder, given, self._declared(types_in(header)), ("us-ascii",))
        self._ways(found, (*(() if seen else ("7bit",)), *sorted(wanted)))

    def _declared(self, given: tuple[str, ...]) -> tuple[str, ...]:
        self._all.doubt(*(NEVER_WHOLE[one] for one in given if one in NEVER_WHOLE))
        return given

    def _ways(self, body: _Body, ways: tuple[str, ...]) -> None:
        """Shows a body in each of several encodings, the usual one first."""
        octets = body.source.octets
        sure = {ways[0], *named(bytes(octets[body.header : body.start]))} if len(ways) > 1 else {*ways}
        kind = ItemKind.PART if body.usual else ItemKind.READING
        for way in ways:
            if way in (BASE64, QUOTED_PRINTABLE):
                for number, one in enumerate(self._decodings(body, way, way in sure)):
                    self._show(body, one, kind, text=not number)
                    kind = ItemKind.READING
                continue
            self._raw(body, kind)
            kind = ItemKind.READING
            if way in UUENCODED and octets.find(b"begin", body.start, body.end) < 0:
                self._show(body, uudecoded(body.octets()), kind)

    def _decodings(self, body: _Body, way: str, sure: bool) -> tuple[bytes, ...]:
        """Of each body once, in however many manners it is found."""
        key = body.start, body.end, way, sure
        found = self._decoded.get(key)
        if found is None:
            found = decodings(body.octets(), way) if sure else decodings(body.octets(), way, GUESSED)
            self._decoded[key] = found
        return found

    def _raw(self, body: _Body, kind: ItemKind) -> None:
        """A body as it stands."""
        if body.source.depth:
            self._show(body, body.octets(), kind)
            return
        self._all.add(body.leaf(kind, Span(body.start, body.end)))
        octets = body.source.octets
        if any(octets.find(word, body.start, body.end) >= 0 for word in (b"begin", b"BEGIN", b"=ybegin ", b"inHex")):
            self._embedded(body, body.octets())
        self._inside(body, octets, body.start, body.end)

    def _show(self, body: _Body, octets: bytes, kind: ItemKind, *, text: bool = True) -> None:
        """A body that was decoded; `text`: it may be text in a charset."""
        if not self._all.add(body.leaf(kind, octets)) or not self._all.makes(len(octets)):
            return
        if kind is not ItemKind.PART or body.types[0].startswith("text/"):
            self._embedded(body, octets)
        self._inside(body, octets, 0, len(octets), text=text)

    def _embedded(self, body: _Body, text: bytes) -> None:
        """Files inside a text."""
        for one in embedded(text, self._all.left()):
            if one.damaged:
                self._all.doubt("A BinHex file in the mail is damaged: readers differ in what they make of it.")
            if self._all.makes(len(one.octets)):
                path = body.path if body.path.endswith("?") else f"{body.path}?"
                self._all.add(Leaf(ItemKind.READING, path, body.part, file_name(one.name), (), one.octets))

    def _inside(self, body: _Body, octets: Buffer, start: int, end: int, *, text: bool = True) -> None:
        """What is in the decoded body: another mail, or text in a charset."""
        head = bytes(octets[start : min(end, start + _HEAD)])
        named_mail = any(one.lower().endswith(_MAIL_NAMES) for one in body.names)
        mail = (named_mail or any(one in MESSAGES for one in body.types)) and b":" in head
        if mail or ("text/rfc822-headers" not in body.types and _MAIL_HEAD.match(head)):
            self._inner(_Source(bytes(octets[start:end]), body.path, body.part, body.source.depth + 1))
        if text and (not body.types or any(one.startswith("text/") for one in body.types)):
            for charset in body.charsets:
                again = recoded(bytes(octets[start:end]), charset) if recodable(head, charset) else None
                if again is not None and self._all.makes(len(again)):
                    self._all.add(body.leaf(ItemKind.TEXT, again))

    def _between(self, source: _Source, part: Part) -> bool:
        """What is in a multipart or a message beside its parts; whether it is odd."""
        octets = source.octets
        given = self._declared(types(octets, part))
        path, holder = source.where(part.path), source.holder(part.path)
        wanted = [way for way in encodings(octets, part) if way in (BASE64, QUOTED_PRINTABLE)]
        for way in wanted:
            if not self._all.works(DECODING * (part.end - part.body)):
                break
            head = (
                b"" if part.type in MESSAGES else b'Content-Type: multipart/x; boundary="%b"\r\n\r\n' % part.boundary
            )
            for one in decodings(bytes(octets[part.body : part.end]), way, GUESSED):
                self._inner(_Source(head + one, path or "1", holder, source.depth + 1))
        if not part.boundary:
            return bool(wanted)
        if not part.parts:
            self._part(source, part, holder, False)
        odd = bool(wanted)
        first = part.parts[0].start if part.parts else part.end
        last = part.parts[-1].end if part.parts else part.end
        for start, end in ((part.body, first), (last, part.end)):
            between = bytes(octets[start:end])
            self._embedded(_Body(source, part.start, start, end, path, holder, (), given, ()), between)
            headed = _MIME_FIELD.search(between)
            if headed:
                self._inner(_Source(between[headed.start() :], path or "1", holder, source.depth + 1))
            odd = odd or headed is not None or between.count(b"--" + part.boundary) > 1
        return odd

    def _inner(self, source: _Source) -> None:
        """Puts a mail that was made off until the ones before it are read."""
        if source.depth > self._limits.part_depth:
            self._all.doubt("Mails are nested too deep.")
        elif self._all.makes(len(source.octets)):
            self._queue.append(source)


def _bare(octets: Buffer) -> bool:
    """Whether there is a bare CR, or a control character that readers may not see. Fast where there is none."""
    return any(octets.find(b"%c" % one) >= 0 for one in _CONTROL) or _BARE_CR.search(octets) is not None


def _key(part: Part) -> tuple[int, int, int, str, str, tuple[str, ...]]:
    return part.start, part.body, part.end, part.encoding, part.type, part.names


def _holder(held: list[Part], start: int, end: int) -> str:
    """Path of the part in which these octets are; empty where they are not all in one."""
    at = bisect_right(held, start, key=lambda part: part.start) - 1
    return held[at].path if at >= 0 and end <= held[at].end else ""
