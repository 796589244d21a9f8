"""Parts removed, replaced and added, fields added: what is not named stays octet for octet."""

import base64
from hashlib import sha256

import pytest

from posthouse.core.examination import (
    AddField,
    AddNotice,
    AddPart,
    CannotEdit,
    ExaminationLimits,
    Position,
    RemovePart,
    ReplacePart,
)
from posthouse.core.mime import surgery
from posthouse.core.mime.part import Part
from posthouse.core.mime.surgery import edit
from posthouse.core.mime.tree import tree
from posthouse.core.mime.wire import Plain
from support.surgery import Made, child, decoded, edited, leaves, parsed, part_octets


def lines(*text: str) -> bytes:
    return ("\r\n".join(text) + "\r\n").encode("latin-1")


PLAIN = lines("From: a@b.example", "Subject: one", "", "text", ".", "..dots")
MIXED = lines(
    "Received: x",
    'Content-Type: multipart/mixed; boundary="b1"',
    "Subject: two",
    "",
    "preamble",
    ".--b1",
    "--b1",
    "",
    "first",
    "--b1  ",
    'Content-Type: application/zip; name="a.zip"',
    "Content-Transfer-Encoding: base64",
    "Content-Disposition: attachment;",
    ' filename="a.zip"',
    "Content-ID: <keep@this>",
    "X-Own:  kept \tas it is",
    "",
    "UEsDBA==",
    "--b1",
    "Content-Type: multipart/alternative; boundary=b2",
    "",
    "--b2",
    "",
    "inner",
    "--b2",
    "Content-Type: text/html",
    "",
    "<p>inner</p>",
    "",
    "--b2--",
    "--b1--",
    "epilogue",
)


def test_no_edit_is_one_piece_of_the_source() -> None:
    assert edited(MIXED) == MIXED
    assert edited(b"") == b""


@pytest.mark.parametrize(
    ("path", "left"),
    [("1", {"2": "1", "3.1": "2.1", "3.2": "2.2"}), ("2", {"1": "1", "3.1": "2.1", "3.2": "2.2"}),
     ("3", {"1": "1", "2": "2"}), ("3.1", {"1": "1", "2": "2", "3.2": "3.1"}), ("3.2", {"1": "1", "3.1": "3.1"})],
)  # fmt: skip
def test_a_removed_part_leaves_the_others_as_they_were(path: str, left: dict[str, str]) -> None:
    new = edited(MIXED, RemovePart(path))
    before, after = part_octets(MIXED), part_octets(new)
    for old, now in left.items():
        assert after[now] == before[old]
    assert len(after) == len(before) - (2 if path == "3" else 1)
    assert new.startswith(MIXED[: MIXED.index(b"--b1\r\n")])
    assert new.endswith(b"--b1--\r\nepilogue\r\n")
    assert not parsed(new).defects


def test_all_parts_removed_leave_an_empty_text() -> None:
    new = edited(MIXED, RemovePart("3.1"), RemovePart("3.2"), RemovePart("1"), RemovePart("2"))
    assert leaves(parsed(new)) == [("text/plain", b"")]
    assert b"multipart/alternative" in new
    new = edited(MIXED, RemovePart("3"), RemovePart("3.2"), RemovePart("1"), RemovePart("2"))
    assert leaves(parsed(new)) == [("text/plain", b"")]
    assert b"keep@this" not in new


@pytest.mark.parametrize("path", ["", "1"])
def test_the_whole_content_is_replaced_by_an_empty_text(path: str) -> None:
    source = MIXED if path == "" else PLAIN + b"Content-Type: x\r\n"
    new = edited(source, RemovePart(path))
    assert new.startswith(source[: source.index(b"\r\n") + 2])
    assert b"Subject: " in new
    assert b"b1" not in new
    assert leaves(parsed(new)) == [("text/plain", b"")]


def test_the_last_part_of_an_unclosed_multipart_can_go() -> None:
    cut = MIXED[: MIXED.index(b"--b2--")]
    new = edited(cut, RemovePart("3.2"))
    before, after = part_octets(cut), part_octets(new)
    assert [after[path] for path in ("1", "2", "3.1")] == [before[path] for path in ("1", "2", "3.1")]
    assert len(after) == 3


