"""One connection to a next hop: asyncio callbacks around `core.smtp_client.ClientSession`.

No task and no coroutine per command: the session says what to write and how long to wait, one timer per
connection is re-armed lazily, and one future carries the answer of a transaction.
"""

import asyncio
import select
import ssl
from collections.abc import Callable, Generator
from time import monotonic
from typing import cast

from posthouse.client_tls import (
    CertificateRefused,
    TlsPolicy,
    TlsSettingsError,
    check_pin,
    client_context,
    tls_sentence,
)
from posthouse.clients.content_pieces import content_octets, pieces
from posthouse.clients.way import Way
from posthouse.core.limits import Limits
from posthouse.core.mail import FileOctets, InlineOctets
from posthouse.core.outcome import ServerAnswer, Transaction
from posthouse.core.profile import TlsVerify
from posthouse.core.smtp_client import ClientSession, Phase
from posthouse.core.smtp_opening import Security
from posthouse.core.way import Certificate
from posthouse.core.wire_form import header_is_ascii
from posthouse.ports import ContentUnreadable, MayFinish
from posthouse.tls import describe

ONE_WRITE_OCTETS = 64 * 1024
"""Content up to this size leaves in one write with its dot; of larger content the last piece waits until all
before it has left, so that a loss on the way is known to be one without a dot."""
SETTLE_SECONDS = 5.0
"""How long a connection may take to become idle after the answer is out."""
RESET_SECONDS = 1.0
"""A connection idle for longer is asked by RSET whether it still serves, in one write with what follows."""
NOT_OURS = "the mail is no longer this worker's"
_CHECKED = {
    TlsVerify.VERIFY: Certificate.VERIFIED,
    TlsVerify.PINNED: Certificate.PINNED,
    TlsVerify.NONE: Certificate.UNVERIFIED,
}


