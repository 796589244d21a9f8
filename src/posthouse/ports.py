"""What the flow and the receiver ask of the outside: protocols, no implementation but the system clock.

`app.py` alone joins these to the adapters in `clients` and `storage`.
"""

import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from posthouse.core.drain import Drain
from posthouse.core.envelope import Envelope, SessionFacts
from posthouse.core.fields import Secret
from posthouse.core.kept_secret import Secrets
from posthouse.core.mail import (
    AttemptRow,
    Content,
    Mail,
    MailId,
    MailRecipient,
    QuarantineRow,
    ScanRow,
    TrailEntry,
    UploadRow,
)
from posthouse.core.outcome import Probed, ServerAnswer, Transaction
from posthouse.core.owner import Start
from posthouse.core.past_mail import PastMail
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_mark import Mark
from posthouse.core.profile_test import Inquiry, StageResult, Told, unheard
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
    """The whole header section, unstuffed (at most `limits.header_octets`); for subject, Message-ID, loop check and
    spoofed fields, none of which may hide behind a cut."""
    normalised: int = 0
    """How many bare CR or LF were made CRLF."""


class ContentSink(Protocol):
    """Takes content octets in wire form as they arrive; bounded memory, what is longer goes to a file."""

    def write(self, octets: bytes) -> None:
        """Raises OSError when the disk refuses; `release` is due then."""

    def close(self, *, size: int, header: bytes, normalised: int) -> ReceivedContent:
        """End of content. Raises OSError when the disk refuses; `release` is due then."""

    def release(self) -> None:
        """The end, due whatever became of the content: forgets what no mail has claimed. Safe to call twice."""


class Reception(Protocol):
    """The one port of the receiver: admit a recipient, open a content sink, accept."""

    def begin(self, session: SessionFacts) -> Reply | None:
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
    """Own mail (DSNs, notices) to be stored in the same commit."""
    contents: tuple[tuple[int, Content], ...] = ()
    """New versions of the content, by number; `mail.contents` has them already. Of `open_content`."""
    findings: "Findings | None" = None
    command: int = 0
    """The operator's command that this carries out; 0: none. See `Spool.take_kept`."""
    forget: bool = False
    """Deletes a kept content with its quarantine row: rows of history stay. Of an open mail only what is sealed."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a scan and the decision after it add to a mail."""

    scans: tuple[ScanRow, ...] = ()
    uploads: tuple[UploadRow, ...] = ()
    """Each replaces the row of the same rule and part."""
    quarantine: QuarantineRow | None = None
    """Put in, or in the place of what there was. The sealed version of the content (`Content.sealed`) stays while the
    row is there, when the others are deleted."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A mail whose content is kept though nothing more is due: in quarantine, or a failed email."""

    mail: Mail
    """With all recipients; its contents may be sealed."""
    quarantine: QuarantineRow | None
    scans: tuple[ScanRow, ...]
    uploads: tuple[UploadRow, ...]


@dataclass(frozen=True, slots=True)
class Age:
    """Mail that senders are to hear of; epoch seconds of receipt."""

    untold_before: float
    """Received before, and the delay has not been told."""
    before: float
    """Received before: its lifetime is over."""


class ContentUnreadable(Exception):
    """Our own disk does not give a content, or it is not what was written. The text is one sentence."""


class LeaseLost(Exception):
    """The mail belongs to another worker now: what was to be recorded is void."""


Done = Callable[[Exception | None], None]
"""Told how a commit ended: None, or why it failed."""


