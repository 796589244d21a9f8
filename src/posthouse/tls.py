"""TLS contexts of the listeners and the console, which show the digital ID that is in force."""

import ssl
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from posthouse.core.faults import InvalidInput
from posthouse.digital_id.stand_in import stand_in
from posthouse.digital_id.store import DigitalIds, DigitalIdUnusable
from posthouse.telemetry import logger

log = logger("tls")

REMEDY = "Do as it says, or put another one in force: `posthouse digital-id import FILE` or `generate`."


def ensure_digital_id(data_dir: str, hostname: str) -> tuple[str, str]:
    """Files of certificate and key (PEM), which are one; a self-signed EC P-256 pair is made when there is none.

    What is in it never changes: after a renewal another file is in force.
    """
    path = DigitalIds(data_dir).ensure(hostname, time.time())
    return path, path


def renewing_context(
    digital_id: Callable[[], tuple[str, str]],
    hostname: str = "localhost",
    showing: Callable[[bytes], None] = lambda _: None,
) -> ssl.SSLContext:
    """For listeners and console: each handshake shows what `digital_id` names then; open connections go on.

    Should that fail, what was shown before is shown on, and the log says so once; where it fails from the start, a
    temporary self-signed certificate for `hostname` is shown, so that mail goes on. `showing` hears of each
    certificate (DER) before anybody sees it.
    """
    try:
        return _renewing(digital_id, digital_id(), "", showing)
    except (DigitalIdUnusable, InvalidInput, OSError, ValueError) as error:
        failed = str(error)
        log.error("digital ID cannot be used, a temporary self-signed one is shown", error=failed, remedy=REMEDY)
    with stand_in(hostname, time.time()) as path:
        return _renewing(digital_id, (path, path), failed, showing)


def _renewing(
    digital_id: Callable[[], tuple[str, str]],
    files: tuple[str, str],
    failed: str,
    showing: Callable[[bytes], None],
) -> ssl.SSLContext:
    """`failed`: the fault that the log has already."""
    shown, door = _context(*files), _context(*files)
    showing(_certificate(files[0]))

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        # Another context, not another pair in the same one: that would keep a former key of another kind as well.
        nonlocal files, shown, failed
        try:
            if (fresh := digital_id()) != files:
                built = server_context(*fresh)
                showing(_certificate(fresh[0]))
                shown, files = built, fresh
                log.info("digital ID in force", file=files[0])
            failed = ""
        except Exception as error:  # nothing may leave a callback of OpenSSL
            if str(error) != failed:
                failed = str(error)
                log.error("digital ID cannot be used, the former one is shown", error=failed, remedy=REMEDY)
        connection.context = shown

    door.sni_callback = choose
    return door


@lru_cache(maxsize=16)
def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and above. Built once for each pair of files. Raises DigitalIdUnusable."""
    return _context(certificate, key)


def _context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise DigitalIdUnusable(f"the digital ID {certificate} cannot be used: {reason}") from error
    return context


def _certificate(path: str) -> bytes:
    """The first one of a file of OpenSSL's, DER."""
    text = Path(path).read_text("ascii", "replace")
    begin, end = text.index(ssl.PEM_HEADER), text.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    return ssl.PEM_cert_to_DER_cert(text[begin:end])


def describe(connection: ssl.SSLObject) -> str:
    """`TLSv1.3 TLS_AES_256_GCM_SHA384`: for trail and Received."""
    cipher = connection.cipher()
    return f"{connection.version()} {cipher[0] if cipher else ''}".strip()
