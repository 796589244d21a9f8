"""Notices: in the text and in the HTML alike, in every encoding and charset, and beside what cannot take them."""

import base64
import quopri

import pytest

from posthouse.core.examination import AddNotice, Position, RemovePart
from posthouse.core.mime.html_place import end_place, head_place
from support.surgery import child, decoded, edited, leaves, parsed, part_octets

HEAD = AddNotice(Position.HEAD, "Attention: gréen\n--b\n.x", '<p style="x">Attention: gréen</p>')
END = AddNotice(Position.END, "The end", "<p>The end</p>")


def lines(*text: str) -> bytes:
    return ("\r\n".join(text) + "\r\n").encode("latin-1")


def mail(kind: str, body: bytes, encoding: str = "7bit") -> bytes:
    head = f"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + body


def shown(octets: bytes) -> str:
    """The text of the first part, by Python's `email`."""
    message = parsed(octets)
    part = message.get_body(("plain", "html")) or message
    return decoded(part).decode(part.get_content_charset("us-ascii"))


@pytest.mark.parametrize(
    ("charset", "text"),
    [("us-ascii", "text\r\n"), ("utf-8", "téxt\r\n"), ("utf-8", "\ufefftéxt\r\n"), ("iso-8859-1", "téxt\r\n"),
     ("koi8-r", "текст\r\n"), ("iso-2022-jp", "日本語\r\n"), ("shift_jis", "日本語\r\n"), ("gb18030", "语\r\n"),
     ("utf-7", "téxt\r\n"), ("windows-1252", "“téxt”\r\n"), ("utf-8", "unix\nlines\n"),
     ("utf-8", "no end"), ("utf-8", ""), ("utf-8", "--b\r\n")],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["8bit", "base64", "quoted-printable"])
