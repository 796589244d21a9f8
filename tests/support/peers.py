"""Mail programs nobody here wrote, each started from a fresh folder on a free loopback port and ended by its pid.

A missing program is a failed test that names the command to install it, never a skipped one.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.processes import ROOT
from support.waiting import eventually

EXIM = ROOT / ".work" / "exim" / "usr" / "sbin" / "exim4"
_POSTFIX = Path("/usr/lib/postfix/sbin/master")
_NO_TLS = "smtp_tls_security_level =\nsmtpd_tls_security_level ="
_INSTALL = "run `scripts/test` as root, or: sudo apt-get install -y --no-install-recommends"


@dataclass(frozen=True, slots=True)
class Peer:
    """A running program: where it listens and the folder of all its files."""

    port: int
    folder: Path
    pid: int


def free_port() -> int:
    """A port that nothing listens on, outside the range from which the system gives ports to clients."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port between 20000 and 32000")


def need(program: str, package: str) -> str:
    """The path of an installed program."""
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert found, f"{program} is missing: {_INSTALL} {package}"
    return found


@contextmanager
def peer_folder(name: str) -> Iterator[Path]:
    """A folder that a program's own user may enter: pytest's temporary folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix=f"posthouse-{name}-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running(command: Sequence[str], port: int, folder: Path) -> Iterator[Peer]:
    """Starts a program in a process group of its own and waits for its greeting; ends the group afterwards."""
    log = folder / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
    try:
        eventually(lambda: _answers(port, process, log), f"{command[0]} answers on port {port}")
        yield Peer(port, folder, process.pid)
    except BaseException:
        for each in sorted(folder.rglob("*log")):
            if each.is_file():
                sys.stderr.write(f"--- {each}\n{each.read_text('utf-8', 'replace')[-8000:]}\n")
        raise
    finally:
        _end(process)


def _answers(port: int, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, f"it ended with {process.returncode}: {log.read_text('utf-8', 'replace')}"
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.settimeout(5)
            greeted = connection.recv(512).startswith(b"220")
            connection.sendall(b"QUIT\r\n")
            return greeted
    except OSError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The leader first: it ends its children properly. What is left of the group goes after it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# --- Programs that receive -------------------------------------------------------------------------------


@contextmanager
def postfix(next_hop_port: int, *, tls: str = _NO_TLS, services: Sequence[str] = ()) -> Iterator[Peer]:
    """Postfix that takes any mail from loopback, queues it and relays it to `next_hop_port`. Needs root.

    `tls`: its lines of main.cf; `services`: further lines of master.cf.
    """
    need("postfix", "postfix")
    assert os.geteuid() == 0, "Postfix's master starts as root only: run `scripts/test` as root"
    with peer_folder("postfix") as folder:
        port = free_port()
        settings, spool, data = folder / "etc", folder / "queue", folder / "data"
        for each in (settings, spool, data):
            each.mkdir()
        shutil.chown(data, "postfix")
        (spool / "pid").mkdir()
        own = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved")
        for name, mode in (*((name, 0o700) for name in (*own, "trace")), ("maildrop", 0o730), ("public", 0o710)):
            (spool / name).mkdir()
            (spool / name).chmod(mode)
            shutil.chown(spool / name, "postfix", "postdrop" if name in ("maildrop", "public") else None)
        (settings / "main.cf").write_text(
            f"""compatibility_level = 3.6
queue_directory = {spool}
data_directory = {data}
daemon_directory = {_POSTFIX.parent}
command_directory = /usr/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = postfix.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
local_header_rewrite_clients =
smtp_host_lookup = native
smtpd_peername_lookup = no
{tls.strip()}
relayhost = [127.0.0.1]:{next_hop_port}
local_transport = error:none
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = 104857600
""",
            "utf-8",
        )
        lines = (
            f"127.0.0.1:{port} inet n - n - - smtpd",
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "proxywrite unix - - n - 1 proxymap",
            "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp",
            "showq unix n - n - - showq",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd",
            *services,
        )
        (settings / "master.cf").write_text("\n".join(lines) + "\n", "utf-8")
        with running([str(_POSTFIX), "-c", str(settings), "-d"], port, folder) as peer:
            yield peer


@contextmanager
def exim() -> Iterator[Peer]:
    """Exim that delivers any mail from loopback into the Maildir `folder/maildir`. Needs root."""
    assert EXIM.exists(), f"{EXIM} is missing: run `scripts/test` as root"
    assert os.geteuid() == 0, "Exim's daemon starts as root only: run `scripts/test` as root"
    with peer_folder("exim") as folder:
        port = free_port()
        for name in ("spool", "log", "maildir"):
            (folder / name).mkdir()
            shutil.chown(folder / name, "Debian-exim", "Debian-exim")
        # A copy: the checkout may lie where Exim's own user cannot reach it.
        program = folder / "exim4"
        shutil.copy(EXIM, program)
        program.chmod(0o755)
        settings = folder / "exim.conf"
        settings.write_text(
            f"""exim_path = {program}
primary_hostname = exim.test
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/spool/exim.pid
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
disable_ipv6 = true
deliver_drop_privilege = true
never_users =
host_lookup =
rfc1413_query_timeout = 0s
helo_try_verify_hosts =
tls_advertise_hosts =
keep_environment =
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = acl_rcpt
accept_8bitmime = true
message_size_limit = 100M
begin acl
acl_rcpt:
  accept
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {folder}/maildir
  maildir_format
  create_directory
  delivery_date_add = false
  envelope_to_add
  return_path_add
""",
            "utf-8",
        )
        settings.chmod(0o644)
        with running([str(program), "-C", str(settings), "-bdf", "-q30m"], port, folder) as peer:
            yield peer


@contextmanager
def smtp_sink(*, dump: bool = True, arguments: Sequence[str] = ()) -> Iterator[Peer]:
    """Postfix's test server; with `dump` each mail becomes a file in `folder/mails`."""
    program = need("smtp-sink", "postfix")
    with peer_folder("smtp-sink") as folder:
        port = free_port()
        mails = folder / "mails"
        mails.mkdir()
        command = [program, *arguments]
        if os.geteuid() == 0:
            shutil.chown(mails, "nobody")
            command += ["-u", "nobody"]
        if dump:
            command += ["-d", f"{mails}/%s."]
        with running([*command, f"127.0.0.1:{port}", "128"], port, folder) as peer:
            yield peer


# --- Programs that send ----------------------------------------------------------------------------------


def swaks(port: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs swaks against `port`; its transcript is in stdout."""
    return _run([need("swaks", "swaks"), "--server", "127.0.0.1", "--port", str(port), *arguments])


def smtp_source(port: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs Postfix's load generator against `port`; it exits with 1 at the first reply that is no success."""
    return _run([need("smtp-source", "postfix"), *arguments, f"127.0.0.1:{port}"])


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=110
    )
