"""gzip, bzip2 and xz: several streams, damaged ones, and ones that unpack to very much."""

import bz2
import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable

import pytest

from posthouse.core.container.budget import Allowance, Budget
from posthouse.core.container.compressed import deflate, unpack
from posthouse.core.examination import ExaminationLimits
from support.archives import opened

Compress = Callable[[bytes], bytes]
WAYS: list[tuple[Compress, str]] = [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")]


def named(name: str, octets: bytes) -> bytes:
    made = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=made) as stream:
        stream.write(octets)
    return made.getvalue()


@pytest.mark.parametrize(("compress", "suffix"), WAYS)
def test_all_streams_are_unpacked_in_one_and_the_first_alone(compress: Compress, suffix: str) -> None:
    one, two = compress(b"one"), compress(b"two")
    assert [member.octets for member in opened(one, (f"a.txt.{suffix}",))[0]] == [b"one"]
    members, faults = opened(one + two + b"\0" * 20 + two, (f"a.txt.{suffix}", f"b.{suffix.upper()}"))
    assert [member.octets for member in members] == [b"onetwotwo", b"one"]
    assert {member.names for member in members} == {("a.txt", "b")}
    assert faults == []


@pytest.mark.parametrize(("compress", "suffix"), WAYS)
def test_what_stands_behind_the_streams_is_none(compress: Compress, suffix: str) -> None:
    members, faults = opened(compress(b"one") + b"\n-- \nsent by a list", (f"a.{suffix}",))
    assert ([member.octets for member in members], faults) == ([b"one"], [])


@pytest.mark.parametrize(("compress", "suffix"), WAYS)
def test_damaged_streams_give_what_can_be_read(compress: Compress, suffix: str) -> None:
    octets = compress(bytes(range(256)) * 8)
    assert opened(octets[:-9], (f"a.{suffix}",))[1] == ["it breaks off"]
    members, faults = opened(octets[:-8] + bytes(4) + octets[-4:], (f"a.{suffix}",))
    assert faults == ["damaged"]
    assert [member.names for member in members] == [("a",)]


@pytest.mark.parametrize(("compress", "suffix"), WAYS)
def test_a_gibibyte_of_zeros_costs_no_more_than_the_limits(compress: Compress, suffix: str) -> None:
    """Each of 64 streams is 16 MiB of zeros."""
    octets = compress(bytes(1 << 24)) * 64
    limits = ExaminationLimits(made_octets=8 * 1024 * 1024)
    tracemalloc.start()
    try:
        members, faults = opened(octets, (f"a.{suffix}",), limits)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(faults) == 1
    assert sum(len(member.octets) for member in members) <= 8 * 1024 * 1024
    assert peak < 64 * 1024 * 1024


def test_the_ratio_is_told() -> None:
    members, faults = opened(gzip.compress(bytes(4 << 20)), ("a.gz",))
    assert faults == ["unpacks to more than 200 times its size"]
    assert 0 < len(members[0].octets) <= 1 << 20


def test_streams_count_as_entries() -> None:
    octets = gzip.compress(b"") * 30
    assert opened(octets, ("a.gz",), ExaminationLimits(container_entries=20))[1] == ["more than 20 entries"]


@pytest.mark.parametrize(("name", "inner"), [("a.tgz", "a.tar"), ("b.svgz", "b.svg"), ("c.exe.GZ", "c.exe")])
def test_the_name_inside_is_that_without_the_suffix(name: str, inner: str) -> None:
    assert opened(gzip.compress(b"x"), (name,))[0][0].names == (inner,)


def test_the_same_octets_are_not_unpacked_again_and_again() -> None:
    """Blocks without octets: no limit of what comes out stops them."""
    octets = memoryview(b"\0\0\0\xff\xff" * 100_000)
    allowance = Allowance(Budget(ExaminationLimits()), len(octets))
    whys = [unpack(octets, 0, deflate, allowance).why for _ in range(8)]
    assert whys[:4] == ["it breaks off"] * 4
    assert whys[-1] == "its entries overlap"


def test_the_name_in_the_header_counts_too() -> None:
    assert opened(named("b.exe", b"x"), ("a.txt.gz",))[0][0].names == ("b.exe", "a.txt")
    utf8 = named("b.exe", b"x").replace(b"b.exe", "ä.exe".encode().ljust(5, b"."))
    assert opened(utf8, ())[0][0].names[0].startswith("ä")


def test_xz_that_wants_much_memory_is_told() -> None:
    octets = lzma.compress(b"x" * 99, preset=0, filters=None)
    large = lzma.compress(
        b"x" * 99, format=lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29, "preset": 0}]
    )
    assert opened(octets, ("a.xz",))[1] == []
    assert opened(large, ("a.xz",))[1] == ["damaged"]
