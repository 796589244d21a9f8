"""A scanner that answers by a script, and items to show to it."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from posthouse.core.examination import Item, ItemKind, Place
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.scan_ports import Asked, ScanAnswer, Scanned, ScanOrder

Answering = Callable[[Sequence[Asked]], ScanAnswer | Exception]


@dataclass(frozen=True)
class ShortOctets:
    """scan_ports.Octets."""

    octets: bytes

    @property
    def size(self) -> int:
        return len(self.octets)

    def pieces(self) -> Iterator[bytes | memoryview]:
        yield self.octets


def items(*names: str, kind: ItemKind = ItemKind.PART) -> list[Asked]:
    """Numbered from 0; the content of each is its name without the extension."""
    made = []
    for number, name in enumerate(names):
        octets = name.partition(".")[0].encode()
        place = Place(made=True, start=0, end=len(octets))
        sha256 = hashlib.sha256(octets).hexdigest()
        item = Item(kind, f"1.{number}", f"1.{number}", (name,), (), place, sha256)
        made.append(Asked(number, item, ShortOctets(octets)))
    return made


def result(verdict: Verdict = Verdict.CLEAN, failure: Failure | None = None) -> Scanned:
    return Scanned(Found(verdict, failure=failure))


def well(asked: Sequence[Asked]) -> ScanAnswer:
    """All clean."""
    return ScanAnswer({each.number: result() for each in asked}, batch_id="b", seconds=1.5)


def finding(verdict: Verdict, failure: Failure | None = None) -> Answering:
    """The same of all."""
    return lambda asked: ScanAnswer({each.number: result(verdict, failure) for each in asked}, batch_id="b")


def fault(failure: Failure, why: str = "connection refused", *, results: int = 0) -> Answering:
    """At fault after the first `results` items, which are clean."""
    return lambda asked: ScanAnswer({each.number: result() for each in asked[:results]}, why, failure)


@dataclass
class ScriptedScanner:
    """Answers of each server in their order; then `well`."""

    script: dict[str, list[Answering]] = field(default_factory=dict)
    probe_faults: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, tuple[int, ...], float]] = field(default_factory=list)
    """Server, numbers, seconds."""
    probed: list[str] = field(default_factory=list)
    hold: asyncio.Event | None = None
    """Scans wait for it."""
    closed: bool = False

    async def scan(
        self, profile: ServerProfile, server: str, order: ScanOrder, items: Sequence[Asked], seconds: float
    ) -> ScanAnswer:
        self.asked.append((server, tuple(each.number for each in items), seconds))
        if self.hold is not None:
            await self.hold.wait()
        answers = self.script.get(server, [])
        answer = (answers.pop(0) if answers else well)(items)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def probe(self, profile: ServerProfile, server: str, seconds: float) -> str:
        self.probed.append(server)
        return self.probe_faults.get(server, "")

    async def close(self) -> None:
        self.closed = True

    @property
    def servers(self) -> list[str]:
        """In the order in which they were asked."""
        return [server for server, _, _ in self.asked]
