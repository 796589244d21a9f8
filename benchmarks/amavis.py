"""amavisd-new, the peer of the benchmark of scanning: two child processes, a clamd by its socket, no SpamAssassin.

It starts as root, becomes its own user and sends what it has scanned straight to the next hop, which spares it the
way back through Postfix that it has in production. What is not set here is as Debian has it. Postfix is to speak LMTP
to its socket: over TCP each mail waits 40 ms, as the reply to DATA meets a delayed acknowledgement.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.peers import Peer, free_port, need, peer_folder, running

CHILDREN = 2
_USER = "amavis"
_SOCKET = "lmtp.sock"


@contextmanager
def amavis(next_hop_port: int, clamd_socket: str) -> Iterator[Peer]:
    """Takes any mail from loopback, and by LMTP at the socket `socket_of(peer)`. Needs root."""
    program = need("amavisd", "amavisd-new")
    assert os.geteuid() == 0, "amavisd becomes a user of its own, which only root can: run the benchmark as root"
    with peer_folder("amavis") as folder:
        port, home = free_port(), folder / "home"
        for each in (home, home / "tmp", home / "db"):
            each.mkdir()
            shutil.chown(each, _USER, _USER)
        settings = folder / "amavisd.conf"
        settings.write_text(
            f"""use strict;
$ENV{{PATH}} = $path = '/usr/sbin:/sbin:/usr/bin:/bin';
$file = 'file';
$max_servers = {CHILDREN};
$daemon_user = '{_USER}';
$daemon_group = '{_USER}';
$mydomain = 'bench.invalid';
$myhostname = 'amavis.bench.invalid';
$MYHOME = '{home}';
$TEMPBASE = "$MYHOME/tmp";
$db_home = "$MYHOME/db";
$helpers_home = $MYHOME;
$lock_file = "$MYHOME/amavisd.lock";
$pid_file = "$MYHOME/amavisd.pid";
$QUARANTINEDIR = undef;
$DO_SYSLOG = 0;
$LOGFILE = "$MYHOME/amavis.log";
$log_level = 0;
$enable_db = 0;
$enable_zmq = 0;
$enable_dkim_verification = 0;
$enable_dkim_signing = 0;
$unix_socketname = "$MYHOME/{_SOCKET}";
$unix_socket_mode = 0666;
$interface_policy{{'SOCK'}} = 'LMTP';
$policy_bank{{'LMTP'}} = {{ protocol => 'LMTP' }};
$inet_socket_bind = '127.0.0.1';
$inet_socket_port = {port};
@inet_acl = qw( 127.0.0.1 );
@mynetworks = qw( 127.0.0.0/8 );
@local_domains_maps = ( 1 );
@bypass_spam_checks_maps = ( 1 );
$final_virus_destiny = D_DISCARD;
$final_banned_destiny = D_DISCARD;
$final_bad_header_destiny = D_PASS;
$virus_admin = undef;
$forward_method = 'smtp:[127.0.0.1]:{next_hop_port}';
$notify_method = undef;
$MAXLEVELS = 14;
$MAXFILES = 1500;
$MIN_EXPANSION_QUOTA = 100*1024;
$MAX_EXPANSION_QUOTA = 300*1024*1024;
$banned_filename_re = new_RE( qr'.\\.(exe|vbs|pif|scr|bat|cmd|com|cpl)$'i );
@decoders = (
  ['mail', \\&do_mime_decode],
  ['gz',   \\&do_gunzip],
  [['zip','kmz'], \\&do_unzip],
);
@av_scanners = (
  ['ClamAV-clamd', \\&ask_daemon, ["CONTSCAN {{}}\\n", '{clamd_socket}'],
   qr/\\bOK$/m, qr/\\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m ],
);
@av_scanners_backup = ();
1;
""",
            "utf-8",
        )
        settings.chmod(0o644)
        command = [program, "-c", str(settings), "-u", _USER, "-g", _USER, "foreground"]
        with running(command, port, folder) as peer:
            yield peer


def socket_of(peer: Peer) -> Path:
    """Where it takes LMTP."""
    return peer.folder / "home" / _SOCKET
