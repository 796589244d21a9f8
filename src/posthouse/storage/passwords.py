"""Passwords of users: argon2id, of which the database has the hash only.

Standards: RFC 9106 section 4 (the second recommended choice: 64 MiB, 3 passes, 4 lanes).
"""

from functools import cache
from threading import BoundedSemaphore

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4, hash_len=32, salt_len=16, type=Type.ID)
_AT_ONCE = BoundedSemaphore(2)
"""64 MiB each: many logins at once shall not fill the memory."""


def hash_password(password: str) -> str:
    """With a salt of its own, in the text form that names its parameters."""
    with _AT_ONCE:
        return _HASHER.hash(password)


def password_fits(stored: str | None, password: str) -> bool:
    """Whether the hash is of that password. None stands for a user that there is not: False, after as much work."""
    with _AT_ONCE:
        try:
            fits = _HASHER.verify(stored or _nobodys(), password)
        except (VerificationError, InvalidHashError):
            return False
    return fits and stored is not None


@cache
def _nobodys() -> str:
    """A hash for names that there are not."""
    return _HASHER.hash("of nobody")