class Spool(Protocol):
    """Mail accepted and not yet disposed of; durable before `done` is called with None.

    `done` callbacks run on the event loop, in commit order. Every write of a batch shares one commit.
    """

    def accept(
        self,
        mail: Mail,
        trail: Sequence[TrailEntry],
        done: Done,
        alone: Callable[[], None] = lambda: None,
        findings: Findings | None = None,
    ) -> None:
        """`alone` is called, before `done`, when the mail's commit is under way and no other unit shares it: there is
        time for something else meanwhile. `findings`: of a scan before acceptance. Where all recipients are REJECTED
        or DISCARDED no content is stored."""

    def record(self, outcome: Outcome, done: Done) -> None:
        """Stores an outcome. In the commit of the last recipient's final result the content is deleted, unless one
        FAILED (then all of it is kept for the failed emails), and but for a sealed version while there is a
        quarantine row. LeaseLost if another worker owns the mail."""

    async def seal(self, content: Content) -> Content:
        """A sealed copy, ready for `Outcome.contents`. Raises OSError, ContentUnreadable, SecretUnreadable."""

    async def unseal(self, content: Content) -> Content:
        """The other way, for a new mail. Raises as `seal`, and ContentUnreadable if it was tampered with."""

    def discard(self, content: Content) -> None:
        """Forgets what `seal` or `unseal` made, where no outcome and no mail has claimed it. Safe for any other."""

    async def take_unscanned(self, now: float, limit: int, octets: int, age: "Age | None" = None) -> list[Mail]:
        """As `take_due`, of recipients at `Stage.SCAN`, whatever their profile; those at RELAY are not among them."""

    async def take_kept(self, mail_id: MailId, command: int) -> Kept | None:
        """A kept mail, leased to this worker until an outcome of it is recorded or `give_back`. None if it is not
        kept here, another worker has it, or a command of this number or a later one has been recorded for it:
        commands reach all workers, and each worker obeys in their order."""

    async def give_back(self, mail_id: MailId) -> None:
        """Ends the lease of a kept mail with nothing changed."""

    def open_content(self) -> ContentSink: ...

    async def take_due(
        self, profile: str, now: float, limit: int, octets: int, age: "Age | None" = None
    ) -> list[Mail]:
        """Up to `limit` mails (and about `octets` of inline content) with recipients QUEUED at `Stage.RELAY` for
        `profile` due by `now`, oldest due first, now ACTIVE and leased to this worker. `age`: only such old ones."""

    async def next_due(self) -> Mapping[str, float]:
        """For each profile with QUEUED recipients at `Stage.RELAY`, the earliest due_at."""

    async def wake(self, profiles: Collection[str], now: float, seconds: float, most: int | None = None) -> int:
        """Recipients of these profiles that were put off because of the server's fault, for longer, become due within
        `seconds`, spread by chance; at most `most` of them. Only of mails that this worker owns or nobody leases.
        Returns how many."""

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
        """Deletes content of failed emails older than `failed_seconds`, and of quarantined mail that has expired and
        is not pinned; returns how many."""

    async def close(self) -> None: ...


UNLOCK_LOGIN = "unlock-login"


@dataclass(frozen=True, slots=True)
class QueueCommand:
    """retry, hold, release, reroute, delete; on chosen mails or on all that the filter names. `unlock-login`: a TEST
    of `profile` has passed, so its login may be tried again; no mail is meant, and `Acted` counts servers."""

    id: int
    kind: str
    by: str
    mails: tuple[MailId, ...] = ()
    """Empty: all open mail (narrowed by `profile`)."""
    profile: str = ""
    """Narrows to recipients of this profile; empty for all."""
    target: str = ""
    """reroute: the new profile."""
    at: float = math.inf
    """When it was given, epoch seconds. A command that names no mails concerns those received by then: a worker that
    starts later obeys it once more."""


@dataclass(frozen=True, slots=True)
class Acted:
    """How many recipients a command changed, and which mails."""

    recipients: int
    mails: tuple[MailId, ...] = field(default=())


# --- Relay -------------------------------------------------------------------------------------------


MayFinish = Callable[[], bool | Awaitable[bool]]
"""Asked just before a final dot. A plain bool is the quick way, an awaitable only where there is something to wait
for: a lease to be renewed, a commit under way."""


class Relay(Protocol):
    """Hands one transaction to one server: the SMTP client."""

    async def send(
        self,
        profile: ServerProfile,
        server: str,
        transaction: Transaction,
        may_finish: MayFinish,
        *,
        fresh: bool = False,
        logged_in: Callable[[], None] | None = None,
    ) -> ServerAnswer:
        """`server` is one of the profile's, in canonical text; `fresh`: not over a kept connection. On False from
        `may_finish` the connection is closed and the recipients get SERVER_FAULT without blame.
        `logged_in` is called once AUTH has succeeded, before the mail is sent. Never raises for anything the network
        does."""

    async def probe(self, profile: ServerProfile, server: str, *, whole: bool, login: bool) -> Probed:
        """Opens a session and quits; never sends mail. `whole`: with STARTTLS and, if `login`, AUTH; else
        greeting and EHLO only."""


class ServerTester(Protocol):
    """Tests the servers of one service type (design 2.11)."""

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        """The ladder of one server within `seconds`, without advice; `told` hears of it stage by stage. Never raises
        for anything the network does, and touches no state of any worker."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the flow is built on."""

    clock: Clock
    spool: Spool
    relay: Relay
    new_mail_id: Callable[[], MailId]
    random: Callable[[], float]


