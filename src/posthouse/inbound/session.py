"""One SMTP session: an asyncio protocol that drives `core/smtp_server` and asks the `Reception`.

Callbacks only, no task per command; all replies of a batch in one write; one lazily re-armed timer for all
deadlines. Input that cannot be looked at yet (a reply is outstanding, a client does not read ours) stops the
reading, so a session's memory is bounded.
"""

import asyncio
import os
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from posthouse import tls
from posthouse.core.envelope import MailArguments, Recipient, SessionFacts, XclientAttributes
from posthouse.core.smtp_reply import Reply, reply
from posthouse.core.smtp_server import (
    ContentEnded,
    ContentOctets,
    ContentRefused,
    ContentStarted,
    Ended,
    Event,
    MailOffered,
    RecipientOffered,
    ServerSession,
    StartTlsAsked,
    XclientGiven,
)
from posthouse.ports import ContentSink
from posthouse.telemetry import logger

if TYPE_CHECKING:
    from posthouse.inbound.listener import Listener

log = logger("inbound")

_CLOSING = reply(421, "4.3.2", "Service shutting down")
_TOO_MANY = reply(421, "4.3.2", "Too many sessions, try again later")
_TIMEOUT = reply(421, "4.4.2", "Timeout")
_SLOW = reply(421, "4.4.2", "Content comes too slowly")
_NO_SPACE = reply(452, "4.3.1", "Space is short, try again later")
_TICK = 5.0
"""Seconds after which a session looks at its deadlines at the latest."""


@dataclass(slots=True)
class Client:
    """Who is at the other end."""

    address: str
    port: int
    peer: str = ""
    """The connecting address where PROXY or XCLIENT named another client."""


