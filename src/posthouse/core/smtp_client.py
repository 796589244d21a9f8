"""SMTP client, sans-I/O: octets in, octets and decisions out; one object per connection.

The shell feeds `receive`, `lost`, `timed_out` and after each of them (and after `begin`) looks at
`output()` (octets to write now), `phase` and `take_answer()`. In `Phase.CONTENT` it writes the transaction's
prefix and content; just before the octets that hold the final dot it calls `dot_leaves`, or `abandon` if the
mail may not be finished. `patience` says how long the phase may last. A session runs transaction after
transaction: in `Phase.IDLE` it may be kept in a pool; `Phase.UNFIT` is the end.

Standards: RFC 5321; RFC 2920 (all replies are read; 354 without an accepted recipient gets a lone dot).
Results: `core.reply`, design section 3.
"""

from collections import deque
from dataclasses import replace
from typing import NamedTuple

from posthouse.core.envelope import Body
from posthouse.core.limits import Limits
from posthouse.core.mail import InlineOctets
from posthouse.core.outcome import RecipientResult, Result, ServerAnswer, Stage, Transaction
from posthouse.core.reply import Context, classify, classify_fault, status_of
from posthouse.core.smtp_command import mail_command, rcpt_command, writable
from posthouse.core.smtp_opening import NOT_TLS, Move, Next, Opening, Phase, Refused, Say, Security
from posthouse.core.smtp_reply import Reply, ReplyParser
from posthouse.core.transcript import Transcript
from posthouse.core.way import Certificate, WayFacts

__all__ = ["DOWNGRADED", "EIGHT_BIT_MARK", "INJECTED", "ClientSession", "Phase"]

EIGHT_BIT_MARK = "8bit without 8BITMIME"
DOWNGRADED = "downgraded"
"""Mark of an attempt in clear text though STARTTLS was offered."""
INJECTED = "octets in clear text after the reply to STARTTLS"


class _Command(NamedTuple):
    line: bytes
    stage: Stage
    recipient: int = -1
    """Its index, for RCPT."""


_PLAIN = Context()
_RSET = _Command(b"RSET\r\n", Stage.RSET)
_DATA = _Command(b"DATA\r\n", Stage.DATA)


