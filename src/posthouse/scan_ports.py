"""What the flow asks of the outside when a mail is scanned: protocols, no implementation.

`app.py` alone joins these to the adapters in `clients` and `storage`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from posthouse.core.examination import Edit, Examination, ExaminationLimits, Item
from posthouse.core.mail import Content
from posthouse.core.profile import ServerProfile
from posthouse.core.scan import Failure, Found
from posthouse.ports import ContentSink


class Octets(Protocol):
    """Octets of some length that can be read more than once, piece by piece."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> Iterator[bytes | memoryview]:
        """At most 256 KiB each. Raises ContentUnreadable of ports."""


# --- The examiner: reads hostile octets in a process of its own ------------------------------------------


class ExaminationFailed(Exception):
    """The examiner ended, or took more time or memory than it may, over this mail; the text is one sentence."""


class ExaminerUnavailable(Exception):
    """No examiner could be had: no fault of the mail; to be tried again later."""


@dataclass(frozen=True, slots=True)
class NewContent:
    """What `ContentSink.close` asks of a content that edits have made."""

    size: int
    """Octets unstuffed, without the final dot."""
    header: bytes
    """As `ports.ReceivedContent.header`."""


class Examined(Protocol):
    """What an examination gave. Its places lie in the version of the content that was examined, counted without its
    cuts: `octets` reads them so."""

    @property
    def examination(self) -> Examination: ...

    def octets(self, item: Item) -> Octets:
        """To be read before `close`; then ContentUnreadable, unless they are octets of the mail itself."""

    async def edit(self, edits: Sequence[Edit], files: Sequence[Octets], sink: ContentSink) -> NewContent:
        """Carries out the edits, in their order, and writes the new content in wire form, final dot included, into
        the sink, which the caller closes or releases. `files` are what the numbers in edits mean. Works after `close`
        too, as long as the content is there. Raises CannotEdit, ExaminationFailed, ExaminerUnavailable,
        ContentUnreadable and, from the sink, OSError."""

    def close(self) -> None:
        """Gives back files and memory. Safe to call twice."""


class Examiner(Protocol):
    """A pool of processes with limits of memory and time; one poison mail costs one process."""

    async def examine(self, content: Content, limits: ExaminationLimits) -> Examined:
        """Of one version of a content, what it cuts left out. Raises ExaminationFailed, ExaminerUnavailable,
        ContentUnreadable."""

    async def close(self) -> None:
        """Ends all processes; whoever still waits gets ExaminerUnavailable."""


class MailReader(Protocol):
    """Reads kept mail for people, by an examiner."""

    async def read(self, pieces: Iterator[bytes], limits: ExaminationLimits) -> Examined:
        """Of a content in wire form, whose pieces are taken in a thread. What is read of it is in memory only. Raises
        what the pieces raise, and as `Examiner.examine`."""

    async def close(self) -> None:
        """As `Examiner.close`."""


class NoReader:
    """MailReader where there is none."""

    async def read(self, pieces: Iterator[bytes], limits: ExaminationLimits) -> Examined:
        raise ExaminerUnavailable("this process reads no mail")

    async def close(self) -> None:
        return None


# --- Scanners --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScanOrder:
    """What a rule asks of a scanner beside the octets."""

    mail: str
    """Mail id; MetaDefender Core gets it as `user-data` of the batch."""
    sanitize: bool = False
    core_rule: str = ""
    """Name of the rule (workflow) of MetaDefender Core; empty: Core chooses."""
    passwords: tuple[str, ...] = ()
    """Tried on encrypted archives."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """For MetaDefender Core: sender, recipients' rule, subject."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One item to be scanned, with its octets."""

    number: int
    item: Item
    octets: Octets


@dataclass(frozen=True, slots=True)
class Scanned:
    """What was found in one item."""

    found: Found
    sanitized: Octets | None = None
    """If SANITIZED: what takes the place of the item's octets. Its file ends with the last reference."""
    sanitized_name: str = ""


@dataclass(frozen=True, slots=True)
class ScanAnswer:
    """What one server said. Items without a result were not scanned there: the next server is asked for them."""

    results: Mapping[int, Scanned]
    """By number."""
    fault: str = ""
    """The server's, one sentence; empty if it answered for all."""
    failure: Failure | None = None
    """What kind of fault: UNREACHABLE, BUSY and TIMEOUT go on to the next server, CONFIGURATION does not."""
    batch_id: str = ""
    """MetaDefender Core's."""
    seconds: float = 0.0


Progress = Callable[[int, Scanned], None]
"""Told of each result as it comes."""


class Scanner(Protocol):
    """Speaks to the servers of one service type."""

    async def scan(
        self, profile: ServerProfile, server: str, order: ScanOrder, items: Sequence[Asked], seconds: float
    ) -> ScanAnswer:
        """All items at one server of the profile (canonical text), within `seconds`. Never raises for anything the
        network does; cancelled, it leaves nothing open."""

    async def probe(self, profile: ServerProfile, server: str, seconds: float) -> str:
        """Empty if the server answers, else its fault in one sentence. Sends no octets of a mail."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one item, and where it is from."""

    scanned: Scanned
    server: str = ""
    """Canonical text; empty if no server gave it."""
    batch_id: str = ""
    """Empty for what is cached, too."""


@dataclass(frozen=True, slots=True)
class ScanAttempt:
    """One server of the walk over a profile's servers, for the trail."""

    server: str
    passed_over: str = ""
    """Why it was not asked."""
    fault: str = ""
    failure: Failure | None = None
    batch_id: str = ""
    results: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ProfileOutcome:
    """What the servers of one scan profile said of a mail."""

    results: Mapping[int, ItemResult]
    """By number, for every item."""
    attempts: tuple[ScanAttempt, ...] = ()
    """In their order; none if everything was cached."""
    seconds: float = 0.0
    failure: Failure | None = None
    """Why items have no result of a server; None if all have one."""
    fault: str = ""
    """In one sentence."""


class ScanProfiles(Protocol):
    """Scan profiles with their servers: preference, circuits, results of equal content (`mailflow.scanners`)."""

    async def scan(
        self, profile: ServerProfile, order: ScanOrder, items: Sequence[Asked], seconds: float
    ) -> ProfileOutcome:
        """Never raises for anything the network does."""

    def admits(self, profile: ServerProfile) -> bool:
        """One of its servers may be asked now."""


# --- Vaults ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToUpload:
    """One attachment for a vault."""

    name: str
    octets: Octets
    md5: str = ""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Where the vault keeps it."""

    file_id: str
    url: str
    """As the vault tells it; the profile's `public_url` does not change it."""


class UploadFailed(Exception):
    """The text is one sentence. `again`: later it may go well; else an administrator has to mend something."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


class Vault(Protocol):
    """Takes attachments: one transfer for one mail and rule, all or nothing."""

    async def upload(
        self, profile: ServerProfile, group: str, files: Sequence[ToUpload], expires_days: int, seconds: float
    ) -> tuple[Uploaded, ...]:
        """`group`: UUID of the transfer, the client's choice; what an earlier try with another group has left is
        never visible. Raises UploadFailed."""

    async def close(self) -> None: ...
