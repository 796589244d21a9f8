"""The mail cut at everything that could be a delimiter: what is left when nobody can tell which boundary holds.

Every line that begins with two hyphens, white space or control characters before them allowed, ends one piece and
begins the next; so any part between two delimiters of any boundary, also outside of its multipart, is a piece.
"""

import re
from collections.abc import Iterator

from posthouse.core.mime.header import Buffer

_CUT = re.compile(rb"[\r\n][ \t\x00\x0b\x0c]*+--[^\r\n]*+")
_HEADER_END = re.compile(rb"\r?\n[ \t\x00]*+\r?\n|\r[ \t\x00]*+\r")
_HEADED = re.compile(rb"[\s\x00]*+[!-9;-~\x00\t ]{0,80}+:")


def pieces(octets: Buffer, start: int, most: int) -> Iterator[tuple[int, int, int]]:
    """At most `most` pieces from `start` on: start, first octet after its header (the start if it has none), end."""
    at = start
    for _ in range(most):
        cut = _CUT.search(octets, at)
        end = cut.start() if cut else len(octets)
        yield at, _body(octets, at, end), end
        if not cut:
            return
        at = cut.end()


def _body(octets: Buffer, start: int, end: int) -> int:
    headed = _HEADED.match(octets, start, end)
    if not headed:
        return start
    empty = _HEADER_END.search(octets, headed.end(), end)
    return empty.end() if empty else start
