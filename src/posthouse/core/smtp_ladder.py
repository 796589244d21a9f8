"""TEST of an SMTP server, sans-I/O: the session of `smtp_client` that tells its stages and sends no mail.

Opens as delivery does (`Opening` decides all of it), asks for an address if there is one (MAIL, RCPT, RSET), says
QUIT and waits for the reply. Nothing that came from a server that did not greet as SMTP is shown: a TEST must not
become a way to read what other services answer.
Standards: design 2.11; RFC 5321 sections 3.1, 4.3.2.
"""

from collections.abc import Callable

from posthouse.core.encryption import Tls
from posthouse.core.limits import Limits
from posthouse.core.outcome import Result, Stage
from posthouse.core.profile_test import Inquiry, StageName, StageResult
from posthouse.core.smtp_client import ClientSession, Phase
from posthouse.core.smtp_opening import Move, Refused, Security
from posthouse.core.smtp_reply import Reply
from posthouse.core.transcript import Transcript
from posthouse.core.way import Certificate

NOT_SMTP = "the server did not greet as SMTP"
NOT_SMTP_HTTP = "the server did not greet as SMTP: it speaks HTTP"
NOT_SMTP_TLS = "the server did not greet as SMTP: it speaks TLS"
_BEGINNING = 8
"""Octets of what came first, enough to tell HTTP and TLS."""
_LINES, _CHARACTERS = 50, 200
"""Of what a server offers."""
_NAMES = {
    Phase.HANDSHAKE: StageName.TLS,
    Phase.GREETING: StageName.GREETING,
    Phase.EHLO: StageName.EHLO,
    Phase.HELO: StageName.EHLO,
    Phase.STARTTLS: StageName.TLS,
    Phase.AUTH: StageName.AUTH,
}
_OF_STAGE = {
    Stage.GREETING: StageName.GREETING,
    Stage.EHLO: StageName.EHLO,
    Stage.STARTTLS: StageName.TLS,
    Stage.TLS: StageName.TLS,
    Stage.AUTH: StageName.AUTH,
    Stage.MAIL: StageName.MAIL,
    Stage.RCPT: StageName.MAIL,
    Stage.RSET: StageName.MAIL,
}


