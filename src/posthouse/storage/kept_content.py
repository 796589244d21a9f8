"""A content as the console process reads it: from rows and files that belong to workers, unsealed on the way."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from posthouse.core.mail import Content, InlineOctets
from posthouse.ports import ContentUnreadable
from posthouse.storage import schema
from posthouse.storage.quarantine_key import QuarantineKey
from posthouse.storage.reading import PIECE_OCTETS, file_range, open_file, pieces
from posthouse.storage.rows import cuts_from
from posthouse.storage.sealing import unsealed

Open = Callable[[], AbstractContextManager[Connection]]
"""A connection to the database that has the mail's rows."""


def kept_content(
    opened: Open, folder: Path, key: QuarantineKey, mail_id: str, version: int | None
) -> Iterator[bytes] | None:
    """ports.History.kept_content for one store; `folder` has its content files."""
    c = schema.content.c
    # Not all columns: a version that is not wanted may be large.
    with opened() as connection:
        kinds = connection.execute(
            select(c.version, c.kind, c.size, c.cuts, c.file, c.sealed)
            .where(c.mail_id == mail_id)
            .order_by(c.version)
        ).all()
        row = _chosen(kinds, version)
        if row is None:
            return None
        source = next(k for k in kinds if k.version == 0) if row.kind == "cuts" else row
        octets = None
        if source.kind == "inline":
            octets = connection.scalar(select(c.octets).where(c.mail_id == mail_id, c.version == source.version))
            if octets is None:
                return None
    sealing_key = key.get(make=False) if row.sealed else None
    if row.sealed and sealing_key is None:
        raise ContentUnreadable("what is in quarantine was sealed with a key that is not there")
    cuts = cuts_from(row.cuts)
    match source.kind:
        case "inline":
            assert octets is not None
            whole = pieces(Content(InlineOctets(bytes(octets)), cuts))
        case "file":
            whole = _of_file(folder / source.file, cuts, source.size, _naming(opened, mail_id, source))
        case "chunks":
            whole = _without(_chunks(opened, mail_id, source.version, source.size), cuts)
        case _:
            raise ValueError(f"content of kind {source.kind!r}")
    return unsealed(sealing_key, whole) if sealing_key is not None else whole


def _chosen(kinds: Any, version: int | None) -> Any:
    """The version of that number; without one what is sealed, else the mail as received."""
    if version is None:
        sealed = [row for row in kinds if row.sealed]
        if sealed:
            return sealed[0]
    return next((row for row in kinds if row.version == (version or 0)), None)


def _naming(opened: Open, mail_id: str, row: Any) -> Callable[[], bool]:
    """Whether the row still names its file: what nobody names is used again for other mail."""
    c = schema.content.c
    same = select(c.version).where(c.mail_id == mail_id, c.version == row.version, c.file == row.file)

    def names() -> bool:
        with opened() as connection:
            return connection.execute(same).first() is not None

    return names


def _of_file(path: Path, cuts: tuple[tuple[int, int], ...], size: int, named: Callable[[], bool]) -> Iterator[bytes]:
    """Each piece is read, then looked whether it was the mail's still."""
    position = 0
    descriptor = open_file(str(path))
    try:
        for start, end in (*cuts, (size, size)):
            for piece in file_range(descriptor, position, start):
                if not named():
                    raise ContentUnreadable("content cannot be read here: it has been deleted meanwhile")
                yield piece
            position = end
    finally:
        os.close(descriptor)


def _chunks(opened: Open, mail_id: str, version: int, size: int) -> Iterator[bytes]:
    """One row at a time, no transaction between them."""
    k = schema.content_chunk.c
    done = seq = 0
    while done < size:
        with opened() as connection:
            octets = connection.scalar(
                select(k.octets).where(k.mail_id == mail_id, k.version == version, k.seq == seq)
            )
        if not octets:
            raise ContentUnreadable("content cannot be read here: it has been deleted meanwhile")
        for offset in range(0, len(octets), PIECE_OCTETS):
            yield bytes(octets[offset : offset + PIECE_OCTETS])
        done, seq = done + len(octets), seq + 1


def _without(whole: Iterator[bytes], cuts: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
    """Less the octet ranges `cuts`; sorted, disjoint."""
    position = 0
    left = list(cuts)
    for piece in whole:
        start, end = position, position + len(piece)
        while left and left[0][0] < end:
            cut_start, cut_end = left[0]
            if start < cut_start:
                yield piece[start - position : cut_start - position]
            start = max(start, min(cut_end, end))
            if cut_end > end:
                break
            left.pop(0)
        if start < end:
            yield piece[start - position :]
        position = end
