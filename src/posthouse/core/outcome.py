"""What one addressing of one server yielded: the vocabulary between clients and flow.

The table that turns replies into these values is `core/reply.py` (design section 3).
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

from posthouse.core.envelope import Body, Recipient
from posthouse.core.mail import Content
from posthouse.core.way import WayFacts


class Result(StrEnum):
    """The fate of one recipient at one server (design section 3)."""

    RELAYED = "relayed"
    SERVER_FAULT = "server-fault"
    """Next server in the order; counts toward a circuit; never a DSN at once."""
    TRANSIENT = "transient"
    """Message's transient fault (4yz to MAIL, DATA, final dot): next server in the same attempt."""
    LATER = "later"
    """4yz to RCPT: this recipient waits for the retry schedule."""
    AGAIN = "again"
    """452/552 to RCPT after an accepted one: a further transaction at once at the same server."""
    PERMANENT = "permanent"
    """Ends the walk for this recipient: DSN."""
    THROTTLED = "throttled"
    """The server works and wants less of us: next server in the same attempt; a wait after it uses up no try."""
    WAITS = "waits"
    """No server may be addressed at present: uses up no try."""
    UNCERTAIN = "uncertain"
    """Lost after the final dot and before its reply: possible duplicate."""


class Stage(Enum):
    """Where in the dialogue something happened."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    TLS = "TLS handshake"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    FINAL_DOT = "final dot"
    RSET = "RSET"


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """Result for one recipient, with the reply (or fault) as text."""

    result: Result
    reply: str
    """`550 5.1.1 no such user`, or a sentence when no reply came (`connection refused`)."""
    status: str = ""
    """RFC 3463 code for the DSN, such as 5.1.1; taken from the reply or fitting its class."""
    stage: Stage = Stage.CONNECT


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one server is asked to take."""

    reverse_path: str
    recipients: tuple[Recipient, ...]
    prefix: bytes
    """Written before the content: our trace fields."""
    content: Content
    size: int
    """Octets as RFC 1870 counts them, `prefix` included."""
    body: Body
    smtputf8: bool
    ret: str
    envid: str


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found out."""

    fault: str = ""
    """Why the server cannot be used, one sentence; empty if it can."""
    blame: bool = True
    """The fault is the server's, not one of this node (no local port, an unreadable password)."""


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What addressing one server yielded."""

    recipients: tuple[RecipientResult, ...]
    """In the order of `Transaction.recipients`."""
    fault: str = ""
    """Why the server is at fault, one sentence; empty when it did its service."""
    dsn_offered: bool = False
    """The server announced DSN, so SUCCESS notices are its task (RFC 3461 section 5.2)."""
    transcript: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    greeted: bool = False
    """The server got as far as a 220 greeting."""
    mail_accepted: bool = False
    """MAIL got 2yz. A fault before that on a reused connection says only that it had gone stale."""
    way: WayFacts | None = None
    """The connection; None if there was none."""
    mail_number: int = 0
    """Which mail on that connection it was, from 1; 0 without connection."""
