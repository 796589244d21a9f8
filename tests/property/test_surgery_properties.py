"""Whatever a mail looks like: an edit changes what it names, all else is found again octet for octet."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.examination import (
    AddField,
    AddNotice,
    AddPart,
    CannotEdit,
    Edit,
    Position,
    RemovePart,
    ReplacePart,
)
from support.surgery import decoded, edited, parsed, parts

LINE = st.sampled_from(
    [b"", b".", b"..", b".x", b"text", b" ", b"--", b"-- ", b"--0", b"--no", b"From x", b"=", b"=C3=A4", b"\xc3\xa4",
     b"Content-Type: text/html", b"<body>", b"</body>", b"Subject: x", b"AAAA", b"\xff\0"]
)  # fmt: skip
BODY = st.lists(LINE, max_size=5).map(b"\r\n".join)
TYPES = st.sampled_from(
    [b"", b"Content-Type: text/plain; charset=utf-8", b"Content-Type: text/html", b"Content-Type: image/png",
     b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64", b"Content-Disposition: attachment; filename=a",
     b"Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\nX-F: a\r\n\tb",
     b"Content-Type: application/pkcs7-mime", b"X-Long: " + b"x" * 300, b"Content-Type: text/plain; charset=utf-16"]
)  # fmt: skip
SUBTYPES = st.sampled_from([b"mixed", b"alternative", b"related", b"signed", b"x-other"])


@dataclass(frozen=True)
class Made:
    """A part: its header without the empty line, and what is in it."""

    header: bytes
    body: bytes
    inner: "tuple[Made, ...]" = ()
    subtype: bytes = b""

    def octets(self, path: bytes = b"r") -> bytes:
        """With boundaries made of the path, so that none is the beginning of another's line in a body."""
        if not self.inner:
            return (self.header + b"\r\n\r\n" if self.header else b"\r\n") + self.body
        boundary = b"=b" + path + b"="
        header = b"Content-Type: multipart/" + self.subtype + b'; boundary="' + boundary + b'"\r\n\r\n'
        inner = b"".join(
            b"--" + boundary + b"\r\n" + part.octets(path + b"%d" % at) + b"\r\n"
            for at, part in enumerate(self.inner)
        )
        return header + b"preamble\r\n" + inner + b"--" + boundary + b"--\r\nepilogue"


LEAF = st.builds(Made, TYPES, BODY)
TREE = st.recursive(
    LEAF,
    lambda inner: st.builds(
        Made, st.just(b""), st.just(b""), st.lists(inner, min_size=1, max_size=3).map(tuple), SUBTYPES
    ),
    max_leaves=7,
)  # fmt: skip
MAIL = TREE.map(lambda made: b"Subject: s\r\nX-Kept:  as it is\r\n" + made.octets() + b"\r\n")
SOUP = st.lists(
    LINE
    | st.sampled_from(
        [b"--b", b"--b--", b"--bb", b"--bb--", b"Content-Type: multipart/mixed; boundary=b", b"--b ", b"\t folded",
         b"Content-Type: multipart/alternative; boundary=bb", b"Content-Type: message/rfc822", b"X: y", b"junk line"]
    ),
    max_size=25,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))  # fmt: skip
NOTICE = st.builds(
    AddNotice,
    st.sampled_from(Position),
    st.text(st.sampled_from("aä日.-=\n \0\ud800<"), max_size=20),
    st.just("<p>.\n--b</p>"),
)


def whole(octets: bytes) -> "Counter[bytes]":
    """Header and body of each leaf."""
    return Counter(octets[part.start : part.end] for part in parts(octets) if not part.parts)


@given(MAIL, st.data())
def test_parts_that_no_edit_names_stay_as_they_were(mail: bytes, data: st.DataObject) -> None:
    leaves = [part for part in parts(mail) if not part.parts and part.start > 0]
    named = (
        data.draw(st.lists(st.sampled_from(leaves), unique_by=lambda part: part.path, max_size=3)) if leaves else []
    )
    removing = data.draw(st.lists(st.booleans(), min_size=len(named), max_size=len(named)))
    edits: list[Edit] = [
        RemovePart(part.path) if remove else ReplacePart(part.path, b"\0new", "a/b", "n")
        for part, remove in zip(named, removing, strict=True)
    ]
    if data.draw(st.booleans()):
        edits.append(AddPart(b"\0added", "application/x-a", "a"))
    if data.draw(st.booleans()):
        edits.append(AddField("X-Added", "ä"))
    new = edited(mail, *edits)
    paths = {part.path for part in named}
    for part in parts(mail):
        if not part.parts and part.path not in paths and part.start > 0:
            assert mail[part.start : part.end] in whole(new)
    assert b"X-Kept:  as it is\r\n" in new
    removed = sum(removing)
    assert whole(new).total() <= whole(mail).total() + 1
    assert whole(new).total() >= max(1, whole(mail).total() - removed)
    foreign = [part for part in parsed(new).walk() if not part.is_multipart()]
    assert len(foreign) == whole(new).total()
    assert sum(decoded(part) == b"\0new" for part in foreign) == len(named) - removed


@given(MAIL, st.lists(NOTICE, min_size=1, max_size=3))
def test_notices_change_texts_only(mail: bytes, notices: list[AddNotice]) -> None:
    new = edited(mail, *notices)
    texts = Counter(
        mail[part.start : part.end]
        for part in parts(mail)
        if not part.parts and (part.type in ("text/plain", "text/html") or part.start == 0)
    )
    assert not whole(mail) - whole(new) - texts
    assert 0 <= whole(new).total() - whole(mail).total() <= 2
    for part in parts(mail):
        if part.type in ("multipart/signed", "application/pkcs7-mime"):
            assert mail[part.body : part.end] in new


@given(SOUP, st.data())
def test_edits_of_any_octets_are_carried_out_or_refused(soup: bytes, data: st.DataObject) -> None:
    paths = st.sampled_from([part.path for part in parts(soup)])
    edit = st.one_of(
        paths.map(RemovePart),
        paths.map(lambda path: ReplacePart(path, b"new", "", "")),
        st.just(AddPart(b"x", "a/b", "c")),
        st.just(AddField("X", "y")),
        NOTICE,
    )
    edits = data.draw(st.lists(edit, max_size=4))
    try:
        new = edited(soup, *edits)
    except CannotEdit:
        return
    if not edits:
        assert new == soup
    if all(isinstance(asked, AddField) for asked in edits):
        assert new.endswith(soup)