class SmtpConnection(asyncio.Protocol):
    """From connect to close; `transact` once at a time, further ones while `idle`."""

    def __init__(
        self,
        hostname: str,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        way: Way | None = None,
        alive: "set[SmtpConnection] | None" = None,
        session: ClientSession | None = None,
    ) -> None:
        """`way`: TLS and login; none of it without. It is in `alive` from connect until nothing of it is left.
        `session`: instead of one for mail (a TEST)."""
        self._alive = alive if alive is not None else set()
        self._way = way or Way("", 0, Security())
        self._session = session or ClientSession(hostname, limits, self._way.security)
        self._loop = loop
        self._limits = limits
        self._handshake: asyncio.Task[None] | None = None
        self._early: list[bytes] | None = None
        """What came under TLS before the event loop says that the handshake is done."""
        self._transport: asyncio.Transport | None = None
        self._transaction: Transaction | None = None
        self._may_finish: MayFinish = lambda: True
        self._answer: asyncio.Future[ServerAnswer] | None = None
        self._opened: asyncio.Future[str] | None = None
        self._settled: Callable[[SmtpConnection], None] | None = None
        self._source: Generator[bytes | memoryview, None, None] | None = None
        """Pieces of the content not written yet."""
        self._held: bytes | memoryview | None = None
        """The next piece; the last one waits for `may_finish`."""
        self._asking: asyncio.Future[bool] | None = None
        self._full = False
        """Octets that we wrote have not left this machine's buffers."""
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.opened_at = loop.time()
        self._began = 0.0
        """When MAIL of the present transaction left; 0 before."""
        self.seconds = 0.0
        """Of the last transaction, from MAIL to the last reply; 0 where it did not get so far, or broke."""
        self.tls_seconds = 0.0
        """Of the TLS handshake; 0 in clear text."""
        self.server_certificate = b""
        """What the server showed (DER), trusted or not."""
        self._idle_since = 0.0
        self._unfit: Callable[[SmtpConnection], None] | None = None

    # --- for the relay -----------------------------------------------------------------------------------

    @property
    def digital_id(self) -> str:
        """File of the digital ID that it has shown; empty if none."""
        policy = self._way.policy
        return policy.certificate[0] if policy is not None and policy.certificate is not None else ""

    def transact(self, transaction: Transaction, may_finish: MayFinish) -> "asyncio.Future[ServerAnswer]":
        """Hands over one mail; the future gets its answer and never an exception."""
        answer: asyncio.Future[ServerAnswer] = self._loop.create_future()
        self._transaction, self._may_finish, self._answer = transaction, may_finish, answer
        self._began = self.seconds = 0.0
        self._session.begin(
            transaction,
            utf8_header=transaction.smtputf8 and not _ascii_header(transaction),
            reset=self.mails > 0 and self._loop.time() - self._idle_since > RESET_SECONDS,
        )
        self._rearm()
        self._step()
        return answer

    def opened(self) -> "asyncio.Future[str]":
        """For a probe, instead of a transaction: empty once a mail could be sent, else what stands against it."""
        self._opened = self._loop.create_future()
        self._step()
        return self._opened

    def connected(self, local: str, remote: str) -> None:
        """Between which addresses; before the first `transact`."""
        self._session.connected(local, remote)

    @property
    def mails(self) -> int:
        """How many transactions it has carried."""
        return self._session.mails

    @property
    def idle(self) -> bool:
        """Fit for a further `transact`."""
        return self._transport is not None and self._session.idle

    def keep(self, unfit: "Callable[[SmtpConnection], None]") -> None:
        """It is idle in the pool from now on; calls `unfit` once it can be used no more."""
        self._idle_since = self._loop.time()
        self._unfit = unfit

    def take(self) -> bool:
        """It leaves the pool; False if the server has closed it or said something meanwhile, read by us or not."""
        self._unfit = None
        if not self.idle or self._transport is None:
            return False
        waiting = select.poll()
        waiting.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not waiting.poll(0)

    def when_settled(self, done: "Callable[[SmtpConnection], None]") -> None:
        """Calls `done` once the connection is either idle or unfit after its answer; at most SETTLE_SECONDS."""
        self._settled = done
        self._deadline = self._loop.time() + SETTLE_SECONDS
        self._arm()
        self._step()

    def quit(self) -> None:
        """QUIT and close. Nobody waits for the reply: it could change nothing."""
        self._session.quit()
        if self._full:
            self.abort()  # what is still here must not leave: the final dot may be in it
        elif self._transport is not None:
            if octets := self._session.output():
                self._transport.write(octets)
            self._transport.close()
        self._end()

    def abort(self) -> None:
        """Closes at once; what was not decided stays without an answer."""
        if self._handshake is not None:
            self._handshake.cancel()
        self._alive.discard(self)
        if self._transport is not None:
            self._transport.abort()
        self._end()

    # --- asyncio -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        # With 0 as the mark, `pause_writing` tells exactly whether all we wrote has left: whether the dot has.
        transport.set_write_buffer_limits(high=0)
        self._alive.add(self)
        self._rearm()
        self._step()

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early.append(data)
            return
        session = self._session
        before = session.replies
        if self._full:
            session.dot_held_up()
        session.receive(data)
        self._step()
        if session.replies != before and session.phase is not Phase.FINAL and not session.idle:
            self._rearm()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshake is not None:
            return  # it tells itself how it ended
        self._alive.discard(self)
        self._transport = None
        if isinstance(exc, ssl.SSLError) and self._session.phase in (Phase.GREETING, Phase.EHLO):
            # In TLS 1.3 a client certificate is refused after what the client takes for the end of the handshake.
            self._session.tls_failed(self._sentence(exc))
        else:
            why = "connection reset" if isinstance(exc, ConnectionError) else "connection lost"
            self._session.lost(why, dot_unsent=self._full)
        self._step()
        self._end()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._session.phase is Phase.CONTENT:
            self._rearm()
            self._write_content()
        elif self._session.phase is Phase.FINAL:
            self._rearm()

    # --- steps -------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """Does what the session asks for after an event."""
        session = self._session
        if not self._began and session.phase is Phase.ENVELOPE:
            self._began = monotonic()
        if (octets := session.output()) and self._transport is not None:
            self._transport.write(octets)
        if session.phase is Phase.HANDSHAKE:
            if self._handshake is None and self._transport is not None:
                self._handshake = self._loop.create_task(self._secure(self._transport))
        elif session.phase is Phase.CONTENT:
            if self._source is None:
                self._begin_content()
        elif self._source is not None and session.phase is not Phase.FINAL:
            self._drop_content()
        if (answer := session.take_answer()) is not None:
            self._drop_content()
            self._transaction = None
            if self._began and session.phase is not Phase.UNFIT:
                self.seconds = monotonic() - self._began
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(answer)
        if self._opened is not None and not self._opened.done() and session.phase in (Phase.IDLE, Phase.UNFIT):
            self._opened.set_result("" if session.idle else session.ended_by)
        if self._settled is not None and session.phase is not Phase.SETTLING:
            done, self._settled = self._settled, None
            done(self)
        if self._unfit is not None and not self.idle:
            unfit, self._unfit = self._unfit, None
            unfit(self)

    # --- TLS ---------------------------------------------------------------------------------------------

    async def _secure(self, transport: asyncio.Transport) -> None:
        """The handshake: the one task of a connection. What came in clear after the server's 220 ended it before."""
        policy = self._way.policy
        assert policy is not None
        began = monotonic()
        fault = ""
        tls = ""
        secured: asyncio.Transport | None = None
        if self._way.security.implicit:
            # In TLS 1.2 the server ends the handshake, and its greeting may come with that: from `start_tls` on,
            # nothing reaches us that was not under TLS. After STARTTLS a proper server waits for EHLO.
            self._early = []
        try:
            secured = await self._loop.start_tls(
                transport,
                self,
                client_context(policy),
                server_hostname=self._way.name,
                ssl_handshake_timeout=self._limits.tls_handshake_seconds,
            )
            shown = secured.get_extra_info("ssl_object") if secured is not None else None
            if shown is None:  # it was lost meanwhile, which some event loops do not tell otherwise
                raise ConnectionResetError
            fault, tls = self._checked(policy, shown), describe(shown)
        except (OSError, EOFError, ValueError, TlsSettingsError) as error:  # TimeoutError and SSLError are OSErrors
            fault = self._sentence(error)
            if isinstance(error, CertificateRefused):
                self.server_certificate = error.certificate
        finally:
            self._handshake = None
            early, self._early = self._early, None
        # Where octets came in clear before the handshake began, the session has ended by itself.
        if fault or self._session.phase is not Phase.HANDSHAKE:
            (secured or transport).abort()
            self._alive.discard(self)
            self._transport = None
            if self._session.phase is Phase.HANDSHAKE:
                self._session.tls_failed(fault)
            self._step()
            self._end()
            return
        assert secured is not None
        self._transport = secured
        self._full = False
        self.tls_seconds = monotonic() - began
        self._session.secured(tls, _CHECKED[policy.verify])
        self._rearm()
        self._step()
        for octets in early or ():
            self.data_received(octets)

    def _checked(self, policy: TlsPolicy, shown: ssl.SSLObject) -> str:
        """What is wrong with the certificate after a handshake; empty if nothing is."""
        self.server_certificate = shown.getpeercert(binary_form=True) or b""
        return check_pin(policy, shown)

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, TlsSettingsError):
            return str(error)
        return tls_sentence(error, self._way.policy.minimum if self._way.policy is not None else "1.2")

    # --- content -----------------------------------------------------------------------------------------

    def _begin_content(self) -> None:
        """354 has come: one write for small content, else piece by piece."""
        transaction = self._transaction
        assert transaction is not None
        content = transaction.content
        if not content.cuts and content.source.size <= ONE_WRITE_OCTETS and isinstance(content.source, InlineOctets):
            self._source = pieces(content)
            self._held = transaction.prefix + content.source.octets
            self._ask_and_finish()
            return
        self._source = pieces(content)
        try:
            self._held = next(self._source, b"")
        except ContentUnreadable as error:
            self._give_up(str(error))
            return
        self._write(transaction.prefix)
        self._write_content()

    def _write_content(self) -> None:
        """Writes pieces while the network takes them; holds the last one back for `may_finish`."""
        while self._source is not None and not self._full and self._asking is None:
            try:
                following = next(self._source, None)
            except ContentUnreadable as error:
                self._give_up(str(error))
                return
            if following is None:
                self._ask_and_finish()
                return
            piece, self._held = self._held, following
            if piece is not None:
                self._write(piece)

    def _ask_and_finish(self) -> None:
        allowed = self._may_finish()
        if isinstance(allowed, bool):
            self._finish(allowed)
            return
        self._asking = asyncio.ensure_future(allowed)
        self._asking.add_done_callback(self._asked)

    def _asked(self, asking: "asyncio.Future[bool]") -> None:
        self._asking = None
        if self._session.phase is Phase.CONTENT and not asking.cancelled():
            self._finish(asking.exception() is None and asking.result())

    def _finish(self, allowed: bool) -> None:
        """The octets that hold the final dot."""
        transaction, last = self._transaction, self._held
        assert transaction is not None
        assert last is not None
        if not allowed:
            self._give_up(NOT_OURS)
            return
        self._held, self._source = None, None
        self._session.dot_leaves(len(transaction.prefix) + content_octets(transaction.content))
        self._write(last)
        self._rearm()

    def _give_up(self, why: str) -> None:
        """For a reason of ours the final dot must not be sent: the connection is unfit and will be closed."""
        self._session.abandon(why)
        self._step()

    def _write(self, octets: bytes | memoryview) -> None:
        if self._transport is not None and octets:
            self._transport.write(octets)

    def _drop_content(self) -> None:
        """Closes the file that the content comes from, if it is still open."""
        source, self._source, self._held = self._source, None, None
        if source is not None:
            source.close()
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    # --- deadline ----------------------------------------------------------------------------------------

    def _rearm(self) -> None:
        """`patience` begins anew; the timer itself is left alone unless it would come too late."""
        self._deadline = self._loop.time() + self._session.patience
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._arm()
            return
        if self._session.idle:
            return  # whoever keeps the connection decides how long
        self._session.timed_out(dot_unsent=self._full)
        if self._transport is not None:
            self._transport.abort()
        self._step()

    def _end(self) -> None:
        self._drop_content()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ascii_header(transaction: Transaction) -> bool:
    """No header field needs SMTPUTF8; of content in a file its beginning is looked at."""
    beginning: bytes | memoryview
    match transaction.content.source:
        case InlineOctets(octets):
            beginning = octets
        case FileOctets():
            source = pieces(transaction.content)
            try:
                beginning = next(source, b"")
            except ContentUnreadable:
                return True  # the attempt will tell
    return transaction.prefix.isascii() and header_is_ascii(bytes(beginning))
