"""Whatever the octets: reading them raises nothing, and the tree accounts for each of them."""

from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.examination import ExaminationLimits, ItemKind
from posthouse.core.mime.decode import decodings
from posthouse.core.mime.header import Manner
from posthouse.core.mime.leaves import Span
from posthouse.core.mime.part import Part
from posthouse.core.mime.readings import MANNERS, read, walk
from posthouse.core.mime.tree import MESSAGES, grow, tree
from support.mime_oracle import payloads, squeezed

LIMITS = ExaminationLimits(parts=40, part_depth=6, header_octets=2000, readings=200, made_octets=100_000)
TOKENS = st.sampled_from(
    [
        *(b"--b", b"--b\r\n", b"--b--\r\n", b"--c\r\n", b"--c--\r\n", b" --b\r\n", b"\r\n", b"\n", b"\r"),
        *(b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: multipart/mixed; boundary=c\r\n"),
        *(b"Content-Type: multipart/mixed; boundary=c; boundary=b\r\n", b"Content-Type: message/rfc822\r\n"),
        *(b'Content-Type: multipart/digest; boundary="b\r\n', b"Content-Transfer-Encoding: base64\r\n", b"QUJD\r\n"),
        *(b"Content-Transfer-Encoding: quoted-printable\r\n", b"=41=\r\n", b"QQ==", b"\r\n\r\n", b"\x00", b"\t"),
        *(b'Content-Disposition: attachment; filename*0="a"; filename*1=b\r\n', b" ", b":", b'"', b"x", b"\xff\xfe"),
        *(b"=ybegin line=1 name=a\r\n", b"(BinHex 4.0):", b"begin 644 a\r\n#4$L#\r\nend\r\n"),
        b"Content-Type: text/html; charset=utf-16\r\n",
    ]
)
HOSTILE = st.one_of(st.lists(TOKENS, max_size=40).map(b"".join), st.binary(max_size=200))
SWITCHES = st.builds(
    Manner,
    *(st.booleans(), st.integers(0, 3)),
    *[st.booleans()] * 8,
)


def check(octets: bytes, root: Part) -> None:
    """Headers, bodies and delimiter lines cover the mail: nothing is left out, nothing told twice."""
    assert (root.start, root.end) == (0, len(octets))
    for part in walk(root):
        assert part.start <= part.body <= part.end
        at = part.start
        for field in part.fields:
            assert at <= field.start < field.value <= field.end <= part.body
            at = field.end
        if part.boundary:
            at = part.body
            for number, child in enumerate(part.parts):
                assert at <= child.start
                if number:
                    between = octets[at : child.start]
                    assert between.strip().startswith(b"--" + part.boundary)
                    assert between.strip(b"\r\n").count(b"\n") == 0
                at = child.end
            assert at <= part.end
        elif part.parts:
            assert part.type in MESSAGES
            (child,) = part.parts
            assert (child.start, child.end) == (part.body, part.end)


@given(HOSTILE)
def test_the_tree_accounts_for_every_octet(octets: bytes) -> None:
    root = tree(octets, LIMITS)
    check(octets, root)
    paths = [part.path for part in walk(root)]
    assert len(set(paths)) == len(paths) <= LIMITS.parts
    assert max(path.count(".") for path in paths) <= LIMITS.part_depth


@given(HOSTILE, SWITCHES)
def test_a_tree_in_any_manner_stays_inside_the_mail(octets: bytes, manner: Manner) -> None:
    for part in walk(grow(octets, LIMITS, manner).root):
        assert 0 <= part.start <= part.body <= part.end <= len(octets)


@given(HOSTILE)
def test_reading_raises_nothing_and_keeps_its_bounds(octets: bytes) -> None:
    found = read(octets, LIMITS)
    assert found.root == tree(octets, LIMITS)
    assert len(found.leaves) <= LIMITS.readings
    leaves = [part for part in walk(found.root) if not part.parts and not part.boundary]
    if not found.ambiguous:
        assert [leaf.part for leaf in found.leaves if leaf.kind is ItemKind.PART] == [part.path for part in leaves]
    paths = {"", *(part.path for part in walk(found.root))}
    keys = [(leaf.part, leaf.octets) for leaf in found.leaves]
    assert len(set(keys)) == len(keys)
    for leaf in found.leaves:
        assert leaf.part in paths
        assert all(name.isprintable() and 0 < len(name) <= 255 for name in leaf.names)
        if isinstance(leaf.octets, Span):
            assert 0 <= leaf.octets.start <= leaf.octets.end <= len(octets)


@given(HOSTILE, st.booleans())
def test_what_the_standard_library_decodes_is_shown(octets: bytes, newer: bool) -> None:
    """It stands in the mail, in one of its leaves, or the mail is ambiguous."""
    found = read(octets, LIMITS)
    if found.ambiguous:
        return
    leaves = [leaf.octets for leaf in found.leaves]
    shown = [octets[one.start : one.end] if isinstance(one, Span) else one for one in leaves]
    lines = [squeezed(one) for one in (octets, *shown)]
    for payload in payloads(octets, newer):
        assert any(payload in one for one in lines), payload


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable"]), st.integers(1, 16))
def test_every_body_has_a_decoding(body: bytes, encoding: str, most: int) -> None:
    made = decodings(body, encoding, most)
    assert 1 <= len(made) <= most
    assert len(set(made)) == len(made)


@given(
    st.lists(st.binary(max_size=300), max_size=4), st.text(max_size=100), st.text("aä€ .z-", min_size=1, max_size=90)
)
def test_what_the_standard_library_writes_has_one_reading(files: list[bytes], text: str, name: str) -> None:
    message = EmailMessage()
    message.set_content(text.encode("utf-8", "replace").decode().replace("\r", "").replace("begin", ""))
    for octets in files:
        message.add_attachment(octets, maintype="application", subtype="octet-stream", filename=name)
    written = message.as_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"").replace(b"\n", b"\r\n")
    found = read(written, LIMITS)
    attached = [leaf for leaf in found.leaves if leaf.types == ("application/octet-stream",)]
    if name == name.strip(" .") and found.ambiguous == ():
        assert {leaf.kind for leaf in found.leaves} == {ItemKind.PART}
        assert [leaf.names for leaf in attached] == [(name,)] * len(files)
    assert [leaf.octets for leaf in attached if leaf.kind is ItemKind.PART] == files


def test_every_manner_is_one_of_its_own() -> None:
    assert len(set(MANNERS)) == len(MANNERS)
