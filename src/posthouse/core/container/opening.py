"""Opens octets as every kind of container that they are, and what is in these, with one budget."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from posthouse.core.container.budget import Allowance, Budget, Contents, Fault
from posthouse.core.container.compressed import Decompressor, bzip2, gzip_member, gzip_names, streams, xz
from posthouse.core.container.rar_file import looks_like_rar, open_rar
from posthouse.core.container.tar_file import looks_like_tar, open_tar
from posthouse.core.container.tnef import looks_like_tnef, open_tnef
from posthouse.core.container.zip_file import looks_like_zip, open_zip

_STREAMS: tuple[tuple[bytes, Callable[[], Decompressor]], ...] = (
    (b"\x1f\x8b\x08", gzip_member),
    (b"BZh", bzip2),
    (b"\xfd7zXZ\x00", xz),
)
_TOO_DEEP = "too many containers in one another"
_SUFFIXES = (".gz", ".gzip", ".bz2", ".bzip2", ".xz", ".z")
_TAR_SUFFIXES = {".tgz": ".tar", ".tbz2": ".tar", ".tbz": ".tar", ".txz": ".tar", ".svgz": ".svg", ".emz": ".emf"}
_Opener = Callable[[Allowance], Contents]


@dataclass(frozen=True, slots=True)
class Opened:
    """A member of a container, or of one inside it, at any depth."""

    path: str
    """For people: the names of the members on the way, one after the other."""
    names: tuple[str, ...]
    octets: bytes
    sha256: str
    encrypted: str
    """As the container says it; `encryption_of` tells what the octets themselves are."""
    level: int
    """1: in the container itself; 2: in one that is in it."""


def open_container(octets: bytes, names: tuple[str, ...], budget: Budget, depth: int) -> Iterator[Opened | Fault]:
    """All that is in `octets`, whose names are `names`, down to `depth` containers in one another; nothing if they
    are no container. Containers with the same octets are opened once, so that one that holds itself ends.

    Never raises. In memory are one member of each level and what it holds.
    """
    levels = [(1, "", contents) for contents in reversed(_contents(octets, names, budget))]
    if levels and depth < 1:
        yield Fault(_TOO_DEEP)
        return
    seen = {sha256(octets).digest()} if levels else set()
    while levels:
        level, path, contents = levels[-1]
        found = next(contents, None)
        if found is None:
            levels.pop()
            continue
        if isinstance(found, Fault):
            yield found
            continue
        digest = sha256(found.octets)
        own = f"{path}{found.names[0] if found.names else '-'}"
        yield Opened(own, found.names, found.octets, digest.hexdigest(), found.encrypted, level)
        if digest.digest() in seen:
            continue
        inner = _contents(found.octets, found.names, budget)
        if not inner:
            continue
        seen.add(digest.digest())
        if level >= depth:
            yield Fault(_TOO_DEEP)
            continue
        levels.extend((level + 1, f"{own}/", contents) for contents in reversed(inner))


def _contents(octets: bytes, names: tuple[str, ...], budget: Budget) -> list[Contents]:
    """One for each kind of container that the octets are: some are a zip for some readers and a tar for others."""
    openers: list[_Opener] = []
    for magic, new in _STREAMS:
        if octets.startswith(magic):
            given = gzip_names(octets) if new is gzip_member else ()
            openers.append(partial(streams, octets, new, magic, tuple(dict.fromkeys((*given, *_inner(names))))))
    if looks_like_tar(octets):
        openers.append(partial(open_tar, octets))
    if looks_like_tnef(octets):
        openers.append(partial(open_tnef, octets))
    if looks_like_rar(octets):
        openers.append(partial(open_rar, octets))
    if looks_like_zip(octets):
        openers.append(partial(open_zip, octets))
    return [opener(Allowance(budget, len(octets))) for opener in openers]


def _inner(names: tuple[str, ...]) -> Iterator[str]:
    """The name that a compressed file has when it is unpacked: its own without the suffix."""
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        suffix = (dot + suffix).lower()
        if stem and suffix in _SUFFIXES:
            yield stem
        elif stem and suffix in _TAR_SUFFIXES:
            yield stem + _TAR_SUFFIXES[suffix]