# --- What console process, CLI on the data dir and workers share: inventory, accounts, commands, history -----
# These are synchronous: the console calls them on a thread pool, workers on their store's thread.


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """A server profile as stored: canonical JSON (core.profile.profile_json) and its revision."""

    document: Mapping[str, object]
    revision: int
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    """By property: what `{ set = true }` in the document stands for, encrypted."""
    tested: Mark | None = None
    """What came of its last TEST, or that it has had none; None if nobody has told."""
    former: tuple[str, ...] = ()
    """Names that it had and no other profile has taken: mail that is under way still names it so."""


@dataclass(frozen=True, slots=True)
class StoredInventory:
    """What is in force; `revision` grows with every change."""

    revision: int
    profiles: tuple[StoredProfile, ...]
    rules: tuple[Mapping[str, object], ...]
    """In their order of priority, canonical JSON."""
    drains: tuple[Drain, ...] = ()
    """Of servers that the profiles have; also those that have ended by themselves."""


class SecretUnreadable(Exception):
    """A secret that a profile has or refers to cannot be had; the text is one sentence that does not hold it."""


class SecretKeyUnusable(SecretUnreadable):
    """No key of stored secrets, or none that may be used; the text says where keys are looked for."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


Unseal = Callable[[str], str]
"""The text of a stored secret's token. Raises SecretUnreadable."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What `secret rotate` has done."""

    secrets: int
    """Encrypted anew."""
    where: str
    """Where the keys are."""
    to_drop: int
    """Old keys that are no longer needed and that posthouse cannot remove from there."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds."""

    at: float
    """When it was made, epoch seconds."""
    version: str
    """Of the posthouse that made it."""
    rows: Mapping[str, int]
    """By table."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has put in force."""

    backup: BackedUp
    """`rows`: those that were put in; none of audit where that log went on."""
    keys_back: tuple["Key", ...]
    """In force again, or for the first time here."""
    keys_gone: tuple["Key", ...]
    """In force until then."""


class BackupUnusable(Exception):
    """A file that cannot be restored here; the text is one sentence."""


class InventoryStore(Protocol):
    """Server profiles and security rules in the database."""

    def load(self) -> StoredInventory: ...

    def revision(self) -> int:
        """Cheap: looked at every 0.5 s by every worker."""

    def replace(
        self,
        profiles: Sequence[Mapping[str, object]],
        rules: Sequence[Mapping[str, object]],
        *,
        expected_revision: int,
        by: str,
        now: float,
        secrets: Secrets | None = None,
        what: str = "inventory changed",
        tested: Mapping[str, Mark] | None = None,
        renamed: Mapping[str, str] | None = None,
        reason: str = "",
    ) -> int:
        """Makes exactly these profiles and rules the inventory, in one transaction; writes an audit row `what` with
        every difference, before and after, secrets masked; returns the new revision (the old one if nothing changed).
        RevisionConflict if another change came first. A profile whose document and secrets did not change keeps its
        revision, another gets the new one.

        `secrets`: what `{ set = true }` stands for: a text, which is encrypted, or a stored secret (of a profile
        that is renamed). Where nothing is given, what the profile of that name has. SecretKeyUnusable if a text
        cannot be encrypted, or only with a key that does not fit the secrets that stay. `tested`: marks by name
        (`name_key`); where none is given `profile_mark.mark_after` says which. `renamed`: new names by the old ones,
        both as spelt. The audit row has `forced`, reasons by profile, of the marks by force, and `reason`: why it
        was changed, where somebody has told."""

    def mark(self, name: str, was: Mark | None, mark: Mark) -> bool:
        """Marks a profile as tested without any change of the inventory or its revision; False, and nothing done, if
        its mark is not `was` any more or there is no such profile."""

    def drain(self, drain: Drain) -> Drain | None:
        """Leaves a server of a profile out from now on (`drain.at`), in place of what was there, which is returned if
        it had not ended. One transaction with its audit row; a new revision of the inventory and of no profile.
        Nothing is changed if it repeats what was there (`Drain.repeats`).
        NoSuchServer if no profile of exactly that name has it."""

    def undrain(self, profile: str, server: str, *, by: str, now: float) -> Drain | None:
        """Takes a drain back, likewise; None, and nothing changed, if there is none."""

    def rotate_secrets(self, *, by: str, now: float) -> Rotated:
        """All stored secrets under a new key. Raises SecretUnreadable with nothing changed."""

    def same_secret(self, stored: Secret, text: str) -> bool:
        """Whether that text is what is stored, compared in constant time; False if that cannot be read."""

    def audit(
        self, limit: int, before: int | None, wanted: "AuditFilter | None" = None
    ) -> list[Mapping[str, object]]:
        """Newest first, those with an id below `before`: {id, at, by, what, detail}."""

    def audit_row(self, number: int) -> Mapping[str, object] | None: ...

    def forget_audit(self, before: float, most: int) -> int:
        """Removes audit rows from before that moment, `most` of them at most, oldest first; returns how many."""

    def note(self, *, by: str, what: str, detail: Mapping[str, object], now: float) -> None:
        """Writes an audit row for something that changes nothing; `detail` is JSON without secrets."""


