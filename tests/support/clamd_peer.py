"""A real clamd with signatures made here, on a free loopback port and a socket of its own.

    with clamd({"Local.Eicar": EICAR}) as peer:
        ...  # peer.tcp, peer.unix

A missing program is a failed test that names the command to install it, never a skipped one.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.peers import free_port, need, peer_folder
from support.waiting import eventually

# In two parts, so that no scanner finds it here.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass(frozen=True)
class Clamd:
    """Where it would listen; whether it does is `code`."""

    tcp: str
    unix: str
    code: int | None
    """What it ended with; None: it runs."""
    log: Path
    process: "subprocess.Popen[bytes]"


@contextmanager
def clamd(
    signatures: Mapping[str, bytes], *, markers: Mapping[str, bytes] | None = None, conf: str = ""
) -> Iterator[Clamd]:
    """Runs with one signature by hash for each content; returns once it listens or has ended.

    `markers`: signatures of octets wherever they stand; `conf`: further lines of clamd.conf.
    """
    program = need("clamd", "clamav-daemon")
    with peer_folder("clamd") as folder:
        port, socket, database = free_port(), folder / "clamd.ctl", folder / "db"
        database.mkdir()
        if signatures:
            lines = [f"{hashlib.md5(octets).hexdigest()}:{len(octets)}:{name}" for name, octets in signatures.items()]
            (database / "local.hdb").write_text("".join(f"{line}\n" for line in lines), "ascii")
        if markers:
            found = "".join(f"{name}:0:*:{octets.hex()}\n" for name, octets in markers.items())
            (database / "local.ndb").write_text(found, "ascii")
        settings = folder / "clamd.conf"
        user = "User root\n" if os.geteuid() == 0 else ""
        settings.write_text(
            f"DatabaseDirectory {database}\nTCPSocket {port}\nTCPAddr 127.0.0.1\nLocalSocket {socket}\n"
            f"Foreground yes\n{user}{conf}",
            "ascii",
        )
        log = folder / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, "-c", str(settings)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
            )
        try:
            eventually(lambda: process.poll() is not None or socket.exists(), "clamd listens or has ended", 60)
            yield Clamd(f"clamd://127.0.0.1:{port}", f"clamd://{socket}", process.poll(), log, process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
