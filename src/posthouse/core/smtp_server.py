"""The SMTP server's side of a session, sans I/O: octets in, events and replies out.

States, and what each command does (RFC 5321 section 4.1.4; `-` = 503 out of sequence):

| state | EHLO, HELO | MAIL | RCPT | DATA | BDAT | RSET | leaves by |
|---|---|---|---|---|---|---|---|
| UNGREETED: before our 220 | input is early talk: 554, CLOSED | | | | | | `greet()` |
| IDLE: no name given, or no transaction | IDLE, named | named: MAIL | - | - | - | IDLE | |
| MAIL: reverse-path taken | IDLE, named | - | RCPT | 554 | 503, octets discarded | IDLE | |
| RCPT: a forward-path taken | IDLE, named | - | RCPT | DATA | BDAT | IDLE | |
| BDAT: between two BDAT commands | IDLE, named | - | - | - | BDAT | IDLE | |
| DATA, BDAT content: octets are content | | | | | | | end of content: IDLE |
| DISCARD: octets of a refused BDAT | | | | | | | its last octet |
| TLS: 220 to STARTTLS given | input: CLOSED, no reply | | | | | | the shell begins a new session |
| CLOSED: input is ignored | | | | | | | |

NOOP, VRFY, HELP and QUIT are answered in every command state. `next_event` hands out what needs a decision and
then takes no further command until `reply` answers it: `reply(None)` means yes. Events that need no answer are
ContentOctets, ContentAborted and Closed. Input that comes meanwhile is kept; `backlog` says how much, so that the
shell can stop reading. Replies gather until `data_to_send` is called.

Lines end in CRLF: a bare LF ends the session (500), since an LF-only client would wait for ever and whatever
follows it might be smuggled; a bare CR is a syntax error. What is plainly not SMTP is dropped at first sight.

Standards: RFC 5321; 1870; 2034; 2920; 3030; 3207; 3461; 6152; 6531. Never offered: BINARYMIME, AUTH.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from posthouse.core.envelope import (
    Envelope,
    MailArguments,
    Recipient,
    XclientAttributes,
    is_helo,
    parse_mail,
    parse_rcpt,
    parse_xclient,
    too_big,
)
from posthouse.core.limits import Limits
from posthouse.core.smtp_data import BdatReader, DataReader, Newlines
from posthouse.core.smtp_reply import Reply, reply


@dataclass(frozen=True, slots=True)
class Offers:
    """What this session offers."""

    starttls: bool = False
    """STARTTLS is to be had; never when `tls_active`."""
    tls_active: bool = False
    tls_required: bool = False
    """Nothing but EHLO, HELO, NOOP, QUIT and STARTTLS before TLS."""
    xclient: bool = False
    """The peer may name the real client."""
    max_size: int = 50 * 1024 * 1024
    """Octets of a content, as RFC 1870 counts."""
    newlines: Newlines = Newlines.REFUSE


@dataclass(frozen=True, slots=True)
class MailOffered:
    """MAIL, grammatical. Answer: None or a refusal."""

    reverse_path: str
    declared_size: int


@dataclass(frozen=True, slots=True)
class RecipientOffered:
    """RCPT, grammatical. Answer: None or a refusal."""

    reverse_path: str
    address: str


@dataclass(frozen=True, slots=True)
class ContentStarted:
    """DATA or the first BDAT: a place for content is wanted. Answer: None or a refusal."""


@dataclass(frozen=True, slots=True)
class ContentOctets:
    """A piece of content in wire form."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ContentAborted:
    """What was handed out of this content is void."""


@dataclass(frozen=True, slots=True)
class ContentEnded:
    """The content is whole. Answer: the reply to the final dot."""

    envelope: Envelope
    size: int
    header: bytes
    normalised: int


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS. Answer: None; then write `data_to_send`, do the handshake, begin a new session."""


@dataclass(frozen=True, slots=True)
class XclientGiven:
    """The peer names the real client. Answer: None or a refusal."""

    attributes: XclientAttributes


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over: write `data_to_send` and close the connection."""