HEADER_ONLY = lines(
    "Content-Type: multipart/mixed; boundary=h", "", "--h", "Content-Type: image/png", "--h", "", "text",
    "--h", "Content-Type: image/gif", "--h--",
)  # fmt: skip


def test_delimiters_that_end_a_header_stay_at_the_start_of_a_line() -> None:
    before = part_octets(HEADER_ONLY)
    assert before == {"1": b"Content-Type: image/png\r\n", "2": b"\r\ntext", "3": b"Content-Type: image/gif\r\n"}
    after = part_octets(edited(HEADER_ONLY, ReplacePart("1", b"x", "", ""), ReplacePart("3", b"y", "", "")))
    assert after["2"] == before["2"]
    assert after["1"].endswith(b"\r\n\r\neA==")
    assert after["3"].endswith(b"\r\n\r\neQ==")
    assert part_octets(edited(HEADER_ONLY, RemovePart("3"))) == {path: before[path] for path in ("1", "2")}
    assert part_octets(edited(HEADER_ONLY, RemovePart("2"))) == {"1": before["1"], "2": before["3"]}


def test_a_header_beyond_the_bound_is_not_changed() -> None:
    octets = b"Subject: " + b"x" * 200 + b"\r\n\r\ntext\r\n"
    root = tree(octets, ExaminationLimits(header_octets=100))
    with pytest.raises(CannotEdit):
        edit(Plain(octets), root, [RemovePart("1")], (), Made())


def test_a_replaced_part_keeps_what_is_not_about_its_octets() -> None:
    octets = bytes(range(256)) * 3
    new = edited(MIXED, ReplacePart("2", octets, "application/pdf", "ä.pdf"))
    part = child(new, 1)
    assert part.get_content_type() == "application/pdf"
    assert part.get_filename() == "ä.pdf"
    assert decoded(part) == octets
    assert b"Content-ID: <keep@this>\r\nX-Own:  kept \tas it is\r\n" in new
    assert new.count(b"Content-Type: ") == MIXED.count(b"Content-Type: ")
    assert max(map(len, new.split(b"\r\n"))) <= 76
    before, after = part_octets(MIXED), part_octets(new)
    assert {path for path in before if before[path] != after[path]} == {"2"}


def test_type_and_name_stay_unless_others_are_given() -> None:
    new = edited(MIXED, ReplacePart("2", b"other", "", ""))
    assert (
        b'Content-Type: application/zip; name="a.zip"\r\nContent-Disposition: attachment;\r\n filename="a.zip"' in new
    )
    assert leaves(parsed(new))[1] == ("application/zip", b"other")
    named = child(edited(MIXED, ReplacePart("2", b"other", "text/plain", "")), 1)
    assert (named.get_filename(), named.get_content_type()) == ("a.zip", "text/plain")


def test_a_file_is_made_in_base64_piece_by_piece() -> None:
    octets = bytes(range(256)) * 1000
    new = edited(MIXED, ReplacePart("2", 1, "", ""), files=[b"no", octets])
    assert leaves(parsed(new))[1] == ("application/zip", octets)
    assert base64.encodebytes(octets).replace(b"\n", b"\r\n").rstrip() in new


@pytest.mark.parametrize(
    "text",
    [
        "plain\n.dot\nFrom x\n",
        "--b1\n--b1--\n",
        "ä€ =\n. \n" + "x" * 1500 + "\n--b1",
        "a" * 2000,
        "",
        " \n\t\n",
        "a\0b",
    ],
)
def test_a_text_in_the_place_of_a_part_reads_as_it_was_given(text: str) -> None:
    new = edited(MIXED, ReplacePart("1", text.encode(), "text/plain; charset=utf-8", ""))
    assert len(part_octets(new)) == 4
    body = decoded(child(new, 0))
    assert body.decode() == text.replace("\n", "\r\n")
    assert max(map(len, new.split(b"\r\n"))) <= 998


def test_a_mail_that_is_no_multipart_is_replaced_whole() -> None:
    new = edited(PLAIN, ReplacePart("1", b"\0\1", "application/x-thing", "a.bin"))
    assert new.startswith(b"From: a@b.example\r\nSubject: one\r\nMIME-Version: 1.0\r\n")
    assert leaves(parsed(new)) == [("application/x-thing", b"\0\1")]


