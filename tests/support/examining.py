"""Examines mails in tests."""

import re

from posthouse.core.examination import Examination, ExaminationLimits, Item
from posthouse.core.examination_of import examine
from posthouse.core.wire_form import wire_form

_LINE_END = re.compile(rb"\r\n|\r|\n")


class Examined:
    """An examination with the octets that its places mean."""

    def __init__(self, plain: bytes, limits: ExaminationLimits | None = None) -> None:
        """`plain`: without dot-stuffing; every line end becomes CRLF, as the receiver sees to it."""
        self.wire = wire_form(_LINE_END.sub(b"\r\n", plain))
        self.made = bytearray()
        self.examination: Examination = examine(self.wire, limits or ExaminationLimits(), self._write)

    def octets(self, item: Item) -> bytes:
        source = bytes(self.made) if item.place.made else self.wire
        assert 0 <= item.place.start <= item.place.end <= len(source)
        return source[item.place.start : item.place.end]

    @property
    def items(self) -> tuple[Item, ...]:
        return self.examination.items

    def _write(self, octets: bytes) -> int:
        start = len(self.made)
        self.made += octets
        return start