def test_a_text_keeps_its_characters_and_gets_those_of_the_notice(charset: str, text: str, encoding: str) -> None:
    coded = text.encode(charset)
    if encoding == "base64":
        body = base64.encodebytes(coded).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        body = quopri.encodestring(coded.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    elif "\n" in text.replace("\r\n", ""):
        body = coded.replace(b"\n", b"\r\n")
    else:
        body = coded
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    new = edited(mail(f"text/plain; charset={charset}", body, encoding), HEAD, END)
    # The root ends in CRLF whatever its encoding; `email` leaves none after base64.
    expected = text.replace("\r\n", "\n").removeprefix("\ufeff").removesuffix("\n")
    got = shown(new).replace("\r\n", "\n").removeprefix("\ufeff")
    between = f"\n{expected}\n" if expected else ""
    assert got.rstrip("\n") == f"Attention: gréen\n--b\n.x\n{between}\nThe end"
    assert not parsed(new).defects


def test_utf16_stays_what_it_is() -> None:
    body = base64.encodebytes("téxt\r\n".encode("utf-16")).replace(b"\n", b"\r\n")
    new = parsed(edited(mail("text/plain; charset=utf-16", body, "base64"), END))
    assert decoded(new).decode("utf-16") == "téxt\r\n\r\nThe end\r\n"


def test_octets_of_a_text_sent_as_it_is_stay() -> None:
    source = mail("text/plain; charset=utf-8; format=fixed", "téxt\r\n.\r\n".encode(), "8bit")
    assert edited(source, END) == source + b"\r\nThe end\r\n"
    head = source.index(b"\r\n\r\n") + 4
    assert edited(source, AddNotice(Position.HEAD, "é", "")) == source[:head] + "é\r\n\r\n".encode() + source[head:]


def test_an_ascii_text_becomes_utf8_only_if_the_notice_needs_it() -> None:
    source = mail('text/plain; format=flowed; charset="us-ascii"; x="a b"', b"text\r\n")
    assert edited(source, END) == source + b"\r\nThe end\r\n"
    new = parsed(edited(source, HEAD))
    assert new["Content-Type"].params == {"charset": "utf-8", "format": "flowed", "x": "a b"}
    assert new["Content-Transfer-Encoding"] == "quoted-printable"
    assert new.keys() == ["Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]
    bare = parsed(edited(b"Subject: s\r\n\r\ntext\r\n", HEAD))
    assert bare["MIME-Version"] == "1.0"
    assert bare.get_content_charset() == "utf-8"


def test_lines_of_a_notice_do_not_flow_into_others() -> None:
    source = mail("text/plain; format=flowed", b"soft \r\nbreak \r\n")
    notice = AddNotice(Position.END, "ends in a blank \n> not quoted\n From\n\nlast", "")
    assert edited(source, notice) == source + b"\r\nends in a blank\r\n > not quoted\r\n  From\r\n\r\nlast\r\n"


def test_several_notices_stand_in_their_order() -> None:
    notices = [AddNotice(at, f"{at} {n}", f"<i>{at} {n}</i>") for n in (1, 2) for at in Position]
    text = edited(mail("text/plain", b"text\r\n"), *notices)
    assert text.endswith(b"\r\n\r\nhead 1\r\n\r\nhead 2\r\n\r\ntext\r\n\r\nend 1\r\n\r\nend 2\r\n")
    html = edited(mail("text/html", b"<body>text</body>\r\n"), *notices)
    assert html.endswith(
        b"<body>\r\n<i>head 1</i>\r\n<i>head 2</i>\r\ntext\r\n<i>end 1</i>\r\n<i>end 2</i>\r\n</body>\r\n"
    )


ALTERNATIVE = lines(
    'Content-Type: multipart/mixed; boundary="m"', "", "--m",
    'Content-Type: multipart/alternative; boundary="a"', "", "--a",
    "Content-Type: text/plain; charset=iso-8859-1", "Content-Transfer-Encoding: 8bit", "", "text \xe9", "--a",
    'Content-Type: multipart/related; boundary="r"', "", "--r",
    "Content-Type: text/html; charset=utf-8", "Content-Transfer-Encoding: quoted-printable", "",
    "<html><BODY bgcolor=3D\"x\">text =C3=A9</body></html>", "--r",
    "Content-Type: image/png", "Content-ID: <i>", "", "\xff.", "--r--", "--a",
    "Content-Type: text/calendar; charset=utf-8", "", "BEGIN:VCALENDAR", "--a--", "--m",
    "Content-Type: text/plain", "Content-Disposition: attachment; filename=a.txt", "", "attached", "--m",
    "Content-Type: text/html", "", "second", "--m--",
)  # fmt: skip


def test_every_alternative_gets_the_notice_and_nothing_else_does() -> None:
    new = edited(ALTERNATIVE, HEAD, END)
    before, after = part_octets(ALTERNATIVE), part_octets(new)
    assert {path for path in before if before[path] != after[path]} == {"1.1", "1.2.1"}
    assert before.keys() == after.keys()
    texts = [octets for _, octets in leaves(parsed(new))]
    assert texts[0] == "Attention: gréen\r\n--b\r\n.x\r\n\r\ntext \xe9\r\n\r\nThe end\r\n".encode("latin-1")
    assert texts[1].decode() == (
        '<html><BODY bgcolor="x">\r\n<p style="x">Attention: gr&#233;en</p>\r\ntext é\r\n'
        "<p>The end</p>\r\n</body></html>"
    )
    assert texts[2:] == [octets for _, octets in leaves(parsed(ALTERNATIVE))][2:]


SIGNED = lines(
    "Subject: signed", "MIME-Version: 1.0", 'Content-Type: multipart/signed; boundary="s";', "\tmicalg=sha-256", "",
    "--s", "Content-Type: text/plain", "", ".text ", "--s", "Content-Type: application/pkcs7-signature", "", "AAAA",
    "--s--",
)  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [SIGNED, mail("application/pkcs7-mime; smime-type=signed-data", b"AAAA\r\n", "base64"),
     SIGNED.replace(b"/signed", b"/encrypted"), mail("image/png", b"AAAA\r\n", "base64"),
     mail("text/plain; charset=x-unknown", b"\xe9\r\n"), mail("text/plain", b"\xe9\r\n"),
     mail("text/plain", b"AAAA=AAAA\r\n", "base64"), mail("text/plain\r\nContent-Disposition: attachment", b"x\r\n"),
     mail("text/plain", b"=ZZ\r\n", "quoted-printable"),
     mail("text/html", b"<p>\r\n", "x-unknown"), mail("text/plain; name=a.txt", b"attached\r\n"),
     mail("multipart/mixed; boundary=none", b"no part\r\n"),
     mail("text/plain; charset=utf-16", b"AAAA\r\n", "base64")],
)  # fmt: skip
def test_what_cannot_take_a_notice_stays_as_it_is_beside_one(source: bytes) -> None:
    header, _, body = source.partition(b"\r\n\r\n")
    about = header[header.index(b"Content-Type") :] + b"\r\n\r\n"
    new = edited(source, HEAD, END)
    assert new.startswith(b"Subject: s")
    found = list(parsed(new).iter_parts())
    assert [part.get_content_type() for part in (found[0], found[2])] == ["text/plain"] * 2
    assert decoded(found[0]) == "Attention: gréen\r\n--b\r\n.x\r\n".encode()
    assert decoded(found[2]) == b"The end\r\n"
    assert b"\r\n" + about + body + b"\r\n--" in new
    assert len(found) == 3


def test_a_related_part_is_read_by_its_first_part() -> None:
    for source in (ALTERNATIVE, edited(ALTERNATIVE, RemovePart("1.2.1"))):
        changed = part_octets(source).items() - part_octets(edited(source, END)).items()
        assert {path for path, _ in changed} == ({"1.1", "1.2.1"} if source is ALTERNATIVE else {"1.1"})
    related = lines("Content-Type: multipart/related; boundary=r", "", "--r", "Content-Type: image/png", "", "x",
                    "--r", "Content-Type: text/html", "", "<p>a file of the image</p>", "--r--")  # fmt: skip
    assert related.partition(b"\r\n\r\n")[2] in edited(related, END)


def test_no_line_of_a_notice_can_be_a_delimiter_or_too_long() -> None:
    source = ALTERNATIVE.replace(b"; charset=iso-8859-1", b"")
    for text in ("--m--", "a\n--a", "x" * 3000):
        new = edited(source, AddNotice(Position.HEAD, text, f"<p>\n{text}</p>"))
        assert part_octets(new).keys() == part_octets(source).keys()
        assert decoded(list(parsed(new).walk())[2]).decode("latin-1").startswith(text.replace("\n", "\r\n"))
        assert max(map(len, new.split(b"\r\n"))) <= 998


def test_a_mail_of_seven_bits_stays_one() -> None:
    new = edited(mail("text/plain; charset=utf-8", b"text\r\n"), HEAD)
    assert new.isascii()
    assert shown(new).startswith("Attention: gréen")


def test_a_charset_that_does_not_give_the_text_back_becomes_utf8() -> None:
    new = edited(mail("text/plain; charset=iso-2022-jp", b"\x1b(Btext\r\n"), END)
    assert parsed(new).get_content_charset() == "utf-8"
    assert shown(new) == "text\r\n\r\nThe end\r\n"


def test_control_characters_and_half_characters_are_not_sent() -> None:
    new = edited(mail("text/plain; charset=utf-8", b"text\r\n"), AddNotice(Position.END, "a\0\x1b\ud800\tb\r\nc", ""))
    assert shown(new) == "text\r\n\r\na???\tb\r\nc\r\n"


def test_a_signed_part_in_a_mixed_one_gets_the_notice_beside_it() -> None:
    source = lines("Content-Type: multipart/mixed; boundary=m", "", "--m") + SIGNED[SIGNED.index(b"Content-Type") :]
    source += lines("--m", "", "footer of a list", "--m--")
    new = edited(source, HEAD)
    before, after = part_octets(source), part_octets(new)
    assert [after["2.1"], after["2.2"], after["3"]] == [before["1.1"], before["1.2"], before["2"]]
    assert decoded(child(new, 0)).startswith(b"Attention")


@pytest.mark.parametrize("octets", [b"<p>" + b"x" * 2000, b"<body>--m\r\n", b"<body>.x\r\n"])
def test_html_in_a_line_that_must_not_be_cut_is_encoded(octets: bytes) -> None:
    source = lines("Content-Type: multipart/mixed; boundary=m", "", "--m", "Content-Type: text/html", "") + octets
    new = edited(source + b"\r\n--m--\r\n", HEAD, END)
    assert len(part_octets(new)) == 1
    assert decoded(child(new, 0)).replace(b"\r\n", b"").count(octets.strip().removeprefix(b"<body>")) == 1


@pytest.mark.parametrize(
    "html",
    [
        "x<body>|y|</body>",
        "<BODY onload='a>b' class=\"</body>\">|y|</Body >",
        "<!-- <body> --><body\n>|y|</body><!-- </body> -->",
        "<script>'<body>'</script><body>|y<script>'</body>'</script>|</body></html>",
        "<style><body></style><body>|y</body>|</body>",
        "<!DOCTYPE html>|y|",
        "<html lang=x>|y|</html>",
        "<html><head><title></body></title></head>|y|</html>\r\n",
        "|plain|",
        "||",
        "<body>|y|<!-- open </body>",
        "<body>|y|<script>open </body>",
        "<body>|y|<a href=\"open </body>",
        "<body>|<a href=x\"y>z|</body>",
        "<!--><body>|y|</body>",
        "<body>|y<bodyguard></bodyguard>|</body",
        "<body>|1 < 2|</body>",
        "|<!ELEMENT x><?php a>y|",
        "<body>|y|<plaintext></body>",
    ],
)  # fmt: skip
def test_places_in_html(html: str) -> None:
    before, between, after = html.split("|")
    text = before + between + after
    assert (head_place(text), end_place(text)) == (len(before), len(before + between))


@pytest.mark.parametrize("piece", ["<", "<a ", "<a '", '<a x="', "<!--", "<script>", "<a x=", "</body", "--", "<!"])
def test_broken_html_takes_linear_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert 0 <= head_place(text) <= len(text)
    assert 0 <= end_place(text) <= len(text)