class Session(asyncio.Protocol):
    """One connection of one listener."""

    def __init__(self, listener: "Listener", client: Client | None = None) -> None:
        """`client` where a PROXY header named it, or the connection was looked at before."""
        self._listener = listener
        self._limits = listener.limits
        self._loop = listener.loop
        self._transport: asyncio.Transport | None = None
        self._smtp: ServerSession | None = None
        self._client = client or Client("", 0)
        self._counted = ""
        self._tls = ""
        self._sink: ContentSink | None = None
        self._running = False
        self._upgrading = False
        self._early = b""
        self._xclient = False
        self._paused_by_peer = False
        self._reading = True
        self._timer: asyncio.TimerHandle | None = None
        self._expected_since = 0.0
        self._allowed = 0.0
        self._content_since = 0.0
        self._content_octets = 0
        self._discarding = False
        self._waits_for_us = False
        self._facts: SessionFacts | None = None

    # --- transport callbacks ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._client.address:
            self._client = client_of(transport)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self._tls = tls.describe(secured)
        self._listener.opened(self)
        self._expect(self._limits.command_seconds)
        self._begin()

    def data_received(self, data: bytes) -> None:
        if self._upgrading:
            self._early += data
            return
        smtp = self._smtp
        if smtp is None or self._transport is None:
            return
        smtp.receive(data)
        self._content_octets += len(data)
        if smtp.in_content:
            self._expect(self._limits.data_idle_seconds)
        if self._waits_for_us:
            self._hold_back(smtp)
        else:
            self._run()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_sink()
        self._listener.closed(self, self._counted)

    def pause_writing(self) -> None:
        """The client does not read our replies: nothing more is read until it does."""
        self._paused_by_peer = True
        self._pause()

    def resume_writing(self) -> None:
        self._paused_by_peer = False
        self._resume()
        if not self._waits_for_us:
            self._run()

    # --- beginning ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Counts the client, greets."""
        if not self._listener.admit(self._client.address):
            self._last_word(_TOO_MANY)
            return
        self._counted = self._client.address
        self._xclient = self._listener.takes_xclient(self._client.address)
        self._smtp = self._new_smtp()
        self._smtp.greet()
        self._flush()

    def _new_smtp(self) -> ServerSession:
        listener = self._listener
        offers = listener.offers(listener.is_trusted(self._client.address), bool(self._tls), self._xclient)
        return ServerSession(listener.hostname, self._limits, offers)

    # --- the dialogue -------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Takes events until none is left or one waits for an answer from outside."""
        if self._smtp is None or self._running or self._transport is None or self._paused_by_peer:
            return
        self._running = True
        try:
            while not self._waits_for_us and (event := self._smtp.next_event()) is not None:
                if type(event) is ContentOctets:
                    self._write_content(event.octets)
                else:
                    self._handle(self._smtp, event)
        except Exception:
            self._trouble()
        finally:
            self._running = False
        self._flush()
        if self._waits_for_us:
            self._hold_back(self._smtp)

    def _handle(self, smtp: ServerSession, event: Event) -> None:
        match event:
            case RecipientOffered(recipient, reverse_path):
                smtp.answer(self._admit(recipient, reverse_path))
            case MailOffered(arguments):
                self._facts = self._session_facts(smtp, arguments.smtputf8)
                smtp.answer(self._begin_mail(self._facts, arguments))
            case ContentStarted():
                self._content_since = self._listener.clock.monotonic()
                self._content_octets = smtp.buffered
                self._expect(self._limits.data_idle_seconds)
                self._open_content(smtp)
            case ContentOctets(octets):
                self._write_content(octets)
            case ContentEnded():
                self._accept(event)
            case ContentRefused():
                self._drop_sink()
            case StartTlsAsked():
                self._start_tls()
            case XclientGiven(attributes):
                self._become(smtp, attributes)
            case Ended():
                self._flush()
                self._close()

    def _begin_mail(self, facts: SessionFacts, arguments: MailArguments) -> Reply | None:
        try:
            return self._listener.reception.begin(facts)
        except Exception as error:
            return _internal_trouble("MAIL not decided", error)

    def _admit(self, recipient: Recipient, reverse_path: str) -> Reply | None:
        assert self._facts is not None
        try:
            return self._listener.reception.admit(self._facts, reverse_path, recipient.address)
        except Exception as error:
            return _internal_trouble("recipient not decided", error)

    def _open_content(self, smtp: ServerSession) -> None:
        """The 354 is on its way, so a failure here is told at the end of the content."""
        try:
            self._sink = self._listener.reception.open_content()
        except OSError as error:
            log.error("no place for content", error=str(error))
            smtp.refuse_content(_NO_SPACE)
        except Exception as error:
            smtp.refuse_content(_internal_trouble("no place for content", error))

    def _write_content(self, octets: bytes) -> None:
        sink = self._sink
        if sink is None:
            return
        try:
            sink.write(octets)
        except OSError as error:
            log.error("content not written", error=str(error))
            self._drop_sink()
            assert self._smtp is not None
            self._smtp.refuse_content(_NO_SPACE)

    def _accept(self, event: ContentEnded) -> None:
        """Hands the mail over; the reply to the final dot comes by `_answered`, now or later."""
        sink, self._sink = self._sink, None
        assert self._facts is not None
        self._waits_for_us = True
        if sink is None:
            self._answered(_NO_SPACE, None)
            return
        try:
            content = sink.close(size=event.size, header=event.header, normalised=event.normalised)
            self._listener.reception.accept(
                self._facts, event.envelope, content, lambda answer: self._answered(answer, sink)
            )
        except Exception as error:
            self._answered(_internal_trouble("mail not taken", error), sink)

    def _answered(self, answer: Reply, sink: ContentSink | None) -> None:
        if sink is not None:
            sink.release()
        smtp = self._smtp
        if not self._waits_for_us or smtp is None:
            return
        self._waits_for_us = False
        smtp.answer(answer)
        if not self._running:
            self._resume()
            self._run()

    def _session_facts(self, smtp: ServerSession, smtputf8: bool) -> SessionFacts:
        known = self._facts
        protocol = ("UTF8SMTP" if smtputf8 else "ESMTP" if smtp.esmtp else "SMTP") + ("S" if self._tls else "")
        if protocol == "SMTPS":
            protocol = "SMTP"  # RFC 3848 knows no SMTPS: HELO cannot start TLS, implicit TLS alone leads here
        if known is not None and known.helo == smtp.helo and known.protocol == protocol:
            return known
        return SessionFacts(
            client_address=self._client.address,
            client_port=self._client.port,
            helo=smtp.helo,
            protocol=protocol,
            listener=self._listener.name,
            tls=self._tls,
            trusted=self._listener.is_trusted(self._client.address),
            peer_address=self._client.peer,
        )

    def _become(self, smtp: ServerSession, attributes: XclientAttributes) -> None:
        """XCLIENT named the real client: its limits, trust and newline rules hold from now on."""
        peer = self._client.peer or self._client.address
        self._facts = None
        if attributes.address:
            self._client = Client(attributes.address, attributes.port, peer)
            self._flush()
            fresh = self._new_smtp()
            fresh.helo, fresh.esmtp = smtp.helo, smtp.esmtp
            fresh.receive(smtp.take_input())
            self._smtp = fresh

    # --- TLS ----------------------------------------------------------------------------------------------

    def _start_tls(self) -> None:
        self._flush()
        self._pause()
        self._upgrading = True
        self._waits_for_us = True
        self._listener.keep(self._loop.create_task(self._upgrade()))

    async def _upgrade(self) -> None:
        """The one task of a session. What arrives before the swap waits; the session begins anew after it."""
        transport, context = self._transport, self._listener.tls_context
        if transport is None or context is None:
            return
        try:
            secured = await self._loop.start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._limits.tls_handshake_seconds,
            )
        except (Exception, asyncio.CancelledError) as error:
            log.info("TLS handshake failed", client=self._client.address, error=str(error))
            transport.abort()
            self.connection_lost(None)  # which asyncio does not call when it comes to that within a handshake
            return
        if secured is None or self._transport is None:
            return
        self._transport = secured
        self._tls = tls.describe(secured.get_extra_info("ssl_object"))
        self._facts = None
        self._upgrading = self._waits_for_us = False
        self._reading = True
        self._expect(self._limits.command_seconds)
        self._smtp = self._new_smtp()
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    # --- writing, holding back, ending ---------------------------------------------------------------------

    def _flush(self) -> None:
        """All replies of the batch in one write."""
        if self._smtp is None or self._transport is None:
            return
        octets = self._smtp.data_to_send()
        if octets:
            self._transport.write(octets)
            if not self._smtp.in_content:
                self._expect(self._limits.command_seconds)

    def _hold_back(self, smtp: ServerSession) -> None:
        if smtp.buffered > self._limits.pending_input_octets:
            self._pause()

    def _pause(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if (
            not self._reading
            and not self._paused_by_peer
            and self._transport is not None
            and not self._transport.is_closing()
        ):
            self._reading = True
            self._transport.resume_reading()

    def _trouble(self) -> None:
        """A bug of ours must not look like the client's fault: 451, an id, and the connection ends."""
        identity = os.urandom(4).hex()
        log.exception("session failed", trouble=identity)
        if self._smtp is not None:
            self._smtp.end(reply(421, "4.3.0", f"Internal trouble (id {identity})"))
        self._flush()
        self._close()

    def _last_word(self, said: Reply) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(said.encode())
        self._close()

    def _close(self) -> None:
        """Closes once all is written; a client that does not read it in time is cut off."""
        self._drop_sink()
        if self._transport is not None and not self._transport.is_closing():
            self._expect(self._limits.stress_seconds)
            self._transport.close()

    def _drop_sink(self) -> None:
        if self._sink is not None:
            self._sink.release()
            self._sink = None

    @property
    def idle(self) -> bool:
        """Outside a mail transaction."""
        return self._smtp is None or not (self._smtp.in_transaction or self._waits_for_us)

    def shut_down(self) -> None:
        """421 and close; only for a session outside a transaction."""
        self._last_word(_CLOSING)

    # --- deadlines ----------------------------------------------------------------------------------------

    def _expect(self, seconds: float) -> None:
        """The client has so long for what comes next; under stress less."""
        self._expected_since = self._listener.clock.monotonic()
        self._allowed = seconds
        if self._timer is None:
            self._timer = self._loop.call_later(min(seconds, _TICK), self.look_at_deadlines)

    def look_at_deadlines(self) -> None:
        """A timer that is not moved at every octet costs nothing on the hot path; stress holds for all at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is None:
            return
        now = self._listener.clock.monotonic()
        if self._smtp is not None:
            self._measure_discarded(self._smtp, now)
        allowed = min(self._allowed, self._limits.stress_seconds) if self._listener.stressed else self._allowed
        left = self._expected_since + allowed - now
        if self._transport.is_closing():
            if left <= 0:
                self._transport.abort()
                return
        elif self._waits_for_us:
            self._expected_since, left = now, allowed
        elif left <= 0:
            self._time_out(_TIMEOUT)
            return
        elif self._smtp is not None and self._smtp.in_content:
            since = now - self._content_since
            if since > self._limits.data_rate_grace_seconds and (
                self._content_octets < self._limits.data_rate_octets * since
            ):
                self._time_out(_SLOW)
                return
        self._timer = self._loop.call_later(min(max(0.05, left), _TICK), self.look_at_deadlines)

    def _measure_discarded(self, smtp: ServerSession, now: float) -> None:
        """Octets of a refused BDAT begin no content, so their rate is measured from the first look at them."""
        if smtp.discarding and not self._discarding:
            self._content_since, self._content_octets = now, 0
        self._discarding = smtp.discarding

    def _time_out(self, said: Reply) -> None:
        self._last_word(said)
        if self._transport is not None and self._paused_by_peer:
            self._transport.abort()  # it reads nothing, not even a last word


def _internal_trouble(what: str, error: Exception) -> Reply:
    """451 with an id that the log repeats (design section 3)."""
    identity = os.urandom(4).hex()
    log.exception(what, trouble=identity, error=repr(error))
    return reply(451, "4.3.0", f"Internal trouble, try again later (id {identity})")


def client_of(transport: asyncio.BaseTransport) -> Client:
    """Who connected."""
    peer = transport.get_extra_info("peername") or ("", 0)
    return Client(_plain(peer[0]), peer[1])


@lru_cache(maxsize=4096)
def _plain(address: str) -> str:
    """The shortest text form; an IPv4 address in an IPv6 coat counts as IPv4."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)
