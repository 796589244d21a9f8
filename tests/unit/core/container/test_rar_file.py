"""RAR archives give the names of their members, and say whether they are encrypted."""

from posthouse.core.examination import ExaminationLimits
from support.archives import opened


def file_4(name: bytes, data: bytes = b"", flags: int = 0) -> bytes:
    size = 32 + len(name) + (8 if flags & 0x0100 else 0)
    head = bytes(2) + b"\x74" + flags.to_bytes(2, "little") + size.to_bytes(2, "little")
    head += len(data).to_bytes(4, "little") + bytes(15) + len(name).to_bytes(2, "little") + bytes(4)
    return head + (bytes(8) if flags & 0x0100 else b"") + name + data


def rar_4(*files: bytes, flags: int = 0) -> bytes:
    archive = bytes(2) + b"\x73" + flags.to_bytes(2, "little") + b"\x0d\0" + bytes(6)
    return b"Rar!\x1a\x07\0" + archive + b"".join(files)


def file_5(name: bytes, data: bytes = b"", extra: bytes = b"", file_flags: int = 0) -> bytes:
    optional = (bytes(4) if file_flags & 2 else b"") + (bytes(4) if file_flags & 4 else b"")
    body = bytes((file_flags, 0, 0)) + optional + bytes((0, 0, len(name))) + name + extra
    return header_5(bytes((2, 3, len(extra), len(data))) + body) + data


def header_5(body: bytes) -> bytes:
    return bytes(4) + bytes((len(body),)) + body


def rar_5(*headers: bytes) -> bytes:
    return b"Rar!\x1a\x07\x01\0" + header_5(bytes((1, 0, 0))) + b"".join(headers)


def listed(octets: bytes) -> list[tuple[tuple[str, ...], str]]:
    members, faults = opened(octets, ("a.rar",))
    assert faults == []
    assert not any(member.octets for member in members)
    return [(member.names, member.encrypted) for member in members]


def test_names_of_rar_4() -> None:
    octets = rar_4(
        file_4(b"d\\a.txt", bytes(50)),
        file_4(b"b.exe\0\1packed", b"\x74" * 30, 0x0204),
        file_4(b"c.bin", flags=0x0100),
    )
    assert listed(octets) == [(("d/a.txt",), ""), (("b.exe",), "rar"), (("c.bin",), "")]


def test_names_of_rar_5() -> None:
    octets = rar_5(
        file_5(b"d/a.txt", bytes(50)),
        file_5(b"b.exe", b"x", bytes((2, 1, 0)), 6),
        file_5(b"c.bin", extra=bytes((2, 2, 0))),
    )
    assert listed(octets) == [(("d/a.txt",), ""), (("b.exe",), "rar"), (("c.bin",), "")]


def test_encrypted_names_are_not_shown() -> None:
    assert listed(rar_4(file_4(b"a.exe"), flags=0x0080)) == []
    assert listed(rar_5(header_5(bytes((4, 0, 0, 0))), file_5(b"a.exe"))) == []


def test_names_have_a_limit() -> None:
    octets = rar_4(*(file_4(b"%d" % number) for number in range(30)))
    members, faults = opened(octets, (), ExaminationLimits(container_entries=20))
    assert (len(members), faults) == (20, ["more than 20 entries"])
