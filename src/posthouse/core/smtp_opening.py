"""How an SMTP client opens a session: greeting, EHLO, STARTTLS, EHLO again, AUTH. Without I/O.

| Phase | Reply | What follows |
| --- | --- | --- |
| greeting | 2yz / else | EHLO / refused |
| EHLO | 2yz | STARTTLS if wanted and offered, else AUTH if there is a login, else open |
| EHLO | 5yz | HELO, once and not under a login or required TLS |
| STARTTLS | 220 / else | the handshake, then EHLO anew / clear text where that is allowed, else refused |
| AUTH | 334, 235 / else | further lines, open / refused |

Required never goes on in clear text; a login never leaves without TLS unless the profile allows it, and mail never
goes unauthenticated instead. What was announced before the handshake counts for nothing after it.
Standards: RFC 5321 sections 3.1, 3.2; RFC 3207; RFC 4954, 4616; design sections 2.6, 2.7.
"""

from base64 import b64encode
from dataclasses import dataclass, field, replace
from enum import Enum

from posthouse.core.outcome import Stage
from posthouse.core.profile import Tls
from posthouse.core.smtp_command import Capabilities, read_capabilities
from posthouse.core.smtp_reply import Reply

NOT_OFFERED = "the server does not offer STARTTLS, and clear text is not allowed here"
NOT_TLS = "the server does not speak TLS here"
NO_AUTH = "the server does not offer AUTH PLAIN or LOGIN, and mail is not sent without the login"
NO_TLS_FOR_LOGIN = "the login is not sent in clear text: use TLS, or set allow_plaintext_auth"
_MASK = "***"


class Phase(Enum):
    """Where a connection to a next hop stands."""

    HANDSHAKE = "TLS handshake"
    """The shell secures the connection and says `secured`, or `tls_failed`."""
    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    IDLE = "idle"
    """No transaction open, no reply outstanding: fit for the next transaction."""
    ENVELOPE = "envelope"
    CONTENT = "content"
    """The shell writes prefix and content; the final dot has not left."""
    FINAL = "final dot"
    SETTLING = "settling"
    """The answer is out; a lone dot or RSET brings the connection back to IDLE."""
    UNFIT = "unfit"
    """Only to be closed."""


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password for one server."""

    username: str
    password: str = field(repr=False)
    plaintext: bool = False
    """They may be sent without TLS."""


@dataclass(frozen=True, slots=True)
class Security:
    """What a session needs before its first mail."""

    tls: Tls = Tls.NONE
    implicit: bool = False
    """TLS from the first octet; `tls` is irrelevant then."""
    clear_allowed: bool = True
    """With STARTTLS optional: clear text will do where TLS cannot be had."""
    login: Login | None = None
    downgraded: bool = False
    """Clear text is used because a handshake failed."""


@dataclass(frozen=True, slots=True)
class Say:
    """A line to write, and what the transcript shows of it."""

    line: bytes
    shown: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The session cannot be opened: the server's fault, by its reply or by what it lacks."""

    stage: Stage
    reply: Reply | None = None
    why: str = ""


class Next(Enum):
    """What else may follow a reply."""

    HANDSHAKE = "handshake"
    OPEN = "open"


Move = Say | Refused | Next


