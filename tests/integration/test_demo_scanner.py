"""The demo's scanner, asked by the client of clamd: it finds EICAR wherever a chunk ends, and nothing else."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from posthouse.clients.clamav import ClamdScanner
from posthouse.core.examination import Item, ItemKind, Place
from posthouse.core.profile import ServerProfile, parse_profile
from posthouse.core.scan import Verdict
from posthouse.lab.scanner import EICAR, DemoScanner
from posthouse.scan_ports import Asked, ScanOrder


class Pieces:
    """scan_ports.Octets."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.size = sum(map(len, pieces))

    def pieces(self) -> Iterator[bytes]:
        yield from self._pieces


def profile(port: int) -> ServerProfile:
    parsed, faults = parse_profile({"name": "demo", "type": "clamav", "servers": [f"127.0.0.1:{port}"]}, "")
    assert parsed is not None, faults
    return parsed


def asked(number: int, pieces: Sequence[bytes]) -> Asked:
    place = Place(True, 0, sum(map(len, pieces)))
    return Asked(number, Item(ItemKind.PART, "1", "1", (), (), place, str(number)), Pieces(*pieces))


@pytest.mark.parametrize("cut", [0, 1, 30, len(EICAR) - 1])
def test_eicar_is_found_and_nothing_else(cut: int) -> None:
    async def go() -> list[Verdict]:
        demo, scanner = DemoScanner(), ClamdScanner()
        await demo.start()
        try:
            by = profile(demo.port)
            items = [asked(0, [b"x" * 1000, EICAR[:cut], EICAR[cut:]]), asked(1, [b"harmless"])]
            answer = await scanner.scan(by, by.server_texts[0], ScanOrder("m"), items, 20.0)
            assert await scanner.probe(by, by.server_texts[0], 20.0) == ""
            return [answer.results[number].found.verdict for number in (0, 1)]
        finally:
            await scanner.close()
            await demo.stop()

    assert asyncio.run(go()) == [Verdict.BLOCKED, Verdict.CLEAN]