def test_fields_about_the_old_content_do_not_stay_with_a_new_one() -> None:
    source = b"Content-Language: de\r\nContent-ID: <x>\r\n" + PLAIN
    for asked in (ReplacePart("1", b"x", "text/plain", ""), RemovePart("1")):
        assert parsed(edited(source, asked)).keys()[:3] == ["From", "Subject", "MIME-Version"]


def test_messages_and_multiparts_are_not_put_in_base64() -> None:
    new = parsed(edited(MIXED, ReplacePart("3", b"x", "", "a.eml"), ReplacePart("2", b"y", "message/rfc822", "")))
    assert [kind for kind, _ in leaves(new)] == ["text/plain", "application/octet-stream", "application/octet-stream"]


def test_an_attachment_goes_behind_the_others_or_into_a_multipart_of_its_own() -> None:
    new = edited(MIXED, AddPart(b"added", "application/x-a", "one.bin"), AddPart(b"", "text/plain", "two.txt"))
    before, after = part_octets(MIXED), part_octets(new)
    assert {path: after[path] for path in before} == before
    assert leaves(parsed(new))[-2:] == [("application/x-a", b"added"), ("text/plain", b"")]
    around = edited(PLAIN, AddPart(b"added", "application/x-a", "one.bin"))
    assert around.startswith(
        b"From: a@b.example\r\nSubject: one\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed"
    )
    assert part_octets(around)["1"] == b"\r\n" + PLAIN.partition(b"\r\n\r\n")[2]
    assert leaves(parsed(around))[1] == ("application/x-a", b"added")
    assert not parsed(around).defects


def test_fields_of_the_content_go_with_it_into_the_multipart_around() -> None:
    source = lines("Content-Type: text/html", "Subject: s", "MIME-Version: 1.0", "Content-ID: <r>", "", "<p>x")
    new = edited(source, AddPart(b"1", "application/x-a", "a"))
    assert new.startswith(b"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed")
    assert part_octets(new)["1"] == b"Content-Type: text/html\r\nContent-ID: <r>\r\n\r\n<p>x\r\n"


def test_the_boundary_of_a_multipart_around_is_no_other_ones() -> None:
    tricky = MIXED.replace(b"mixed", b"related").replace(b"b1", b"=")
    new = edited(tricky, AddPart(b"1", "application/x-a", "a"))
    boundary = parsed(new).get_boundary()
    assert boundary is not None
    assert not boundary.startswith("=")
    assert boundary.encode() not in tricky
    assert len(leaves(parsed(new))) == 5


def test_a_boundary_that_occurs_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = edited(PLAIN, AddPart(b"1", "application/x-a", "a"))
    first = parsed(expected).get_boundary()
    assert first is not None
    fixed = sha256(PLAIN)
    monkeypatch.setattr(surgery, "sha256", lambda octets: fixed.copy())
    assert edited(PLAIN, AddPart(b"1", "application/x-a", "a")) == expected
    new = edited(PLAIN + first.encode() + b"\r\n", AddPart(b"1", "application/x-a", "a"))
    assert parsed(new).get_boundary() != first


def test_edits_inside_a_message_keep_its_header() -> None:
    inner = MIXED.replace(b"b1", b"i1").replace(b"b2", b"i2")
    outer = (
        lines("Content-Type: multipart/mixed; boundary=out", "", "--out", "Content-Type: message/rfc822", "") + inner
    )
    outer += lines("", "--out", "Content-Type: message/rfc822", "") + PLAIN + lines("--out--")
    new = edited(outer, RemovePart("1.1.2"), RemovePart("2.1"))
    assert edited(inner, RemovePart("2")) in new
    assert b"\r\n\r\nFrom: a@b.example\r\nSubject: one\r\nMIME-Version: 1.0\r\n" in new
    assert b"..dots" not in new


def test_fields_are_added_at_the_top_in_their_order() -> None:
    new = edited(MIXED, AddField("X-One", "1"), AddField("X-Two", "2"))
    assert new == b"X-One: 1\r\nX-Two: 2\r\n" + MIXED
    bare = b"\r\nno header\r\n"
    assert edited(bare, AddField("X-One", "1")) == b"X-One: 1\r\n" + bare
    assert edited(b"no header\r\n", AddField("X-One", "1")) == b"X-One: 1\r\n\r\nno header\r\n"
    assert edited(b"", AddField("X-One", "1")) == b"X-One: 1\r\n\r\n"