Event = (
    MailOffered
    | RecipientOffered
    | ContentStarted
    | ContentOctets
    | ContentAborted
    | ContentEnded
    | StartTls
    | XclientGiven
    | Closed
)


class State(Enum):
    """See the table above."""

    UNGREETED = "ungreeted"
    IDLE = "idle"
    MAIL = "MAIL"
    RCPT = "RCPT"
    BDAT = "BDAT"
    DATA_CONTENT = "content of DATA"
    BDAT_CONTENT = "content of BDAT"
    DISCARD = "discard"
    TLS = "TLS"
    CLOSED = "closed"


_OK = b"250 2.0.0 Ok\r\n"
_MAIL_OK = b"250 2.1.0 Sender ok\r\n"
_RCPT_OK = b"250 2.1.5 Recipient ok\r\n"
_GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
_TLS_READY = b"220 2.0.0 Ready to start TLS\r\n"

EARLY_TALK = reply(554, "5.5.1", "Talking before the greeting")
SHUTTING_DOWN = reply(421, "4.3.2", "Service is closing, try again")
TIMED_OUT = reply(421, "4.4.2", "Timeout, closing connection")
_TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors")
_TOO_MANY_IDLE = reply(421, "4.7.0", "Too many commands without a mail")
_NOT_SMTP = reply(554, "5.5.0", "This is an SMTP server")
_BARE_LF = reply(500, "5.5.2", "Lines end in CRLF, closing connection")
_BARE_CR = reply(500, "5.5.2", "Bare CR in command")
_LINE_TOO_LONG = reply(500, "5.5.6", "Line too long")
_UNKNOWN = reply(500, "5.5.1", "Command not recognised")
_NOT_IMPLEMENTED = reply(502, "5.5.1", "Command not implemented")
_NO_ARGUMENT = reply(501, "5.5.4", "No argument allowed")
_HELO_SYNTAX = reply(501, "5.5.4", "Syntax: EHLO domain or address literal")
_HELO_FIRST = reply(503, "5.5.1", "Send EHLO first")
_NESTED_MAIL = reply(503, "5.5.1", "A mail transaction is open already")
_MAIL_FIRST = reply(503, "5.5.1", "Send MAIL first")
_NO_RECIPIENTS = reply(554, "5.5.1", "No valid recipients")
_BDAT_OPEN = reply(503, "5.5.1", "Content has begun with BDAT")
_BDAT_SYNTAX = reply(501, "5.5.4", "Syntax: BDAT octets [LAST]")
_TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients")
_TLS_FIRST = reply(530, "5.7.0", "Must issue a STARTTLS command first")
_TLS_ACTIVE = reply(503, "5.5.1", "TLS is active already")
_XCLIENT_REFUSED = reply(550, "5.7.0", "XCLIENT is not for you")
_CANNOT_VERIFY = reply(252, "2.5.0", "Cannot verify, but will take the mail if it may pass")
_HELP = reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT (RFC 5321)")
_UNSUPPORTED = frozenset({b"AUTH", b"EXPN", b"TURN", b"ETRN", b"ATRN", b"SEND", b"SOML", b"SAML"})
_WITHOUT_TLS = frozenset({b"EHLO", b"HELO", b"NOOP", b"QUIT", b"STARTTLS"})
_FOREIGN = re.compile(rb"(?:CONNECT|GET|POST|PUT|HEAD|OPTIONS|DELETE|TRACE|PATCH|PRI) |\x16\x03|[A-Za-z][A-Za-z0-9-]*:")
"""HTTP requests, a TLS hello, header fields: a browser or a mail body whose DATA was refused."""
_BDAT_SIZE = re.compile(rb"([0-9]{1,18})( LAST)?", re.IGNORECASE)


