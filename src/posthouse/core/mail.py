"""A mail on its way: envelope, content in wire form, and one row per recipient.

Wire form: dot-stuffed, every line ends in CRLF, and the whole ends in CRLF.CRLF (or .CRLF when empty), so
that relaying copies nothing (RFC 5321 section 4.5.2). Version 0 of the content is the mail as received; a
further version is version 0 less the octet ranges `cuts`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from posthouse.core.envelope import Body, SessionFacts
from posthouse.core.way import WayFacts

MailId = NewType("MailId", str)


class RecipientState(StrEnum):
    """Where a recipient stands; people see ACTIVE as "queued" too."""

    ACTIVE = "active"
    """In the memory of the worker that holds the mail's lease."""
    QUEUED = "queued"
    """Waits in the database until `due_at`."""
    HELD = "held"
    """Kept in the queue by an operator."""
    RELAYED = "relayed"
    FAILED = "failed"
    """Ended without delivery; the mail is a failed email."""
    DELETED = "deleted"
    """Deleted from the queue by an operator."""
    QUARANTINED = "quarantined"
    """Kept in quarantine: not relayed, and no DSN. Final; a release is a mail of its own."""
    DISCARDED = "discarded"
    """Not relayed, and no DSN, as its rule says. Final."""
    REJECTED = "rejected"
    """Refused at the final dot (before-accept). Final; the sender's side has the mail."""


class Stage(StrEnum):
    """What is to be done next with a recipient that is ACTIVE, QUEUED or HELD; what was, with any other."""

    RELAY = "relay"
    SCAN = "scan"
    """Nothing goes to a next hop before its rule's scan has decided."""


class Deferral(StrEnum):
    """What put a recipient off last, until `due_at` (design section 3)."""

    NONE = ""
    """Nothing yet, or that no server could be addressed at all."""
    SERVER_FAULT = "server-fault"
    """The server's fault; it is due soon after a circuit of its profile closes."""
    ANSWER = "answer"
    """What the next hop answered, or that it did not answer the final dot: the schedule is kept."""
    THROTTLED = "throttled"
    """The next hop wanted less of us."""


@dataclass(frozen=True, slots=True)
class InlineOctets:
    """Content held in memory, wire form."""

    octets: bytes

    @property
    def size(self) -> int:
        return len(self.octets)


@dataclass(frozen=True, slots=True)
class FileOctets:
    """Content in a file, wire form; `path` is absolute on this node."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """One version of a mail's content."""

    source: InlineOctets | FileOctets
    cuts: tuple[tuple[int, int], ...] = ()
    """Half-open octet ranges of `source` that this version leaves out; sorted, disjoint."""
    sealed: bool = False
    """Encrypted, for the quarantine: to be read with its key only (`storage.sealing`), never to be relayed."""


GONE = Content(InlineOctets(b""), sealed=True)
"""In the place of a version that has been deleted while a later one is kept: nothing to be read, nor relayed."""


@dataclass(frozen=True, slots=True)
class MailRecipient:
    """One recipient of one mail: rule, version, state (design section 3)."""

    seq: int
    address: str
    """Where it goes; differs from the forward-path received only for a rewritten postmaster."""
    rule: str
    """Name of the matching rule; empty for own mail."""
    profile: str
    """SMTP server profile that relays it."""
    version: int = 0
    state: RecipientState = RecipientState.ACTIVE
    stage: Stage = Stage.RELAY
    due_at: float = 0.0
    """Epoch seconds; the time of the next attempt or scan while QUEUED."""
    tries: int = 0
    """Attempts that used up a retry of the schedule."""
    waits: int = 0
    """Waits that used up none (throttle, all servers closed)."""
    deferral: Deferral = Deferral.NONE
    delay_told: bool = False
    """The delay DSN has been sent or was not wanted."""
    uncertain_at: str = ""
    """Canonical server specification where the last attempt ended uncertain, else empty."""
    notify: str = ""
    orcpt: str = ""
    detail: str = ""
    """Last result in one line, as people see it."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail with the recipients at hand (all at intake; those due when taken from the queue)."""

    id: MailId
    received_at: float
    """Epoch seconds of the final dot."""
    session: SessionFacts
    reverse_path: str
    body: Body
    smtputf8: bool
    ret: str
    envid: str
    trace_field: bytes
    """Our Received field, CRLF-terminated, written before the content when relaying."""
    contents: tuple[Content, ...]
    """Indexed by version; `GONE` where one has been deleted and a later one has not."""
    recipients: tuple[MailRecipient, ...]
    size: int
    """Octets as RFC 1870 counts them: unstuffed, without trace_field and final dot."""
    subject: str = ""
    message_id: str = ""
    own: bool = False
    """Generated by posthouse (DSN): passes no rule, gets no DSN itself."""


