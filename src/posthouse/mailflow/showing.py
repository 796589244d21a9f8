"""Shows a mail to all scanners of a rule: every item of its examination to each, at the same time.

What comes back are findings, one for each item, and rows for "View scan details". The octets stay where they are:
in the mail or in the examiner's memory file, and are read piece by piece as a scanner takes them.
Source: design 2.12 and section 3; issue 6, items 2, 3 and 9.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posthouse.core.disposition import Finding
from posthouse.core.examination import Item
from posthouse.core.findings import findings_of, name_of
from posthouse.core.inventory import Inventory
from posthouse.core.mail import Mail, ScanRow
from posthouse.core.rule import Rule
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.core.scan_section import ScanSection
from posthouse.ports import Clock
from posthouse.scan_ports import Asked, Examined, ItemResult, ProfileOutcome, Scanned, ScanOrder, ScanProfiles

MOST_ROWS = 500
"""Of one mail and rule; the clean ones beyond it are left out, for a hostile mail may have thousands of items."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the scanners of one rule found in one mail."""

    findings: tuple[Finding, ...]
    rows: tuple[ScanRow, ...]
    sanitized: Mapping[str, Scanned]
    """By path of the part."""
    walks: tuple[Mapping[str, object], ...]
    """For the trail, of each profile: which servers were asked, which were passed over, and why."""
    seconds: float


async def show(
    scanners: ScanProfiles,
    clock: Clock,
    mail: Mail,
    rule: Rule,
    examined: Examined,
    inventory: Inventory,
    seconds: float,
    *,
    sanitize: bool,
) -> Shown:
    """Asks every scan profile of the rule; one that is gone from the inventory has failed. `seconds`: for each."""
    section, began = rule.scan, clock.monotonic()
    names = section.profiles if section is not None else ()
    items = examined.examination.items
    asked = [Asked(number, item, examined.octets(item)) for number, item in enumerate(items)]
    order = _order(mail, rule, section, sanitize) if section is not None else ScanOrder(mail.id)
    scans = await asyncio.gather(
        *(_scan(scanners, inventory, name, order, asked, seconds) for name in names),
    )
    told = [{number: result.scanned.found for number, result in scan.results.items()} for scan in scans]
    findings = findings_of(examined.examination, section, told)
    now = clock.now()
    rows = [
        _row(now, rule.name, name, scan, number, item)
        for name, scan in zip(names, scans, strict=True)
        for number, item in enumerate(items)
    ]
    sanitized = {
        items[number].part: result.scanned
        for scan in scans
        for number, result in scan.results.items()
        if result.scanned.sanitized is not None and items[number].part
    }
    walks = tuple([_walk_told(name, scan) for name, scan in zip(names, scans, strict=True)])
    return Shown(tuple(findings), _fewer(rows), sanitized, walks, clock.monotonic() - began)


async def _scan(
    scanners: ScanProfiles, inventory: Inventory, name: str, order: ScanOrder, asked: Sequence[Asked], seconds: float
) -> ProfileOutcome:
    profile = inventory.profiles.get(name) or inventory.profiles.get(inventory.former.get(name, ""))
    if profile is None:
        gone = Found(Verdict.FAILED, reason=f"there is no server profile {name}", failure=Failure.CONFIGURATION)
        return ProfileOutcome({each.number: ItemResult(Scanned(gone)) for each in asked})
    return await scanners.scan(profile, order, asked, seconds)


def _order(mail: Mail, rule: Rule, section: ScanSection, sanitize: bool) -> ScanOrder:
    metadata = {"mail": mail.id, "rule": rule.name, "sender": mail.reverse_path}
    return ScanOrder(mail.id, sanitize, section.core_rule, section.passwords, metadata)


def _walk_told(profile: str, scan: ProfileOutcome) -> Mapping[str, object]:
    """Short where all went well."""
    told: dict[str, object] = {"profile": profile, "seconds": round(scan.seconds, 3)}
    if scan.attempts:
        told["servers"] = [
            {"server": each.server}
            | ({"passed_over": each.passed_over} if each.passed_over else {})
            | ({"fault": each.fault} if each.fault else {})
            for each in scan.attempts
        ]
    return told | ({"fault": scan.fault} if scan.fault else {})


def _row(now: float, rule: str, profile: str, scan: ProfileOutcome, number: int, item: Item) -> ScanRow:
    result = scan.results[number]
    found = result.scanned.found
    return ScanRow(
        at=now,
        rule=rule,
        profile=profile,
        server=result.server,
        path=item.path,
        part=item.part,
        name=name_of(item),
        size=item.place.size,
        sha256=item.sha256,
        verdict=found.verdict.value,
        threat=found.threat,
        reason=found.reason,
        failure=found.failure.value if found.failure else "",
        data_id=found.data_id,
        batch_id=result.batch_id,
        cached=found.cached,
        engines=tuple([(engine.name, engine.result, engine.threat) for engine in found.engines]),
    )


def _fewer(rows: Sequence[ScanRow]) -> tuple[ScanRow, ...]:
    if len(rows) <= MOST_ROWS:
        return tuple(rows)
    bad = [row for row in rows if row.verdict != Verdict.CLEAN]
    clean = [row for row in rows if row.verdict == Verdict.CLEAN]
    return (*bad[:MOST_ROWS], *clean[: max(0, MOST_ROWS - len(bad))])
