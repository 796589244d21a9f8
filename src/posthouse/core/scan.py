"""What scanners say, of one thing that was shown to them and of a whole mail.

Design sections 2.12 and 3; glossary: verdict (clean, blocked, sanitized, encrypted, failed, ambiguous).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """In the order of strictness, the mildest first: of several the last one holds."""

    CLEAN = "clean"
    SANITIZED = "sanitized"
    """Clean once what was active in it had been taken out; the sanitized octets take its place."""
    FAILED = "failed"
    """No scanner could tell. Never clean."""
    ENCRYPTED = "encrypted"
    AMBIGUOUS = "ambiguous"
    """Its readings differ in something that could be run or opened, or not all of it could be shown."""
    POLICY = "policy"
    """Not allowed by the rule (name, type), or by the scanner's own policy."""
    BLOCKED = "blocked"
    """A threat was found."""


_ORDER = tuple(Verdict)


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """CLEAN if there is none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.CLEAN)


class Failure(StrEnum):
    """Why there is no verdict; each may have its own action in a rule (`on_errors`)."""

    UNREACHABLE = "unreachable"
    """No server of the profile could be reached, or each broke off."""
    BUSY = "busy"
    """Every server that was reached wants to be asked later (503, queue full)."""
    TIMEOUT = "timeout"
    """The scanner took longer than it may."""
    PROCESSING = "processing"
    """The scanner says that it failed, or its answer is none that we know."""
    NOT_SCANNED = "not-scanned"
    """The scanner says that it did not scan it, or not whole: too large, too deep, too many."""
    CONFIGURATION = "configuration"
    """The scanner refuses the request itself: a wrong key or rule. An administrator has to mend it."""
    SANITIZE = "sanitize"
    """It could not be sanitized, or what was sanitized could not be had."""
    EDIT = "edit"
    """The mail could not be modified as the rule says."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What one engine of a scanner said; texts of others, one line, cut."""

    name: str
    result: str
    threat: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What one scanner found in one thing that was shown to it. Texts of others are one line, cut at 200."""

    verdict: Verdict
    """CLEAN, SANITIZED, FAILED, ENCRYPTED, POLICY or BLOCKED."""
    threat: str = ""
    reason: str = ""
    """One sentence, or as the scanner says it (`blocked_reason`)."""
    failure: Failure | None = None
    """If FAILED."""
    data_id: str = ""
    """MetaDefender Core's, for the link to scan details."""
    engines: tuple[Engine, ...] = ()
    cached: bool = False
    """Equal content was scanned shortly before."""
