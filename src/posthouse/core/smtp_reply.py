"""An SMTP reply: code, enhanced status code, text.

Standards: RFC 5321 section 4.2; RFC 3463; RFC 2034.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; `lines` hold the text without codes. `status` is `5.7.1` or empty."""

    code: int
    lines: tuple[str, ...]
    status: str = ""

    @property
    def text(self) -> str:
        """`550 5.7.1 No policy for recipient`: one line for logs, trail and people."""
        head = f"{self.code} {self.status} " if self.status else f"{self.code} "
        return head + " / ".join(self.lines)

    def encode(self) -> bytes:
        """Octets on the wire; the enhanced status code on every line (RFC 2034 section 4)."""
        status = f"{self.status} " if self.status else ""
        last = len(self.lines) - 1
        return "".join(
            f"{self.code}{' ' if i == last else '-'}{status}{line}\r\n" for i, line in enumerate(self.lines)
        ).encode("utf-8")


def reply(code: int, status: str, text: str) -> Reply:
    """A one-line reply."""
    return Reply(code, (text,), status)
