"""A receiver-SMTP session without I/O: octets in, events and replies out.

The shell feeds `receive`, takes `next_event` until None, answers those events that ask for it, and writes
`data_to_send` (replies of one batch in one write). While an event is unanswered nothing further is read.

    state        commands that are legal besides those legal always
    new          EHLO HELO (STARTTLS after EHLO)
    greeted      MAIL STARTTLS XCLIENT
    mail         RCPT
    recipients   RCPT DATA BDAT            (at least one accepted)
    content      octets of DATA or BDAT; a BDAT that is not the last returns to `chunks`
    chunks       BDAT                      (DATA: 503)
    always       EHLO HELO RSET NOOP VRFY HELP QUIT; AUTH and unknown ones: 502, 500

Where TLS is required and not there: 530 5.7.0 for all but EHLO HELO NOOP QUIT STARTTLS.
Standards: RFC 5321 sections 4.1.1, 4.1.4, 4.3.2; RFC 1869, 2034, 2920, 3030, 3207, 3461, 6152, 6531.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import assert_never

from posthouse.core.envelope import (
    Envelope,
    MailArguments,
    Recipient,
    XclientAttributes,
    is_helo,
    parse_mail,
    parse_rcpt,
    parse_xclient,
)
from posthouse.core.limits import Limits
from posthouse.core.smtp_data import BdatReader, DataReader, Newlines
from posthouse.core.smtp_reply import Reply, reply


@dataclass(frozen=True, slots=True)
class Offers:
    """What this session offers, by its listener and client."""

    max_size: int
    newlines: Newlines
    starttls: bool = False
    tls_required: bool = False
    tls_active: bool = False
    xclient: bool = False


@dataclass(frozen=True, slots=True)
class MailOffered:
    """MAIL; to be answered with a refusal or None."""

    arguments: MailArguments


@dataclass(frozen=True, slots=True)
class RecipientOffered:
    """RCPT; to be answered with a refusal or None."""

    recipient: Recipient
    reverse_path: str


@dataclass(frozen=True, slots=True)
class ContentStarted:
    """Content follows; answered by itself."""


@dataclass(frozen=True, slots=True)
class ContentOctets:
    """Content in wire form."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ContentEnded:
    """The whole content is there; to be answered with the reply to the final dot."""

    envelope: Envelope
    size: int
    header: bytes
    normalised: int


@dataclass(frozen=True, slots=True)
class ContentRefused:
    """The content was thrown away (already answered), or will never come."""


@dataclass(frozen=True, slots=True)
class StartTlsAsked:
    """The 220 is in `data_to_send`; the handshake comes next, then a new session."""


