"""A next hop that records what it takes: aiosmtpd, an SMTP server nobody here wrote, in a thread of its own."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiosmtpd.smtp import SMTP, Envelope, LoginPassword, Session


@dataclass(frozen=True, slots=True)
class Taken:
    """One mail as the next hop got it; `content` unstuffed, without the final dot."""

    reverse_path: str
    recipients: tuple[str, ...]
    content: bytes
    mail_options: tuple[str, ...] = ()
    tls: str = ""
    """TLS version, such as `TLSv1.3`; empty in clear text."""
    username: str = ""
    """Of the login."""


@dataclass
class Recorder:
    """What was taken so far, in order; appended to by the sink's thread."""

    port: int = 0
    taken: list[Taken] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content
        assert isinstance(content, bytes)
        recipients = tuple(envelope.rcpt_tos)
        connection = server.transport.get_extra_info("ssl_object") if server.transport is not None else None
        tls = connection.version() if connection is not None else ""
        options, login = tuple(envelope.mail_options), session.auth_data
        username = login.login.decode() if isinstance(login, LoginPassword) else ""
        self.take(Taken(envelope.mail_from or "", recipients, content, options, tls, username))
        return "250 2.0.0 taken"

    def take(self, taken: Taken) -> None:
        """Called before the 250; a test that needs no contents keeps something smaller."""
        self.taken.append(taken)


class _Tolerant(SMTP):
    """The corpus has lines of any length, and a next hop may take them."""

    line_length_limit = 64 * 1024 * 1024


R = TypeVar("R", bound=Recorder)


@contextmanager
def recording_sink(
    recorder: R, port: int = 0, *, implicit: ssl.SSLContext | None = None, **options: Any
) -> Iterator[R]:
    """Listens on loopback (a free port unless one is given) until the block ends.

    `implicit`: TLS from the first octet; `options`: aiosmtpd's, such as `tls_context` for STARTTLS.
    """
    loop = asyncio.new_event_loop()
    started = threading.Event()

    def make() -> SMTP:
        return _Tolerant(
            recorder,
            data_size_limit=256 * 1024 * 1024,
            enable_SMTPUTF8=True,
            hostname="sink.test",
            loop=loop,
            **options,
        )

    async def listen() -> asyncio.Server:
        server = await loop.create_server(make, "127.0.0.1", port, ssl=implicit)
        recorder.port = server.sockets[0].getsockname()[1]
        return server

    async def close(server: asyncio.Server) -> None:
        server.close()
        sessions = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def run() -> None:
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(listen())
        started.set()
        loop.run_forever()
        loop.run_until_complete(close(server))
        loop.close()

    thread = threading.Thread(target=run, name="recording-sink", daemon=True)
    thread.start()
    assert started.wait(10), "the recording sink did not start"
    try:
        yield recorder
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
