"""Mail surgery: edits are carried out on the part tree, and all octets that no edit changes stay, in their order.

Paths are those of the tree that is given, whatever earlier edits did. Notices and added parts and fields come last,
so that none goes with a part that is removed; several at one place stand in the order of the edits.

Notices stand in the body that readers show first: the first text that is no attachment, in each alternative, of a
multipart/related in its first part. A text that cannot be read without doubt, or that is signed or encrypted, takes
none: then the notice is a part of its own, and where the root is no multipart/mixed, one is put around the whole as
it is, so that a signature still holds. RemovePart and ReplacePart are carried out inside a signed part all the same,
as the rule asks for it: its signature is broken then.
Standards: RFC 2046 section 5.1; RFC 1847; RFC 8551.
"""

import re
from collections.abc import Sequence
from hashlib import sha256

from posthouse.core.examination import (
    AddField,
    AddNotice,
    AddPart,
    CannotEdit,
    Edit,
    Edited,
    Position,
    RemovePart,
    ReplacePart,
)
from posthouse.core.mime.coded import Coded, Made, OctetSource, carried, coded
from posthouse.core.mime.node import Node, Piece, assembled, beneath, grown, header_of
from posthouse.core.mime.notice_place import put_into_texts
from posthouse.core.mime.part import Part
from posthouse.core.mime.text_body import TextBody, text_lines
from posthouse.core.mime.wire import Plain
from posthouse.core.mime.written import MIME_VERSION, added_field, encoding_field, type_fields

_OF_THE_BODY = frozenset(
    {"content-type", "content-disposition", "content-transfer-encoding", "content-md5", "content-length"}
)
"""Fields that other octets make wrong."""
_CHARSET = re.compile(r"[A-Za-z0-9_.:+-]{1,40}\Z")
_EMPTY_TYPE = "text/plain; charset=us-ascii"
_NOTHING = Coded("", (), TextBody(b"", html=False, charset="us-ascii", encoding="7bit"))
_TRIES = 64


def edit(plain: Plain, root: Part, edits: Sequence[Edit], files: Sequence[OctetSource], made: Made) -> Edited:
    """The content with all edits. `root`: the part tree of `plain`; `files`: what the numbers in edits mean; `made`
    takes what is large. Raises CannotEdit, and what `files` and `made` raise."""
    surgery = _Surgery(plain, root, files, made)
    for asked in edits:
        match asked:
            case RemovePart(path):
                surgery.remove(path)
            case ReplacePart(path, octets, declared, name):
                surgery.replace(path, octets, declared, name)
            case AddPart() | AddField() | AddNotice():
                pass
    for asked in edits:
        if isinstance(asked, AddPart):
            surgery.add_part(asked)
    surgery.add_notices([asked for asked in edits if isinstance(asked, AddNotice)])
    surgery.add_fields([asked for asked in edits if isinstance(asked, AddField)])
    return Edited(assembled(plain, surgery.root))


