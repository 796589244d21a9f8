"""Attachments in TNEF are shown with their names."""

import pytest

from support.archives import opened
from support.corpus import corpus
from support.examining import Examined

PROGRAM = b"MZ" + b"\x90" * 700
RENDERING, TITLE, DATA, PROPERTIES = 0x00069002, 0x00018010, 0x0006800F, 0x00069005


def attribute(kind: int, data: bytes) -> bytes:
    head = b"\x02" + kind.to_bytes(4, "little") + len(data).to_bytes(4, "little")
    return head + data + (sum(data) & 0xFFFF).to_bytes(2, "little")


def tnef(*attributes: bytes) -> bytes:
    return b"\x78\x9f\x3e\x22\x01\0" + b"".join(attributes)


def long_name(name: str, *, wide: bool) -> bytes:
    raw = f"{name}\0".encode("utf-16-le" if wide else "ascii")
    tag = b"\x1f\0\x07\x37" if wide else b"\x1e\0\x07\x37"
    return bytes(4) + tag + b"\1\0\0\0" + len(raw).to_bytes(4, "little") + raw


def attachment(title: bytes, data: bytes, properties: bytes = b"") -> bytes:
    made = attribute(RENDERING, bytes(14)) + attribute(TITLE, title + b"\0") + attribute(DATA, data)
    return made + (attribute(PROPERTIES, properties) if properties else b"")


@pytest.mark.parametrize("wide", [True, False])
def test_attachments_have_their_long_and_their_short_names(wide: bool) -> None:
    octets = tnef(
        attribute(0x00089006, b"\0\0\1\0"),
        attachment(b"PROGRA~1.EXE", PROGRAM, long_name("program of mine.exe", wide=wide)),
        attachment(b"a.txt", b"text"),
    )
    members, faults = opened(octets, ("winmail.dat",))
    assert [(member.names, member.octets) for member in members] == [
        (("program of mine.exe", "PROGRA~1.EXE"), PROGRAM),
        (("a.txt",), b"text"),
    ]
    assert faults == []


def test_a_mail_in_it_is_opened_too() -> None:
    inner = bytes(16) + tnef(attachment(b"b.exe", PROGRAM))
    held = b"\x0d\0\x01\x37\1\0\0\0" + len(inner).to_bytes(4, "little") + inner
    octets = tnef(attribute(RENDERING, bytes(14)), attribute(TITLE, b"mail\0"), attribute(PROPERTIES, held))
    members, faults = opened(octets, ("winmail.dat",))
    assert [(member.path, member.octets) for member in members][1:] == [("mail/b.exe", PROGRAM)]
    assert faults == []


def test_one_that_breaks_off_gives_what_is_there() -> None:
    octets = tnef(attachment(b"a.exe", PROGRAM))
    members, faults = opened(octets[:-300], ())
    assert [member.octets for member in members] == [PROGRAM[:-298]]
    assert faults == ["it breaks off"]


@pytest.mark.skipif(corpus() is None, reason="the corpus is not there")
def test_one_of_outlook() -> None:
    root = corpus()
    assert root is not None
    examined = Examined((root / "mimekit" / "tnef" / "rich-text.eml").read_bytes())
    names = {name: item for item in examined.items for name in item.names}
    assert names["KITTEN~1.JPG"].types == ("image/jpeg",)
    assert examined.examination.ambiguous == ()
