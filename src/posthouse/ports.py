"""What the flow and the receiver ask of the outside: protocols, no implementation but the system clock.

`app.py` alone joins these to the adapters in `clients` and `storage`.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from posthouse.core.envelope import Envelope, SessionFacts
from posthouse.core.mail import (
    AttemptRow,
    Content,
    Mail,
    MailId,
    MailRecipient,
    TrailEntry,
)
from posthouse.core.outcome import ServerAnswer, Transaction
from posthouse.core.smtp_reply import Reply


class Clock(Protocol):
    """Time as an argument: one fake clock serves all tests."""

    def now(self) -> float:
        """Epoch seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


# --- Reception: what the receiver (inbound) asks of the flow -----------------------------------------


@dataclass(frozen=True, slots=True)
class ReceivedContent:
    """A whole content as the receiver hands it over."""

    content: Content
    size: int
    """Octets unstuffed, without the final dot."""
    header: bytes
    """The header section, unstuffed, cut at 256 KiB; for subject, Message-ID, loop check, spoofed fields."""
    normalised: int = 0
    """How many bare CR or LF were made CRLF."""


class ContentSink(Protocol):
    """Takes content octets in wire form as they arrive; bounded memory, streams past 256 KiB to a file."""

    def write(self, octets: bytes) -> None:
        """Raises OSError when the disk refuses."""

    def close(self, *, size: int, header: bytes, normalised: int) -> ReceivedContent:
        """End of content."""

    def abort(self) -> None:
        """Forget what was written; safe to call twice."""


class Reception(Protocol):
    """The one port of the receiver: admit a recipient, open a content sink, accept."""

    def begin(self, session: SessionFacts, reverse_path: str, declared_size: int) -> Reply | None:
        """At MAIL: a refusal (452 4.3.1 when space is short, 451) or None."""

    def admit(self, session: SessionFacts, reverse_path: str, address: str) -> Reply | None:
        """At RCPT: a refusal (550 5.7.1 "No policy for recipient") or None. Pure look-up, no wait."""

    def open_content(self) -> ContentSink: ...

    def accept(
        self,
        session: SessionFacts,
        envelope: Envelope,
        content: ReceivedContent,
        done: Callable[[Reply], None],
    ) -> None:
        """Takes the mail; `done` gets the reply to the final dot once the mail is durable, or a refusal.

        `done` is called on the event loop, possibly before `accept` returns (for refusals).
        """


# --- Spool -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt (or an operator) changed of one mail: one commit, fenced by the lease."""

    mail: Mail
    recipients: tuple[MailRecipient, ...] = ()
    """Those that changed, with their new values. ACTIVE ones stay in the worker's memory."""
    attempts: tuple[AttemptRow, ...] = ()
    trail: tuple[TrailEntry, ...] = ()
    generated: tuple[tuple[Mail, tuple[TrailEntry, ...]], ...] = ()
    """Own mail (DSNs) to be stored in the same commit."""


class LeaseLost(Exception):
    """The mail belongs to another worker now: what was to be recorded is void."""


class Spool(Protocol):
    """Mail accepted and not yet disposed of; durable before `done` is called with None.

    `done` callbacks run on the event loop, in commit order. Every write of a batch shares one commit.
    """

    def accept(
        self, mail: Mail, trail: Sequence[TrailEntry], done: Callable[[Exception | None], None]
    ) -> None: ...

    def record(self, outcome: Outcome, done: Callable[[Exception | None], None]) -> None:
        """Stores an outcome; deletes the content in the commit of the last recipient's final result
        unless one FAILED (then kept for the failed emails). LeaseLost if another worker owns the mail."""

    def open_content(self) -> ContentSink: ...

    async def take_due(self, profile: str, now: float, limit: int, octets: int) -> list[Mail]:
        """Up to `limit` mails (and about `octets` of inline content) with recipients QUEUED for `profile`
        due by `now`, oldest due first, now ACTIVE and leased to this worker."""

    async def next_due(self) -> Mapping[str, float]:
        """For each profile with QUEUED recipients not leased elsewhere, the earliest due_at."""

    async def take_back(self, now: float) -> int:
        """At start, and when a lease has run out: ACTIVE recipients of dead owners become QUEUED, due now.
        Returns how many mails."""

    def lease_fresh(self) -> bool:
        """The lease on this worker's mails was renewed less than 20 s ago (always true under a file lock)."""

    async def renew(self) -> bool:
        """Renews the leases now; False if they are lost."""

    def free_octets(self) -> int:
        """Free space where mail is stored, in octets; looked up at most once a second."""

    async def act(self, command: "QueueCommand", now: float) -> "Acted":
        """Carries out an operator's command on mails this worker owns or nobody leases."""

    async def purge(self, now: float, failed_seconds: float) -> int:
        """Deletes content of failed emails older than `failed_seconds`; returns how many."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class QueueCommand:
    """retry, hold, release, reroute, delete; on chosen mails or on all that the filter names."""

    id: int
    kind: str
    by: str
    mails: tuple[MailId, ...] = ()
    """Empty: all open mail (narrowed by `profile`)."""
    profile: str = ""
    """Narrows to recipients of this profile; empty for all."""
    target: str = ""
    """reroute: the new profile."""


@dataclass(frozen=True, slots=True)
class Acted:
    """How many recipients a command changed, and which mails."""

    recipients: int
    mails: tuple[MailId, ...] = field(default=())


# --- Relay -------------------------------------------------------------------------------------------


class Relay(Protocol):
    """Hands one transaction to one server: the SMTP client."""

    async def send(
        self, server: str, transaction: Transaction, may_finish: Callable[[], Awaitable[bool]]
    ) -> ServerAnswer:
        """`server` is a canonical smtp:// specification. `may_finish` is asked just before the final dot; on
        False the connection is closed and the recipients get SERVER_FAULT without blame. Never raises
        for anything the network does."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the flow is built on."""

    clock: Clock
    spool: Spool
    relay: Relay
    new_mail_id: Callable[[], MailId]
    random: Callable[[], float]
