"""Attachments in TNEF (`winmail.dat`), in which Outlook wraps a mail: their octets and names.

Source: MS-OXTNEF sections 2.1.3 and 2.2.
"""

import re

from posthouse.core.container.budget import Allowance, Contents, Exhausted, Fault, Member
from posthouse.core.container.zip_name import decoded

_SIGNATURE = b"\x78\x9f\x3e\x22"
_RENDERING, _TITLE, _DATA, _PROPERTIES = 0x00069002, 0x00018010, 0x0006800F, 0x00069005
_LONG_NAME = re.compile(rb"(\x1e|\x1f)\x00[\x07\x04\x01]\x37\x01\x00\x00\x00(.{4})", re.DOTALL)
"""PidTagAttachLongFilename, PidTagAttachFilename or PidTagDisplayName; 8 bits or UTF-16."""
_EMBEDDED = re.compile(rb"\x0d\x00\x01\x37\x01\x00\x00\x00(.{4})", re.DOTALL)
"""PidTagAttachDataObject: a whole TNEF, or an OLE object, behind an identifier of 16 octets."""
_NAME_OCTETS = 2048


def looks_like_tnef(octets: bytes) -> bool:
    return octets.startswith(_SIGNATURE)


def open_tnef(octets: bytes, allowance: Allowance) -> Contents:
    """Its attachments, in their order."""
    try:
        yield from _open(octets, allowance)
    except Exhausted as limit:
        yield Fault(str(limit))


def _open(octets: bytes, allowance: Allowance) -> Contents:
    at = len(_SIGNATURE) + 2
    names: dict[str, None] = {}
    held: list[bytes] = []
    while at + 9 <= len(octets):
        kind = int.from_bytes(octets[at + 1 : at + 5], "little")
        size = int.from_bytes(octets[at + 5 : at + 9], "little")
        data = octets[at + 9 : at + 9 + size]
        at += 9 + size + 2
        if kind == _RENDERING:
            for one in held:
                yield Member(tuple(names), one)
            names, held = {}, []
        elif kind == _TITLE:
            names.update(dict.fromkeys(decoded(data.partition(b"\x00")[0])))
        elif kind in (_DATA, _PROPERTIES):
            found = [data] if kind == _DATA else _embedded(data)
            if kind == _PROPERTIES:
                names = {**dict.fromkeys(_long_names(data)), **names}
            for one in found:
                allowance.take_entry()
                allowance.take(len(one))
                held.append(one)
        if at - 2 > len(octets):
            yield Fault("it breaks off")
    for one in held:
        yield Member(tuple(names), one)


def _long_names(properties: bytes) -> list[str]:
    names: list[str] = []
    for found in _LONG_NAME.finditer(properties):
        size = min(int.from_bytes(found[2], "little"), _NAME_OCTETS)
        raw = properties[found.end() : found.end() + size]
        if found[1] == b"\x1f":
            names.append(raw.decode("utf-16-le", "replace").partition("\x00")[0])
        else:
            names.extend(decoded(raw.partition(b"\x00")[0]))
        if len(names) >= 16:
            break
    return names


def _embedded(properties: bytes) -> list[bytes]:
    found = _EMBEDDED.search(properties)
    if found is None:
        return []
    size = int.from_bytes(found[1], "little")
    return [properties[found.end() + 16 : found.end() + size]]
