"""Every call that durability hangs on goes through this module.

A fault drill replaces an entry of `calls` to make the n-th call fail or kill the process.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Transaction(Protocol):
    """What can be committed."""

    def commit(self) -> None: ...


class _Calls(Protocol):
    def write(self, descriptor: int, octets: bytes | memoryview, /) -> int: ...
    def fsync(self, descriptor: int, /) -> None: ...
    def rename(self, source: Path, target: Path, /) -> None: ...
    def unlink(self, path: Path, /) -> None: ...
    def commit(self, transaction: Transaction, /) -> None: ...


@dataclass(slots=True)
class SystemCalls:
    """The calls in use."""

    def write(self, descriptor: int, octets: bytes | memoryview, /) -> int:
        return os.write(descriptor, octets)

    def fsync(self, descriptor: int, /) -> None:
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path, /) -> None:
        os.rename(source, target)

    def unlink(self, path: Path, /) -> None:
        os.unlink(path)

    def commit(self, transaction: Transaction, /) -> None:
        transaction.commit()


calls: _Calls = SystemCalls()


def write_all(descriptor: int, octets: bytes) -> None:
    """Writes everything. Raises OSError."""
    view = memoryview(octets)
    while view:
        view = view[calls.write(descriptor, view) :]


def fsync(descriptor: int) -> None:
    calls.fsync(descriptor)


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
