"""Containers in containers: with one budget, to a depth, each once."""

import gzip
import io
import zipfile
import zlib

from posthouse.core.examination import ExaminationLimits
from support.archives import central, local, opened, tarred, with_directory, zipped

PROGRAM = b"MZ" + b"\x90" * 700


def nested(depth: int, method: int) -> bytes:
    octets = PROGRAM
    for number in range(depth):
        octets = zipped({f"{number}.zip" if number else "a.exe": octets}, method)
    return octets


def test_all_levels_are_opened() -> None:
    octets = gzip.compress(tarred([("b/inner.zip", zipped({"a.exe": PROGRAM}))]))
    members, faults = opened(octets, ("x.tgz",))
    paths = [member.path for member in members]
    assert paths[:3] == ["x.tar", "x.tar/b/inner.zip", "x.tar/b/inner.zip/a.exe"]
    # For readers of zips, the tar is a zip with something around it.
    assert paths[3:] == ["x.tar/a.exe"]
    assert members[2].octets == members[3].octets == PROGRAM
    assert faults == []


def test_depth_has_a_limit() -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        assert opened(nested(8, method))[1] == []
        assert opened(nested(8, method))[0][-1].octets == PROGRAM
        members, faults = opened(nested(20, method))
        assert faults == ["too many containers in one another"]
        assert len(members) == 8


def test_what_holds_itself_ends() -> None:
    """The same container twice is opened once."""
    inner = zipped({"a.txt": b"x"})
    members, faults = opened(zipped({"1.zip": inner, "2.zip": inner, "3.zip": zipped({"1.zip": inner})}))
    assert [member.path for member in members] == ["1.zip", "1.zip/a.txt", "2.zip", "3.zip", "3.zip/1.zip"]
    assert faults == []


def test_a_gibibyte_of_zeros_in_a_zip_costs_no_more_than_the_limits() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)
    packed = piece * 1024 + stream.flush()
    octets = with_directory(local(b"zeros", packed, 1 << 30), central(b"zeros", 0, len(packed), 1 << 30))
    assert len(octets) < 1.1 * (1 << 20)
    with zipfile.ZipFile(io.BytesIO(octets)) as archive, archive.open("zeros") as member:
        assert len(member.read(1 << 20)) == 1 << 20
    members, faults = opened(octets, limits=ExaminationLimits(made_octets=8 << 20))
    assert sum(len(member.octets) for member in members) <= 8 << 20
    assert faults == ["more than 8388608 octets decoded and unpacked"]


def test_bombs_in_bombs_share_one_budget() -> None:
    layer = zipped({"zeros": bytes(1 << 20)})
    for _ in range(4):
        layer = zipped({f"{number}.zip": layer + bytes([number]) for number in range(16)})
    limits = ExaminationLimits(made_octets=4 << 20)
    members, faults = opened(layer, limits=limits)
    assert sum(len(member.octets) for member in members) <= 4 << 20
    assert faults


def test_what_is_two_kinds_at_once_is_opened_as_both() -> None:
    octets = tarred([("a.txt", b"text")]) + zipped({"b.exe": PROGRAM})
    assert {member.octets for member in opened(octets, ())[0]} == {b"text", PROGRAM}