class Opening:
    """One opening; `phase` is what is awaited."""

    __slots__ = (
        "_awaiting",
        "_hostname",
        "_security",
        "_tls_tried",
        "capabilities",
        "downgraded",
        "greeted",
        "logged_in",
        "phase",
        "under_tls",
    )

    def __init__(self, hostname: str, security: Security) -> None:
        self._hostname = hostname
        self._security = security
        self._tls_tried = False
        self._awaiting: list[bytes] = []
        """Lines of AUTH LOGIN still to be asked for."""
        self.phase = Phase.HANDSHAKE if security.implicit else Phase.GREETING
        self.capabilities = Capabilities()
        self.greeted = False
        self.under_tls = False
        self.logged_in = ""
        """The user name, once AUTH has succeeded."""
        self.downgraded = security.downgraded
        """Clear text is used although the server offered STARTTLS."""

    def secured(self) -> Move | None:
        """The handshake succeeded; with implicit TLS the greeting is awaited."""
        self.under_tls = True
        self.capabilities = Capabilities()
        if self.greeted:
            return self._hello("EHLO", Phase.EHLO)
        self.phase = Phase.GREETING
        return None

    def take(self, reply: Reply) -> Move:
        """The reply to what was said last."""
        match self.phase:
            case Phase.GREETING:
                if reply.code >= 300:
                    return Refused(Stage.GREETING, reply)
                self.greeted = True
                return self._hello("EHLO", Phase.EHLO)
            case Phase.EHLO | Phase.HELO:
                return self._on_hello(reply)
            case Phase.STARTTLS:
                return self._on_starttls(reply)
            case Phase.AUTH:
                return self._on_auth(reply)
            case _:
                raise ValueError(f"no reply is awaited in phase {self.phase}")

    def masked(self, reply: Reply) -> Reply:
        """A reply at AUTH without what it may repeat of the login."""
        login = self._security.login
        if self.phase is not Phase.AUTH or login is None:
            return reply
        secrets = [login.password, _base64(login.password).decode(), _plain(login).decode()]
        lines = reply.lines
        for secret in filter(None, secrets):
            lines = tuple([line.replace(secret, _MASK) for line in lines])
        return reply if lines == reply.lines else replace(reply, lines=lines)

    def _hello(self, verb: str, phase: Phase) -> Say:
        self.phase = phase
        line = f"{verb} {self._hostname}"
        return Say(line.encode() + b"\r\n", line)

    def _on_hello(self, reply: Reply) -> Move:
        if reply.code >= 300:
            if self.phase is Phase.EHLO and reply.code >= 500:
                return self._hello("HELO", Phase.HELO)
            return Refused(Stage.EHLO, reply)
        if self.phase is Phase.EHLO:
            self.capabilities = read_capabilities(reply)
        if self._security.tls is not Tls.NONE and not self.under_tls and not self._tls_tried:
            if self.capabilities.starttls:
                self._tls_tried = True
                self.phase = Phase.STARTTLS
                return Say(b"STARTTLS\r\n", "STARTTLS")
            if not self._security.clear_allowed:
                return Refused(Stage.STARTTLS, None, NOT_OFFERED)
        return self._log_in()

    def _on_starttls(self, reply: Reply) -> Move:
        if reply.code == 220:
            self.phase = Phase.HANDSHAKE
            return Next.HANDSHAKE
        if reply.code == 421 or not self._security.clear_allowed:
            return Refused(Stage.STARTTLS, reply)
        self.downgraded = True
        return self._log_in()

    # --- AUTH ----------------------------------------------------------------------------------------------

    def _log_in(self) -> Move:
        login = self._security.login
        if login is None:
            return Next.OPEN
        if not (self.under_tls or login.plaintext):
            return Refused(Stage.AUTH, None, NO_TLS_FOR_LOGIN)
        self.phase = Phase.AUTH
        if "PLAIN" in self.capabilities.auth:
            return Say(b"AUTH PLAIN " + _plain(login) + b"\r\n", f"AUTH PLAIN {_MASK}")
        if "LOGIN" in self.capabilities.auth:
            self._awaiting = [_base64(login.username), _base64(login.password)]
            return Say(b"AUTH LOGIN\r\n", "AUTH LOGIN")
        return Refused(Stage.AUTH, None, NO_AUTH)

    def _on_auth(self, reply: Reply) -> Move:
        if reply.code == 334 and self._awaiting:
            return Say(self._awaiting.pop(0) + b"\r\n", _MASK)
        if reply.code == 235:
            assert self._security.login is not None
            self.logged_in = self._security.login.username
            return Next.OPEN
        return Refused(Stage.AUTH, reply)


def _plain(login: Login) -> bytes:
    """RFC 4616: authorization identity (none), user name, password."""
    return _base64(f"\0{login.username}\0{login.password}")


def _base64(text: str) -> bytes:
    return b64encode(text.encode())
