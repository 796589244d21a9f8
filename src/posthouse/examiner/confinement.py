"""What an examiner gives up before it reads any mail.

Limits of the system hold whatever the code does that a mail has misled. They are as tight as one process can make
them for itself without privileges; which hold for root, who runs a node only to try it, differs (docs/operations.md).
"""

import ctypes
import os
import resource
import signal

from posthouse.examiner import landlock

DESCRIPTORS = 24
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def confine(octets: int) -> None:
    """`octets` is the bound of memory, and once more of what is made in memory files. Raises OSError, ValueError."""
    _leave_descriptors()
    for kind, value in (
        (resource.RLIMIT_AS, octets),
        (resource.RLIMIT_FSIZE, octets),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))
    libc = ctypes.CDLL(None, use_errno=True)
    # A child that is busy does not read its socket: the system ends it with its parent.
    _check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # The parent ends it: signals that people send to the whole process group are not for it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    os.environ.clear()
    os.umask(0o077)
    landlock.restrict(libc)


def _leave_descriptors() -> None:
    """All but the first three are somebody else's."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