@dataclass(frozen=True, slots=True)
class XclientGiven:
    """XCLIENT; already answered with a greeting. The session begins anew for the client it names."""

    attributes: XclientAttributes


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is to be closed once `data_to_send` is written."""


Event = (
    MailOffered
    | RecipientOffered
    | ContentStarted
    | ContentOctets
    | ContentEnded
    | ContentRefused
    | StartTlsAsked
    | XclientGiven
    | Ended
)


class _State(Enum):
    NEW = 0
    GREETED = 1
    MAIL = 2
    CHUNKS = 3
    DATA = 4
    BDAT = 5
    ENDING = 6
    SKIP_BDAT = 7
    ENDED = 8


_GREETED, _MAIL = _State.GREETED, _State.MAIL
_CONTENT_STARTED = ContentStarted()
_CONTENT_REFUSED = ContentRefused()
_ENDED = Ended()
_MAIL_OK = b"250 2.1.0 Sender ok\r\n"
_RCPT_OK = b"250 2.1.5 Recipient ok\r\n"
_GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
_OK = reply(250, "2.0.0", "Ok")
_BYE = reply(221, "2.0.0", "Bye")
_BAD_LINE = reply(500, "5.5.2", "Bare CR, LF or NUL in a command line")
_LONG_LINE = reply(500, "5.5.2", "Command line too long")
_UNKNOWN = reply(500, "5.5.1", "Command not recognised")
_NOT_BUILT_AUTH = reply(502, "5.5.1", "AUTH is not offered; trust is by client network")
_NO_ARGUMENT = reply(501, "5.5.4", "No argument is allowed here")
_BAD_HELO = reply(501, "5.5.4", "Syntax: EHLO or HELO, then a name of 1 to 255 printable characters")
_HELO_FIRST = reply(503, "5.5.1", "EHLO or HELO first")
_MAIL_FIRST = reply(503, "5.5.1", "MAIL first")
_NESTED = reply(503, "5.5.1", "A mail transaction is open already")
_NO_RECIPIENT = reply(554, "5.5.1", "No valid recipients")
_MIXED = reply(503, "5.5.1", "DATA and BDAT in one transaction")
_TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients, send the others in a further transaction")
_TLS_FIRST = reply(530, "5.7.0", "Must issue a STARTTLS command first")
_TLS_ALREADY = reply(503, "5.5.1", "TLS is active already")
_TLS_NOT_OFFERED = reply(502, "5.5.1", "STARTTLS is not offered")
_TLS_GO = reply(220, "2.0.0", "Ready to start TLS")
_INJECTED = reply(554, "5.5.1", "Octets after STARTTLS")
_NOT_SMTP = reply(554, "5.5.2", "This is SMTP")
_VRFY = reply(252, "2.5.0", "Cannot verify, but will take mail and try to deliver it")
_HELP = reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT; RFC 5321")
_TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors")
_TOO_MANY_IDLE = reply(421, "4.7.0", "Too many commands without a mail")
_BAD_BDAT = reply(501, "5.5.4", "Syntax: BDAT octets [LAST]")
_XCLIENT_REFUSED = reply(550, "5.7.0", "XCLIENT is not allowed from here")
_FOREIGN = frozenset({b"CONNECT", b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PRI"})
_BEFORE_TLS = frozenset({b"EHLO", b"HELO", b"NOOP", b"QUIT", b"STARTTLS"})
_IDLE = frozenset({b"EHLO", b"HELO", b"NOOP", b"RSET", b"VRFY", b"HELP"})
_MAX_BDAT = 1 << 40


class ServerSession:
    """One session, from greeting to QUIT. Mutable, for speed."""

    def __init__(self, hostname: str, limits: Limits, offers: Offers) -> None:
        self.helo = ""
        self.esmtp = False
        self._hostname = hostname
        self._limits = limits
        self._offers = offers
        self._state = _State.NEW
        self._buffer = b""
        self._at = 0
        self._skipping_line = False
        self._told = False
        self._out: list[bytes] = []
        self._asked: MailOffered | RecipientOffered | ContentEnded | None = None
        self._mail: MailArguments | None = None
        self._recipients: list[Recipient] = []
        self._reader: DataReader | BdatReader | None = None
        self._started = False
        self._discard = 0
        self._discard_reply: Reply = _OK
        self._errors = 0
        self._idle = 0

    # --- what the shell calls ---------------------------------------------------------------------------

    def greet(self) -> None:
        """The 220."""
        self._out.append(_greeting(self._hostname))

    def receive(self, data: bytes) -> None:
        """Octets from the client."""
        if self._at >= len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def take_input(self) -> bytes:
        """Octets not looked at, for the session that takes this one's place (XCLIENT)."""
        rest, self._buffer, self._at = self._buffer[self._at :], b"", 0
        return rest

    @property
    def buffered(self) -> int:
        """Octets received and not yet looked at."""
        return len(self._buffer) - self._at

    @property
    def in_content(self) -> bool:
        """The client is to send octets of content."""
        return self._state in (_State.DATA, _State.BDAT, _State.SKIP_BDAT)

    @property
    def discarding(self) -> bool:
        """The client is to send octets of a refused BDAT."""
        return self._state is _State.SKIP_BDAT

    @property
    def in_transaction(self) -> bool:
        """Between MAIL and the reply to the content."""
        return self._mail is not None

    def data_to_send(self) -> bytes:
        """All replies since the last call."""
        out = self._out
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def next_event(self) -> Event | None:
        """The next event; None while an event is unanswered or more octets are needed."""
        while self._asked is None:
            event: Event | None = None
            state = self._state
            if state is _GREETED or state is _MAIL:  # the hot path: a match would look at all the others first
                line = self._line()
                if line is not None:
                    event = self._command(line)
                    if event is not None:
                        return event
                elif self._state is state:
                    return None
                continue
            match state:
                case _State.ENDED:
                    if self._told:
                        return None
                    self._told = True
                    return _ENDED
                case _State.DATA | _State.BDAT:
                    if not self._content_can_go_on():
                        return None
                    event = self._content()
                case _State.ENDING:
                    return self._content_ended()
                case _State.SKIP_BDAT:
                    if not self._skip():
                        return None
                case _State.NEW | _State.GREETED | _State.MAIL | _State.CHUNKS:
                    line = self._line()
                    if line is not None:
                        event = self._command(line)
                    elif not self._over():
                        return None
                case _:
                    assert_never(state)
            if event is not None:
                return event
        return None

    def _over(self) -> bool:
        return self._state is _State.ENDED

    def answer(self, answer: Reply | None) -> None:
        """Answers the pending event; None accepts MAIL or RCPT."""
        asked, self._asked = self._asked, None
        match asked:
            case MailOffered(arguments):
                if answer is None:
                    self._mail = arguments
                    self._recipients = []
                    self._state = _State.MAIL
                    self._out.append(_MAIL_OK)
                else:
                    self._say(answer)
            case RecipientOffered(recipient):
                if answer is None:
                    self._recipients.append(recipient)
                    self._out.append(_RCPT_OK)
                else:
                    self._say(answer)
            case ContentEnded():
                assert answer is not None
                self._reset()
                if answer.code < 400:
                    self._idle = 0
                self._say(answer)
            case None:
                raise ValueError("no event waits for an answer")

    def refuse_content(self, why: Reply) -> None:
        """The sink failed: the rest of the content is thrown away and answered with `why`."""
        if self._reader is not None:
            self._reader.refuse(why)

    def end(self, why: Reply) -> None:
        """Says a last word, such as 421, and ends."""
        self._say(why)
        self._state = _State.ENDED

    # --- command lines ----------------------------------------------------------------------------------

    def _line(self) -> bytes | None:
        """The next command line without CRLF; None if it is not there yet."""
        buffer, at, limit = self._buffer, self._at, self._limits.command_octets
        while at < len(buffer):
            if self._state is _State.NEW and not self.helo and buffer.startswith(b"\x16\x03", at):
                self._state = _State.ENDED  # a TLS hello on a clear-text port
                return None
            end = buffer.find(b"\r\n", at)
            if end < 0:
                break
            self._at = end + 2
            if self._skipping_line:
                self._skipping_line = False
            elif end + 2 - at <= limit:
                return buffer[at:end]
            else:
                self._say(_LONG_LINE)
                if self._over():
                    return None
            at = end + 2
        if len(buffer) - at > limit:
            if not self._skipping_line:
                self._skipping_line = True
                self._say(_LONG_LINE)
            # A CR at the very end may be the first half of the line end.
            self._at = len(buffer) - 1 if buffer.endswith(b"\r") else len(buffer)
        return None

    def _command(self, line: bytes) -> Event | None:
        if b"\n" in line or b"\r" in line or b"\0" in line:
            self._say(_BAD_LINE)
            return None
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if self._offers.tls_required and not self._offers.tls_active and verb not in _BEFORE_TLS:
            if verb == b"BDAT":
                return self._bdat(argument, _TLS_FIRST)
            self._say(_TLS_FIRST)
            return None
        if verb in _IDLE:
            self._idle += 1
            if self._idle > self._limits.idle_commands:
                self.end(_TOO_MANY_IDLE)
                return None
        match verb:
            case b"RCPT":
                return self._rcpt(argument)
            case b"MAIL":
                return self._mail_from(argument)
            case b"DATA":
                return self._data(argument)
            case b"BDAT":
                return self._bdat(argument)
            case b"EHLO" | b"HELO":
                return self._hello(argument, verb == b"EHLO")
            case b"RSET":
                return self._rset(argument)
            case b"QUIT":
                self._say(_BYE if not argument.strip() else _NO_ARGUMENT)
                if not argument.strip():
                    self._state = _State.ENDED
            case b"NOOP":
                self._say(_OK)
            case b"VRFY":
                self._say(_VRFY)
            case b"HELP":
                self._say(_HELP)
            case b"STARTTLS":
                return self._starttls(argument)
            case b"XCLIENT":
                return self._xclient(argument)
            case b"AUTH":
                self._say(_NOT_BUILT_AUTH)
            case _:
                if verb in _FOREIGN or verb.endswith(b":"):
                    self.end(_NOT_SMTP)
                else:
                    self._say(_UNKNOWN)
        return None

    def _hello(self, argument: bytes, esmtp: bool) -> Event | None:
        name = argument.strip().decode("latin-1")
        if not is_helo(name):
            self._say(_BAD_HELO)
            return None
        refused = self._reader is not None
        self._reset()
        self.helo, self.esmtp = name, esmtp
        self._state = _State.GREETED
        if esmtp:
            self._out.append(_capabilities(self._hostname, self._offers))
        else:
            self._out.append(_helo_reply(self._hostname))
        return _CONTENT_REFUSED if refused else None

    def _rset(self, argument: bytes) -> Event | None:
        if argument.strip():
            self._say(_NO_ARGUMENT)
            return None
        refused = self._reader is not None
        self._reset()
        self._say(_OK)
        return _CONTENT_REFUSED if refused else None

    def _mail_from(self, argument: bytes) -> Event | None:
        if not self.helo:
            self._say(_HELO_FIRST)
            return None
        if self._mail is not None:
            self._say(_NESTED)
            return None
        parsed = parse_mail(argument, self._offers.max_size)
        if isinstance(parsed, Reply):
            self._say(parsed)
            return None
        self._asked = MailOffered(parsed)
        return self._asked

    def _rcpt(self, argument: bytes) -> Event | None:
        mail = self._mail
        if mail is None or self._state is not _State.MAIL:
            self._say(_MAIL_FIRST)
            return None
        if len(self._recipients) >= self._limits.recipients:
            self._say(_TOO_MANY_RECIPIENTS)
            return None
        parsed = parse_rcpt(argument, smtputf8=mail.smtputf8)
        if isinstance(parsed, Reply):
            self._say(parsed)
            return None
        self._asked = RecipientOffered(parsed, mail.reverse_path)
        return self._asked

    def _starttls(self, argument: bytes) -> Event | None:
        if self._offers.tls_active:
            self._say(_TLS_ALREADY)
        elif not self._offers.starttls:
            self._say(_TLS_NOT_OFFERED)
        elif argument.strip():
            self._say(_NO_ARGUMENT)
        elif self._mail is not None:
            self._say(_NESTED)
        elif self._at < len(self._buffer):
            # RFC 3207 section 4: what came in clear must not be read as if it came under TLS.
            self.end(_INJECTED)
        else:
            self._say(_TLS_GO)
            return StartTlsAsked()
        return None

    def _xclient(self, argument: bytes) -> Event | None:
        if not self._offers.xclient:
            self._say(_XCLIENT_REFUSED)
            return None
        if self._mail is not None:
            self._say(_NESTED)
            return None
        parsed = parse_xclient(argument)
        if isinstance(parsed, Reply):
            self._say(parsed)
            return None
        self._reset()
        self.helo, self.esmtp, self._state = parsed.helo, parsed.protocol == "ESMTP", _State.NEW
        self.greet()
        return XclientGiven(parsed)

    # --- content ----------------------------------------------------------------------------------------

    def _data(self, argument: bytes) -> Event | None:
        refusal: Reply | None = None
        if argument.strip():
            refusal = _NO_ARGUMENT
        elif self._state is _State.CHUNKS:
            refusal = _MIXED
        elif self._mail is None:
            refusal = _MAIL_FIRST
        elif not self._recipients:
            refusal = _NO_RECIPIENT
        if refusal is not None:
            self._say(refusal)
            if self._at < len(self._buffer):
                # Content sent without waiting for 354 must never be run as commands.
                self._state = _State.ENDED
            return None
        self._reader = DataReader(self._offers.max_size, self._limits.header_octets, self._offers.newlines)
        self._state = _State.DATA
        self._out.append(_GO_AHEAD)
        return _CONTENT_STARTED

    def _bdat(self, argument: bytes, refusal: Reply | None = None) -> Event | None:
        words = argument.split()
        count = words[0] if words else b""
        last = len(words) == 2 and words[1].upper() == b"LAST"
        if not count.isdigit() or len(count) > 13 or int(count) > _MAX_BDAT or (len(words) > 1 and not last):
            # How much follows is unknown, so nothing after it can be read.
            self.end(_BAD_BDAT)
            return None
        octets = int(count)
        if refusal is None and not self._recipients:
            refusal = _MAIL_FIRST if self._mail is None else _NO_RECIPIENT
        if refusal is not None:
            self._discard, self._discard_reply = octets, refusal
            self._state = _State.SKIP_BDAT
            return None
        first = self._reader is None
        if first:
            self._reader = BdatReader(self._offers.max_size, self._limits.header_octets, self._offers.newlines)
        assert isinstance(self._reader, BdatReader)
        self._reader.begin(octets, last)
        self._discard = octets
        self._state = _State.BDAT
        return _CONTENT_STARTED if first else None

    def _content_can_go_on(self) -> bool:
        """There are octets to read, or a BDAT is complete without any."""
        reader = self._reader
        return self._at < len(self._buffer) or (isinstance(reader, BdatReader) and not reader.remaining)

    def _content(self) -> Event | None:
        """One piece of content; when it is read, its end comes with the next call."""
        reader = self._reader
        assert reader is not None
        octets, self._at = reader.feed(self._buffer, self._at)
        if reader.ended:
            self._state = _State.ENDING
        if octets:
            return ContentOctets(octets)
        if not reader.ended and isinstance(reader, BdatReader) and not reader.remaining:
            if reader.fault is not None:
                return self._content_refused(reader.fault)
            self._say(reply(250, "2.0.0", f"{self._discard} octets received"))
            self._state = _State.CHUNKS
        return None

    def _content_ended(self) -> Event:
        reader = self._reader
        assert reader is not None
        if reader.fault is not None:
            return self._content_refused(reader.fault)
        mail = self._mail
        assert mail is not None
        envelope = Envelope(
            mail.reverse_path, tuple(self._recipients), mail.body, mail.smtputf8, mail.ret, mail.envid
        )
        self._asked = ContentEnded(envelope, reader.size, reader.header, reader.normalised)
        self._state = _State.GREETED
        return self._asked

    def _content_refused(self, fault: Reply) -> Event:
        self._reset()
        self._say(fault)
        return _CONTENT_REFUSED

    def _skip(self) -> bool:
        """Reads and forgets the octets of a refused BDAT; True when all are read."""
        here = min(self._discard, len(self._buffer) - self._at)
        self._at += here
        self._discard -= here
        if self._discard:
            return False
        self._state = _State.GREETED if self.helo else _State.NEW
        if self._mail is not None:
            self._state = _State.MAIL
        self._say(self._discard_reply)
        return True

    # --- the rest ---------------------------------------------------------------------------------------

    def _reset(self) -> None:
        """Forgets the mail transaction (RFC 5321 section 4.1.1.5)."""
        self._mail = None
        self._recipients = []
        self._reader = None
        self._state = _State.GREETED if self.helo else _State.NEW

    def _say(self, said: Reply) -> None:
        self._out.append(said.encode())
        if said.code >= 500:
            self._errors += 1
            if self._errors > self._limits.errors and not self._over():
                self._out.append(_TOO_MANY_ERRORS.encode())
                self._state = _State.ENDED


@lru_cache(maxsize=64)
def _greeting(hostname: str) -> bytes:
    return Reply(220, (f"{hostname} ESMTP posthouse",)).encode()


@lru_cache(maxsize=64)
def _helo_reply(hostname: str) -> bytes:
    return Reply(250, (hostname,)).encode()


@lru_cache(maxsize=64)
def _capabilities(hostname: str, offers: Offers) -> bytes:
    """The reply to EHLO (RFC 5321 section 4.1.1.1). Never BINARYMIME, never AUTH."""
    lines = [hostname, "PIPELINING", f"SIZE {offers.max_size}", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"]
    lines += ["SMTPUTF8", "CHUNKING"]
    if offers.starttls and not offers.tls_active:
        lines.append("STARTTLS")
    if offers.xclient:
        lines.append("XCLIENT ADDR PORT PROTO HELO")
    return Reply(250, tuple(lines)).encode()
