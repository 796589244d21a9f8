"""How long something took lately, in a bounded size: a histogram on a logarithmic scale, and quantiles of it.

Each octave (from a time to its double) has 8 buckets of equal width, the same for everyone, so that the counts of
several workers add up. A quantile is told as the middle of its bucket: it differs from the sample of that rank by at
most ERROR of it. What is outside FLOOR and CEILING counts as they do. One sample costs well below a microsecond.
Of the time only the last 5 to 10 minutes are kept: two halves, of which the older is dropped every 5 minutes.
Standards: issue 5 item 5 (p50 and p95 of each server).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil, frexp, ldexp

Counts = Mapping[int, int]
"""Samples by bucket; buckets without samples are left out."""

FLOOR, CEILING = 2.0**-16, 2.0**11
"""Seconds: 15 microseconds, and 34 minutes, which is longer than any deadline of a transaction."""
ERROR = 1 / 16
"""Of the sample, for samples between FLOOR and CEILING."""
HALF_SECONDS = 300.0
MOST_BUCKETS = 27 * 8


def bucket(seconds: float) -> int:
    """The bucket of a sample: its power of two times 8, and which eighth of the octave."""
    if not FLOOR <= seconds < CEILING:
        seconds = FLOOR if seconds < FLOOR else CEILING * (1 - 2**-10)
    mantissa, exponent = frexp(seconds)  # the mantissa is in [0.5, 1)
    return (exponent << 3) + int(mantissa * 16.0) - 8


def middle(number: int) -> float:
    """Seconds in the middle of a bucket."""
    exponent, eighth = number >> 3, number & 7
    return ldexp((8.5 + eighth) / 16, exponent)


class Recent:
    """The samples of the last 5 to 10 minutes. `now`: seconds of the caller's one clock, which never goes back."""

    __slots__ = ("_counts", "_older", "_turn_at")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._older: dict[int, int] = {}
        self._turn_at = 0.0
        """When the next half begins; 0 before the first sample."""

    def add(self, seconds: float, now: float) -> None:
        """One sample."""
        if now >= self._turn_at:
            self._turn(now)
        counts, number = self._counts, bucket(seconds)
        counts[number] = counts.get(number, 0) + 1

    def counts(self, now: float) -> Counts:
        """Of both halves; empty if there was nothing lately."""
        if now >= self._turn_at:
            if not (self._counts or self._older):
                return {}
            self._turn(now)
        return merged((self._older, self._counts)) if self._older else dict(self._counts)

    def _turn(self, now: float) -> None:
        gone = now >= self._turn_at + HALF_SECONDS  # both halves are
        self._older = {} if gone else self._counts
        self._counts = {}
        self._turn_at = now + HALF_SECONDS if gone else self._turn_at + HALF_SECONDS


def merged(many: Iterable[Counts]) -> Counts:
    """The samples of all of them together."""
    total: Counter[int] = Counter()
    for counts in many:
        total.update(counts)
    return dict(total)


def samples(counts: Counts) -> int:
    """How many there are."""
    return sum(counts.values())


def quantile(counts: Counts, part: float) -> float | None:
    """Seconds that `part` of the samples, in (0, 1], do not exceed (the nearest rank); None without samples."""
    rank = ceil(part * samples(counts))
    for number in sorted(counts):
        rank -= counts[number]
        if rank <= 0:
            return middle(number)
    return None
