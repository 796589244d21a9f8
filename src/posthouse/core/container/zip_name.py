"""Names in zips: which characters the octets of a name are, readers decide differently.

Source: PKWARE APPNOTE 6.3.10 section 4.4.17 and appendix D; Info-ZIP's Unicode path field (4.6.9).
"""

from collections.abc import Iterable

from posthouse.core.container.zip_directory import Entry, extra_fields

_UNICODE_PATH = 0x7075


def names_of(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Every reading of every name, the likeliest first."""
    return tuple(dict.fromkeys(name for entry in entries for name in _readings(entry)))


def _readings(entry: Entry) -> list[str]:
    raw = entry.name
    readings = decoded(raw)
    path = extra_fields(entry.extra).get(_UNICODE_PATH, b"") if entry.extra else b""
    if len(path) > 5:
        readings += decoded(path[5:])
    return [cut for name in readings for cut in ((name, name.partition("\x00")[0]) if "\x00" in name else (name,))]


def decoded(raw: bytes) -> list[str]:
    """A name in an archive that does not say its charset: UTF-8 if it can be, and the charsets of old programs."""
    if raw.isascii():
        return [raw.decode("ascii")]
    readings = [raw.decode("cp437")]
    try:
        readings.insert(0, raw.decode("utf-8"))
    except UnicodeDecodeError:
        readings.append(raw.decode("latin-1"))
    return readings
