"""Which texts of a mail take a notice, and the notices in them.

Standards: RFC 2046 sections 5.1.3 and 5.1.4; RFC 2387 (the root of a multipart/related is its first part); RFC 1847.
"""

from collections.abc import Sequence

from posthouse.core.examination import AddNotice
from posthouse.core.mime.coded import Made, handed_out
from posthouse.core.mime.header import value
from posthouse.core.mime.node import Node, Piece, Span, header_of
from posthouse.core.mime.parameters import parameter, parse
from posthouse.core.mime.part import Part
from posthouse.core.mime.text_body import Noticed, TextBody, noticed
from posthouse.core.mime.wire import Plain
from posthouse.core.mime.written import MIME_VERSION, encoding_field, with_charset

_TEXTS = frozenset({"text/plain", "text/html"})
_SEALED = frozenset({"multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})
_DEEPEST = 100
"""Multiparts in which a text is looked for."""


class _Sealed(Exception):
    """The body is signed or encrypted."""


def put_into_texts(plain: Plain, root: Node, notices: Sequence[AddNotice], made: Made) -> bool:
    """Puts the notices into every alternative of the body; False, and nothing is changed, if one cannot take them."""
    try:
        texts = _texts(root, 0)
    except _Sealed:
        return False
    bodies = [(node, body) for node in texts for body in [_body(plain, node)]]
    results = [(node, body, noticed(body, notices)) for node, body in bodies]
    if not results or any(result is None for _, _, result in results):
        return False
    for node, body, result in results:
        if result is not None:
            _put(plain, node, body, result, made)
    return True


def _texts(node: Node, depth: int) -> list[Node]:
    """The body under `node`: of its alternatives all texts. Raises _Sealed."""
    part = node.part
    if node.body is not None or part is None:
        if part is None and node.children:
            # A multipart/mixed of ours, around the root as it was.
            return _texts(node.children[0], depth + 1)
        return [node] if node.text is not None else []
    if part.type in _SEALED:
        raise _Sealed
    if not part.type.startswith("multipart/"):
        shown = part.type in _TEXTS and part.disposition != "attachment" and not part.names
        return [node] if shown else []
    if depth > _DEEPEST:
        return []
    kept = [child for child in node.children if not child.gone]
    if part.type == "multipart/alternative":
        return [text for child in kept for text in _texts(child, depth + 1)]
    if part.type == "multipart/related":
        return _texts(kept[0], depth + 1) if kept else []
    for child in kept:
        texts = _texts(child, depth + 1)
        if texts:
            return texts
    return []


def _body(plain: Plain, node: Node) -> TextBody:
    if node.text is not None:
        return node.text
    part = node.part
    assert part is not None
    octets = plain.octets[part.body : part.end]
    return TextBody(octets, part.type == "text/html", part.charset, part.encoding, _flowed(plain, part))


def _flowed(plain: Plain, part: Part) -> bool:
    """RFC 3676 section 4: format=flowed."""
    for entry in part.fields:
        if entry.name == "content-type":
            return (parameter(parse(value(plain.octets, entry)), b"format") or b"").lower() == b"flowed"
    return False


def _put(plain: Plain, node: Node, body: TextBody, result: Noticed, made: Made) -> None:
    if result.octets is None:
        node.body = _with(plain, node, body, result.put)
    else:
        node.body = [*handed_out(result.octets, made)]
        _say(plain, node, result, html=body.html)
    node.touch()


def _with(plain: Plain, node: Node, body: TextBody, put: Sequence[tuple[int, bytes]]) -> list[Piece]:
    """The body with octets put into it; those of the source as spans."""
    start = node.part.body if node.part is not None and node.text is None else None
    pieces: list[Piece] = []
    at = 0
    for place, octets in (*put, (len(body.octets), b"")):
        pieces.append(Span(start + at, start + place) if start is not None else body.octets[at:place])
        pieces.append(octets)
        at = place
    return pieces


def _say(plain: Plain, node: Node, result: Noticed, *, html: bool) -> None:
    """The header says encoding and charset of the new body."""
    fields = [entry for entry in header_of(plain, node) if entry[0] != "content-transfer-encoding"]
    if result.charset:
        types = [piece for name, piece in fields if name == "content-type"]
        said = parse(_value(plain, types[0]) if types else b"")
        kind = "text/html" if html else "text/plain"
        fields = [entry for entry in fields if entry[0] != "content-type"]
        fields.append(("content-type", with_charset(kind, said.parameters, result.charset)))
    fields.append(encoding_field(result.encoding))
    if node.is_mail() and not any(name == "mime-version" for name, _ in fields):
        fields.append(("mime-version", MIME_VERSION))
    node.fields = fields


def _value(plain: Plain, field: Piece) -> bytes:
    """Of a header field, unfolded."""
    octets = plain.octets[field.start : field.end] if isinstance(field, Span) else field
    assert isinstance(octets, bytes)
    return octets.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")
