"""What operators do with a mail in quarantine, and with a failed email's content. Pure.

A command reaches the worker that has the mail as a kind and, in `target`, a JSON object of its options.
Source: issue 6, items 6 and 7.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum


class KeptAct(StrEnum):
    """Kinds of commands."""

    RELEASE = "quarantine-release"
    """To its own recipients."""
    FORWARD = "quarantine-forward"
    RESCAN = "quarantine-rescan"
    PIN = "quarantine-pin"
    UNPIN = "quarantine-unpin"
    DELETE = "kept-delete"
    """The content of a quarantined mail or failed email; what is told of it stays in history."""


@dataclass(frozen=True, slots=True)
class KeptOptions:
    """Options of the acts; each is for those that name it."""

    cleaned: bool = False
    """release: less its bad parts, instead of the original."""
    to: tuple[str, ...] = ()
    """forward: addresses; release: those of its recipients that it is for, empty for all."""
    passwords: tuple[str, ...] = ()
    """rescan: tried on encrypted archives, beside those of the rule."""
    release_if_clean: bool = False
    """rescan."""
    reason: str = ""


def options_text(options: KeptOptions) -> str:
    """For a command's `target`."""
    return json.dumps({name: value for name, value in asdict(options).items() if value})


def options_of(text: str) -> KeptOptions:
    """Of what `options_text` made."""
    found = json.loads(text) if text else {}
    values: Mapping[str, object] = found if isinstance(found, Mapping) else {}
    return KeptOptions(
        cleaned=values.get("cleaned") is True,
        to=_texts(values.get("to")),
        passwords=_texts(values.get("passwords")),
        release_if_clean=values.get("release_if_clean") is True,
        reason=str(values.get("reason", "")),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple([text for text in value if isinstance(text, str)]) if isinstance(value, list) else ()
