"""A pair in memory that is shown while the digital ID cannot be used, and a note of what the console shows.

The note is for the commands on this machine, which know their own node by the certificate that it shows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from posthouse.digital_id import issue

CONSOLE_SHOWS = "console.sha256"


@contextmanager
def stand_in(hostname: str, now: float) -> Iterator[str]:
    """A file with a self-signed certificate and its key (PEM), for as long as the block lasts; never on a disk."""
    descriptor = os.memfd_create("posthouse-stand-in")
    try:
        made = issue.self_signed(issue.new_key(issue.KeyType.ECDSA), [hostname], issue.DAYS, now)
        os.write(descriptor, made.pem())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def note_shown(data_dir: str, certificate: bytes) -> None:
    """Leaves the SHA-256 of the certificate (DER) that the console shows from now on."""
    path = Path(data_dir) / CONSOLE_SHOWS
    fresh = path.with_suffix(".new")
    # Where it cannot be written, commands go by the digital ID in force alone.
    with suppress(OSError):
        fresh.write_text(sha256(certificate).hexdigest() + "\n", "ascii")
        fresh.replace(path)


def noted(data_dir: str) -> str:
    """The SHA-256 that `note_shown` has left; empty if it left none."""
    try:
        return (Path(data_dir) / CONSOLE_SHOWS).read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