class ClientSession:
    """One connection to a next hop, from greeting to QUIT.

    `hostname` goes into EHLO; ValueError if it cannot stand in a command line.
    """

    __slots__ = (
        "_accepted",
        "_answer",
        "_awaited",
        "_eight_bit",
        "_ended_by",
        "_limits",
        "_mail_accepted",
        "_marks",
        "_open",
        "_opening",
        "_out",
        "_parser",
        "_results",
        "_smtputf8",
        "_taken",
        "_to_send",
        "_transaction",
        "_transcript",
        "_utf8_header",
        "_way",
        "mails",
        "phase",
        "replies",
    )

    def __init__(self, hostname: str, limits: Limits, security: Security | None = None) -> None:
        """`security`: TLS and login that come before the first mail."""
        if not hostname or not writable(hostname):
            raise ValueError(f"not a host name for EHLO: {hostname!r}")
        self._opening = Opening(hostname, security or Security())
        self.phase = self._opening.phase
        self.replies = 0
        """Counts replies: a step forward, from which the shell measures `patience` anew."""
        self.mails = 0
        """How many transactions were begun."""
        self._way = WayFacts()
        self._limits = limits
        self._parser = ReplyParser(limits.reply_octets)
        self._out: list[bytes] = []
        self._transcript = Transcript()
        self._awaited: deque[_Command] = deque()
        """Commands whose replies are outstanding, oldest first."""
        self._to_send: deque[_Command] = deque()
        """Commands that wait for the reply to the one before (no PIPELINING)."""
        self._open = False
        """The server has a mail transaction open."""
        self._mail_accepted = False
        self._taken = False
        """MAIL was accepted in this transaction, were it before a further MAIL."""
        self._accepted: list[int] = []
        self._transaction: Transaction | None = None
        self._results: list[RecipientResult | None] = []
        self._marks: tuple[str, ...] = ()
        self._eight_bit = False
        self._utf8_header = False
        self._smtputf8 = False
        self._answer: ServerAnswer | None = None
        self._ended_by = RecipientResult(Result.SERVER_FAULT, "the connection had been closed", "4.4.2", Stage.MAIL)
        """What a transaction gets that is begun when the connection has ended."""

    # --- what the shell asks ---------------------------------------------------------------------

    def output(self) -> bytes:
        """Octets to write now, once."""
        out = self._out
        if not out:
            return b""
        octets = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return octets

    def take_answer(self) -> ServerAnswer | None:
        """The answer of the transaction, once it is known."""
        answer = self._answer
        self._answer = None
        return answer

    @property
    def ended_by(self) -> str:
        """Why the session is unfit, as one sentence or the reply that ended it."""
        return self._ended_by.reply

    @property
    def idle(self) -> bool:
        """Fit for reuse: nothing open, nothing unread."""
        return self.phase is Phase.IDLE

    @property
    def patience(self) -> int:
        """Seconds that the present wait may last since the last reply (or, for content, the last octets taken)."""
        limits = self._limits
        match self.phase:
            case Phase.ENVELOPE:
                at_data = self._awaited and self._awaited[0].stage is Stage.DATA
                return limits.data_reply_seconds if at_data else limits.command_reply_seconds
            case Phase.CONTENT:
                return limits.block_seconds
            case Phase.FINAL:
                return limits.final_dot_seconds
            case Phase.HANDSHAKE:
                return limits.tls_handshake_seconds
            case _:
                return limits.greeting_seconds

    # --- events ----------------------------------------------------------------------------------

    def begin(self, transaction: Transaction, *, utf8_header: bool = False, reset: bool = False) -> None:
        """Starts `transaction`, at once when idle, else after the greeting and EHLO.

        `utf8_header`: a header field holds more than ASCII (asked for only when `transaction.smtputf8`).
        `reset`: RSET comes first, for a connection that has been idle for a while (design section 2.10).
        """
        assert self._transaction is None
        assert transaction.recipients
        self._transaction = transaction
        self.mails += 1
        self._taken = False
        self._open = self._open or reset
        self._results = [None] * len(transaction.recipients)
        self._marks = ()
        self._utf8_header = utf8_header
        if self.phase is Phase.IDLE:
            if self.mails > 1:
                self._transcript = Transcript()  # that of the opening belongs to the first mail
            self._start()
        elif self.phase is Phase.UNFIT:
            self._decide(self._ended_by)
            self._finish()

    def receive(self, octets: bytes) -> None:
        """Octets from the server, in any chunking."""
        if self.phase is Phase.UNFIT:
            return
        for reply in self._parser.feed(octets):
            self.replies += 1
            if self.phase is Phase.AUTH:
                reply = self._opening.masked(reply)
            self._transcript.server(reply)
            self._take(reply)
        if self._parser.fault:
            self._break(self._parser.fault)
        elif self._parser.amid and self.phase is Phase.IDLE:
            self.phase = Phase.UNFIT
        elif self._parser.amid and self.phase is Phase.HANDSHAKE:
            self.injected()

    def connected(self, local: str, remote: str) -> None:
        """Both ends of the connection, as `WayFacts` has them; for the trail."""
        self._way = WayFacts(local, remote)

    def secured(self, tls: str, certificate: Certificate) -> None:
        """The TLS handshake succeeded; what was announced before it counts no more."""
        self._way = replace(self._way, tls=tls, certificate=certificate)
        self._transcript.note("TLS")
        move = self._opening.secured()
        self.phase = self._opening.phase
        if move is not None:
            self._move(move)

    def tls_failed(self, why: str) -> None:
        """No TLS: `why` is one sentence."""
        self._fail(Result.SERVER_FAULT, why, Stage.TLS)

    def injected(self) -> None:
        """Octets came in clear where the handshake was to begin: nothing more is sent there, in clear neither."""
        if self._opening.greeted:
            self._fail(Result.SERVER_FAULT, INJECTED, Stage.STARTTLS)
        else:  # its greeting was quicker than our handshake
            self._fail(Result.SERVER_FAULT, NOT_TLS, Stage.TLS)

    def dot_leaves(self, octets: int) -> None:
        """The final dot is about to be written, after `octets` of content in all: from here a loss is uncertain."""
        assert self.phase is Phase.CONTENT
        self._transcript.content(octets)
        self.phase = Phase.FINAL

    def dot_held_up(self) -> None:
        """Against what `dot_leaves` said the final dot is still here, and the server answers already: whatever it
        says next is an early reply."""
        if self.phase is Phase.FINAL:
            self.phase = Phase.CONTENT

    def lost(self, why: str, *, dot_unsent: bool = False) -> None:
        """The connection is gone (`why`: `connection lost`). `dot_unsent`: the shell knows that the final dot
        never left this machine."""
        self._break(f"{why} {self._where()}", dot_unsent=dot_unsent)

    def timed_out(self, *, dot_unsent: bool = False) -> None:
        """`patience` has run out."""
        self._break(f"{self._missing()} within {self.patience} s", dot_unsent=dot_unsent)

    def abandon(self, why: str) -> None:
        """For a reason of our own the mail may not be finished here: no blame on the server, no final dot."""
        self._fail(Result.SERVER_FAULT, why, Stage.CONTENT, blame=False)

    def quit(self) -> None:
        """Says QUIT if the server still listens; afterwards the connection is only to be closed."""
        if self.phase is Phase.IDLE:
            self._transcript.client("QUIT")
            self._out.append(b"QUIT\r\n")
        self.phase = Phase.UNFIT

    # --- replies ---------------------------------------------------------------------------------

    def _take(self, reply: Reply) -> None:
        match self.phase:
            case Phase.ENVELOPE:
                self._on_envelope(self._awaited.popleft(), reply)
            case Phase.FINAL:
                self._on_final(reply)
            case Phase.CONTENT:
                self._on_early(reply)
            case Phase.GREETING | Phase.EHLO | Phase.HELO | Phase.STARTTLS | Phase.AUTH:
                self._move(self._opening.take(reply))
            case Phase.HANDSHAKE:
                self.injected()
            case Phase.SETTLING:
                self._on_settling(self._awaited.popleft(), reply)
            case Phase.IDLE | Phase.UNFIT:
                self.phase = Phase.UNFIT

    def _move(self, move: Move) -> None:
        """A step of the opening."""
        self.phase = self._opening.phase
        match move:
            case Say(line, shown):
                self._transcript.client(shown)
                self._out.append(line)
            case Refused(stage, None, why):
                self._fail(Result.SERVER_FAULT, why, stage)
            case Refused(stage, Reply() as reply):
                self._refused(reply, stage)
            case Next.HANDSHAKE:
                pass  # the shell sees it by the phase
            case Next.OPEN:
                self.phase = Phase.IDLE
                if self._opening.logged_in:
                    self._way = replace(self._way, login=self._opening.logged_in)
                if self._transaction is not None:
                    self._start()

    def _on_envelope(self, command: _Command, reply: Reply) -> None:
        code = reply.code
        match command.stage:
            case Stage.RCPT if code < 300 and self._mail_accepted:
                self._accepted.append(command.recipient)
            case Stage.MAIL if code < 300:
                self._mail_accepted = self._taken = self._open = True
            case Stage.DATA if 300 <= code < 400:
                if self._accepted:
                    self.phase = Phase.CONTENT
                else:
                    self._settle(lone_dot=True)
                return
            case Stage.RSET:
                if code >= 300:
                    self._refused(reply, Stage.RSET)
                    return
                self._open = False
            case _:
                self._on_refusal(command, reply)
                if self.phase is not Phase.ENVELOPE:
                    return
        if self._to_send:
            self._send_next()
        if not self._awaited:
            self._next_or_finish()

    def _on_refusal(self, command: _Command, reply: Reply) -> None:
        """A reply in the envelope that is not the one hoped for."""
        stage = command.stage
        context = Context(self._mail_accepted or stage is Stage.MAIL, len(self._accepted))
        result = classify(stage, reply, context)
        if result is None:
            return
        if reply.code == 421 or reply.code < 400:
            self._refused(reply, stage)
        elif stage is Stage.RCPT:
            self._results[command.recipient] = _of_reply(result, reply, stage)
        else:
            self._accepted.clear()
            self._decide(_of_reply(result, reply, stage))
            if stage is Stage.MAIL:
                self._to_send.clear()

    def _on_early(self, reply: Reply) -> None:
        """The server answers before the final dot: the content stays unfinished, so the connection is of no use."""
        result = classify(Stage.CONTENT, reply, _PLAIN)
        assert result is not None
        if result is Result.SERVER_FAULT:
            self._refused(reply, Stage.CONTENT)
            return
        self._decide(_of_reply(result, reply, Stage.CONTENT))
        self.phase = Phase.UNFIT
        self._finish()

    def _on_final(self, reply: Reply) -> None:
        result = classify(Stage.FINAL_DOT, reply, _PLAIN)
        assert result is not None
        if result is Result.UNCERTAIN:
            self._break(f"absurd reply to the final dot: {reply.text}")
            return
        if reply.code == 421:
            self._refused(reply, Stage.FINAL_DOT)
            return
        self._open = False
        self._decide(_of_reply(result, reply, Stage.FINAL_DOT))
        self._next_or_finish()

    def _on_settling(self, command: _Command, reply: Reply) -> None:
        if command.stage is Stage.RSET:
            self.phase = Phase.IDLE if reply.code == 250 else Phase.UNFIT
            self._open = False
        elif reply.code == 421:
            self.phase = Phase.UNFIT

    # --- transactions ----------------------------------------------------------------------------

    def _start(self) -> None:
        """The first mail transaction, after what can be refused without asking the server."""
        transaction = self._transaction
        assert transaction is not None
        offered = self._opening.capabilities
        limit, size = offered.size_limit, transaction.size
        if 0 < limit < size:
            text = f"the next hop takes at most {limit} octets, the mail has {size}"
            self._decide(RecipientResult(Result.PERMANENT, text, "5.3.4", Stage.MAIL))
        self._smtputf8 = (transaction.smtputf8 and self._utf8_header) or not transaction.reverse_path.isascii()
        if transaction.reverse_path and not writable(transaction.reverse_path):
            text = "the reverse-path cannot stand in a MAIL command"
            self._decide(RecipientResult(Result.PERMANENT, text, "5.1.7", Stage.MAIL))
        if self._smtputf8 and not offered.smtputf8:
            self._decide(_NO_SMTPUTF8)
        for index, recipient in enumerate(transaction.recipients):
            if not recipient.address.isascii():
                if offered.smtputf8:
                    self._smtputf8 = True
                elif self._results[index] is None:
                    self._results[index] = _NO_SMTPUTF8
            if self._results[index] is None and not writable(recipient.address):
                text = "the forward-path cannot stand in a RCPT command"
                self._results[index] = RecipientResult(Result.PERMANENT, text, "5.1.3", Stage.RCPT)
        self._eight_bit = _holds_eight_bit(transaction)
        marks = [(DOWNGRADED, self._opening.downgraded), (EIGHT_BIT_MARK, self._eight_bit and not offered.eight_bit)]
        self._marks = tuple([mark for mark, given in marks if given])
        self._next_or_finish()

    def _next_or_finish(self) -> None:
        """All replies of a transaction are read: a further one for recipients told to come again, or the end."""
        remaining = [i for i, result in enumerate(self._results) if result is None or result.result is Result.AGAIN]
        if remaining:
            self._send_envelope(remaining)
        elif self._open:
            self._settle()
        else:
            self.phase = Phase.IDLE
            self._finish()

    def _send_envelope(self, indices: list[int]) -> None:
        """RSET if needed, MAIL, RCPT for each, DATA: in one write where the server can do that."""
        transaction = self._transaction
        assert transaction is not None
        offered = self._opening.capabilities
        self.phase = Phase.ENVELOPE
        self._mail_accepted = False
        self._accepted = []
        commands = [_RSET] if self._open else []
        line = mail_command(
            transaction.reverse_path,
            offered,
            size=transaction.size,
            body=Body.EIGHT_BIT if self._eight_bit else transaction.body,
            smtputf8=self._smtputf8,
            ret=transaction.ret,
            envid=transaction.envid,
        )
        commands.append(_Command(line, Stage.MAIL))
        for index in indices:
            self._results[index] = None
            commands.append(_Command(rcpt_command(transaction.recipients[index], offered), Stage.RCPT, index))
        commands.append(_DATA)
        if offered.pipelining:
            self._awaited.extend(commands)
            lines = [command.line for command in commands]
            self._out.append(b"".join(lines))
            self._transcript.commands(lines)
        else:
            self._to_send.extend(commands)
            self._send_next()

    def _send_next(self) -> None:
        """Lock-step: the next command; DATA only if it has a recipient."""
        command = self._to_send.popleft()
        if command.stage is Stage.DATA and not self._accepted:
            return
        self._awaited.append(command)
        self._out.append(command.line)
        self._transcript.commands([command.line])

    def _settle(self, *, lone_dot: bool = False) -> None:
        """The results are known, the server still has a transaction open: end it, so that the connection may
        serve again (RFC 2920 section 3.1 for the lone dot)."""
        self._finish()
        self.phase = Phase.SETTLING
        if lone_dot:
            self._awaited.append(_Command(b".\r\n", Stage.FINAL_DOT))
        self._awaited.append(_RSET)
        lines = [command.line for command in self._awaited]
        self._out.extend(lines)
        self._transcript.commands(lines)

    # --- results ---------------------------------------------------------------------------------

    def _decide(self, result: RecipientResult) -> None:
        """Sets the result of all that have none yet. A passing fault is also that of those told to come again:
        they go on to the next server with the rest; after any other result they keep their further transaction."""
        takes_again = result.result in (Result.TRANSIENT, Result.SERVER_FAULT)
        self._results = [
            result if now is None or (takes_again and now.result is Result.AGAIN) else now for now in self._results
        ]

    def _refused(self, reply: Reply, stage: Stage) -> None:
        """A reply that ends the connection: the server's fault for all that is not decided."""
        self.phase = Phase.UNFIT
        self._ended_by = _of_reply(Result.SERVER_FAULT, reply, stage)
        self._decide(self._ended_by)
        self._finish()

    def _break(self, why: str, *, dot_unsent: bool = False) -> None:
        """Loss, timeout, malformed reply."""
        stage = self._stage()
        if stage is Stage.FINAL_DOT and dot_unsent:
            stage = Stage.CONTENT
        self._fail(classify_fault(stage), why, stage)

    def _fail(self, result: Result, why: str, stage: Stage, *, blame: bool = True) -> None:
        """No reply will come any more. Uncertain are only the recipients of the mail whose dot has left."""
        self.phase = Phase.UNFIT
        status = status_of(Result.SERVER_FAULT, None, stage)
        self._ended_by = RecipientResult(Result.SERVER_FAULT, why, status, stage)
        self._transcript.note(why)
        if self._transaction is None:
            return
        if result is Result.UNCERTAIN:
            uncertain = RecipientResult(result, why, status_of(result, None, stage), stage)
            for index in self._accepted:
                self._results[index] = uncertain
        self._decide(self._ended_by)
        self._finish(blame=blame)

    def _finish(self, *, blame: bool = True) -> None:
        """Every recipient has its result: the answer."""
        if self._transaction is None:
            return
        fault = ""
        plain = not self._marks
        results: list[RecipientResult] = []
        for result in self._results:
            assert result is not None
            if result.result is not Result.RELAYED:
                plain = False
                if result.result is Result.SERVER_FAULT and blame and not fault:
                    by_reply = result.reply[:3].isdigit()
                    fault = f"at {result.stage.value}: {result.reply}" if by_reply else result.reply
                elif result.result is Result.AGAIN:
                    result = replace(result, result=Result.LATER)
            results.append(result)
        self._answer = ServerAnswer(
            recipients=tuple(results),
            fault=fault,
            dsn_offered=self._opening.capabilities.dsn,
            transcript=() if plain else self._transcript.lines(),
            marks=self._marks,
            greeted=self._opening.greeted,
            mail_accepted=self._taken,
            way=self._way,
            mail_number=self.mails,
        )
        self._transaction = None
        self._results = []
        self._to_send.clear()

    # --- small things ----------------------------------------------------------------------------

    def _stage(self) -> Stage:
        """What is being waited for."""
        match self.phase:
            case Phase.GREETING:
                return Stage.GREETING
            case Phase.EHLO | Phase.HELO:
                return Stage.EHLO
            case Phase.STARTTLS:
                return Stage.STARTTLS
            case Phase.HANDSHAKE:
                return Stage.TLS
            case Phase.AUTH:
                return Stage.AUTH
            case Phase.CONTENT:
                return Stage.CONTENT
            case Phase.FINAL:
                return Stage.FINAL_DOT
            case Phase.ENVELOPE | Phase.SETTLING:
                return self._awaited[0].stage
            case Phase.IDLE | Phase.UNFIT:
                return Stage.RSET

    def _missing(self) -> str:
        match self.phase:
            case Phase.GREETING:
                return "no greeting"
            case Phase.HANDSHAKE:
                return "no TLS"
            case Phase.CONTENT:
                return "no content taken"
            case _:
                return f"no reply to {self._stage().value}"

    def _where(self) -> str:
        match self.phase:
            case Phase.GREETING:
                return "before the greeting"
            case Phase.HANDSHAKE:
                return "during the TLS handshake"
            case Phase.CONTENT:
                return "while content was being sent"
            case Phase.FINAL:
                return "after the final dot, before its reply"
            case Phase.IDLE | Phase.UNFIT:
                return "between mails"
            case _:
                return f"before the reply to {self._stage().value}"


def _holds_eight_bit(transaction: Transaction) -> bool:
    """Looked up where the content is at hand, else as the client declared it."""
    content = transaction.content.source
    if isinstance(content, InlineOctets):
        return not content.octets.isascii()
    return transaction.body is Body.EIGHT_BIT


_NO_SMTPUTF8 = RecipientResult(
    Result.PERMANENT, "the next hop does not offer SMTPUTF8, which this mail needs", "5.6.7", Stage.MAIL
)


def _of_reply(result: Result, reply: Reply, stage: Stage) -> RecipientResult:
    return RecipientResult(result, reply.text, status_of(result, reply, stage), stage)
