"""TLS contexts of the listeners and the console, which show the digital ID that is in force."""

import ssl
import time
from collections.abc import Callable
from functools import lru_cache

from posthouse.digital_id.store import DigitalIds
from posthouse.telemetry import logger

log = logger("tls")


def ensure_digital_id(data_dir: str, hostname: str) -> tuple[str, str]:
    """Files of certificate and key (PEM), which are one; a self-signed EC P-256 pair is made when there is none.

    What is in it never changes: after a renewal another file is in force.
    """
    path = DigitalIds(data_dir).ensure(hostname, time.time())
    return path, path


def renewing_context(digital_id: Callable[[], tuple[str, str]]) -> ssl.SSLContext:
    """For listeners and console: each handshake shows what `digital_id` names then; open connections go on.

    Should that fail, what was shown before is shown on, and the log says so once.
    """
    files = digital_id()
    shown, failed = server_context(*files), ""

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        # Another context, not another pair in the same one: that would keep a former key of another kind as well.
        nonlocal files, shown, failed
        try:
            if (fresh := digital_id()) != files:
                shown = server_context(*fresh)
                files = fresh
                log.info("digital ID in force", file=files[0])
            failed = ""
        except Exception as error:  # nothing may leave a callback of OpenSSL
            if str(error) != failed:
                failed = str(error)
                log.error("digital ID cannot be used, the former one is shown", error=failed)
        connection.context = shown

    door = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    door.minimum_version = ssl.TLSVersion.TLSv1_2
    door.load_cert_chain(*files, password="")
    door.sni_callback = choose
    return door


@lru_cache(maxsize=16)
def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 and above. Built once for each pair of files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, password="")
    return context


def describe(connection: ssl.SSLObject) -> str:
    """`TLSv1.3 TLS_AES_256_GCM_SHA384`: for trail and Received."""
    cipher = connection.cipher()
    return f"{connection.version()} {cipher[0] if cipher else ''}".strip()
