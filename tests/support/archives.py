"""Archives that tests make, right ones and wrong ones."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping

from posthouse.core.container.budget import Budget, Fault
from posthouse.core.container.opening import Opened, open_container
from posthouse.core.examination import ExaminationLimits

LIMITS = ExaminationLimits()


def opened(
    octets: bytes, names: tuple[str, ...] = ("a.zip",), limits: ExaminationLimits = LIMITS
) -> tuple[list[Opened], list[str]]:
    """All members at any depth, and why not all was opened."""
    found = list(open_container(octets, names, Budget(limits), limits.container_depth))
    return [one for one in found if isinstance(one, Opened)], [one.why for one in found if isinstance(one, Fault)]


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.comment = comment
        for name, octets in members.items():
            archive.writestr(zipfile.ZipInfo(name), octets, method)
    return made.getvalue()


class _Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def zipped_as_stream(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """With data descriptors: the local headers have no sizes."""
    made = _Unseekable()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, octets in members.items():
            archive.writestr(zipfile.ZipInfo(name), octets, method)
    return made.getvalue()


def tarred(members: Iterable[tuple[tarfile.TarInfo | str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for member, octets in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(octets)
            archive.addfile(info, io.BytesIO(octets))
    return made.getvalue()


def local(name: bytes, packed: bytes, unpacked: int, *, flags: int = 0, method: int = 8, extra: bytes = b"") -> bytes:
    """A local header and the octets behind it."""
    sizes = (len(packed), unpacked)
    fixed = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, flags, method, 0, 0, 0, *sizes, len(name), len(extra))
    return fixed + name + extra + packed


def central(
    name: bytes, at: int, packed: int, unpacked: int, *, flags: int = 0, method: int = 8, extra: bytes = b""
) -> bytes:
    """An entry of a central directory."""
    fixed = struct.pack(
        *("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, flags, method, 0, 0, 0, packed, unpacked),
        *(len(name), len(extra), 0, 0, 0, 0, at),
    )
    return fixed + name + extra


def end(count: int, size: int, at: int) -> bytes:
    """The end record of a directory."""
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, size, at, 0)


def with_directory(body: bytes, *entries: bytes) -> bytes:
    directory = b"".join(entries)
    return body + directory + end(len(entries), len(directory), len(body))


def deflated(octets: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(octets) + stream.flush()