@pytest.mark.parametrize(
    "value", ["plain", "ä" * 200, "a\r\nInjected: b", "nul\0\x1b", "=?utf-8?B?eA==?=", "word " * 60, "x" * 3000, "",
              "a  b", "日本語 " * 30, "\ud800", "a\u2028b"]
)  # fmt: skip
@pytest.mark.parametrize("name", ["X-A", "X-" + "n" * 60])
def test_a_value_is_one_field_that_reads_as_it_was_given(name: str, value: str) -> None:
    new = edited(PLAIN, AddField(name, value))
    field = new[: -len(PLAIN)]
    assert new.endswith(PLAIN)
    assert field.isascii()
    assert b"\0" not in field
    message = parsed(new)
    assert message.keys() == [name, "From", "Subject"]
    clean = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in value).strip()
    assert " ".join(str(message[name]).split()) == " ".join(clean.split())
    assert all(len(line) <= 76 or " " not in line.strip() for line in field.decode().split("\r\n")[1:])
    assert max(map(len, field.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\r\nb", "Content-Type", "mime-version", "x" * 100])
def test_names_of_fields_that_are_none_or_change_the_reading_are_refused(name: str) -> None:
    with pytest.raises(CannotEdit):
        edited(PLAIN, AddField(name, "x"))


@pytest.mark.parametrize(
    "asked",
    [RemovePart("9"), RemovePart("../1"), ReplacePart("2", 3, "", ""), ReplacePart("2", b"", "text/html\r\nX: y", ""),
     ReplacePart("2", b"", "zip", ""), AddPart(-1, "a/b", ""), AddPart(b"", "a/b\0", "")],
)  # fmt: skip
def test_an_edit_that_cannot_be_carried_out_says_so(asked: RemovePart | ReplacePart | AddPart) -> None:
    with pytest.raises(CannotEdit):
        edited(MIXED, asked)


def test_a_part_is_replaced_before_it_is_removed_and_never_after() -> None:
    assert edited(MIXED, ReplacePart("2", b"x", "", ""), RemovePart("2")) == edited(MIXED, RemovePart("2"))
    assert edited(MIXED, RemovePart("3"), RemovePart("3.1")) == edited(MIXED, RemovePart("3"))
    with pytest.raises(CannotEdit):
        edited(MIXED, RemovePart("2"), ReplacePart("2", b"x", "", ""))
    with pytest.raises(CannotEdit):
        edited(MIXED, ReplacePart("3", b"x", "", ""), ReplacePart("3.1", b"x", "", ""))


def test_names_cannot_add_fields_or_parts() -> None:
    name = 'a"\\\r\nX-Injected: y\r\n\r\n--b1--.txt' + "ü" * 300
    new = edited(MIXED, ReplacePart("2", b"x", "application/x-a", name))
    part = child(new, 1)
    assert "X-Injected" not in part
    assert part.get_filename() == name.replace("\r\n", "  ")[:255]
    assert len(part_octets(new)) == 4


def test_a_tree_that_is_not_of_this_mail_is_refused() -> None:
    def leaf(path: str, start: int, end: int, *inner: Part) -> Part:
        return Part(path, start, start, end, (), "text/plain", "", "7bit", "", (), "", b"b", inner)

    octets = b"x" * 20
    for root in (leaf("1", 0, 19), leaf("", 0, 20, leaf("1", 5, 12), leaf("2", 10, 20)),
                 leaf("", 0, 20, leaf("1", 5, 21)), leaf("", 0, 20, leaf("1", 5, 8), leaf("1", 9, 12))):  # fmt: skip
        with pytest.raises(CannotEdit):
            edit(Plain(octets), root, [AddField("X", "y")], (), Made())


def test_a_notice_is_not_lost_with_a_part_that_goes() -> None:
    notice = AddNotice(Position.HEAD, "gone", "<p>gone</p>")
    for new in (edited(MIXED, notice, RemovePart("1")), edited(MIXED, RemovePart("1"), notice)):
        assert [kind for kind, octets in leaves(parsed(new)) if b"gone" in octets] == ["text/plain", "text/html"]
    for source, paths in ((MIXED, [""]), (PLAIN, ["1"]), (MIXED, ["3.1", "3.2", "3", "1", "2"])):
        new = edited(source, *map(RemovePart, paths), notice)
        assert leaves(parsed(new)) == [("text/plain", b"gone\r\n")]
