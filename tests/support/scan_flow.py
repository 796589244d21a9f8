"""Scanning over fakes: the real reading and surgery of mails in this process, scanners that answer from a script."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from posthouse.clients.examined import ExaminedContent, MadeOctets
from posthouse.clients.rewriting import write_content
from posthouse.core.examination import Edit, ExaminationLimits, Item, Place
from posthouse.core.examination_of import examine
from posthouse.core.inventory import Inventory, build_inventory
from posthouse.core.mail import Content, InlineOctets, Mail, MailRecipient, Stage
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.core.wire_form import wire_form
from posthouse.examiner.carried_out import carry_out_edits
from posthouse.mailflow.judging import Judge, JudgeTools
from posthouse.mailflow.kept import KeptMail
from posthouse.mailflow.pipeline import Pipeline
from posthouse.mailflow.scanning import Scanning
from posthouse.ports import ContentSink, ReceivedContent
from posthouse.scan_ports import (
    Asked,
    ExaminationFailed,
    Examined,
    ItemResult,
    NewContent,
    Octets,
    ProfileOutcome,
    Scanned,
    ScanOrder,
    ToUpload,
    Uploaded,
    UploadFailed,
)
from posthouse.telemetry import DeliveryLog
from support.flow import Flow, MemorySpool, flow, mail

CLEAN = Found(Verdict.CLEAN)
BUSY = Found(Verdict.FAILED, reason="too busy", failure=Failure.BUSY)
BAD = b"BAD-CONTENT"
"""What the scripted scanners find, wherever it is shown to them."""


class MemorySink:
    """ports.ContentSink."""

    def __init__(self) -> None:
        self.octets = b""
        self.released = False

    def write(self, octets: bytes) -> None:
        self.octets += octets

    def close(self, *, size: int, header: bytes, normalised: int) -> ReceivedContent:
        return ReceivedContent(Content(InlineOctets(self.octets)), size, header, normalised)

    def release(self) -> None:
        self.released = True


class Made:
    """What an examiner makes."""

    def __init__(self) -> None:
        self.octets = bytearray()

    def write(self, octets: bytes) -> int:
        start = len(self.octets)
        self.octets += octets
        return start

    def take(self, pieces: "object") -> Place:
        start = len(self.octets)
        for piece in pieces:  # type: ignore[attr-defined]
            self.octets += piece
        return Place(True, start, len(self.octets))


class LocalExaminer:
    """scan_ports.Examiner in this process."""

    def __init__(self) -> None:
        self.poison: set[bytes] = set()
        """Octets in a mail over which it ends."""
        self.seen = 0

    async def examine(self, content: Content, limits: ExaminationLimits) -> Examined:
        self.seen += 1
        wire = octets_of(content)
        if any(octets in wire for octets in self.poison):
            raise ExaminationFailed("it was killed by signal 9")
        made = Made()
        examination = examine(wire, limits, made.write)

        async def edit(edits: Sequence[Edit], files: Sequence[Octets], sink: ContentSink) -> NewContent:
            again = Made()
            sources = [b"".join(bytes(piece) for piece in file.pieces()) for file in files]
            edited = carry_out_edits(wire, edits, [_Source(octets) for octets in sources], limits, again.take)
            places = [_placed(piece, again) for piece in edited.pieces]
            return await write_content(
                content, MadeOctets(len(again.octets), bytes(again.octets)), places, sink, limits.header_octets
            )

        return ExaminedContent(content, examination, MadeOctets(len(made.octets), bytes(made.octets)), edit)

    async def close(self) -> None:
        return None


class _Source:
    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self._octets = octets

    def pieces(self):  # type: ignore[no-untyped-def]
        yield self._octets


def _placed(piece: Place | bytes, made: Made) -> Place:
    return piece if isinstance(piece, Place) else made.take([piece])


def octets_of(content: Content) -> bytes:
    """In wire form, without what is cut."""
    assert isinstance(content.source, InlineOctets)
    octets, at, kept = content.source.octets, 0, b""
    for start, end in (*content.cuts, (len(octets), len(octets))):
        kept, at = kept + octets[at:start], end
    return kept


Told = Callable[[str, Item, bytes], Found | Scanned]
"""What a scanner says: name of the profile, the item, its octets."""


def finds_bad(profile: str, item: Item, octets: bytes) -> Found | Scanned:
    return Found(Verdict.BLOCKED, "Test.Bad") if BAD in octets else CLEAN


@dataclass
class ScriptedScanners:
    """scan_ports.ScanProfiles."""

    told: Told = finds_bad
    closed: set[str] = field(default_factory=set)
    """Profiles none of whose servers may be asked."""
    shown: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Profile, path, octets."""
    orders: list[ScanOrder] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def scan(
        self, profile: ServerProfile, order: ScanOrder, items: Sequence[Asked], seconds: float
    ) -> ProfileOutcome:
        self.orders.append(order)
        if self.gate is not None:
            await self.gate.wait()
        results: dict[int, Scanned] = {}
        for asked in items:
            octets = b"".join(bytes(piece) for piece in asked.octets.pieces())
            self.shown.append((profile.name, asked.item.path, octets))
            said = self.told(profile.name, asked.item, octets)
            results[asked.number] = said if isinstance(said, Scanned) else Scanned(said)
        return ProfileOutcome({n: ItemResult(one, profile.server_texts[0]) for n, one in results.items()})

    def admits(self, profile: ServerProfile) -> bool:
        return profile.name not in self.closed