def content_size(mail: Mail, version: int) -> int:
    """Octets of a version as RFC 1870 counts them; of a modified one those of its wire form, which has few more."""
    source = mail.contents[version].source
    return mail.size if source == mail.contents[0].source else source.size


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """One event in the trail of a mail."""

    at: float
    kind: str
    """One of `TRAIL_KINDS`."""
    detail: dict[str, object] = field(default_factory=dict)
    """JSON object; the fields of each kind are told in `TRAIL_KINDS`."""


TRAIL_KINDS: dict[str, str] = {
    "received": "accepted over SMTP: session facts, size, reply, normalised octets, removed fields",
    "generated": "made by posthouse: kind (failure, delay, relayed), for (mail id of the cause)",
    "matched": "recipients: for each its rule and the reasons of every rule before it",
    "passed-over": "servers that could not be addressed at an attempt: for each server and why",
    "scanned": "rule, profiles (each with its servers, those passed over and faults), verdict, items, seconds",
    "decided": "recipients, rule, verdict, action, why, version of the content, what was edited",
    "noticed": "rule, notices: for each its address and mail (id), or why there is none",
    "uploaded": "profile, files: name, size, url of each",
    "quarantined": "recipients, cause, why",
    "quarantine-released": "by, mail (id of the release), recipients, cleaned, reason",
    "quarantine-forwarded": "by, mail (id of what was sent), to, reason",
    "rescanned": "by, rule, verdict, why",
    "pinned": "by: kept in quarantine for good",
    "unpinned": "by",
    "refused": "by, act, why: an operator's act on a kept mail that was not done",
    "deferred": "recipients, due_at, why",
    "ended": "recipients, state, why",
    "dsn": "kind, mail (id of the DSN), recipients; or why none was sent",
    "held": "by, recipients",
    "released": "by, recipients: hold ended",
    "retried": "by, recipients: made due now",
    "rerouted": "by, recipients, profile",
    "deleted": "by, recipients",
    "forgotten": "by, why: the content kept for the quarantine or the failed emails was deleted",
    "taken-over": "by worker, from worker",
}


@dataclass(frozen=True, slots=True)
class ScanRow:
    """What one scanner said of one item of a mail, kept as a row (design 2.12, "View scan details")."""

    at: float
    rule: str
    """Name of the security rule; scans of the same mail for several rules have rows of their own."""
    profile: str
    server: str
    """Canonical server specification; empty if no server was asked (cached, or a finding of our own)."""
    path: str
    """Of the item: empty for the mail as a whole."""
    part: str
    name: str
    size: int
    sha256: str
    verdict: str
    """`core.scan.Verdict`."""
    threat: str = ""
    reason: str = ""
    failure: str = ""
    """`core.scan.Failure`, or empty."""
    data_id: str = ""
    batch_id: str = ""
    cached: bool = False
    engines: tuple[tuple[str, str, str], ...] = ()
    """(engine, result, threat)."""


class UploadState(StrEnum):
    """Of one attachment for a vault."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class UploadRow:
    """One attachment that a rule has a vault keep."""

    rule: str
    profile: str
    part: str
    """Path of the part."""
    name: str
    size: int
    state: UploadState
    at: float
    tries: int = 0
    url: str = ""
    file_id: str = ""
    why: str = ""
    """Of the last failure."""


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """What puts a mail into quarantine; a mail has at most one such row, the first."""

    at: float
    cause: str
    """`core.scan.Verdict` that decided, or `sanitized`: the original of a mail that went on sanitized."""
    why: str
    """One line: threat or reason."""
    rule: str
    expires_at: float
    """Epoch seconds; a pinned one stays."""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One delivery attempt at one server, kept as a row (design section 3)."""

    started_at: float
    seconds: float
    profile: str
    server: str
    """Canonical server specification."""
    order: tuple[str, ...]
    """The preference order used by this attempt."""
    outcome: str
    """relayed, server-fault, transient, permanent, uncertain, mixed."""
    summary: str
    """One sentence; the decisive reply."""
    replies: tuple[tuple[int, str, str], ...]
    """(recipient seq, result kind, reply text) for each recipient."""
    transcript: tuple[str, ...] = ()
    """Masked dialogue; kept for a failed or marked attempt only."""
    marks: tuple[str, ...] = ()
    """`possible duplicate`, `downgraded`, `8bit without 8BITMIME`."""
    way: WayFacts | None = None
    """The connection it went over; None if there was none."""
    mail_number: int = 0
    """Which mail on that connection, from 1: above 1 the connection came from the pool; 0 without connection."""