class NoSuchServer(LookupError):
    """The profile is gone, or has no such server."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """All given must match; texts are parts, case ignored."""

    by: str = ""
    what: str = ""
    about: str = ""
    """Part of `detail`: the name of a rule, a user, a setting."""
    since: float | None = None
    until: float | None = None


class RevisionConflict(Exception):
    """The inventory changed since it was read."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret."""

    id: str
    name: str
    role: str
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in to the console; the password is stored as a hash and never given."""

    name: str
    role: str
    created_at: float


class NameTaken(Exception):
    """Another user has that name, case ignored."""


class UserChanged(Exception):
    """The user is gone, or not as it was read."""


class LastAdministrator(Exception):
    """Without this user nobody could log in as administrator."""


class Accounts(Protocol):
    """API keys and users; only SHA-256 of keys and argon2id of passwords are stored. Every change has its audit row,
    in the same transaction, of `by`, with what was before and after."""

    def create_key(self, *, name: str, role: str, by: str, now: float) -> tuple[Key, str]:
        """The key and its secret (`ph_` + 43 characters), shown once."""

    def keys(self) -> list[Key]: ...

    def revoke_key(self, key_id: str, *, by: str, now: float) -> Key | None:
        """The key as it is then; None if there is none of that id in force."""

    def authenticate(self, secret: str) -> Key | None: ...

    def users(self) -> list[User]:
        """By name, case ignored."""

    def add_user(self, *, name: str, role: str, password: str, by: str, now: float) -> User:
        """Raises NameTaken."""

    def change_user(self, old: User, *, name: str, role: str, by: str, now: float) -> User:
        """Another name or role. Raises UserChanged, NameTaken, and LastAdministrator if no other user is one."""

    def set_password(self, name: str, password: str, *, by: str, now: float) -> bool:
        """False if there is no such user."""

    def remove_user(self, old: User, *, by: str, now: float, last_too: bool = False) -> None:
        """Raises UserChanged and, unless `last_too`, LastAdministrator if no other user is one."""

    def verify_user(self, name: str, password: str) -> User | None:
        """The user of that name, case ignored, if that is the password; takes as long where there is none."""


@dataclass(frozen=True, slots=True)
class CommandProgress:
    """How far a command got: reported by `reported` of `expected` live workers."""

    expected: int
    reported: int
    recipients: int
    mails: tuple[MailId, ...]


@dataclass(frozen=True, slots=True)
class WorkerState:
    """Live row of a worker: written at most once a second when it changed, and every 5 s as a heartbeat."""

    worker: str
    """The owner: see `core.owner`."""
    at: float
    facts: Mapping[str, object]
    """JSON: {"sessions": n, "memory_mails": n, "received": n, "relayed": n, "inventory_revision": n, "pid": n}"""


@dataclass(frozen=True, slots=True)
class ServerState:
    """Live row of one server of a profile as one worker sees it: written at most once a second when it changed."""

    worker: str
    profile: str
    server: str
    """Canonical specification."""
    at: float
    """Epoch seconds when it was written, as all times of the facts."""
    facts: Mapping[str, object]
    """JSON: {"endpoint": circuit, "identity": circuit, "login_locked_until": t, "not_now": text, "in_use": n,
    "limit": n, "ceiling": n, "relayed": n, "served_at": t, "last_fault": text, "last_fault_at": t,
    "last_errors": [{"at": t, "stage": text, "text": text, "times": n}], "times": {"connect": samples by bucket of
    core.histogram, "tls": ..., "transaction": ...}, "certificate": {"names": text, "expires_at": t} or null,
    "pool": {"idle": n, "fresh": n, "reused": n, "stale": n, "opened": n, "tls": n, "tls_saved": n}}; a circuit is
    {"phase": text, "reason": text, "since": t, "next_probe": t, "faults": n}. docs/operations.md has the meanings."""


@dataclass(frozen=True, slots=True)
class ServerRows:
    """What a worker has to write of its servers."""

    rows: tuple[ServerState, ...] = ()
    all: bool = False
    """The worker has no others: what else stands in its name goes."""


class Commands(Protocol):
    """Rows by which the console steers workers, and live rows of the workers."""

    def submit(self, command: QueueCommand, now: float) -> int:
        """Stores the command (its `id` is ignored) and returns its id. Passwords in it are stored sealed; raises
        SecretKeyUnusable if they cannot be."""

    def pending(self, worker: str, since: float) -> list[QueueCommand]:
        """Commands younger than `since` that this worker has not reported on, oldest first. Cheap."""

    def report(self, worker: str, command_id: int, acted: Acted, now: float) -> None: ...

    def progress(self, command_id: int, now: float) -> CommandProgress:
        """`expected` counts workers whose heartbeat is younger than 15 s."""

    def begin(self, start: Start) -> None:
        """Before the first worker of this start: the live rows of the node's earlier starts go."""

    def heartbeat(self, state: WorkerState, servers: ServerRows = ServerRows()) -> None:
        """The worker's live row and those of its servers, in one commit."""

    def workers(self, now: float) -> list[WorkerState]:
        """Those of all nodes with a heartbeat younger than 15 s."""

    def server_states(self, now: float) -> list[ServerState]:
        """Rows of workers with a heartbeat younger than 15 s, by profile, server and worker."""


