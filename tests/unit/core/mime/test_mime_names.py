"""Names and boundaries: one reading of the well-formed, every one of the rest."""

import pytest

from posthouse.core.examination import NAME_LENGTH
from posthouse.core.mime.names import MOST, names
from posthouse.core.mime.parameters import parameter, parse
from posthouse.core.mime.spellings import MOST as MOST_SPELLINGS
from posthouse.core.mime.spellings import spellings


def of(*values: bytes) -> tuple[str, ...]:
    return names([(value, parse(value)) for value in values])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b'attachment; filename="a b.zip"', ("a b.zip",)),
        (b"attachment;FileName=a.zip; size=3", ("a.zip",)),
        (b"attachment; filename*=utf-8''%e2%82%ac.zip", ("€.zip",)),
        (b"attachment; filename*0=a; filename*1=.zip", ("a.zip",)),
        (b"attachment; filename*0*=iso-8859-1'de'%E4; filename*1=.zip", ("ä.zip",)),
        (b"attachment; filename=\xe2\x82\xac.zip", ("€.zip",)),
        (b"attachment; filename=\xe4.zip", ("ä.zip",)),
        (b"attachment", ()),
        (b"", ()),
    ],
)
def test_a_well_formed_name_has_one_reading(value: bytes, wanted: tuple[str, ...]) -> None:
    assert of(value) == wanted


@pytest.mark.parametrize(
    ("value", "hidden"),
    [
        (b'attachment; filename="=?utf-8?B?bWFya2VyLmV4ZQ==?="', "marker.exe"),
        (b"attachment; filename=ok.txt; filename=marker.exe", "marker.exe"),
        (b"attachment; filename=marker.exe; filename=ok.txt", "marker.exe"),
        (b"attachment; filename=ok.txt; filename*=''marker.exe", "marker.exe"),
        (b"attachment; filename*=''ok.txt; filename=marker.exe", "marker.exe"),
        (b'attachment; filename*1="er.exe"; filename*0="mark"', "marker.exe"),
        (b'attachment; filename*0="mark"; filename*2="er.exe"', "marker.exe"),
        (b"attachment; filename*1=mark; filename*0=er.exe", "marker.exe"),
        (b"attachment; filename=ok marker.exe", "ok marker.exe"),
        (b'attachment; filename="marker.exe."', "marker.exe"),
        (b'attachment; filename="marker.exe "', "marker.exe"),
        (b"attachment; filename='marker.exe'", "marker.exe"),
        (b'attachment; filename="marker.exe\x00.txt"', "marker.exe"),
        (b'attachment; filename="marker%2eexe"', "marker.exe"),
        (b"attachment; filename=(a)marker.exe", "marker.exe"),
        (b"attachment; filena()me=marker.exe", "marker.exe"),
        (b'attachment; filename="marker.exe', "marker.exe"),
        (b"attachment filename=marker.exe", "marker.exe"),
        (b"attachment; filename = marker.exe", "marker.exe"),
        (b'attachment; filename="marker\\.exe"', "marker.exe"),
        (b"attachment; filename=marker.exe\r", "marker.exe"),
        (b'attachment; x="; filename=marker.exe"', "marker.exe"),
        (b'attachment; filename="marker\xe2\x80\xae.exe"', "marker.exe"),
        (b"attachment; filename*=utf-16''%00m%00.%00e", "m.e"),
    ],
)
def test_every_reading_of_a_name_is_seen(value: bytes, hidden: str) -> None:
    assert hidden in of(value)


def test_names_of_both_fields_and_of_parts_in_two_fields() -> None:
    assert of(b"attachment; filename=a.txt", b"application/pdf; name=b.exe") == ("a.txt", "b.exe")
    assert "file.zip" in of(b"attachment; filename*1=zip", b"application/pdf; filename*0=file.")


def test_names_have_no_control_characters_and_are_cut_with_both_ends_kept() -> None:
    (head, tail) = of(b'attachment; filename="' + b"a" * 300 + b'.exe"')
    assert (len(head), len(tail)) == (NAME_LENGTH, NAME_LENGTH)
    assert tail.endswith("aaa.exe")
    assert all(name.isprintable() for name in of(b'attachment; filename="a\x1b\x07\tb.exe"'))


def test_readings_are_bounded() -> None:
    many = b"attachment" + b"".join(b"; filename=%d.exe; filename*%d=x%d" % (n, n, n) for n in range(2000))
    assert len(of(many, many)) <= MOST
    assert len(spellings(many, b"filename")) <= MOST_SPELLINGS
    assert {"0.exe", "1999.exe"} <= set(of(many))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b'multipart/mixed; boundary="b1"; boundary="b2"', {b"b1", b"b2"}),
        (b'multipart/mixed; boundary="b1', {b"b1", b'"b1'}),
        (b'multipart/mixed; boundary=b1"', {b"b1", b'b1"'}),
        (b"multipart/mixed boundary=b1", {b"b1"}),
        (b"multipart/mixed; boundary=b1;b2", {b"b1"}),
        (b'multipart/mixed; boundary="b1 b2"', {b"b1 b2"}),
        (b'multipart/mixed; boundary="=?us-ascii?Q?b1?="', {b"=?us-ascii?Q?b1?="}),
        (b"multipart/mixed; boundary=b1(c)", {b"b1", b"b1(c)"}),
        (b"multipart/mixed; boundary=b2; boundary*0=b; boundary*1=1", {b"b1", b"b2"}),
    ],
)
def test_every_reading_of_a_boundary(value: bytes, wanted: set[bytes]) -> None:
    found = spellings(value, b"boundary")
    assert wanted <= set(found)
    assert found[0] == parameter(parse(value), b"boundary") or parse(value).odd


def test_quadratic_values_are_none() -> None:
    for piece in (b"(", b'"', b'"\\', b"boundary=", b"boundary*0=", b"=?", b";", b"=", b"%4", b"''"):
        value = b"multipart/mixed; boundary=" + piece * 30_000
        assert len(spellings(value, b"boundary")) <= MOST_SPELLINGS
        assert len(of(value.replace(b"boundary", b"name"))) <= MOST
