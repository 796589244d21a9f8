"""Zips, right ones and those in which readers see different things."""

import io
import lzma
import random
import zipfile
import zlib

import pytest

from posthouse.core.container.zip_file import looks_like_zip
from posthouse.core.examination import ExaminationLimits
from support.archives import central, deflated, end, local, opened, with_directory, zipped, zipped_as_stream

TEXT, PROGRAM = b"harmless text\n" * 9, b"MZ" + b"\x90" * 98


def shown(octets: bytes) -> dict[str, bytes]:
    return {member.names[0]: member.octets for member in opened(octets)[0]}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("make", [zipped, zipped_as_stream])
def test_members_are_unpacked(make: object, method: int) -> None:
    assert callable(make)
    octets = make({"a.txt": TEXT, "d/b.exe": PROGRAM, "empty": b""}, method)
    members, faults = opened(octets)
    assert faults == []
    assert [(member.names, member.octets) for member in members] == [
        (("a.txt",), TEXT),
        (("d/b.exe",), PROGRAM),
        (("empty",), b""),
    ]


def test_octets_in_front_behind_and_between_change_nothing() -> None:
    first, second = zipped({"a.txt": TEXT}), zipped({"b.exe": PROGRAM})
    for octets in (b"#!/bin/sh\n" * 99 + first, first + b"\0" * 100_000, b"x" + first + b"y"):
        assert shown(octets) == {"a.txt": TEXT}
        assert opened(octets)[1] == []
    assert set(shown(first + b"between" + second)) >= {"b.exe"}
    assert {member.octets for member in opened(first + b"between" + second)[0]} == {TEXT, PROGRAM}


def test_a_directory_counts_though_octets_in_front_shift_its_offsets() -> None:
    packed = deflated(PROGRAM)
    octets = with_directory(local(b"a.txt", packed, len(PROGRAM)), central(b"a.exe", 0, len(packed), len(PROGRAM)))
    assert [member.names for member in opened(b"junk" * 100 + octets)[0]] == [("a.exe", "a.txt")]


def test_lzma_without_an_end_mark_is_whole_if_its_size_is_right() -> None:
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16}]
    stream = lzma.compress(TEXT, lzma.FORMAT_RAW, filters=filters)[:-5]
    packed = b"\x09\x14\5\0\x5d" + (1 << 16).to_bytes(4, "little") + stream
    octets = with_directory(
        local(b"a", packed, len(TEXT), method=14), central(b"a", 0, len(packed), len(TEXT), method=14)
    )
    assert (shown(octets), opened(octets)[1]) == ({"a": TEXT}, [])
    octets = with_directory(
        local(b"a", packed, len(TEXT) + 1, method=14), central(b"a", 0, len(packed), len(TEXT) + 1, method=14)
    )
    assert opened(octets)[1] == ["it breaks off"]


def test_members_that_only_local_headers_or_only_a_directory_show_are_both_shown() -> None:
    hidden = local(b"hidden.exe", deflated(PROGRAM), len(PROGRAM))
    listed = local(b"a.txt", deflated(TEXT), len(TEXT))
    entry = central(b"a.txt", len(hidden), len(deflated(TEXT)), len(TEXT))
    absent = central(b"absent.exe", 7, 10, 10)
    assert shown(with_directory(hidden + listed, entry)) == {"hidden.exe": PROGRAM, "a.txt": TEXT}
    assert shown(with_directory(listed + hidden, central(b"a.txt", 0, len(deflated(TEXT)), len(TEXT)))) == {
        "a.txt": TEXT,
        "hidden.exe": PROGRAM,
    }
    members, faults = opened(with_directory(listed, central(b"a.txt", 0, len(deflated(TEXT)), len(TEXT)), absent))
    assert {member.names for member in members} == {("a.txt",), ("absent.exe",)}
    assert faults == ["its directory names a member that is not there"]


def test_a_name_counts_as_local_header_and_directory_give_it() -> None:
    packed = deflated(PROGRAM)
    octets = with_directory(local(b"a.txt", packed, len(PROGRAM)), central(b"a.exe", 0, len(packed), len(PROGRAM)))
    assert [member.names for member in opened(octets)[0]] == [("a.exe", "a.txt")]


def test_a_second_directory_gives_its_names_and_its_way_of_packing() -> None:
    packed = deflated(PROGRAM)
    body = local(b"a.txt", packed, len(packed), method=0)
    inner = central(b"a.exe", 0, len(packed), len(PROGRAM))
    octets = with_directory(
        body + inner + end(1, len(inner), len(body)), central(b"a.txt", 0, len(packed), len(packed), method=0)
    )
    members, _ = opened(octets)
    assert {member.octets for member in members} == {packed, PROGRAM}
    assert "a.exe" in {name for member in members for name in member.names}


def test_where_the_two_headers_say_different_ways_both_are_shown() -> None:
    packed = deflated(PROGRAM)
    octets = with_directory(
        local(b"a", packed, len(packed), method=0), central(b"a", 0, len(packed), len(PROGRAM), method=8)
    )
    members, faults = opened(octets)
    assert {member.octets for member in members} == {packed, PROGRAM}
    assert "its headers give different sizes of a member" in faults


def test_wrong_sizes_are_told() -> None:
    packed = deflated(TEXT)
    octets = with_directory(local(b"a", packed, 5), central(b"a", 0, len(packed), 5))
    members, faults = opened(octets)
    assert [member.octets for member in members] == [TEXT]
    assert faults == ["the size of a member is not what its headers say"]


