"""The dialogue with a next hop as people read it: kept cheaply, put into words only when it is wanted.

Most mails are relayed at once and nobody asks for their dialogue, so nothing is formatted before `lines`.
"""

from collections.abc import Sequence

from posthouse.core.smtp_reply import Reply

MOST_LINES = 200
"""Further lines are left out, but for the last ten, which hold what went wrong."""
LONGEST_LINE = 500
"""Characters."""
_LAST = 10


class Transcript:
    """`C: ...` and `S: ...`; content is told by its size only. Holds at most about `MOST_LINES` entries."""

    __slots__ = ("_entries", "_left_out")

    def __init__(self) -> None:
        self._entries: list[str | int | Reply | Sequence[bytes]] = []
        self._left_out = 0

    def client(self, line: str) -> None:
        """A command without CRLF."""
        self._add((line.encode(),))

    def commands(self, lines: Sequence[bytes]) -> None:
        """Commands written together, each with CRLF."""
        self._add(lines)

    def server(self, reply: Reply) -> None:
        """A reply."""
        self._add(reply)

    def content(self, octets: int) -> None:
        """Content that was sent."""
        self._add(octets)

    def note(self, what: str) -> None:
        """What neither side said: `connection lost ...`."""
        self._add(what)

    def _add(self, entry: str | int | Reply | Sequence[bytes]) -> None:
        self._entries.append(entry)
        if len(self._entries) > 2 * MOST_LINES:
            del self._entries[MOST_LINES]
            self._left_out += 1

    def lines(self) -> tuple[str, ...]:
        """At most `MOST_LINES` lines of at most `LONGEST_LINE` characters."""
        lines: list[str] = []
        for entry in self._entries:
            match entry:
                case Reply():
                    lines.extend(_reply_lines(entry))
                case int():
                    lines.append(f"C: [{entry} octets of content]")
                case str():
                    lines.append(f"[{entry}]"[:LONGEST_LINE])
                case _:
                    lines.extend(f"C: {line.decode('utf-8', 'replace').rstrip()}"[:LONGEST_LINE] for line in entry)
        left_out = len(lines) - MOST_LINES
        if left_out > 0 or self._left_out:
            head = MOST_LINES - _LAST - 1
            count = len(lines) - head - _LAST + self._left_out
            lines = [*lines[:head], f"[{count} lines left out]", *lines[-_LAST:]]
        return tuple(lines)


def _reply_lines(reply: Reply) -> list[str]:
    status = f"{reply.status} " if reply.status else ""
    last = len(reply.lines) - 1
    return [
        f"S: {reply.code}{' ' if i == last else '-'}{status}{line}"[:LONGEST_LINE]
        for i, line in enumerate(reply.lines[: MOST_LINES + 1])
    ]
