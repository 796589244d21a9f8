"""Kept mail read for people by an examiner: short and long content, and nothing of it on a disk."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.clients.examiner import IsolatedExaminer
from posthouse.clients.mail_reader import IsolatedReader
from posthouse.core.examination import ItemKind
from posthouse.core.limits import Limits
from posthouse.core.wire_form import wire_form
from posthouse.examiner.frames import IN_BAND_OCTETS
from posthouse.ports import ContentUnreadable
from posthouse.scan_ports import Examined
from support.examiners import LIMITS, whole

CANARY = b"canary-7f3a9d"
HEAD = b'Subject: x\r\nContent-Type: application/octet-stream; name="a"\r\n\r\n'
SHORT = HEAD + b".short\r\n"
LONG = HEAD + (CANARY + b" .a line\r\n.b\r\n") * (2 * IN_BAND_OCTETS // 25)


def pieces(plain: bytes, size: int = 100_000) -> Iterator[bytes]:
    wire = wire_form(plain)
    return (wire[at : at + size] for at in range(0, len(wire), size))


def body(examined: Examined) -> bytes:
    item = next(item for item in examined.examination.items if item.kind is ItemKind.PART)
    return whole(examined.octets(item))


def memory_files() -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:mail")
        except FileNotFoundError:
            pass
    return found


@pytest.mark.parametrize("plain", [SHORT, LONG], ids=["short", "long"])
def test_a_mail_is_read_and_nothing_of_it_is_left(
    plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    async def main() -> None:
        reader = IsolatedReader(IsolatedExaminer(Limits()))
        try:
            examined = await reader.read(pieces(plain), LIMITS)
            assert body(examined) == plain.removeprefix(HEAD)
            assert os.listdir(tmp_path) == []
            examined.close()
        finally:
            await reader.close()

    before = memory_files()
    asyncio.run(main())
    assert memory_files() == before


def test_content_that_cannot_be_read_whole_is_not_examined() -> None:
    def broken() -> Iterator[bytes]:
        yield from pieces(LONG)
        raise ContentUnreadable("it was tampered with")

    async def main() -> None:
        reader = IsolatedReader(IsolatedExaminer(Limits()))
        try:
            with pytest.raises(ContentUnreadable, match="tampered"):
                await reader.read(broken(), LIMITS)
        finally:
            await reader.close()

    before = memory_files()
    asyncio.run(main())
    assert memory_files() == before