class ServerSession:
    """One session from greeting to end, or from the end of the TLS handshake on. Mutable, for speed."""

    __slots__ = (
        "_draining",
        "_errors",
        "_esmtp",
        "_hostname",
        "_idle_commands",
        "_input",
        "_limits",
        "_mail",
        "_offers",
        "_out",
        "_overlong",
        "_pending",
        "_position",
        "_reader",
        "_recipients",
        "_refusal",
        "_sink_open",
        "_told_closed",
        "helo",
        "state",
    )

    def __init__(self, hostname: str, limits: Limits, offers: Offers, *, greeted: bool = False) -> None:
        self._hostname = hostname
        self._limits = limits
        self._offers = offers
        self.state = State.IDLE if greeted else State.UNGREETED
        self.helo = ""
        self._esmtp = False
        self._input = b""
        self._position = 0
        self._out: list[bytes] = []
        self._pending: Event | Recipient | MailArguments | None = None
        """What waits for `reply`: the parsed arguments for MAIL and RCPT, else the event."""
        self._mail: MailArguments | None = None
        self._recipients: list[Recipient] = []
        self._reader: DataReader | BdatReader | None = None
        self._sink_open = False
        """Content octets may have been handed out that are neither ended nor aborted."""
        self._refusal: Reply | None = None
        """Of a BDAT whose octets are discarded."""
        self._errors = 0
        self._idle_commands = 0
        self._overlong = 0
        """Octets of an overlong line thrown away so far."""
        self._draining = False
        self._told_closed = False

    # --- what the shell sees -----------------------------------------------------------------------------

    @property
    def protocol(self) -> str:
        """RFC 3848 and RFC 6531 keyword for Received."""
        if not self._esmtp:
            return "SMTP"
        secure = "S" if self._offers.tls_active else ""
        return f"UTF8SMTP{secure}" if self._mail is not None and self._mail.smtputf8 else f"ESMTP{secure}"

    @property
    def backlog(self) -> int:
        """Octets of input not looked at yet."""
        return len(self._input) - self._position

    @property
    def in_content(self) -> bool:
        """Octets are content now: the deadlines of content hold."""
        return self.state is State.DATA_CONTENT or self.state is State.BDAT_CONTENT or self.state is State.DISCARD

    @property
    def answering(self) -> bool:
        """We owe the client a reply, so it is not the client who lets us wait."""
        return self._pending is not None

    @property
    def mail_arguments(self) -> MailArguments | None:
        """Of the open transaction, or of the MAIL or content being decided on."""
        return self._mail

    def greet(self) -> None:
        """Our 220, unless the client talked first."""
        if self.state is State.UNGREETED:
            if self._input:
                self.close(EARLY_TALK)
            else:
                self.state = State.IDLE
                self._out.append(f"220 {self._hostname} ESMTP\r\n".encode())

    def receive(self, data: bytes) -> None:
        """Octets from the client."""
        if self.state is State.CLOSED:
            return
        if self._position < len(self._input):
            self._input = self._input[self._position :] + data
        else:
            self._input = data
        self._position = 0

    def data_to_send(self) -> bytes:
        """The replies gathered since the last call."""
        out = self._out
        if not out:
            return b""
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def next_event(self) -> Event | None:
        """The next event; None when more input, or an answer, is needed."""
        while self._pending is None:
            match self.state:
                case State.IDLE | State.MAIL | State.RCPT | State.BDAT:
                    line = self._next_line()
                    if line is None:
                        return self._closed_event() if self.state is State.CLOSED else None
                    event = self._command(line)
                case State.DATA_CONTENT | State.BDAT_CONTENT:
                    if self._position >= len(self._input) and not self._bdat_complete():
                        return None
                    event = self._content()
                case State.DISCARD:
                    if self._position >= len(self._input) and not self._bdat_complete():
                        return None
                    event = self._discard()
                case State.TLS:
                    if self._position >= len(self._input):
                        return None
                    self.state = State.CLOSED  # octets in clear after STARTTLS: injected (CVE-2011-0411)
                    event = None
                case State.CLOSED:
                    return self._closed_event()
                case State.UNGREETED:
                    return None
            if event is not None:
                return event
        return None

    def reply(self, answer: Reply | None) -> None:
        """Answers the event handed out last that needs an answer."""
        pending, self._pending = self._pending, None
        match pending:
            case MailArguments():
                if answer is None:
                    self._mail = pending
                    self._recipients = []
                    self.state = State.MAIL
                    self._out.append(_MAIL_OK)
                else:
                    self._mail = None
                    self._say(answer)
            case Recipient():
                if answer is None:
                    self._recipients.append(pending)
                    self.state = State.RCPT
                    self._out.append(_RCPT_OK)
                else:
                    self._say(answer)
            case ContentStarted():
                self._answer_started(answer)
            case ContentEnded():
                if answer is None:
                    raise ValueError("the final dot needs a reply")
                if answer.code < 400:
                    self._idle_commands = 0
                self._end_transaction()
                self._say(answer)
            case StartTls():
                self._out.append(_TLS_READY)
                self.state = State.TLS
            case XclientGiven(attributes):
                self._answer_xclient(attributes, answer)
            case _:
                raise ValueError("no event waits for an answer")
        if self._draining:
            self.drain()

    def refuse_content(self, fault: Reply) -> None:
        """The content cannot be kept (disk full): read it to its end and answer `fault`. No abort event follows."""
        if self._reader is not None:
            self._reader.refuse(fault)
            self._sink_open = False

    def drain(self) -> None:
        """Ends the session with 421 4.3.2: now if no transaction is open, else when it is over."""
        self._draining = True
        if self.state in (State.IDLE, State.UNGREETED) and self._pending is None:
            self.close(SHUTTING_DOWN)

    def close(self, farewell: Reply) -> None:
        """Ends the session with this reply; what waits for an answer is void."""
        if self.state is not State.CLOSED:
            self._pending = None
            self._out.append(farewell.encode())
            self.state = State.CLOSED

    # --- lines and replies -------------------------------------------------------------------------------

    def _next_line(self) -> bytes | None:
        """The next command line without CRLF; None if there is no whole one, or the session ended over it."""
        data, start = self._input, self._position
        end = data.find(b"\n", start)
        limit = self._limits.command_octets
        if end < 0:
            rest = len(data) - start
            if self._overlong or rest > limit:
                self._overlong += rest
                self._input, self._position = data[-1:], 0
                self._overlong -= 1
                if self._overlong > self._limits.pending_input_octets:
                    self.close(_LINE_TOO_LONG)
            elif _FOREIGN.match(data, start):
                self.close(_NOT_SMTP)
            return None
        self._position = end + 1
        overlong = self._overlong + end + 1 - start
        self._overlong = 0
        if end == start or data[end - 1] != 0x0D:
            self.close(_BARE_LF)
            return None
        if overlong > limit:
            self._say(_LINE_TOO_LONG)
            return None if self.state is State.CLOSED else self._next_line()
        line = data[start : end - 1]
        if b"\r" in line:
            self._say(_BARE_CR)
            return None if self.state is State.CLOSED else self._next_line()
        return line

    def _say(self, answer: Reply) -> None:
        """Gathers a reply; the last of too many errors ends the session."""
        self._out.append(answer.encode())
        if answer.code == 421:
            self.state = State.CLOSED
        elif answer.code >= 500:
            self._errors += 1
            if self._errors >= self._limits.errors:
                self.close(_TOO_MANY_ERRORS)

    def _idle(self, octets: bytes) -> None:
        """Answers a command that brings no mail nearer."""
        self._out.append(octets)
        self._idle_commands += 1
        if self._idle_commands > self._limits.idle_commands:
            self.close(_TOO_MANY_IDLE)

    def _closed_event(self) -> Event | None:
        if self._sink_open:
            self._sink_open = False
            return ContentAborted()
        if self._told_closed:
            return None
        self._told_closed = True
        return Closed()

    def _reset(self) -> Event | None:
        """Forgets the transaction."""
        self._end_transaction()
        return self._abort_sink()

    def _abort_sink(self) -> Event | None:
        if not self._sink_open:
            return None
        self._sink_open = False
        return ContentAborted()

    def _end_transaction(self) -> None:
        self._mail = None
        self._recipients = []
        self._reader = None
        self.state = State.IDLE

    # --- commands ----------------------------------------------------------------------------------------

    def _command(self, line: bytes) -> Event | None:
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        handler = _HANDLERS.get(verb)
        if handler is None:
            if _FOREIGN.match(line):
                self.close(_NOT_SMTP)
            else:
                self._say(_NOT_IMPLEMENTED if verb in _UNSUPPORTED else _UNKNOWN)
            return None
        if self._offers.tls_required and not self._offers.tls_active and verb not in _WITHOUT_TLS:
            if verb == b"BDAT":
                return self._refuse_bdat(argument, _TLS_FIRST)
            self._say(_TLS_FIRST)
            return None
        event = handler(self, argument)
        if self._draining and self._pending is None:
            self.drain()
        return event

    def _ehlo(self, argument: bytes) -> Event | None:
        return self._hello(argument, esmtp=True)

    def _helo(self, argument: bytes) -> Event | None:
        return self._hello(argument, esmtp=False)

    def _hello(self, argument: bytes, *, esmtp: bool) -> Event | None:
        name = argument.decode("latin-1").strip(" ")
        if not is_helo(name):
            self._say(_HELO_SYNTAX)
            return None
        event = self._reset()
        self.helo = name
        self._esmtp = esmtp
        self._idle(_capabilities(self._hostname, self._offers) if esmtp else f"250 {self._hostname}\r\n".encode())
        return event

    def _mail_from(self, argument: bytes) -> Event | None:
        if self.state is not State.IDLE:
            self._say(_NESTED_MAIL)
            return None
        if not self.helo:
            self._say(_HELO_FIRST)
            return None
        parsed = parse_mail(argument, self._offers.max_size)
        if isinstance(parsed, Reply):
            self._say(parsed)
            return None
        self._pending = self._mail = parsed
        return MailOffered(parsed.reverse_path, parsed.size)

    def _rcpt_to(self, argument: bytes) -> Event | None:
        mail = self._mail
        if mail is None or self.state is State.BDAT:
            self._say(_MAIL_FIRST if mail is None else _BDAT_OPEN)
            return None
        if len(self._recipients) >= self._limits.recipients:
            self._say(_TOO_MANY_RECIPIENTS)
            return None
        parsed = parse_rcpt(argument, smtputf8=mail.smtputf8)
        if isinstance(parsed, Reply):
            self._say(parsed)
            return None
        self._pending = parsed
        return RecipientOffered(mail.reverse_path, parsed.address)

    def _data(self, argument: bytes) -> Event | None:
        match self.state:
            case State.RCPT if not argument:
                self._reader = DataReader(self._offers.max_size, self._limits.header_octets, self._offers.newlines)
                started = ContentStarted()
                self._pending = started
                return started
            case State.RCPT:
                self._say(_NO_ARGUMENT)
            case State.MAIL:
                self._say(_NO_RECIPIENTS)
            case State.BDAT:
                self._say(_BDAT_OPEN)
            case _:
                self._say(_MAIL_FIRST)
        return None

    def _bdat(self, argument: bytes) -> Event | None:
        if self.state is State.IDLE:
            return self._refuse_bdat(argument, _MAIL_FIRST)
        if self.state is State.MAIL:
            return self._refuse_bdat(argument, _NO_RECIPIENTS)
        size = _BDAT_SIZE.fullmatch(argument)
        if size is None:
            self._say(_BDAT_SYNTAX)
            return None
        reader = self._reader
        if isinstance(reader, BdatReader):
            reader.begin(int(size.group(1)), size.group(2) is not None)
            self.state = State.BDAT_CONTENT
            return None
        reader = BdatReader(self._offers.max_size, self._limits.header_octets, self._offers.newlines)
        reader.begin(int(size.group(1)), size.group(2) is not None)
        self._reader = reader
        started = ContentStarted()
        self._pending = started
        return started

    def _refuse_bdat(self, argument: bytes, refusal: Reply) -> Event | None:
        """A BDAT out of place: its octets are read and thrown away before the answer (RFC 3030 section 2)."""
        size = _BDAT_SIZE.fullmatch(argument)
        if size is None:
            self._say(_BDAT_SYNTAX)
            return None
        reader = BdatReader(0, 0, Newlines.REFUSE)
        reader.refuse(refusal)
        reader.begin(int(size.group(1)), False)
        self._reader = reader
        self._refusal = refusal
        self.state = State.DISCARD
        return None

    def _rset(self, argument: bytes) -> Event | None:
        if argument:
            self._say(_NO_ARGUMENT)
            return None
        event = self._reset()
        self._idle(_OK)
        return event

    def _noop(self, argument: bytes) -> Event | None:
        self._idle(_OK)
        return None

    def _vrfy(self, argument: bytes) -> Event | None:
        self._idle(_CANNOT_VERIFY.encode())
        return None

    def _help(self, argument: bytes) -> Event | None:
        self._idle(_HELP.encode())
        return None

    def _quit(self, argument: bytes) -> Event | None:
        if argument:
            self._say(_NO_ARGUMENT)
            return None
        self.close(reply(221, "2.0.0", f"{self._hostname} closing connection"))
        return None

    def _starttls(self, argument: bytes) -> Event | None:
        if argument:
            self._say(_NO_ARGUMENT)
        elif self._offers.tls_active:
            self._say(_TLS_ACTIVE)
        elif not self._offers.starttls:
            self._say(_NOT_IMPLEMENTED)
        elif self._position < len(self._input):
            self.state = State.CLOSED  # octets in clear after STARTTLS: injected (CVE-2011-0411)
        elif (event := self._reset()) is not None:
            self._position -= len(b"STARTTLS\r\n")
            return event
        else:
            started = StartTls()
            self._pending = started
            return started
        return None

    def _xclient(self, argument: bytes) -> Event | None:
        if not self._offers.xclient:
            self._say(_XCLIENT_REFUSED)
            return None
        if self.state is not State.IDLE:
            self._say(_NESTED_MAIL)
            return None
        parsed = parse_xclient(argument)
        if isinstance(parsed, Reply):
            self._say(parsed)
            return None
        given = XclientGiven(parsed)
        self._pending = given
        return given

    # --- answers and content -----------------------------------------------------------------------------

    def _answer_started(self, answer: Reply | None) -> None:
        reader = self._reader
        if answer is None:
            self._sink_open = True
            if isinstance(reader, BdatReader):
                self.state = State.BDAT_CONTENT
            else:
                self._out.append(_GO_AHEAD)
                self.state = State.DATA_CONTENT
        elif isinstance(reader, BdatReader):
            reader.refuse(answer)
            self.state = State.BDAT_CONTENT
        else:
            self._reader = None
            self._say(answer)

    def _answer_xclient(self, attributes: XclientAttributes, answer: Reply | None) -> None:
        if answer is not None:
            self._say(answer)
            return
        self.helo = attributes.helo
        self._esmtp = attributes.protocol == "ESMTP"
        self._out.append(f"220 {self._hostname} ESMTP\r\n".encode())

    def _bdat_complete(self) -> bool:
        return isinstance(self._reader, BdatReader) and not self._reader.remaining

    def _content(self) -> Event | None:
        """Reads content; hands out the piece first, the end with the next call."""
        reader = self._reader
        assert reader is not None
        if not (reader.ended or (self._position >= len(self._input) and not isinstance(reader, BdatReader))):
            octets, self._position = reader.feed(self._input, self._position)
            if reader.fault is not None and self._sink_open:
                return self._abort_sink()
            if octets:
                return ContentOctets(octets)
        if isinstance(reader, BdatReader) and reader.remaining:
            return None
        if reader.ended or isinstance(reader, BdatReader):
            return self._content_done(reader)
        return None

    def _content_done(self, reader: DataReader | BdatReader) -> Event | None:
        if reader.fault is not None:
            fault = reader.fault
            self._end_transaction()
            self._say(fault)
        elif not reader.ended:
            self.state = State.BDAT
            self._out.append(b"250 2.0.0 Octets received\r\n")
            return None
        else:
            return self._ended(reader)
        if self._draining:
            self.drain()
        return None