@dataclass(frozen=True, slots=True)
class MailQuery:
    """Filter of Email history; all given must match. Text filters are case-insensitive substrings."""

    sender: str = ""
    recipient: str = ""
    subject: str = ""
    status: str = ""
    """queued (= active or queued), held, relayed, failed, deleted, quarantined, discarded, rejected; a mail matches
    if one recipient has it."""
    rule: str = ""
    since: float | None = None
    until: float | None = None
    limit: int = 50
    before: str = ""
    """Cursor: only mails with an id below it (ids sort by time); newest first."""
    verdict: str = ""
    """`core.scan.Verdict`: the strictest of all scans of the mail."""


@dataclass(frozen=True, slots=True)
class KeptQuery:
    """Filter of the quarantine and of failed emails; all given must match. Text filters are case-insensitive
    substrings, but for `rule` and `cause`."""

    sender: str = ""
    recipient: str = ""
    subject: str = ""
    rule: str = ""
    """Of the quarantine row; of failed emails, of a recipient that FAILED."""
    cause: str = ""
    """Of the quarantine row: `core.scan.Verdict`."""
    since: float | None = None
    """Kept since then, or later; epoch seconds."""
    until: float | None = None
    pinned: bool | None = None
    """Of the quarantine row; None: either."""
    limit: int = 50
    before: str = ""
    """Cursor: only mails with an id below it; newest first."""


class History(Protocol):
    """Reads mails, recipients, attempts and trail; on SQLite it opens every worker's file and merges.

    Rows come as JSON-able dicts whose keys are the column names of storage/schema.py, with
    `status` (the summary over its recipients) added to each mail.
    """

    def search(self, query: MailQuery) -> list[Mapping[str, object]]:
        """Mails without content; each with `recipients`: [{seq, address, state, rule, profile, due_at, tries,
        detail}] (at most 20 of them, `recipient_count` has all), and `verdict`: the strictest of its scans, empty if
        it has not been scanned."""

    def mail(self, mail_id: str) -> Mapping[str, object] | None:
        """One mail whole: session, recipients, attempts, trail, contents (kind and size only), verdict, scans,
        uploads, and `quarantine`: its row, or None."""

    def quarantined(self, query: KeptQuery) -> list[Mapping[str, object]]:
        """Mails in quarantine, as those of `search`, each with `quarantine`: its row."""

    def failed(self, query: KeptQuery) -> list[Mapping[str, object]]:
        """Failed emails whose content is kept, as those of `search`; `cause` and `pinned` are not asked."""

    def kept_content(self, mail_id: str, version: int | None = None) -> Iterator[bytes] | None:
        """A version of the content in wire form, unsealed, in pieces of at most 256 KiB; version None: what is
        sealed, for the quarantine, else the mail as received. None if there is none. Raises SecretUnreadable at once,
        and ContentUnreadable from the iterator too: what has come until then is not whole."""

    def past_mails(self, limit: int, before: str = "") -> list[PastMail]:
        """What the policy was asked with for received mails (own mail is left out), newest first, all recipients of
        each; only mails with an id below `before`."""

    def queue(self) -> list[Mapping[str, object]]:
        """Per profile: {profile, queued, held, oldest_at, next_due}."""
