"""Texts of notices and disclaimers with variables, `%[prefix]name[placeholder]%`, and how they look in a mail.

A variable stands for its value with the prefix before it. If the value is empty, prefix and placeholder take its
place, or nothing at all if there is no placeholder. Prefix and placeholder hold no brackets and no line end.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.examination import AddNotice, Position
from posthouse.core.faults import Fault
from posthouse.core.fields import near, shown

VARIABLES: Mapping[str, str] = {
    "email_date": "the Date field of the mail",
    "email_sender": "the address of the sender",
    "email_recipients": "the addresses of the recipients, with commas between them",
    "email_subject": "the subject of the mail",
    "email_message_id": "the Message-ID of the mail",
    "origin_ip": "the address of the client that the mail came from",
    "scan_verdicts": "what was found, part by part, one line each",
}
"""Each name, and what it stands for."""
_LINES = frozenset({"scan_verdicts"})
"""Those that may have several lines."""
LONGEST = 16 * 1024
"""Characters of a template."""
_LONGEST_VALUE = 4000
"""Characters of a value that are shown: a notice must not grow with what a sender writes."""


class Style(StrEnum):
    """How a notice looks: a box of that colour in HTML, a line above it in a text."""

    INFORMATION = "information"
    WARNING = "warning"
    CRITICAL = "critical"


_COLOURS = {
    Style.INFORMATION: ("#0b5394", "#e8f1fb"),
    Style.WARNING: ("#bf9000", "#fff8e1"),
    Style.CRITICAL: ("#b00020", "#fdecea"),
}
"""Of the edge and of the ground."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A place in a template that a value takes."""

    name: str
    prefix: str = ""
    placeholder: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A text between whose pieces values stand."""

    pieces: tuple[str | Variable, ...]

    @property
    def names(self) -> frozenset[str]:
        """Of its variables."""
        return frozenset(piece.name for piece in self.pieces if isinstance(piece, Variable))


def parse_template(text: str, field: str = "") -> Template | tuple[Fault, ...]:
    """The template, or all its faults. `field`: what the faults are about (`rules[0].disclaimer`).

    `%[` opens a variable wherever it stands; any other percent sign is a percent sign.
    """
    if len(text) > LONGEST:
        return (Fault(field, shown(text), f"The text has more than {LONGEST} characters.", "Write a shorter one."),)
    faults: list[Fault] = []
    pieces: list[str | Variable] = []
    at = 0
    while (start := text.find("%[", at)) >= 0:
        pieces.append(text[at:start])
        line = text.find("\n", start)
        end = text.find("]%", start, line if line >= 0 else len(text))
        if end < 0:
            at = start + 2
            faults.append(_unclosed(field, text[start : line if line >= 0 else len(text)]))
            continue
        at = end + 2
        variable = _variable(text[start:at], field)
        if isinstance(variable, Variable):
            pieces.append(variable)
        else:
            faults.append(variable)
    pieces.append(text[at:])
    return tuple(faults) or Template(tuple(piece for piece in pieces if piece))


def fill(template: Template, values: Mapping[str, str]) -> str:
    """The text with its values: without control characters, and on one line (those of several lines excepted), so
    that no value can pass for another line of the notice."""
    filled = []
    for piece in template.pieces:
        if isinstance(piece, str):
            filled.append(piece)
            continue
        value = _shown(values.get(piece.name, ""), lines=piece.name in _LINES)
        if value or piece.placeholder:
            filled.append(piece.prefix + (value or piece.placeholder))
    return "".join(filled)


def text_notice(text: str, style: Style) -> str:
    """A filled text as it stands in a text, below a line with the name of its style."""
    body = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    return f"[{style.value.upper()}]\n{body}\n"


def html_notice(text: str, style: Style) -> str:
    """A filled text as it stands in HTML: paragraphs in a box. Nothing in `text` is markup."""
    paragraphs = []
    for paragraph in text.strip("\n").split("\n\n"):
        lines = [html.escape(line.rstrip()) for line in paragraph.strip("\n").splitlines()]
        if any(lines):
            paragraphs.append('<p style="margin:4px 0">' + "<br>\n".join(lines) + "</p>")
    edge, ground = _COLOURS[style]
    box = (
        f"border:1px solid {edge};border-left:6px solid {edge};background:{ground};color:#000000;"
        "padding:6px 12px;margin:8px 0;font-family:sans-serif;font-size:14px"
    )
    return f'<div style="{box}">\n' + "\n".join(paragraphs) + "\n</div>"


def notice(template: Template, values: Mapping[str, str], style: Style, position: Position) -> AddNotice:
    """The edit that puts a filled template into a mail."""
    text = fill(template, values)
    return AddNotice(position, text_notice(text, style), html_notice(text, style))


def _variable(text: str, field: str) -> Variable | Fault:
    """`text`: from `%[` to `]%`."""
    prefix, closing, rest = text[2:-2].partition("]")
    name, opening, placeholder = rest.partition("[")
    brackets = any(bracket in inner for inner in (prefix, name, placeholder) for bracket in "[]")
    if not closing or not opening or brackets:
        return Fault(
            field, shown(text), "Its brackets do not match.", "Write %[prefix]name[placeholder]% on one line."
        )
    if name not in VARIABLES:
        meant = near(name, VARIABLES)
        known = f"Known here: {', '.join(VARIABLES)}."
        return Fault(
            field,
            shown(text),
            f"There is no variable {name!r}.",
            f"Did you mean {meant}? {known}" if meant else known,
        )
    return Variable(name, prefix, placeholder)


def _unclosed(field: str, text: str) -> Fault:
    return Fault(field, shown(text), "A variable is not closed.", "Write %[prefix]name[placeholder]% on one line.")


def _shown(value: str, *, lines: bool) -> str:
    """Printable, cut; a value that was cut ends in an ellipsis."""
    if len(value) > _LONGEST_VALUE:
        value = value[: _LONGEST_VALUE - 1] + "…"
    kept = value.splitlines() if lines else [value]
    return "\n".join(
        "".join(c if c.isprintable() else " " if c.isspace() else "" for c in line) for line in kept
    ).strip()
