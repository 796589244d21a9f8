"""Names of files as mail and archives give them: what is kept of them, and what they become where they are saved.

A name filter looks at every spelling: Windows drops dots and blanks at the end and takes a colon for a stream of the
file before it; characters may be shown in another order than they stand, be wide, or not be seen at all.
Standards: Unicode annexes 9 (bidirectional text) and 15 (normalisation).
"""

import unicodedata
from collections.abc import Iterable

from posthouse.core.examination import NAME_LENGTH

_MOST = 64
"""Readings of a name that are kept."""
_AROUND = " .\t\"'"
_REVERSING = "\u202e\u202b\u2067"


def kept(names: Iterable[str]) -> tuple[str, ...]:
    """Without control characters, each once, 64 at most; of a longer one than 255 characters both ends, as the suffix
    may stand at either. One with a NUL also as those see it for whom it ends there."""
    found: dict[str, None] = {}
    for name in names:
        for text in (name, name.partition("\x00")[0]) if "\x00" in name else (name,):
            if not text.isprintable():
                text = "".join(char for char in text if _stays(char))
            if len(text) > NAME_LENGTH:
                found[text[:NAME_LENGTH]] = None
            found[text[-NAME_LENGTH:]] = None
        if len(found) >= _MOST:
            break
    found.pop("", None)
    return tuple(found)[:_MOST]


def spellings(name: str) -> tuple[str, ...]:
    """What the name may become, folded as `fold` does it; the plainest last."""
    if name.isascii() and name.isalnum():
        return (name.lower(),)
    found = {fold(name): None}
    for text in (name, _as_shown(name), *_swapped(name)):
        folded = fold(text)
        found[folded] = None
        base = folded.replace("\\", "/").rstrip("/ .").rpartition("/")[2]
        found[base.strip(_AROUND)] = None
        for stream in base.split(":"):
            found[stream.strip(_AROUND)] = None
    found.pop("", None)
    return tuple(found)


def fold(text: str) -> str:
    """Case, width and compatibility forms folded, characters that are not seen left out."""
    if text.isascii():
        return text.lower() if text.isprintable() else "".join(filter(str.isprintable, text)).lower()
    seen = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) not in _UNSEEN)
    return unicodedata.normalize("NFKC", seen.casefold())


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Mn", "Zl", "Zp"})


def _stays(char: str) -> bool:
    """All but controls and halves of characters: what turns the order of a name round is for people to see."""
    return unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")


def _swapped(name: str) -> tuple[str, ...]:
    """The name if it is ASCII in UTF-16 that was read with its octets the wrong way round."""
    if name.isascii() or any(ord(char) & 0xFF or ord(char) > 0xFFFF for char in name):
        return ()
    return ("".join(chr(ord(char) >> 8) for char in name),)


def _as_shown(name: str) -> str:
    """As people see a name whose characters are turned round from one on."""
    at = min((place for sign in _REVERSING if (place := name.find(sign)) >= 0), default=-1)
    return name if at < 0 else name[:at] + name[:at:-1]
