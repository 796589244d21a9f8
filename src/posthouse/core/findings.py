"""From what every scanner said of every item, and from the rule's own filters, to one finding for each item. Pure.

The strictest holds: a thing is clean only if every scanner of the rule says so and no filter matches.
Source: design section 3; issue 6, items 3 and 4.
"""

from collections.abc import Iterator, Mapping, Sequence

from posthouse.core.disposition import Finding
from posthouse.core.examination import Examination, Item, ItemKind
from posthouse.core.part_filter import PartFilter
from posthouse.core.scan import Failure, Found, Verdict
from posthouse.core.scan_section import ScanSection

_ORDER = {verdict: place for place, verdict in enumerate(Verdict)}
_CAREFUL = ("quarantine", "fail", "retry", "bypass")


def findings_of(
    examination: Examination, section: ScanSection | None, told: Sequence[Mapping[int, Found]]
) -> list[Finding]:
    """`told`: what each scanner found, by number of the item; what a scanner did not tell of is FAILED."""
    found = []
    for number, item in enumerate(examination.items):
        said = [each.get(number, _UNTOLD) for each in told]
        found.append(_strictest([*_said(item, said), *_filtered(item, section)], section))
    if section is not None:
        found += _encrypted(examination, section, told)
    return found + [Finding("", Verdict.AMBIGUOUS, why) for why in examination.ambiguous]


_UNTOLD = Found(Verdict.FAILED, reason="the scanner told nothing of it", failure=Failure.PROCESSING)


def _said(item: Item, said: Sequence[Found]) -> Iterator[Finding]:
    for found in said:
        yield Finding(item.part, found.verdict, found.threat or found.reason, found.failure, name_of(item))


def _filtered(item: Item, section: ScanSection | None) -> Iterator[Finding]:
    if section is None or item.kind is ItemKind.MAIL:
        return
    for filters in (section.block_names, section.block_types):
        why = _first_match(filters, item)
        if why:
            yield Finding(item.part, Verdict.POLICY, why, name=name_of(item))


def _first_match(filters: Sequence[PartFilter], item: Item) -> str:
    return next((why for each in filters if (why := each.matches(item))), "")


def _encrypted(
    examination: Examination, section: ScanSection, told: Sequence[Mapping[int, Found]]
) -> Iterator[Finding]:
    """What is seen to be encrypted, unless a scanner that had passwords could look into it."""
    numbers = {item.part: number for number, item in enumerate(examination.items) if item.kind is ItemKind.PART}
    for part in examination.parts:
        if not part.encrypted:
            continue
        number = numbers.get(part.path)
        opened = bool(section.passwords) and any(
            each[number].verdict in (Verdict.CLEAN, Verdict.SANITIZED) and each[number].data_id
            for each in told
            if number is not None and number in each
        )
        if not opened:
            name = part.names[0] if part.names else ""
            yield Finding(part.path, Verdict.ENCRYPTED, f"encrypted ({part.encrypted})", name=name)


def _strictest(findings: Sequence[Finding], section: ScanSection | None) -> Finding:
    """Of equal ones the first; of failures the one with the most careful action."""

    def place(finding: Finding) -> tuple[int, int]:
        careful = 0
        if finding.verdict is Verdict.FAILED and section is not None:
            careful = -_CAREFUL.index(section.failed_action(finding.failure or Failure.PROCESSING))
        return _ORDER[finding.verdict], careful

    return max(findings, key=place, default=Finding("", Verdict.CLEAN, ""))


def name_of(item: Item) -> str:
    """As people know it: of a member with the way to it."""
    if item.kind is ItemKind.MEMBER:
        return item.path.partition("/")[2] or item.path
    return item.names[0] if item.names else ""
