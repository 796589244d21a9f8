"""One validator for everything that people write: posthouse.toml, inventory.toml, REST JSON.

A table of `FieldSpec` says what an object may hold; `read` takes any JSON-like value and returns typed values and
*all* faults: type faults, values out of range, missing and unknown names. Null counts as absent.
"""

import difflib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar, cast

from posthouse.core.faults import Fault

VALUE_SHOWN = 200
"""Characters of a faulty value that go into its fault."""
NAME_LENGTH = 64
_BIDIRECTIONAL = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SECRET_WORDS = ("password", "secret", "api_key", "token")
_USER_INFO = re.compile(r"(?<=://).*@|^[^\s:/]+:.*@", re.DOTALL)
_UNITS = {"": 1, "octets": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


T = TypeVar("T")


class FieldType(StrEnum):
    """What a value must be; the text is how documents and faults call it."""

    TEXT = "text"
    LINES = "text of some lines"
    """As `TEXT`, and lines that end in LF."""
    NAME = "name"
    """1-64 characters in NFC, no `/`, no control characters (seed: "unique identifier"; design 2.4)."""
    INTEGER = "whole number"
    BOOLEAN = "true or false"
    SIZE = "size"
    """Whole number of octets, or a text such as `50MiB`."""
    TEXTS = "list of texts"
    TABLE = "table"
    TABLES = "list of tables"
    SECRET = "secret"  # noqa: S105 the name of a type
    """A text, `{ env = "NAME" }`, `{ file = "PATH" }`, or `{ set = true }` for "as it is"."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One row: what is allowed under `name`."""

    name: str
    type: FieldType
    meaning: str
    default: object = None
    minimum: int | None = None
    """Of the number, of the size in octets, or of the number of characters or entries."""
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    shown_default: str = ""
    """How documents tell a default that depends on other things."""
    remedies: tuple[tuple[str, str], ...] = ()
    """Remedies for values that people are likely to try: (value, what would be right)."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as written or as stored: a reference, or the text itself, which no representation shows."""

    source: str
    """`env`, `file`, `text`, `set` (keep what is stored), or `stored`."""
    value: str
    """`stored`: its id, new with each text; so two are the same as long as nobody enters another."""
    token: str = field(default="", compare=False)
    """`stored`: the text as the database has it, encrypted; another one after each `secret rotate`."""

    def __repr__(self) -> str:
        return f"Secret({self.source!r}, {'***' if self.source == 'text' else self.value!r})"


class Values:
    """The values of one object, defaults filled in; each getter is for fields of its type only."""

    __slots__ = ("_values", "given")

    def __init__(self, values: Mapping[str, object], given: frozenset[str]) -> None:
        self._values = values
        self.given = given
        """Names that the object held (not null), faulty ones included."""

    def text(self, name: str) -> str:
        return cast(str, self._values[name])

    def optional_text(self, name: str) -> str | None:
        return cast(str | None, self._values[name])

    def integer(self, name: str) -> int:
        return cast(int, self._values[name])

    def boolean(self, name: str) -> bool:
        return cast(bool, self._values[name])

    def entries(self, name: str) -> tuple[tuple[str, str], ...]:
        """The texts of a list that are none of its faults, each with its path (`servers[1]`)."""
        return cast(tuple[tuple[str, str], ...], self._values[name])

    def value(self, name: str) -> object:
        """As it is, of whatever type."""
        return self._values[name]

    def secret(self, name: str) -> Secret | None:
        return cast(Secret | None, self._values[name])

    def table(self, name: str) -> Mapping[str, object] | None:
        return cast(Mapping[str, object] | None, self._values[name])

    def tables(self, name: str) -> tuple[tuple[str, Mapping[str, object]], ...]:
        """The tables of a list that are none of its faults, each with its path."""
        return cast(tuple[tuple[str, Mapping[str, object]], ...], self._values[name])


def read(document: object, table: Sequence[FieldSpec], path: str) -> tuple[Values, tuple[Fault, ...]]:
    """Values of `document` by `table`, and all its faults; a faulty value is replaced by its default.

    `path` is where the object stands (`server_profiles[0]`), empty for the top. The tables inside an object are
    not read: the caller gives them to `read` again.
    """
    defaults = {spec.name: _default(spec) for spec in table}
    if not isinstance(document, Mapping):
        fault = Fault(path, shown(document), "A table is needed here.", "Write names and values.")
        return Values(defaults, frozenset()), (fault,)
    faults: list[Fault] = []
    given: set[str] = set()
    known = [spec.name for spec in table]
    for name in document:
        if name not in defaults:
            faults.append(_unknown(name, known, path))
    for spec in table:
        where = join(path, spec.name)
        value = document.get(spec.name)
        if value is None:
            if spec.required:
                faults.append(Fault(where, "", "This is required.", _wanted(spec)))
            continue
        given.add(spec.name)
        if spec.type in (FieldType.TEXTS, FieldType.TABLES):
            defaults[spec.name] = _list(value, spec, where, faults)
            continue
        result = _READERS[spec.type](value, spec, where)
        if isinstance(result, list):
            faults.extend(result)
        else:
            defaults[spec.name] = result
    return Values(defaults, frozenset(given)), tuple(faults)


def join(path: str, name: str) -> str:
    """`path.name`, or `name` at the top."""
    return f"{path}.{name}" if path else name


def indexed(path: str, values: Iterable[T]) -> Iterator[tuple[str, T]]:
    """`path[0]`, `path[1]` and so on, with the values."""
    return ((f"{path}[{at}]", value) for at, value in enumerate(values))


def shown(value: object) -> str:
    """A faulty value as people see it: one line, cut at 200 characters, without secrets that stand in it."""
    if isinstance(value, str):
        text = _USER_INFO.sub("***@", value)
    else:
        try:
            text = json.dumps(without_secrets(value), ensure_ascii=False, default=str)
        except (TypeError, ValueError, RecursionError):
            text = type(value).__name__
    return text if len(text) <= VALUE_SHOWN else text[: VALUE_SHOWN - 1] + "…"


def sounds_secret(name: str) -> bool:
    """What stands under such a name is shown to nobody, wherever it stands."""
    return any(word in name.casefold() for word in _SECRET_WORDS)


def without_secrets(value: object) -> object:
    """A JSON value as it may be shown: of tables the names, as any may be a misspelt `password`; no user info."""
    if isinstance(value, Mapping):
        return {str(name): "***" for name in value}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return _USER_INFO.sub("***@", value) if isinstance(value, str) else value


def near(name: str, known: Iterable[str]) -> str:
    """The known name that `name` was probably meant to be, or empty."""
    plain = {candidate.casefold().replace("-", "_"): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold().replace("-", "_"), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else ""


def name_key(name: str) -> str:
    """What makes two names the same: NFC, case ignored (design 2.4)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def parse_size(text: str) -> int | None:
    """Octets of `50MiB`, `10 KiB`, `1GiB`, `4096` or `4096 octets`; None if it is none of these."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    factor = _UNITS.get(text[len(digits) :].strip())
    if factor is None or not (digits.isascii() and digits.isdigit()) or len(digits) > 15:
        return None
    return int(digits) * factor


def size_text(octets: int) -> str:
    """The shortest exact text of a size: `50MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if octets and octets % _UNITS[unit] == 0:
            return f"{octets // _UNITS[unit]}{unit}"
    return str(octets)


def has_control(text: str) -> bool:
    """Control characters, line and paragraph separators, lone surrogates, and those that turn the writing
    direction: none of them can be seen, and each can spoil a log, a header or a page."""
    return not text.isprintable() and any(
        unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _BIDIRECTIONAL for char in text
    )


def _default(spec: FieldSpec) -> object:
    if spec.default is None:
        if spec.type in (FieldType.TEXTS, FieldType.TABLES):
            return ()
        if spec.required and spec.type in (FieldType.TEXT, FieldType.LINES, FieldType.NAME):
            return ""
    return spec.default


def _unknown(name: object, known: Sequence[str], path: str) -> Fault:
    """The value is not shown: it may be that of a misspelt `password`."""
    text = shown(name)
    meant = near(text, known)
    remedy = f"Did you mean {meant}?" if meant else f"Known here: {', '.join(known)}."
    return Fault(join(path, text), "", "There is no such setting.", remedy)


def _wanted(spec: FieldSpec) -> str:
    if spec.choices:
        return f"Choose one of {', '.join(spec.choices)}."
    low, high = spec.minimum, spec.maximum
    match spec.type:
        case FieldType.INTEGER:
            return f"Write a whole number from {low} to {high}."
        case FieldType.SIZE:
            return f"Write a size from {size_text(low or 0)} to {size_text(high or 0)}, such as 50MiB."
        case FieldType.BOOLEAN:
            return "Write true or false."
        case FieldType.TEXTS:
            return "Write a list of texts" + (" with at least one entry." if low else ".")
        case FieldType.TABLE:
            return "Write a table of names and values."
        case FieldType.TABLES:
            return "Write a list of tables."
        case FieldType.SECRET:
            return 'Write a text, { env = "NAME" } or { file = "PATH" }.'
        case FieldType.TEXT | FieldType.LINES:
            return f"Write a text of {low or 0} to {high} characters." if high else "Write a text."
        case FieldType.NAME:
            return f"Write a name of 1 to {NAME_LENGTH} characters without / and control characters."


def _mistyped(value: object, spec: FieldSpec, path: str) -> list[Fault]:
    given = "***" if spec.type is FieldType.SECRET else shown(value)
    kind = spec.type.value if spec.type is FieldType.BOOLEAN else f"a {spec.type.value}"
    return [Fault(path, given, f"The value must be {kind}.", _wanted(spec))]


def _text(value: object, spec: FieldSpec, path: str) -> str | list[Fault]:
    if not isinstance(value, str):
        return _mistyped(value, spec, path)
    if spec.choices:
        if value in spec.choices:
            return value
        remedies = dict(spec.remedies)
        meant = near(value, spec.choices)
        remedy = remedies.get(value.casefold()) or (f"Did you mean {meant}?" if meant else _wanted(spec))
        return [Fault(path, shown(value), f"The value must be one of {', '.join(spec.choices)}.", remedy)]
    if has_control(value.replace("\n", "") if spec.type is FieldType.LINES else value):
        return [Fault(path, shown(value), "There are control characters in it.", "Leave them out.")]
    if len(value) < (spec.minimum or 0) or (spec.maximum is not None and len(value) > spec.maximum):
        return [Fault(path, shown(value), f"{len(value)} characters are too few or too many.", _wanted(spec))]
    return value


def _name(value: object, spec: FieldSpec, path: str) -> str | list[Fault]:
    if not isinstance(value, str):
        return _mistyped(value, spec, path)
    name = unicodedata.normalize("NFC", value)
    broken = ""
    if not 1 <= len(name) <= NAME_LENGTH:
        broken = f"A name has 1 to {NAME_LENGTH} characters."
    elif "/" in name or has_control(name):
        broken = "A name has no / and no control characters."
    elif name != name.strip() or name in (".", ".."):
        broken = "A name has no white space at its ends and is not . or .. alone."
    return [Fault(path, shown(value), broken, _wanted(spec))] if broken else name


def _integer(value: object, spec: FieldSpec, path: str) -> int | list[Fault]:
    if not isinstance(value, int) or isinstance(value, bool):
        return _mistyped(value, spec, path)
    return _in_range(value, value, spec, path)


def _size(value: object, spec: FieldSpec, path: str) -> int | list[Fault]:
    octets = parse_size(value) if isinstance(value, str) else value
    if not isinstance(octets, int) or isinstance(octets, bool):
        return _mistyped(value, spec, path)
    return _in_range(octets, value, spec, path)


def _in_range(number: int, value: object, spec: FieldSpec, path: str) -> int | list[Fault]:
    low, high = spec.minimum, spec.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        return [Fault(path, shown(value), "The value is out of range.", _wanted(spec))]
    return number


def _boolean(value: object, spec: FieldSpec, path: str) -> bool | list[Fault]:
    return value if isinstance(value, bool) else _mistyped(value, spec, path)


def _list(value: object, spec: FieldSpec, path: str, faults: list[Fault]) -> tuple[tuple[str, object], ...]:
    """The entries without a fault, with their paths; so a bad one does not hide what is wrong with the others."""
    if not isinstance(value, list | tuple):
        faults.extend(_mistyped(value, spec, path))
        return ()
    inner = FieldType.TEXT if spec.type is FieldType.TEXTS else FieldType.TABLE
    entry = FieldSpec(spec.name, inner, spec.meaning)
    kept: list[tuple[str, object]] = []
    for where, item in indexed(path, value):
        result = _READERS[inner](item, entry, where)
        if isinstance(result, list):
            faults.extend(result)
        else:
            kept.append((where, result))
    if len(value) < (spec.minimum or 0):
        faults.append(Fault(path, "[]", "The list is empty.", _wanted(spec)))
    if spec.maximum is not None and len(value) > spec.maximum:
        rule = f"The list has {len(value)} entries, {spec.maximum} at most are allowed."
        faults.append(Fault(path, shown(value), rule, "Give fewer."))
    return tuple(kept)


def _table(value: object, spec: FieldSpec, path: str) -> Mapping[str, object] | list[Fault]:
    return value if isinstance(value, Mapping) else _mistyped(value, spec, path)


def _secret(value: object, spec: FieldSpec, path: str) -> Secret | list[Fault]:
    secret = None
    if isinstance(value, str):
        secret = Secret("text", value)
    elif isinstance(value, Mapping) and len(value) == 1:
        ((source, inner),) = value.items()
        if source in ("env", "file") and isinstance(inner, str) and inner:
            secret = Secret(source, inner)
        elif source == "set" and inner is True:
            secret = Secret("set", "")
    if secret is None:
        return _mistyped(value, spec, path)
    if secret.source != "set" and (not secret.value or has_control(secret.value)):
        rule = (
            "The secret is empty or has control characters." if secret.source == "text" else "The reference is bad."
        )
        return [Fault(path, "***", rule, _wanted(spec))]
    return secret


_READERS: Mapping[FieldType, Callable[[object, FieldSpec, str], object]] = {
    FieldType.TEXT: _text,
    FieldType.LINES: _text,
    FieldType.NAME: _name,
    FieldType.INTEGER: _integer,
    FieldType.BOOLEAN: _boolean,
    FieldType.SIZE: _size,
    FieldType.TABLE: _table,
    FieldType.SECRET: _secret,
}
"""Each returns the value, or a list of faults; lists have `_list`."""
