"""Opens zips: every member that a local header or a directory shows, under every reading of the two.

A member is unpacked once for each way in which its headers say it is packed. What no member covers is searched for
further local headers and directories: zips in front of, behind and between others are so found as well. Where sizes
are wrong or entries overlap, readers give different octets: that is a fault. Source: PKWARE APPNOTE 6.3.10.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from posthouse.core.container.budget import Allowance, Contents, Exhausted, Fault, Member
from posthouse.core.container.compressed import Decompressor, Unpacked, bzip2, deflate, unpack, xz, zip_lzma
from posthouse.core.container.zip_directory import CENTRAL, END, LOCAL, Entry, directory, local_at
from posthouse.core.container.zip_name import names_of

_ENCRYPTED, _DESCRIPTOR, _MASKED = 0x0001, 0x0008, 0x2000
_STORED, _LZMA, _AES = 0, 14, 99
_METHODS: dict[int, Callable[[], Decompressor]] = {8: deflate, 12: bzip2, 95: xz}
_DIRECTORIES = 8
_TRUE = rb"\x03\x04[\x00-\x64].{3}[\x00-\x14\x5c-\x63]\x00"
"""After `PK`, a local header whose version and method can be true."""
_LOCAL = re.compile(rb"PK" + _TRUE, re.DOTALL)
_SIGNATURE = re.compile(rb"PK(?:" + _TRUE + rb"|\x05\x06)", re.DOTALL)
_AFTER_STORED = re.compile(rb"PK(?:\x07\x08|\x03\x04|\x01\x02)")

_Way = tuple[bool, int, int]
"""Encrypted, method, octets if these decide: how a member is packed."""


def looks_like_zip(octets: bytes) -> bool:
    """A local header that can be true, or a directory, stands anywhere."""
    if any(local_at(octets, found.start()) for found in _LOCAL.finditer(octets)):
        return True
    return END in octets and CENTRAL in octets


def open_zip(octets: bytes, allowance: Allowance) -> Contents:
    """Its members, most in the order of the octets."""
    return _Opening(octets, allowance).contents()


class _Opening:
    def __init__(self, octets: bytes, allowance: Allowance) -> None:
        self._octets = octets
        self._view = memoryview(octets)
        self._allowance = allowance
        self._shown: dict[int, tuple[set[_Way], set[str]]] = {}
        """By the offset of a local header: what of it was given already."""
        self._covered = 0
        """Up to here the octets are those of members."""
        self._directories = 0
        """That were found beside the last one."""

    def contents(self) -> Contents:
        try:
            yield from self._all()
        except Exhausted as limit:
            yield Fault(str(limit))

    def _all(self) -> Contents:
        last = self._octets.rfind(END)
        listed: dict[int, list[Entry]] = {}
        yield from self._listed(last, listed)
        for place in sorted(listed):
            yield from self._gap(place, last)
            if place < self._covered:
                yield Fault("its entries overlap")
            yield from self._member(place, listed[place])
        yield from self._gap(len(self._octets), last)

    def _listed(self, end: int, listed: dict[int, list[Entry]]) -> Contents:
        """Puts the entries of one directory to their local headers; gives those that have none."""
        most = self._allowance.entries
        entries, shift = directory(self._octets, end, most + 1) if end >= 0 else ([], 0)
        if len(entries) > most:
            yield Fault("more entries than are opened")
            del entries[most:]
        for entry in entries:
            places = [at for at in dict.fromkeys((entry.local + shift, entry.local)) if local_at(self._octets, at)]
            for place in places:
                listed.setdefault(place, []).append(entry)
            if not places:
                self._allowance.take_entry()
                yield Member(names_of((entry,)), b"", "zip" if entry.flags & (_ENCRYPTED | _MASKED) else "")
                yield Fault("its directory names a member that is not there")

    def _gap(self, limit: int, last: int) -> Contents:
        """What stands from the end of the last member to `limit` without being named by the last directory."""
        while found := _SIGNATURE.search(self._octets, self._covered, limit):
            at = found.start()
            self._covered = at + 4
            if found[0].startswith(LOCAL):
                if local_at(self._octets, at):
                    yield from self._member(at, [])
            elif at != last:
                self._directories += 1
                if self._directories > _DIRECTORIES:
                    yield Fault(f"more than {_DIRECTORIES} directories")
                    self._covered = limit
                    return
                listed: dict[int, list[Entry]] = {}
                yield from self._listed(at, listed)
                for place in sorted(listed):
                    yield from self._member(place, listed[place])

    def _member(self, place: int, centrals: list[Entry]) -> Contents:
        """Each reading of one member that was not given yet; names that are new by themselves."""
        local = local_at(self._octets, place)
        if local is None:
            return
        ways, names = self._shown.setdefault(place, (set(), set()))
        readings: dict[_Way, Entry] = {}
        for entry in (*centrals, local):
            readings.setdefault(_way(entry, is_local=entry is local), entry)
        if centrals and _unknown_size(local):
            readings = {way: entry for way, entry in readings.items() if entry is not local}
        given = names_of((*centrals, local))
        new = {way: entry for way, entry in readings.items() if way not in ways}
        if not new and names.issuperset(given):
            return
        names.update(given)
        ways.update(new)
        if not new:
            self._allowance.take_entry()
            yield Member(given, b"")
        for way, entry in new.items():
            self._allowance.take_entry()
            yield from self._reading(way, entry, local, given)
        if new:
            yield from _wrong_sizes(centrals, local)

    def _reading(self, way: _Way, entry: Entry, local: Entry, names: tuple[str, ...]) -> Contents:
        encrypted, method, _ = way
        if encrypted:
            self._cover(local.end + entry.packed)
            yield Member(names, b"", "zip")
            return
        if method == _STORED:
            unpacked = self._stored(entry, local)
        elif method == _LZMA:
            unpacked = self._lzma(entry, local)
        elif method in _METHODS:
            unpacked = unpack(self._view, local.end, _METHODS[method], self._allowance)
        else:
            unpacked = Unpacked(b"", local.end + entry.packed, f"packed by method {method}")
        self._cover(unpacked.end)
        if unpacked.octets or not all(name.endswith("/") for name in names):
            yield Member(names, unpacked.octets)
        if unpacked.why:
            yield Fault(unpacked.why)
        elif entry.unpacked != len(unpacked.octets) and not _unknown_size(entry):
            yield Fault("the size of a member is not what its headers say")

    def _lzma(self, entry: Entry, local: Entry) -> Unpacked:
        """A stream that may end without saying so (APPNOTE 4.4.4, bit 1): with the octets that its headers tell."""
        view = self._view if _unknown_size(entry) else self._view[: local.end + entry.packed]
        unpacked = unpack(view, local.end + 9, lambda: zip_lzma(self._octets, local.end), self._allowance)
        return replace(unpacked, why="") if 0 < entry.unpacked == len(unpacked.octets) else unpacked

    def _stored(self, entry: Entry, local: Entry) -> Unpacked:
        end = local.end + entry.packed
        if entry is local and _unknown_size(local):
            after = _AFTER_STORED.search(self._octets, local.end)
            end = after.start() if after else len(self._octets)
        stored = self._octets[local.end : end]
        self._allowance.take(len(stored))
        return Unpacked(stored, local.end + len(stored), "it breaks off" if end > len(self._octets) else "")

    def _cover(self, end: int) -> None:
        self._covered = max(self._covered, min(end, len(self._octets)))


def _unknown_size(entry: Entry) -> bool:
    """A data descriptor behind the octets tells the size."""
    return bool(entry.flags & _DESCRIPTOR) and entry.packed == 0


def _way(entry: Entry, *, is_local: bool) -> _Way:
    if entry.flags & (_ENCRYPTED | _MASKED) or entry.method == _AES:
        return True, 0, 0
    unknown = is_local and _unknown_size(entry)
    return False, entry.method, entry.packed if entry.method == _STORED and not unknown else -1


def _wrong_sizes(centrals: list[Entry], local: Entry) -> Iterator[Fault]:
    known = [entry for entry in (*centrals, local) if entry is not local or not _unknown_size(local)]
    if len({(entry.packed, entry.unpacked) for entry in known}) > 1:
        yield Fault("its headers give different sizes of a member")
