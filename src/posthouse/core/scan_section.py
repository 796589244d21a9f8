"""The `scan` section of a rule: which scanners are asked, and what is done with what they find.

Standards: design sections 3 (on_blocked to on_failed, when, sanitize) and 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from posthouse.core.announcements import (
    AddedHeader,
    Disclaimer,
    NoticeRule,
    disclaimer_json,
    header_json,
    notice_json,
    parse_disclaimers,
    parse_headers,
    parse_notices,
)
from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, Values, join, name_key, read, shown
from posthouse.core.part_filter import PartFilter, parse_filter
from posthouse.core.scan import Failure, Verdict


class When(StrEnum):
    """When a mail is scanned."""

    AFTER_ACCEPT = "after-accept"
    BEFORE_ACCEPT = "before-accept"


class OnVerdict(StrEnum):
    """What is done with a mail that has such a verdict."""

    QUARANTINE = "quarantine"
    STRIP = "strip"
    """What is bad is taken out, a notice takes its place, the rest goes on."""
    MARK = "mark"
    """It goes on with a header field that tells the verdict."""
    DISCARD = "discard"
    REJECT = "reject"


class OnFailed(StrEnum):
    """What is done with a mail that could not be scanned."""

    RETRY = "retry"
    FAIL = "fail"
    """It becomes a failed email at once, with its DSN."""
    BYPASS = "bypass"
    """It goes on by what the others found; marked, and counted."""
    QUARANTINE = "quarantine"


class Where(StrEnum):
    """Where quarantined mail is kept."""

    INTERNAL = "internal"
    EXTERNAL = "external"
    """At the next hop: the original goes there with `X-Metadefender-To-Quarantine: True`."""


ACTIONS: Mapping[str, Verdict] = {
    "on_blocked": Verdict.BLOCKED,
    "on_policy": Verdict.POLICY,
    "on_encrypted": Verdict.ENCRYPTED,
    "on_ambiguous": Verdict.AMBIGUOUS,
}
_CAUTIOUS = dict.fromkeys(ACTIONS.values(), OnVerdict.QUARANTINE)


@dataclass(frozen=True, slots=True)
class ScanSection:
    """See `SCAN_FIELDS` for the meaning of each."""

    profiles: tuple[str, ...]
    when: When = When.AFTER_ACCEPT
    deadline_seconds: int = 30
    sanitize: bool = False
    quarantine_sanitized: bool = True
    on: Mapping[Verdict, OnVerdict] = field(default_factory=lambda: _CAUTIOUS)
    """Of each verdict of `ACTIONS`."""
    on_failed: OnFailed = OnFailed.RETRY
    on_errors: Mapping[Failure, OnFailed] = field(default_factory=dict)
    """Where they differ from `on_failed`."""
    quarantine: Where = Where.INTERNAL
    core_rule: str = ""
    passwords: tuple[str, ...] = ()
    block_names: tuple[PartFilter, ...] = ()
    block_types: tuple[PartFilter, ...] = ()
    headers: tuple[AddedHeader, ...] = ()
    disclaimers: tuple[Disclaimer, ...] = ()
    notices: tuple[NoticeRule, ...] = ()

    def failed_action(self, failure: Failure) -> OnFailed:
        """What is done where that is why there is no verdict."""
        return self.on_errors.get(failure, self.on_failed)


SCAN_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec(
        "profiles", FieldType.TEXTS, "scan server profiles; all are asked", minimum=1, maximum=10, required=True
    ),
    FieldSpec("when", FieldType.TEXT, "before or after the 250", When.AFTER_ACCEPT.value, choices=tuple(When)),
    FieldSpec("deadline_seconds", FieldType.INTEGER, "before-accept: then accepted, and scanned later", 30, 1, 300),
    FieldSpec("sanitize", FieldType.BOOLEAN, "what a MetaDefender Core sanitizes takes the part's place", False),
    FieldSpec("quarantine_sanitized", FieldType.BOOLEAN, "keeps the original of what was sanitized", True),
    *(
        FieldSpec(name, FieldType.TEXT, meaning, OnVerdict.QUARANTINE.value, choices=tuple(OnVerdict))
        for name, meaning in (
            ("on_blocked", "a threat was found"),
            ("on_policy", "a name or type of block_names or block_types, or the scanner's own policy"),
            ("on_encrypted", "encrypted, so that nobody could look into it"),
            ("on_ambiguous", "readers may differ in what they see, or not all of it could be shown"),
        )
    ),
    FieldSpec("on_failed", FieldType.TEXT, "no scanner could tell", OnFailed.RETRY.value, choices=tuple(OnFailed)),
    FieldSpec("on_errors", FieldType.TABLE, "the same by cause, where it differs", shown_default="as on_failed"),
    FieldSpec("quarantine", FieldType.TEXT, "where it is kept", Where.INTERNAL.value, choices=tuple(Where)),
    FieldSpec(
        "core_rule", FieldType.TEXT, "rule of MetaDefender Core", minimum=1, maximum=255, shown_default="Core's"
    ),
    FieldSpec("passwords", FieldType.TEXTS, "tried on encrypted archives by MetaDefender Core", maximum=50),
    FieldSpec("block_names", FieldType.TEXTS, "names of attachments and members (`*.exe`)", maximum=1000),
    FieldSpec("block_types", FieldType.TEXTS, "types, declared or by content (`application/*`)", maximum=1000),
    FieldSpec("headers", FieldType.TABLES, "header fields to be added", maximum=50),
    FieldSpec("disclaimers", FieldType.TABLES, "texts in the body", maximum=20),
    FieldSpec("notices", FieldType.TABLES, "own mail about what happened", maximum=20),
)
ERROR_FIELDS: tuple[FieldSpec, ...] = tuple(
    FieldSpec(failure.value, FieldType.TEXT, meaning, choices=tuple(OnFailed), shown_default="as on_failed")
    for failure, meaning in (
        (Failure.UNREACHABLE, "no server could be reached"),
        (Failure.BUSY, "every server wants to be asked later"),
        (Failure.TIMEOUT, "the scanner took too long"),
        (Failure.PROCESSING, "the scanner failed, or its answer is odd"),
        (Failure.NOT_SCANNED, "too large, too deep or too many for the scanner"),
        (Failure.CONFIGURATION, "the scanner refuses our request: wrong key or rule"),
        (Failure.SANITIZE, "it could not be sanitized"),
        (Failure.EDIT, "the mail could not be modified"),
    )
)


def parse_scan(table: Mapping[str, object], path: str, faults: list[Fault]) -> ScanSection:
    """The section; every fault is added. That its profiles exist is looked at with the whole inventory."""
    values, found = read(table, SCAN_FIELDS, path)
    faults.extend(found)
    when = When(values.text("when"))
    on = {verdict: OnVerdict(values.text(name)) for name, verdict in ACTIONS.items()}
    for name, verdict in ACTIONS.items():
        if on[verdict] is OnVerdict.REJECT and when is not When.BEFORE_ACCEPT:
            rule = "Mail can be rejected only before it is accepted."
            remedy = 'Choose another action, or when = "before-accept".'
            faults.append(Fault(join(path, name), "reject", rule, remedy))
    if "deadline_seconds" in values.given and when is not When.BEFORE_ACCEPT:
        remedy = 'Leave it out, or choose when = "before-accept".'
        value = shown(values.integer("deadline_seconds"))
        faults.append(Fault(join(path, "deadline_seconds"), value, "There is no deadline after acceptance.", remedy))
    errors, found = read(values.table("on_errors") or {}, ERROR_FIELDS, join(path, "on_errors"))
    faults.extend(found)
    return ScanSection(
        profiles=_profiles(values, faults),
        when=when,
        deadline_seconds=values.integer("deadline_seconds"),
        sanitize=values.boolean("sanitize"),
        quarantine_sanitized=values.boolean("quarantine_sanitized"),
        on=on,
        on_failed=OnFailed(values.text("on_failed")),
        on_errors={failure: OnFailed(text) for failure in Failure if (text := errors.optional_text(failure.value))},
        quarantine=Where(values.text("quarantine")),
        core_rule=values.optional_text("core_rule") or "",
        passwords=tuple([text for _, text in values.entries("passwords")]),
        block_names=_filters(values, "block_names", faults),
        block_types=_filters(values, "block_types", faults),
        headers=parse_headers(values.tables("headers"), faults),
        disclaimers=parse_disclaimers(values.tables("disclaimers"), faults),
        notices=parse_notices(values.tables("notices"), faults),
    )


def scan_json(scan: ScanSection) -> dict[str, object]:
    """Canonical JSON, defaults included; empty lists and tables are left out."""
    document: dict[str, object] = {"profiles": list(scan.profiles), "when": scan.when.value}
    if scan.when is When.BEFORE_ACCEPT:
        document["deadline_seconds"] = scan.deadline_seconds
    document["sanitize"] = scan.sanitize
    document["quarantine_sanitized"] = scan.quarantine_sanitized
    document |= {name: scan.on[verdict].value for name, verdict in ACTIONS.items()}
    document["on_failed"] = scan.on_failed.value
    document["quarantine"] = scan.quarantine.value
    more: dict[str, object] = {
        "on_errors": {failure.value: action.value for failure, action in scan.on_errors.items()},
        "core_rule": scan.core_rule,
        "passwords": list(scan.passwords),
        "block_names": [each.text for each in scan.block_names],
        "block_types": [each.text for each in scan.block_types],
        "headers": [header_json(header) for header in scan.headers],
        "disclaimers": [disclaimer_json(disclaimer) for disclaimer in scan.disclaimers],
        "notices": [notice_json(notice) for notice in scan.notices],
    }
    return document | {name: value for name, value in more.items() if value}


def without_defaults(document: Mapping[str, object]) -> dict[str, object]:
    """A section's JSON as export writes it."""
    defaults = {spec.name: spec.default for spec in SCAN_FIELDS if spec.default is not None}
    return {name: value for name, value in document.items() if name not in defaults or defaults[name] != value}


def _profiles(values: Values, faults: list[Fault]) -> tuple[str, ...]:
    seen: dict[str, str] = {}
    for where, name in values.entries("profiles"):
        first = seen.setdefault(name_key(name), where)
        if first != where:
            rule = f"This is the same profile as {first}."
            faults.append(Fault(where, shown(name), rule, "Name each scan server profile once."))
    return tuple([name for _, name in values.entries("profiles")])


def _filters(values: Values, name: str, faults: list[Fault]) -> tuple[PartFilter, ...]:
    of_types = name == "block_types"
    found: list[PartFilter] = []
    for where, text in values.entries(name):
        parsed = parse_filter(text)
        if isinstance(parsed, tuple):
            faults.append(Fault(where, shown(text), *parsed))
        elif parsed.of_types != of_types:
            rule = "This is a type." if parsed.of_types else "This is no type: those have a `/`."
            other = "block_types" if parsed.of_types else "block_names"
            faults.append(Fault(where, shown(text), rule, f"Write it under {other}."))
        else:
            found.append(parsed)
    return tuple(found)