def test_overlapping_entries_are_told_and_cost_little() -> None:
    """Each member holds the header of the next one, quoted as a stored block of its own deflate stream."""
    size, packed, unpacked = 500_000, deflated(bytes(500_000)), 500_000
    body = local(b"199", packed, size)
    places, sizes = {199: 0}, {199: (len(packed), size)}
    for number in range(198, -1, -1):
        header = len(local(b"%03d" % number, b"", 0))
        block = b"\0" + header.to_bytes(2, "little") + (header ^ 0xFFFF).to_bytes(2, "little")
        packed, unpacked = block + body[:header] + packed, unpacked + header
        body = local(b"%03d" % number, packed, unpacked)
        places = {**{later: at + header + len(block) for later, at in places.items()}, number: 0}
        sizes[number] = len(packed), unpacked
    octets = with_directory(body, *(central(b"%03d" % n, places[n], *sizes[n]) for n in range(200)))
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        assert sum(info.file_size for info in archive.infolist()) > 100_000_000
    members, faults = opened(octets)
    assert sum(len(member.octets) for member in members) <= 200 * len(octets)
    assert "its entries overlap" in faults
    assert faults[-1] == "unpacks to more than 200 times its size"


def test_the_same_member_listed_many_times_is_unpacked_once() -> None:
    packed = deflated(bytes(100_000))
    entries = [central(b"%d.txt" % number, 0, len(packed), 100_000) for number in range(50)]
    members, faults = opened(with_directory(local(b"x", packed, 100_000), *entries))
    assert [len(member.octets) for member in members] == [100_000]
    assert len(members[0].names) == 51
    assert faults == []


@pytest.mark.parametrize(("flags", "method"), [(1, 8), (1, 0), (0x41, 8), (1, 99), (0, 99)])
def test_encrypted_members_have_their_names(flags: int, method: int) -> None:
    octets = with_directory(
        local(b"s.exe", b"x" * 40, 28, flags=flags, method=method),
        central(b"s.exe", 0, 40, 28, flags=flags, method=method),
    )
    members, faults = opened(octets)
    assert [(member.names, member.octets, member.encrypted) for member in members] == [(("s.exe",), b"", "zip")]
    assert faults == []


def test_names_are_read_in_every_charset_that_readers_take() -> None:
    path = b"\x75\x70" + (5 + 7).to_bytes(2, "little") + b"\x01\0\0\0\0" + b"uni.exe"
    octets = local("ä.txt".encode(), TEXT, len(TEXT), method=0, extra=path)
    octets += local(b"\x84.txt", TEXT, len(TEXT), method=0) + local(b"b.exe\0.txt", TEXT, len(TEXT), method=0)
    names = [member.names for member in opened(octets)[0]]
    assert names[0] == ("ä.txt", "├ñ.txt", "uni.exe")
    assert names[1][0] == "ä.txt"
    assert set(names[2]) == {"b.exe\0.txt", "b.exe"}


def test_damaged_members_give_what_can_be_read() -> None:
    noise = random.Random(1).randbytes(4000)
    octets = zipped({"a": noise, "b": TEXT})
    cut = opened(octets[:3000])
    assert cut[0][0].octets
    assert noise.startswith(cut[0][0].octets)
    assert cut[1] == ["it breaks off"]


def test_a_method_that_is_unknown_is_told() -> None:
    octets = local(b"a", b"xyz", 9, method=98)
    members, faults = opened(octets)
    assert [(member.names, member.octets) for member in members] == [(("a",), b"")]
    assert faults == ["packed by method 98"]


def test_entries_have_a_limit() -> None:
    octets = zipped({str(number): b"" for number in range(30)})
    members, faults = opened(octets, limits=ExaminationLimits(container_entries=20))
    assert len(members) == 20
    assert faults[0] == "more entries than are opened"
    scattered = b"".join(local(b"%d" % number, b"x", 1, method=0) for number in range(30))
    members, faults = opened(scattered, limits=ExaminationLimits(container_entries=20))
    assert len(members) == 20
    assert faults == ["more than 20 entries"]


def test_many_directories_are_told() -> None:
    body = local(b"a", b"x", 1, method=0)
    entry = central(b"a", 0, 1, 1, method=0)
    octets = body + b"".join(entry + end(1, len(entry), len(body)) for _ in range(20))
    assert opened(octets)[1] == ["more than 8 directories"]


def test_sizes_in_the_zip64_field_count() -> None:
    size = len(TEXT).to_bytes(8, "little")
    header = bytearray(local(b"a.txt", b"", 0, method=0, extra=b"\1\0\x10\0" + size * 2))
    header[18:26] = b"\xff" * 8
    entry = bytearray(central(b"a.txt", 0, 0, 0, method=0, extra=b"\1\0\x18\0" + size * 2 + bytes(8)))
    entry[16:20] = zlib.crc32(TEXT).to_bytes(4, "little")
    entry[20:28], entry[42:46] = b"\xff" * 8, b"\xff" * 4
    octets = with_directory(bytes(header) + TEXT, bytes(entry))
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        assert archive.read("a.txt") == TEXT
    assert (shown(octets), opened(octets)[1]) == ({"a.txt": TEXT}, [])


def test_what_is_no_zip_is_none() -> None:
    assert not looks_like_zip(b"PK\x03\x04 is how a zip begins. " * 99)
    assert not looks_like_zip(b"")
    assert opened(b"PK\x05\x06" + bytes(18)) == ([], [])
