"""A part that surgery can change: what is not changed is a span of the source, octet for octet.

Standards: RFC 2046 sections 5.1 and 5.2.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from posthouse.core.examination import CannotEdit, Place
from posthouse.core.mime.part import Part
from posthouse.core.mime.text_body import TextBody
from posthouse.core.mime.wire import Assembly, Plain


@dataclass(frozen=True, slots=True)
class Span:
    """Octets of the source; offsets in the plain octets."""

    start: int
    end: int


LINE_START = None
"""A piece: CRLF, unless a line begins here already."""
Piece = Span | Place | bytes | None


@dataclass(slots=True, eq=False)
class Node:
    """A part of the source, or a new one (`part` is None)."""

    part: Part | None
    parent: "Node | None" = None
    boundary: bytes = b""
    """Of a multipart."""
    children: list["Node"] = field(default_factory=list)
    """Of a multipart or message in the source, those that are gone included; of a multipart of ours the old root."""
    first: list["Node"] = field(default_factory=list)
    """New parts before all others."""
    last: list["Node"] = field(default_factory=list)
    """New parts behind all others."""
    top: list[bytes] = field(default_factory=list)
    """New fields before all others."""
    fields: list[tuple[str, Piece]] | None = None
    """A new header: names in lower case (empty for lines that are no field) and octets; None: as in the source."""
    body: list[Piece] | None = None
    """A new body; None: as in the source."""
    text: TextBody | None = None
    """The new body, if it is a text that people are shown at once."""
    gone: bool = False
    """Removed, or inside a part that was removed or replaced."""
    touched: bool = False
    """Something in it is not as in the source."""

    def touch(self) -> None:
        node: Node | None = self
        while node is not None and not node.touched:
            node.touched = True
            node = node.parent

    def is_mail(self) -> bool:
        """The root, or the message in a message part: its header is not only about its content."""
        return self.parent is None or (self.part is not None and not self.parent.boundary)

    @property
    def multipart(self) -> bool:
        """Its delimiters are known, so that parts can be added."""
        return bool(self.boundary) and bool(self.children)


def grown(plain: Plain, root: Part) -> tuple[Node, dict[str, Node]]:
    """The nodes of a tree, the root and each by its path. Raises CannotEdit if its spans overlap."""
    top = Node(root, boundary=root.boundary)
    if root.start != 0 or root.end != len(plain.octets):
        raise CannotEdit("The part tree is not that of this mail.")
    by_path: dict[str, Node] = {}
    todo = [top]
    while todo:
        node = todo.pop()
        part = node.part
        assert part is not None
        at = part.body
        for child in part.parts:
            if child.start < at or child.end > part.end:
                raise CannotEdit("The parts of the mail overlap.")
            at = child.end
            node.children.append(Node(child, node, child.boundary))
        if not part.start <= part.body <= part.end or part.path in by_path:
            raise CannotEdit("The parts of the mail overlap.")
        by_path[part.path] = node
        todo += node.children
    return top, by_path


def header_of(plain: Plain, node: Node) -> list[tuple[str, Piece]]:
    """The header, field by field, without the empty line. Raises CannotEdit where it is cut."""
    if node.fields is not None:
        return node.fields
    part = node.part
    if part is None:
        return []
    if not plain.starts_line(part.body):
        raise CannotEdit("The header of a part is too long.")
    fields: list[tuple[str, Piece]] = []
    at = part.start
    for entry in part.fields:
        if entry.start > at:
            fields.append(("", Span(at, entry.start)))
        fields.append((entry.name, Span(entry.start, entry.end)))
        at = entry.end
    rest = plain.octets[at : part.body]
    rest = rest.removesuffix(b"\r\n") if rest == b"\r\n" or rest.endswith(b"\r\n\r\n") else rest
    if rest:
        fields.append(("", Span(at, at + len(rest))))
    return fields


def beneath(node: Node) -> Iterator[Node]:
    """All nodes of the source in it, without itself."""
    todo = list(node.children)
    while todo:
        inner = todo.pop()
        yield inner
        todo += inner.children


def assembled(plain: Plain, root: Node) -> tuple[Place | bytes, ...]:
    """The new content in wire form."""
    out = Assembly(plain)
    todo: list[Node | Piece] = [root]
    while todo:
        match todo.pop():
            case Node() as node:
                todo += reversed(_pieces(plain, node))
            case Span(start, end):
                out.span(start, end)
            case Place() as place:
                out.made(place)
            case bytes() as octets:
                out.literal(octets)
            case None:
                out.line_start()
    return out.pieces()


def _pieces(plain: Plain, node: Node) -> list[Node | Piece]:
    part = node.part
    if part is not None and not node.touched:
        return [Span(part.start, part.end)]
    pieces: list[Node | Piece] = [*node.top]
    if node.fields is not None:
        for _, piece in node.fields:
            pieces += [LINE_START, piece]
        pieces += [LINE_START, b"\r\n"]
    elif part is not None:
        if part.body == part.start and node.top:
            pieces.append(b"\r\n")
        pieces.append(Span(part.start, part.body))
    if node.body is not None:
        pieces += node.body
    elif part is None:
        pieces += _new_parts(node)
    elif not node.children:
        pieces.append(Span(part.body, part.end))
    else:
        pieces += _parts(plain, node, part)
    return pieces


def _new_parts(node: Node) -> list[Node | Piece]:
    """A multipart of ours."""
    pieces: list[Node | Piece] = []
    for child in (*node.first, *node.children, *node.last):
        pieces += [b"\r\n" if pieces else b"", b"--" + node.boundary + b"\r\n", child]
    return [*pieces, b"\r\n--" + node.boundary + b"--\r\n"]


def _parts(plain: Plain, node: Node, part: Part) -> list[Node | Piece]:
    """The parts of a multipart of the source, or the message of a message, with what stands between them.

    Behind a part stays the delimiter that stood behind it; only where there was none a new one is written.
    """
    kept = [at for at, child in enumerate(node.children) if not child.gone]
    delimiter = b"\r\n--" + node.boundary
    pieces: list[Node | Piece] = [Span(part.body, part.parts[0].start)]
    for new in node.first:
        pieces += [new, delimiter + b"\r\n"]
    for number, at in enumerate(kept):
        pieces.append(node.children[at])
        if at == len(part.parts) - 1:
            if node.last:
                pieces.append(delimiter + b"\r\n")
        elif number < len(kept) - 1 or node.last:
            gap = Span(part.parts[at].end, part.parts[at + 1].start)
            pieces += [*_break(plain, gap, node.children[at]), gap]
    for number, new in enumerate(node.last):
        pieces += [new] if number == 0 else [delimiter + b"\r\n", new]
    rest = Span(part.parts[-1].end, part.end)
    if not node.boundary or (kept and kept[-1] == len(part.parts) - 1 and not node.last):
        behind = node.children[-1]
        return [*pieces, *_break(plain, rest, behind), rest]
    at = plain.octets.find(delimiter[2:], rest.start, rest.start + len(delimiter))
    if at < 0:
        return [*pieces, delimiter + b"--\r\n", rest]
    return [*pieces, b"" if at > rest.start else b"\r\n", rest]


def _break(plain: Plain, gap: Span, before: Node) -> list[Piece]:
    """A line end, if the delimiter in `gap` has none of its own and the part before it is not as it was."""
    starts = plain.octets[gap.start : gap.end].startswith(b"--")
    return [LINE_START] if starts and before.touched else []
