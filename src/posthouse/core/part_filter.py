"""Filters of rules for parts: by name (`*.exe`, `*.doc?`) and by type (`application/x-dosexec`, `application/*`).

- In a name filter `*` matches any run of characters, also none, and `?` one character. It must match a whole name,
  in any of its spellings; case is ignored. Every reading of the name of a part and of each member of its containers
  counts.
- A type filter has a `/`; its subtype may be `*`. It is compared with the declared type and with those by content.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, cast

import re2

from posthouse.core.examination import Item, ItemKind
from posthouse.core.fields import has_control
from posthouse.core.file_name import fold, spellings
from posthouse.core.media_type import is_type

LONGEST = 255
"""Characters of a filter."""
_SHOWN = 80


class FilterKind(Enum):
    """What a filter is compared with."""

    NAME = "name"
    SUFFIX = "suffix"
    """`*.exe`: a name by its end."""
    TYPE = "type"
    TYPES = "types"
    """`application/*`."""


class _Expression(Protocol):
    def fullmatch(self, text: str) -> object: ...


@dataclass(frozen=True, slots=True)
class PartFilter:
    """One filter, ready to match."""

    text: str
    """As written."""
    kind: FilterKind
    key: str
    """Folded: of SUFFIX what the name ends in, of TYPES `application/`, else the whole."""
    expression: _Expression | None = field(default=None, compare=False, repr=False)

    def matches(self, item: Item) -> str:
        """Why this item is meant, in one sentence; empty if it is not. The mail as a whole never is."""
        if item.kind is ItemKind.MAIL:
            return ""
        if self.kind in (FilterKind.TYPE, FilterKind.TYPES):
            found = next((name for name in item.types if self._is_type(name.lower())), "")
            return f"The type {found[:_SHOWN]} is filtered by {self.text}." if found else ""
        for name in item.names:
            if any(self._is_name(spelling) for spelling in spellings(name)):
                return f"The name {_one_line(name)} is filtered by {self.text}."
        return ""

    def _is_type(self, name: str) -> bool:
        return name == self.key if self.kind is FilterKind.TYPE else name.startswith(self.key)

    def _is_name(self, name: str) -> bool:
        if self.kind is FilterKind.SUFFIX:
            return name.endswith(self.key)
        return name == self.key if self.expression is None else self.expression.fullmatch(name) is not None


def parse_filter(text: str) -> PartFilter | tuple[str, str]:
    """The filter, or the rule broken and a remedy."""
    if not text or len(text) > LONGEST or has_control(text) or text != text.strip():
        rule = f"A filter has 1 to {LONGEST} characters, no control characters and no blanks around it."
        return rule, "Write *.exe or application/x-dosexec."
    if "/" in text:
        return _parse_type(text)
    if "\\" in text or ":" in text:
        return "A name filter has no \\ and no :, which no name of a file has.", "Write the name alone: *.exe."
    if text == "." or (text.startswith(".") and not set(text) & set("*?") and text.count(".") == 1):
        return "This matches a file whose whole name it is.", f"Did you mean *{text}?"
    # Blanks and dots at the end are gone from every spelling that a name may have.
    key = re.sub(r"\*+", "*", fold(text)).rstrip(". ")
    if not key:
        return "This matches no name.", "Write *.exe."
    if key.startswith("*") and not set(key[1:]) & set("*?"):
        return PartFilter(text, FilterKind.SUFFIX, key[1:])
    if not set(key) & set("*?"):
        return PartFilter(text, FilterKind.NAME, key)
    translated = "".join(".*" if char == "*" else "." if char == "?" else re2.escape(char) for char in key)
    options = re2.Options()
    options.log_errors = False
    return PartFilter(text, FilterKind.NAME, key, cast(_Expression, re2.compile(f"(?s){translated}", options)))


def _parse_type(text: str) -> PartFilter | tuple[str, str]:
    name = text.lower()
    main, _, subtype = name.partition("/")
    if subtype == "*" and is_type(f"{main}/x"):
        return PartFilter(text, FilterKind.TYPES, f"{main}/")
    if "*" in name or "?" in name:
        return "In a type filter * stands for the whole subtype only.", "Write application/*."
    if not is_type(name):
        return "This is no media type.", "Write application/x-dosexec, or a name filter without / such as *.exe."
    return PartFilter(text, FilterKind.TYPE, name)


def _one_line(name: str) -> str:
    text = "".join(char if char.isprintable() else "?" for char in name)
    return text if len(text) <= _SHOWN else f"...{text[-_SHOWN:]}"
