"""Every call that durability hangs on goes through this module.

A fault drill replaces an entry of `calls` to make the n-th call fail or kill the process.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy.exc import InterfaceError, OperationalError

_REFUSALS = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENODEV})
_OF_ONE_TRANSACTION = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL: serialization failure, deadlock, lock not available: say nothing about disk or server."""


class Transaction(Protocol):
    """What can be committed."""

    def commit(self) -> None: ...


class _Calls(Protocol):
    def write(self, descriptor: int, octets: memoryview, offset: int, /) -> int: ...
    def fdatasync(self, descriptor: int, /) -> None: ...
    def fsync(self, descriptor: int, /) -> None: ...
    def rename(self, source: Path, target: Path, /) -> None: ...
    def unlink(self, path: Path, /) -> None: ...
    def commit(self, transaction: Transaction, /) -> None: ...


@dataclass(slots=True)
class SystemCalls:
    """The calls in use."""

    def write(self, descriptor: int, octets: memoryview, offset: int, /) -> int:
        return os.pwrite(descriptor, octets, offset)

    def fdatasync(self, descriptor: int, /) -> None:
        os.fdatasync(descriptor)

    def fsync(self, descriptor: int, /) -> None:
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path, /) -> None:
        os.rename(source, target)

    def unlink(self, path: Path, /) -> None:
        os.unlink(path)

    def commit(self, transaction: Transaction, /) -> None:
        transaction.commit()


calls: _Calls = SystemCalls()


def write_all(descriptor: int, octets: bytes, offset: int) -> None:
    """Writes everything. Raises OSError."""
    view = memoryview(octets)
    while view:
        written = calls.write(descriptor, view, offset)
        view, offset = view[written:], offset + written


def start_writing_back(descriptor: int) -> None:
    """The disk may begin; a sync that follows waits less if the disk has been given several files by then."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_octets(descriptor: int) -> None:
    """Octets and size of a file are on the disk; its name perhaps not."""
    calls.fdatasync(descriptor)


def fsync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        calls.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    calls.rename(source, target)


def unlink(path: Path) -> None:
    """A file that is gone already is fine."""
    try:
        calls.unlink(path)
    except FileNotFoundError:
        pass


def commit(transaction: Transaction) -> None:
    calls.commit(transaction)


def storage_failed(error: BaseException) -> bool:
    """Whether disk or database refused, and not one of the units asked for what cannot be."""
    if isinstance(error, OperationalError | InterfaceError):
        return getattr(error.orig, "sqlstate", None) not in _OF_ONE_TRANSACTION
    return isinstance(error, OSError) and error.errno in _REFUSALS
