"""A PostgreSQL of the tests' own: one server per test process, one database per test."""

import os
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BINARIES = Path("/usr/lib/postgresql/15/bin")


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]


@contextmanager
def server() -> Iterator[str]:
    """Starts a server; yields the URL of its database `postgres`."""
    assert (_BINARIES / "initdb").exists(), "PostgreSQL is missing: run `scripts/test` as root"
    with tempfile.TemporaryDirectory(prefix="posthouse-pg-") as name:
        folder = Path(name)
        if os.getuid() == 0:
            subprocess.run(["chown", "postgres", name], check=True)
        data, log = folder / "data", folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        run = _as_postgres()
        subprocess.run(
            [*run, str(_BINARIES / "initdb"), "--no-sync", "-A", "trust", "-U", "postgres", "-D", str(data)],
            check=True,
            capture_output=True,
            cwd="/",
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=100"
        control = [*run, str(_BINARIES / "pg_ctl"), "-D", str(data)]
        subprocess.run(
            [*control, "-l", str(log), "-o", options, "-w", "start"], check=True, capture_output=True, cwd="/"
        )
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd="/")


def new_database(url: str) -> str:
    """The URL of a new, empty database on the server of `url`."""
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return url.rsplit("/", 1)[0] + "/" + name
