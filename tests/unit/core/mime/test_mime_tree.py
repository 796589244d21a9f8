"""The part tree: spans, paths, and what most readers make of the malformed."""

import pytest

from posthouse.core.examination import ExaminationLimits
from posthouse.core.mime.part import Part
from posthouse.core.mime.tree import grow, tree

LIMITS = ExaminationLimits()


def lines(*text: str) -> bytes:
    return "\r\n".join(text).encode("latin-1")


def leaves(part: Part) -> list[Part]:
    return [leaf for child in part.parts for leaf in leaves(child)] if part.parts else [part]


def bodies(octets: bytes) -> list[tuple[str, bytes]]:
    return [(leaf.path, octets[leaf.body : leaf.end]) for leaf in leaves(tree(octets, LIMITS))]


MIXED = lines(
    "Subject: two",
    'Content-Type: multipart/mixed; boundary="b 1"',
    "",
    "preamble",
    "--b 1",
    "",
    "text",
    "--b 1  ",
    "Content-Type: IMAGE/png;",
    '\tname="a.png"',
    "Content-Transfer-Encoding: BASE64 (c)",
    "Content-Disposition: Inline; filename*=utf-8''%e2%82%ac.png",
    "Content-ID: <x@y>",
    "",
    "AAAA",
    "--b 1--",
    "epilogue",
    "",
)


def test_spans_paths_and_what_is_declared() -> None:
    root = tree(MIXED, LIMITS)
    assert (root.path, root.type, root.boundary, root.start, root.end) == (
        "",
        "multipart/mixed",
        b"b 1",
        0,
        len(MIXED),
    )
    text, image = root.parts
    assert (text.path, text.type, text.charset, text.encoding) == ("1", "text/plain", "us-ascii", "7bit")
    assert MIXED[text.body : text.end] == b"text"
    assert MIXED[image.start :].startswith(b"Content-Type: IMAGE")
    assert MIXED[image.body : image.end] == b"AAAA"
    assert (image.type, image.encoding, image.disposition) == ("image/png", "base64", "inline")
    assert image.content_id == "x@y"
    assert image.names == ("€.png", "a.png")
    assert [MIXED[field.start : field.value] for field in root.fields] == [b"Subject:", b"Content-Type:"]


def test_a_mail_without_parts_is_part_1() -> None:
    octets = lines("Subject: x", "", "text", "--b1", "more", "")
    root = tree(octets, LIMITS)
    assert (root.path, root.parts, octets[root.body : root.end]) == ("1", (), b"text\r\n--b1\r\nmore\r\n")


def test_nested_multiparts_and_messages_have_paths() -> None:
    octets = lines(
        "Content-Type: multipart/mixed; boundary=a", "", "--a",
        "Content-Type: message/rfc822", "", "Subject: in", "Content-Type: multipart/mixed; boundary=b", "",
        "--b", "", "one", "--b--", "--a", "Content-Type: multipart/digest; boundary=c", "",
        "--c", "", "Subject: digest", "", "two", "--a--", "",
    )  # fmt: skip
    root = tree(octets, LIMITS)
    message, digest = root.parts
    assert (message.path, message.parts[0].path, message.parts[0].type) == ("1", "1.1", "multipart/mixed")
    assert digest.parts[0].type == "message/rfc822"
    assert bodies(octets) == [("1.1.1", b"one"), ("2.1.1", b"two")]


def test_an_outer_delimiter_ends_inner_parts() -> None:
    octets = lines(
        "Content-Type: multipart/mixed; boundary=a", "", "--a", "Content-Type: multipart/mixed; boundary=ab", "",
        "--ab", "", "one", "--a", "", "two", "--a--",
    )  # fmt: skip
    assert bodies(octets) == [("1.1", b"one"), ("2", b"two")]


def test_an_encoded_message_is_a_leaf() -> None:
    octets = lines("Content-Type: message/rfc822", "Content-Transfer-Encoding: base64", "", "U3ViamVjdDogeA==", "")
    assert tree(octets, LIMITS).parts == ()


@pytest.mark.parametrize(
    ("octets", "wanted"),
    [
        (lines("Content-Type: multipart/mixed; boundary=b", "", "--b", "", "x", ""), [("1", b"x\r\n")]),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n", [("1", b"x")]),
        (lines("Content-Type : multipart/mixed; boundary=b", "", "--b", "", "x", "--b--"), [("1", b"x")]),
        (lines("content-type: multipart/mixed;", " boundary=", " b", "", "--b", "", "x", "--b--"), [("1", b"x")]),
        (lines("Content-Type: multipart/mixed; boundary=b", "no field", "--b", "", "x", "--b--"), [("1", b"x")]),
        (lines("Content-Type: multipart/mixed; boundary*0=a; boundary*1=b", "", "--ab", "", "x"), [("1", b"x")]),
        (lines("Content-Type: multipart/mixed; boundary=b", "", "--b", "--b", "A: b", "--b--"),
         [("1", b""), ("2", b"")]),
        (lines("Content-Type: multipart/mixed", "", "--b", "", "x"), [("1", b"--b\r\n\r\nx")]),
        (b"", [("1", b"")]),
        (b"\r\n", [("1", b"")]),
        (b"--b\r\nContent-Type", [("1", b"--b\r\nContent-Type")]),
    ],
)  # fmt: skip
def test_the_malformed_is_read_as_most_readers_do(octets: bytes, wanted: list[tuple[str, bytes]]) -> None:
    assert bodies(octets) == wanted


@pytest.mark.parametrize("name", [b"deep", b"messages"])
def test_depth_is_bounded_and_told(name: bytes) -> None:
    if name == b"deep":
        octets = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(5000)
        )
    else:
        octets = b"Content-Type: message/rfc822\r\n\r\n" * 5000
    grown = grow(octets, LIMITS)
    depth, part = 1, grown.root
    while part.parts:
        depth, part = depth + 1, part.parts[0]
    assert depth == LIMITS.part_depth + 1
    assert grown.beyond == ("Parts are nested too deep, or too many.",)


def test_parts_and_headers_are_bounded_and_told() -> None:
    octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 5000
    grown = grow(octets, ExaminationLimits(parts=10))
    assert len(grown.root.parts) == 9
    assert grown.beyond == ("There are more than 10 parts.",)
    assert grown.root.parts[-1].end == grown.root.end == len(octets)
    grown = grow(b"A: b\r\n" * 1000, ExaminationLimits(header_octets=600))
    assert grown.root.body == 600
    assert len(grown.beyond) == 1