@dataclass
class MemoryVault:
    """scan_ports.Vault."""

    stored: list[tuple[str, bytes]] = field(default_factory=list)
    fails: UploadFailed | None = None

    async def upload(
        self, profile: ServerProfile, group: str, files: Sequence[ToUpload], expires_days: int, seconds: float
    ) -> tuple[Uploaded, ...]:
        if self.fails is not None:
            raise self.fails
        for file in files:
            self.stored.append((file.name, b"".join(bytes(piece) for piece in file.octets.pieces())))
        return tuple(
            [Uploaded(f"f{number}", f"http://vault.example/file/f{number}") for number, _ in enumerate(files)]
        )

    async def close(self) -> None:
        return None


@dataclass
class ScanFlow:
    """A line with scanning over fakes."""

    flow: Flow
    scanning: Scanning
    scanners: ScriptedScanners
    examiner: LocalExaminer
    vault: MemoryVault
    judge: Judge
    inventory: Inventory
    pipeline: Pipeline
    kept: KeptMail

    @property
    def spool(self) -> MemorySpool:
        return self.flow.spool

    async def scan(self, *mails: Mail) -> None:
        """As if just committed, until nothing is under way."""
        for one in mails:
            self.scanning.enqueue(self.scanning.admit(one))
        await self.settle()

    async def settle(self) -> None:
        while self.scanning._running or self.flow.delivery._tasks:
            await asyncio.wait(self.scanning._running | self.flow.delivery._tasks)


def scan_flow(
    scan: Mapping[str, object] | None = None,
    *,
    vault: Mapping[str, object] | None = None,
    told: Told = finds_bad,
    rules: Sequence[Mapping[str, object]] = (),
) -> ScanFlow:
    """One rule `inbound` with these sections, unless `rules` are given. Scan profiles: core, clam; a vault: vault."""
    made = flow()
    profiles: list[dict[str, object]] = [
        {"name": "exchange", "type": "smtp", "servers": ["10.0.0.1"]},
        {"name": "core", "type": "metadefender-core", "servers": ["10.0.1.1"]},
        {"name": "clam", "type": "clamav", "servers": ["10.0.1.2"]},
        {"name": "vault", "type": "metadefender-vault", "servers": ["10.0.1.3"], "api_key": "k"},
    ]
    rule: dict[str, object] = {
        "name": "inbound",
        "match": {"recipients": ["*@ours.example"]},
        "relay": {"profile": "exchange"},
    }
    if scan is not None:
        rule["scan"] = {"profiles": ["core"], **scan}
    if vault is not None:
        rule["vault"] = {"profile": "vault", **vault}
    inventory = build_inventory(1, [(p, 1) for p in profiles], list(rules) or [rule])
    scanners, examiner, keeps = ScriptedScanners(told), LocalExaminer(), MemoryVault()
    tools = JudgeTools(examiner, scanners, keeps, made.clock, MemorySink)
    judge = Judge(tools, made.settings)
    made.delivery.take_inventory(inventory)
    scanning = Scanning(made.tools, judge, scanners, made.delivery, made.settings, inventory, DeliveryLog("test"))
    pipeline = Pipeline(made.tools, made.settings, inventory, made.delivery, scanning)
    kept = KeptMail(made.tools, judge, made.delivery, made.settings, inventory)
    return ScanFlow(made, scanning, scanners, examiner, keeps, judge, inventory, pipeline, kept)


def line(made: Flow, inventory: Inventory) -> Pipeline:
    """For rules that scan nothing."""
    scanners = ScriptedScanners()
    judge = Judge(JudgeTools(LocalExaminer(), scanners, MemoryVault(), made.clock, MemorySink), made.settings)
    scanning = Scanning(made.tools, judge, scanners, made.delivery, made.settings, inventory, DeliveryLog("test"))
    return Pipeline(made.tools, made.settings, inventory, made.delivery, scanning)


def to_scan(octets: bytes, *addresses: str, rule: str = "inbound") -> Mail:
    """A stored mail that is to be scanned; `octets`: its content, lines end in CRLF."""
    one = mail(*(addresses or ("you@ours.example",)), octets=wire_form(octets))
    rows = tuple([replace(r, stage=Stage.SCAN, rule=rule, profile="exchange") for r in one.recipients])
    return replace(one, recipients=rows, size=len(octets))


def with_attachment(content: bytes = b"harmless", name: str = "a.txt", text: bytes = b"Hello.\r\n") -> bytes:
    """A mail with a text and one attachment, in clear."""
    return (
        b"From: a@outside.example\r\nTo: you@ours.example\r\nSubject: With attachment\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text + b"\r\n"
        b"--b\r\nContent-Type: application/octet-stream\r\n"
        b'Content-Disposition: attachment; filename="' + name.encode() + b'"\r\n\r\n' + content + b"\r\n--b--\r\n"
    )


def recipients(one: ScanFlow, outcome: int = -1) -> Mapping[str, MailRecipient]:
    return {r.address: r for r in one.spool.outcomes[outcome].recipients}
