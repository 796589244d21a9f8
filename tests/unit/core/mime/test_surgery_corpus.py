"""Surgery on every message of the corpus: what no edit names stays octet for octet, however odd the message.

Without the corpus the same is done with messages made here.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes

from posthouse.core.examination import AddField, AddNotice, AddPart, CannotEdit, Position, RemovePart, ReplacePart
from support.contents import awkward
from support.corpus import corpus
from support.surgery import edited, parts

_LINE_END = re.compile(rb"\r\n|\r|\n")
_NOT_MESSAGES = {"README.md", "LICENSE-of-source.txt", ".gitattributes"}
_WORD = "posthouse-notice"
NOTICES = (
    AddNotice(Position.HEAD, f"{_WORD} ä\nsecond line", f"<p>{_WORD} &auml;</p>"),
    AddNotice(Position.END, _WORD, f"<p>{_WORD}</p>"),
)
_TEXTS = ("text/plain", "text/html")


def messages() -> Iterator[tuple[str, bytes]]:
    """Name and content as it is stored: lines end in CRLF."""
    root = corpus()
    if root is None:
        yield from ((f"made-{number}", awkward(f"made-{number}", number)) for number in range(10))
        return
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".json"):
        if path.name not in _NOT_MESSAGES:
            content = _LINE_END.sub(b"\r\n", path.read_bytes())
            yield str(path.relative_to(root)), content if content.endswith(b"\r\n") else content + b"\r\n"


def bodies(content: bytes) -> "Counter[bytes]":
    """Body octets of all leaves; how many line ends are at their end is not told."""
    return Counter(content[part.body : part.end].rstrip(b"\r\n") for part in parts(content) if not part.parts)


def test_without_an_edit_all_octets_stay() -> None:
    for name, content in messages():
        assert edited(content) == content, name


def test_a_field_changes_nothing_else() -> None:
    for name, content in messages():
        new = edited(content, AddField("X-Added", "y"))
        assert new in (b"X-Added: y\r\n" + content, b"X-Added: y\r\n\r\n" + content), name


def test_an_added_part_leaves_all_others_as_they_were() -> None:
    for name, content in messages():
        before, after = bodies(content), bodies(edited(content, AddPart(b"\0added", "application/x-a", "a.bin")))
        assert after - before == Counter([b"AGFkZGVk"]), name
        assert before - after == Counter(), name


def test_a_notice_changes_the_texts_that_people_read_and_nothing_else() -> None:
    put = beside = 0
    for name, content in messages():
        new = edited(content, *NOTICES)
        texts = Counter(
            content[part.body : part.end].rstrip(b"\r\n")
            for part in parts(content)
            if not part.parts and part.type in _TEXTS and part.disposition != "attachment"
        )
        lost = bodies(content) - bodies(new)
        assert lost - texts == Counter(), name
        if lost:
            put += 1
        else:
            beside += 1
        found = [
            part.path for part in parts(new) if not part.parts and _says(new[part.body : part.end], part.encoding)
        ]
        assert found, name
    assert put > beside or corpus() is None, (put, beside)


def attachments(content: bytes) -> "Counter[bytes]":
    """The undecoded octets of all leaves that are no text, by Python's `email`."""
    found: Counter[bytes] = Counter()
    for part in message_from_bytes(content).walk():
        payload = part.get_payload()
        if part.get_content_maintype() not in ("text", "multipart") and isinstance(payload, str):
            found[payload.encode("utf-8", "surrogateescape").rstrip()] += 1
    return found


def test_attachments_are_the_same_for_another_reader() -> None:
    some = 0
    for name, content in messages():
        if name.startswith(("noxxi-mime-is-broken/", "mime-ambiguity/")):
            continue  # made so that readers differ
        before = attachments(content)
        assert attachments(edited(content, *NOTICES)) == before, name
        some += bool(before)
    assert some > 60 or corpus() is None


def _says(body: bytes, encoding: str) -> bool:
    """The word of the notices is in it, decoded."""
    if encoding == "base64":
        try:
            body = base64.b64decode(body)
        except binascii.Error:
            return False
    return _WORD.encode() in body.replace(b"=\r\n", b"")


def test_a_removed_or_replaced_part_leaves_all_others_as_they_were() -> None:
    refused = []
    for name, content in messages():
        leaves = [part for part in parts(content) if not part.parts]
        for part in leaves[:5]:
            others = bodies(content) - Counter([content[part.body : part.end].rstrip(b"\r\n")])
            try:
                removed = bodies(edited(content, RemovePart(part.path)))
                replaced = bodies(edited(content, ReplacePart(part.path, b"\0other", "application/x-o", "o")))
            except CannotEdit as error:
                refused.append((name, str(error)))
                continue
            assert others - removed == Counter(), (name, part.path)
            assert removed - others in (Counter(), Counter([b""])), (name, part.path)
            assert replaced == others + Counter([b"AG90aGVy"]), (name, part.path)
    assert len(refused) <= 3, refused
