"""Mail ids: 16 characters of Crockford's base 32 that sort by time.

Ten characters hold milliseconds since 1970, six a counter that starts at a random value in each process, so
that ids of several workers do not meet and one process never repeats one.
"""

from collections.abc import Callable

from posthouse.core.mail import MailId

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_SPAN = 32**6


def _encode(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


class MailIds:
    """Makes the ids of one process. `now` gives epoch seconds, `chance` random octets."""

    def __init__(self, now: Callable[[], float], chance: Callable[[int], bytes]) -> None:
        self._now = now
        self._counter = int.from_bytes(chance(4), "big") % _SPAN
        self._millisecond = -1
        self._head = ""

    def new(self) -> MailId:
        """The next id."""
        millisecond = int(self._now() * 1000)
        if millisecond != self._millisecond:
            self._millisecond, self._head = millisecond, _encode(millisecond, 10)
        self._counter = (self._counter + 1) % _SPAN
        return MailId(self._head + _encode(self._counter, 6))
