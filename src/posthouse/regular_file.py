"""Files that people name in settings, read only if they are files: opening a pipe would stop the event loop."""

import errno
import os
import stat


def check_regular(mode: int, path: str) -> None:
    """Raises OSError for a folder, a pipe, a device; `mode` is `st_mode` of what stands at the path."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", path)


def read_regular(path: str) -> bytes:
    """All octets. Raises OSError, at once also where reading would wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        check_regular(os.fstat(descriptor).st_mode, path)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
