"""Tar archives of each form, with long names, holes, damage, and headers that contradict each other."""

import io
import tarfile

import pytest

from posthouse.core.examination import ExaminationLimits
from support.archives import opened, tarred

LONG = "folder/" * 30 + "program.exe"
PROGRAM = b"MZ" + b"\x90" * 700


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_shown_with_long_names_too(form: int) -> None:
    long = LONG if form != tarfile.USTAR_FORMAT else "f" * 90 + "/program.exe"
    members, faults = opened(tarred([("a.txt", b"text"), (long, PROGRAM), ("empty", b"")], form), ("a.tar",))
    assert faults == []
    assert [member.octets for member in members] == [b"text", PROGRAM, b""]
    assert members[1].names[0] == long


def test_an_archive_without_magic_number_is_one() -> None:
    octets = bytearray(tarred([("a.exe", PROGRAM)], tarfile.USTAR_FORMAT))
    octets[257:265] = bytes(8)
    octets[148:156] = b" " * 8
    octets[148:156] = b"%06o\0 " % sum(octets[:512])
    members, faults = opened(bytes(octets), ("a.tar",))
    assert [(member.names, member.octets) for member in members] == [(("a.exe",), PROGRAM)]
    assert faults == []


def test_names_are_read_in_several_charsets() -> None:
    member = opened(tarred([("ä.exe", b"x")], tarfile.GNU_FORMAT), ())[0][0]
    assert member.names == ("ä.exe", "├ñ.exe")


def test_links_and_devices_give_their_names() -> None:
    link = tarfile.TarInfo("link.exe")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    members, faults = opened(tarred([(folder, b""), (link, b""), ("a", b"x")]), ())
    assert [(member.names, member.octets) for member in members] == [(("link.exe",), b""), (("a",), b"x")]
    assert faults == []


def test_members_behind_the_end_mark_and_behind_damage_are_shown() -> None:
    one, two = tarred([("a", b"one")]), tarred([("b", b"two")])
    members, faults = opened(one + two, ())
    assert [member.octets for member in members] == [b"one", b"two"]
    assert faults == []
    members, faults = opened(one[:1024] + b"\xff" * 512 + two, ())
    assert [member.octets for member in members] == [b"one", b"two"]
    assert faults == ["damaged"]


def test_an_archive_that_breaks_off_gives_what_is_there() -> None:
    octets = tarred([("a", b"x" * 2000)])
    members, faults = opened(octets[:1500], ())
    assert [len(member.octets) for member in members] == [988]
    assert faults == ["it breaks off"]


def test_headers_that_give_different_sizes_are_told() -> None:
    """Readers that take the size of the pax header see other members than those that take the one of ustar."""
    inner = tarred([("hidden.exe", PROGRAM)], tarfile.USTAR_FORMAT)
    info = tarfile.TarInfo("a")
    info.pax_headers = {"size": str(len(inner)), "comment": "x"}
    octets = tarred([(info, inner)])
    assert opened(octets, ())[1] == []
    header = octets.index(b"a\0", 1024)
    block = bytearray(octets[header : header + 512])
    block[124:136] = b"%011o\0" % 512
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    members, faults = opened(octets[:header] + bytes(block) + octets[header + 512 :], ())
    assert faults == ["its headers give different sizes of a member"]
    assert any(member.octets == PROGRAM for member in members)


def with_sum(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_a_size_that_readers_take_differently_is_told() -> None:
    octets = tarred([("a", b"x" * 8)], tarfile.USTAR_FORMAT)
    header = bytearray(octets[:512])
    header[124:136] = b"\0" + header[125:136]
    members, faults = opened(with_sum(header) + octets[512:], ())
    assert [member.octets for member in members] == [b"x" * 8]
    assert faults == ["its headers give different sizes of a member"]


def test_a_size_below_zero_ends_it_nonetheless() -> None:
    """Python reads a sign there; a reader that heeds it goes back for ever."""
    octets = tarred([("a", b"")], tarfile.USTAR_FORMAT)
    header = bytearray(octets[:512])
    header[124:136], header[156:157] = b"-2000".ljust(12, b"\0"), b"L"
    members, faults = opened(octets[:512] * 2 + with_sum(header) + octets, ())
    assert [member.names for member in members] == [("a",)] * 3
    assert faults == []


def test_a_link_with_a_size_is_told() -> None:
    octets = tarred([("a", b"x" * 8)], tarfile.USTAR_FORMAT)
    header = bytearray(octets[:512])
    header[156:157] = b"1"
    assert opened(with_sum(header) + octets[512:], ())[1] == ["a member without octets has a size"]


def test_too_many_names_of_a_member_are_told() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    names = b"".join(tarred([(info, b"%d.exe\0" % number)], tarfile.GNU_FORMAT)[:1024] for number in range(101))
    assert opened(names + tarred([("a", b"x")]), ())[1] == ["a member has too many names"]


def test_holes_are_told() -> None:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "b.exe"}
    members, faults = opened(tarred([(info, b"x")]), ())
    assert faults == ["a member has holes"]
    assert "b.exe" in members[0].names


def test_names_for_all_members_are_told() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "all.exe"}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    assert opened(made.getvalue(), ())[1] == ["some readers take other names or sizes of its members"]


def test_a_size_beyond_everything_ends_it() -> None:
    octets = bytearray(tarred([("a", b"x")], tarfile.USTAR_FORMAT))
    octets[124:136] = b"\x80" + b"\xff" * 11
    octets[148:156] = b" " * 8
    octets[148:156] = b"%06o\0 " % sum(octets[:512])
    members, faults = opened(bytes(octets), ())
    assert len(members) == 1
    assert faults == ["it breaks off"]


def test_entries_have_a_limit() -> None:
    octets = tarred([(str(number), b"") for number in range(30)])
    members, faults = opened(octets, (), ExaminationLimits(container_entries=20))
    assert len(members) == 20
    assert faults == ["more than 20 entries"]