class LadderSession(ClientSession):
    """One connection of a TEST; `stages` grows, and the phase is UNFIT at the end, whatever came of it."""

    __slots__ = (
        "_asking",
        "_at",
        "_beginning",
        "_facts",
        "_inquiry",
        "_now",
        "_optional",
        "_polite",
        "_since",
        "stages",
        "stopped_at",
    )

    def __init__(
        self, hostname: str, limits: Limits, security: Security, inquiry: Inquiry | None, now: Callable[[], float]
    ) -> None:
        """`now`: seconds of the caller's clock, for how long stages take."""
        super().__init__(hostname, limits, security)
        self._inquiry = inquiry
        self._optional = security.tls is Tls.STARTTLS_OPTIONAL and not security.implicit
        self._now = now
        self._since = now()
        self._at: StageName | None = _NAMES[self.phase]
        """The stage under way; None when the ladder has ended."""
        self._facts: dict[str, object] = {}
        self._beginning = b""
        self._asking = Stage.MAIL
        """Which command after the opening awaits its reply."""
        self._polite = False
        """The server awaits a command, so it gets QUIT."""
        self.stages: list[StageResult] = []
        self.stopped_at: Stage | None = None
        """Where delivery would see the fault; its stages are finer."""

    # --- for the shell ---------------------------------------------------------------------------

    def connection_made(self) -> None:
        """The first stage begins: connecting counts elsewhere."""
        self._since = self._now()

    def facts(self, **facts: object) -> None:
        """Facts for the detail of the stage under way."""
        self._facts.update(facts)

    def out_of_time(self, seconds: float) -> None:
        """The test's time is over."""
        self._break(f"{self._missing()} within the {seconds:g} s of the test")

    def receive(self, octets: bytes) -> None:
        if self.phase is Phase.GREETING and len(self._beginning) < _BEGINNING:
            self._beginning += octets[:_BEGINNING]
        super().receive(octets)

    def secured(self, tls: str, certificate: Certificate) -> None:
        version, _, cipher = tls.partition(" ")
        self._facts = {"version": version, "cipher": cipher, "certificate": certificate.value, **self._facts}
        super().secured(tls, certificate)
        if self.phase is Phase.GREETING:
            self._go(StageName.GREETING)

    def quit(self) -> None:
        if self._polite:
            self.phase = Phase.IDLE
        super().quit()

    # --- stages ----------------------------------------------------------------------------------

    def _go(self, to: StageName | None) -> None:
        """The stage under way has succeeded unless it goes on."""
        if self._at is not None and to is not self._at:
            self._end(True)
            self._at = to

    def _end(self, ok: bool) -> None:
        assert self._at is not None
        now = self._now()
        self.stages.append(StageResult(self._at, ok, now - self._since, self._facts, self._transcript.lines()))
        self._since, self._facts, self._transcript = now, {}, Transcript()

    def _fall(self, why: str) -> None:
        """The stage under way has failed: the end of the ladder."""
        self._facts["fault"] = why
        self._end(False)
        self._at = None

    def _back_to_tls(self) -> None:
        """A client certificate is refused after the handshake has ended for us (TLS 1.3): what followed was none."""
        before = next(stage for stage in reversed(self.stages) if stage.name is StageName.TLS)
        del self.stages[self.stages.index(before) :]
        self._at, self._since = StageName.TLS, self._since - before.seconds
        self._facts = dict(before.detail)

    # --- steps -----------------------------------------------------------------------------------

    def _take(self, reply: Reply) -> None:
        match self.phase:
            case Phase.GREETING if reply.code != 220 and reply.code < 400:
                self._transcript = Transcript()
                self._fail(Result.SERVER_FAULT, NOT_SMTP, Stage.GREETING)
            case Phase.GREETING:
                self._facts["reply"] = reply.text[:_CHARACTERS]
                super()._take(reply)
            case Phase.EHLO | Phase.HELO:
                self._facts["offers"] = [line[:_CHARACTERS] for line in reply.lines[1 : _LINES + 1]]
                super()._take(reply)
            case Phase.ENVELOPE:
                self._on_asked(reply)
            case Phase.SETTLING:
                self._leave()
            case _:
                super()._take(reply)

    def _move(self, move: Move) -> None:
        if not isinstance(move, Refused):
            self._go(_NAMES[self._opening.phase])
        super()._move(move)
        if isinstance(move, Refused) and move.reply is None:
            self._polite = True
        elif self.phase is Phase.IDLE:
            self._opened()

    def _opened(self) -> None:
        """Mail could be sent now."""
        if self._opening.logged_in:
            self._facts["username"] = self._opening.logged_in
        if self._optional and self._at is StageName.EHLO and not self._opening.under_tls:
            self._facts["in_clear"] = True
        if self._opening.downgraded and self._at is StageName.TLS:
            self._facts["downgraded"] = True
        if self._inquiry is None:
            self._say_quit()
            return
        self._go(StageName.MAIL)
        self._facts = {"mail_from": self._inquiry.mail_from, "rcpt_to": self._inquiry.rcpt_to}
        self.phase = Phase.ENVELOPE
        self._say(Stage.MAIL, f"MAIL FROM:<{self._inquiry.mail_from}>")

    def _on_asked(self, reply: Reply) -> None:
        if reply.code >= 300:
            self._refused(reply, self._asking)
            return
        match self._asking:
            case Stage.MAIL:
                assert self._inquiry is not None
                self._say(Stage.RCPT, f"RCPT TO:<{self._inquiry.rcpt_to}>")
            case Stage.RCPT:
                self._facts["reply"] = reply.text[:_CHARACTERS]
                self._say(Stage.RSET, "RSET")
            case _:
                self._say_quit()

    def _say_quit(self) -> None:
        self._go(StageName.QUIT)
        self.phase = Phase.SETTLING
        self._say(Stage.RSET, "QUIT")

    def _say(self, stage: Stage, line: str) -> None:
        self._asking = stage
        self._transcript.client(line)
        self._out.append(line.encode() + b"\r\n")

    def _leave(self) -> None:
        """QUIT is answered, or the server was quicker to close: either will do."""
        self.phase = Phase.UNFIT
        self._go(None)

    # --- ends ------------------------------------------------------------------------------------

    def _refused(self, reply: Reply, stage: Stage) -> None:
        super()._refused(reply, stage)
        self._polite = reply.code != 421
        self.stopped_at = stage
        self._go(_OF_STAGE[stage])
        self._fall(f"at {stage.value}: {reply.text}" if stage is not Stage.GREETING else reply.text)

    def _break(self, why: str, *, dot_unsent: bool = False) -> None:
        if self._at is StageName.GREETING and self._parser.fault:
            why = NOT_SMTP
            if self._beginning.startswith(b"HTTP/"):
                why = NOT_SMTP_HTTP
            elif self._beginning[:2] in (b"\x15\x03", b"\x16\x03"):
                why = NOT_SMTP_TLS
        super()._break(why, dot_unsent=dot_unsent)

    def _fail(self, result: Result, why: str, stage: Stage, *, blame: bool = True) -> None:
        if self._at is None:
            self.phase = Phase.UNFIT
            return
        if self._at is StageName.QUIT:
            self._leave()
            return
        self.stopped_at = stage
        at = _OF_STAGE[stage]
        if at is StageName.TLS and self._at is not StageName.TLS and self._opening.under_tls:
            self._back_to_tls()
        self._go(at)
        super()._fail(result, why, stage, blame=blame)
        self._fall(why)

    def _stage(self) -> Stage:
        return self._asking if self.phase in (Phase.ENVELOPE, Phase.SETTLING) else super()._stage()