class _Surgery:
    """The nodes while edits change them."""

    def __init__(self, plain: Plain, root: Part, files: Sequence[OctetSource], made: Made) -> None:
        self._plain = plain
        self._files = files
        self._made = made
        self.root, self._by_path = grown(plain, root)

    def remove(self, path: str) -> None:
        node = self._node(path)
        if node.gone:
            return
        parent = node.parent
        if parent is None or node.is_mail():
            self._put(node, _NOTHING, _EMPTY_TYPE, "", "")
            return
        for inner in (node, *beneath(node)):
            inner.gone = True
        parent.touch()
        if all(child.gone for child in parent.children):
            node.gone = False
            self._put(node, _NOTHING, _EMPTY_TYPE, "", "", whole=True)

    def replace(self, path: str, octets: int | bytes, declared: str, name: str) -> None:
        node = self._node(path)
        part = node.part
        if node.gone or part is None:
            raise CannotEdit(f"The part {path} was removed by another edit.")
        if not declared:
            known = part.charset != "us-ascii" and _CHARSET.match(part.charset)
            declared = f"{part.type}; charset={part.charset}" if known else part.type
            as_it_was = not name and carried(part.type) == part.type
        else:
            as_it_was = False
        declared = carried(declared)
        body = coded(octets, declared, self._files, self._made)
        if as_it_was and sum(entry.name == "content-type" for entry in part.fields) == 1:
            self._put(node, body, "", "", "")
            return
        shown = name or (part.names[0] if part.names else "")
        disposition = part.disposition if part.disposition in ("attachment", "inline") else ""
        self._put(node, body, declared, disposition or ("attachment" if name else ""), shown)

    def add_part(self, asked: AddPart) -> None:
        declared = carried(asked.type)
        body = coded(asked.octets, declared, self._files, self._made)
        self._append(self._new_part(body, declared, "attachment", asked.name), Position.END)

    def add_notices(self, notices: Sequence[AddNotice]) -> None:
        if not notices or put_into_texts(self._plain, self.root, notices, self._made):
            return
        for position in Position:
            texts = [notice.text for notice in notices if notice.position is position]
            if texts:
                text = "\n\n".join("\n".join(text_lines(text)) for text in texts) + "\n"
                declared = _EMPTY_TYPE if text.isascii() else "text/plain; charset=utf-8"
                body = coded(text.encode(), declared, (), self._made)
                self._append(self._new_part(body, declared, "", ""), position)

    def add_fields(self, fields: Sequence[AddField]) -> None:
        for asked in fields:
            self.root.top.append(added_field(asked.name, asked.value))
            self.root.touch()

    def _node(self, path: str) -> Node:
        node = self._by_path.get(path)
        if node is None:
            raise CannotEdit(f"The mail has no part {path[:80]!r}.")
        return node

    def _put(
        self, node: Node, body: Coded, declared: str, disposition: str, name: str, *, whole: bool = False
    ) -> None:
        """Another body in the place of a part. `declared` empty: type, disposition and names stay as they were;
        `whole`: nothing of its header stays."""
        kept = header_of(self._plain, node)
        attached = disposition == "attachment" or bool(name)
        if not declared and node.part is not None:
            attached = node.part.disposition == "attachment" or bool(node.part.names)
        if whole:
            kept = []
        elif not declared:
            kept = [entry for entry in kept if entry[0] not in _OF_THE_BODY - {"content-type", "content-disposition"}]
            kept.append(encoding_field(body.encoding or "7bit"))
        elif node.is_mail():
            kept = [entry for entry in kept if not entry[0].startswith("content-")]
        else:
            kept = [entry for entry in kept if entry[0] not in _OF_THE_BODY]
        if node.is_mail():
            kept = self._with_version(kept)
        node.fields = [*kept, *type_fields(declared, disposition, name, body.encoding)] if declared else kept
        for inner in beneath(node):
            inner.gone = True
        node.children, node.boundary = [], b""
        node.body = [*body.body]
        node.text = None if attached else body.text
        node.touch()

    def _new_part(self, body: Coded, declared: str, disposition: str, name: str) -> Node:
        node = Node(None, fields=[*type_fields(declared, disposition, name, body.encoding)], body=[*body.body])
        node.touched = True
        return node

    def _append(self, node: Node, position: Position) -> None:
        """A part of the root, at head or end; around another root a multipart/mixed is put first."""
        root = self.root
        if not (root.multipart and (root.part is None or root.part.type == "multipart/mixed")):
            root = self._wrap()
        node.parent = root
        if position is Position.HEAD:
            root.first.append(node)
        else:
            root.last.append(node)
        root.touch()

    def _wrap(self) -> Node:
        """A multipart/mixed around the root: it takes the fields that are not about the content."""
        old = self.root
        fields = header_of(self._plain, old)
        boundary = self._boundary()
        outer = [entry for entry in fields if not entry[0].startswith("content-")]
        declared = f'multipart/mixed; boundary="{boundary}"'
        new = Node(None, boundary=boundary.encode())
        new.fields = [*self._with_version(outer), *type_fields(declared, "", "", "")]
        old.fields = [entry for entry in fields if entry[0].startswith("content-")]
        old.parent, new.children = new, [old]
        old.touched = new.touched = True
        self.root = new
        return new

    def _boundary(self) -> str:
        """A boundary that occurs nowhere, and whose delimiter none of another multipart matches."""
        octets = self._plain.octets
        known = [node.boundary for node in self._by_path.values() if node.boundary]
        digest = sha256(octets)
        for number in range(_TRIES):
            digest.update(b"%d" % number)
            boundary = ("=_" if number == 0 else "") + digest.hexdigest()[:40]
            coded = boundary.encode()
            if coded not in octets and not any(coded.startswith(one) for one in known):
                return boundary
        raise CannotEdit("The mail leaves no boundary for a part around it.")

    @staticmethod
    def _with_version(fields: list[tuple[str, Piece]]) -> list[tuple[str, Piece]]:
        """RFC 2045 section 4: a mail that has parts or a type says so."""
        if any(name == "mime-version" for name, _ in fields):
            return fields
        return [*fields, ("mime-version", MIME_VERSION)]
