"""Landlock: from here on an examiner opens no file but those of Python and the system's libraries, to read them; it
connects to nobody, signals nobody, and looks into no other process. What it holds open it keeps.

Since Linux 5.13; later kernels know more rights, each is taken where it is known. Without it the limits alone hold.
Source: https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import sys
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of system calls; the same on every machine that Debian runs on."""
_VERSION = 1
_PATH_BENEATH = 1
_READ = 1 << 2 | 1 << 3
"""READ_FILE, READ_DIR."""
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files each version knows; 16 from version 5 on."""
_TCP_RIGHTS = 1 << 0 | 1 << 1
"""BIND_TCP, CONNECT_TCP; from version 4 on."""
_SCOPES = 1 << 0 | 1 << 1
"""Abstract Unix sockets and signals of others; from version 6 on."""
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def restrict(libc: ctypes.CDLL) -> bool:
    """False if this kernel has no Landlock. PR_SET_NO_NEW_PRIVS is set already. Raises OSError."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    rules = _Ruleset((1 << _FILE_RIGHTS.get(version, 16)) - 1, _TCP_RIGHTS, _SCOPES)
    known = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(known), 0))
    try:
        for path in _readable():
            _allow(libc, ruleset, path)
        _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _readable() -> Sequence[str]:
    """Modules are imported late too: a charset, a format."""
    return tuple(dict.fromkeys((*_SYSTEM, sys.prefix, sys.base_prefix, *filter(os.path.isabs, sys.path))))


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ if os.path.isdir(path) else _READ & ~(1 << 3)
        beneath = _Beneath(rights, descriptor)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
