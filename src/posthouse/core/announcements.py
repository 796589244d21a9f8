"""What a rule has people told about its mail: header fields, disclaimers in the body, notices by own mail.

Each names the cases that it is for. Standards: issue 6, item 4; texts have the variables of `core.mime.notice_text`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.examination import Position
from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, Values, join, near, read, shown
from posthouse.core.mime.notice_text import Style, Template, parse_template


class Case(StrEnum):
    """What became of a mail."""

    CLEAN = "clean"
    SANITIZED = "sanitized"
    BLOCKED = "blocked"
    POLICY = "policy"
    ENCRYPTED = "encrypted"
    AMBIGUOUS = "ambiguous"
    FAILED = "failed"
    """It goes on though it could not be scanned, or is given up."""
    STRIPPED = "stripped"
    UPLOADED = "uploaded"


class Addressee(StrEnum):
    """Who gets a notice."""

    RECIPIENTS = "recipients"
    SENDER = "sender"
    ADMINISTRATORS = "administrators"
    """The postmaster of `own_mail`."""


@dataclass(frozen=True, slots=True)
class AddedHeader:
    """A header field."""

    on: frozenset[Case]
    """Empty: every case."""
    name: str
    value: Template


@dataclass(frozen=True, slots=True)
class Disclaimer:
    """A text in the body."""

    on: frozenset[Case]
    position: Position
    style: Style
    text: Template


@dataclass(frozen=True, slots=True)
class NoticeRule:
    """Own mail about a scanned one."""

    on: frozenset[Case]
    to: tuple[Addressee, ...]
    subject: Template
    text: Template


_ON = FieldSpec("on", FieldType.TEXTS, f"cases: {', '.join(Case)}", maximum=20, shown_default="every case")
HEADER_FIELDS: tuple[FieldSpec, ...] = (
    _ON,
    FieldSpec("name", FieldType.TEXT, "name of the field", minimum=1, maximum=70, required=True),
    FieldSpec("value", FieldType.TEXT, "its value; may have variables", minimum=1, maximum=500, required=True),
)
DISCLAIMER_FIELDS: tuple[FieldSpec, ...] = (
    _ON,
    FieldSpec("position", FieldType.TEXT, "where it stands", Position.HEAD.value, choices=tuple(Position)),
    FieldSpec("style", FieldType.TEXT, "its colour", Style.INFORMATION.value, choices=tuple(Style)),
    FieldSpec("text", FieldType.LINES, "may have variables", minimum=1, maximum=10000, required=True),
)
NOTICE_FIELDS: tuple[FieldSpec, ...] = (
    _ON,
    FieldSpec("to", FieldType.TEXTS, f"of {', '.join(Addressee)}", minimum=1, maximum=3, required=True),
    FieldSpec("subject", FieldType.TEXT, "may have variables", minimum=1, maximum=200, required=True),
    FieldSpec("text", FieldType.LINES, "may have variables", minimum=1, maximum=10000, required=True),
)
_RESERVED = ("x-metadefender-", "x-md-", "received", "return-path", "content-", "mime-version")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,70}")


def parse_headers(tables: Iterable[tuple[str, Mapping[str, object]]], faults: list[Fault]) -> tuple[AddedHeader, ...]:
    """The fields, and every fault added."""
    found = []
    for where, table in tables:
        values, own = read(table, HEADER_FIELDS, where)
        faults.extend(own)
        name = values.text("name")
        if name and not _FIELD_NAME.fullmatch(name):
            rule = "A field's name has printable ASCII without blanks and colons (RFC 5322 section 3.6.8)."
            faults.append(Fault(join(where, "name"), shown(name), rule, "Write a name such as X-Scanned."))
        elif name.casefold().startswith(_RESERVED):
            rule = "This field says what others say, or how the mail is to be read."
            faults.append(Fault(join(where, "name"), shown(name), rule, "Choose another name, such as X-Scanned."))
        found.append(AddedHeader(_cases(values, faults), name, _template(values, "value", where, faults)))
    return tuple(found)


def parse_disclaimers(
    tables: Iterable[tuple[str, Mapping[str, object]]], faults: list[Fault]
) -> tuple[Disclaimer, ...]:
    """The disclaimers, and every fault added."""
    found = []
    for where, table in tables:
        values, own = read(table, DISCLAIMER_FIELDS, where)
        faults.extend(own)
        text = _template(values, "text", where, faults)
        position, style = Position(values.text("position")), Style(values.text("style"))
        found.append(Disclaimer(_cases(values, faults), position, style, text))
    return tuple(found)


def parse_notices(tables: Iterable[tuple[str, Mapping[str, object]]], faults: list[Fault]) -> tuple[NoticeRule, ...]:
    """The notices, and every fault added."""
    found = []
    for where, table in tables:
        values, own = read(table, NOTICE_FIELDS, where)
        faults.extend(own)
        to = [Addressee(name) for name in _chosen(values, "to", tuple(Addressee), faults)]
        subject, text = (_template(values, name, where, faults) for name in ("subject", "text"))
        found.append(NoticeRule(_cases(values, faults), tuple(dict.fromkeys(to)), subject, text))
    return tuple(found)


def header_json(header: AddedHeader) -> dict[str, object]:
    """Canonical JSON."""
    return {"on": _on_json(header.on), "name": header.name, "value": header.value.source}


def disclaimer_json(disclaimer: Disclaimer) -> dict[str, object]:
    """Canonical JSON."""
    return {
        "on": _on_json(disclaimer.on),
        "position": disclaimer.position.value,
        "style": disclaimer.style.value,
        "text": disclaimer.text.source,
    }


def notice_json(notice: NoticeRule) -> dict[str, object]:
    """Canonical JSON."""
    return {
        "on": _on_json(notice.on),
        "to": [addressee.value for addressee in notice.to],
        "subject": notice.subject.source,
        "text": notice.text.source,
    }


def _on_json(on: frozenset[Case]) -> list[str]:
    return [case.value for case in Case if case in on]


def _cases(values: Values, faults: list[Fault]) -> frozenset[Case]:
    return frozenset(Case(name) for name in _chosen(values, "on", tuple(Case), faults))


def _chosen(values: Values, name: str, choices: tuple[str, ...], faults: list[Fault]) -> list[str]:
    """The entries that are choices; a fault for each other one."""
    chosen = []
    for where, text in values.entries(name):
        if text in choices:
            chosen.append(text)
            continue
        meant = near(text, choices)
        remedy = f"Did you mean {meant}?" if meant else f"Choose of {', '.join(choices)}."
        faults.append(Fault(where, shown(text), f"The value must be one of {', '.join(choices)}.", remedy))
    return chosen


def _template(values: Values, name: str, where: str, faults: list[Fault]) -> Template:
    """An empty one where it is faulty."""
    parsed = parse_template(values.text(name), join(where, name))
    if isinstance(parsed, Template):
        return parsed
    faults.extend(parsed)
    return Template(())
