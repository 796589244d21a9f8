"""What a benchmark yields for one peer and one workload."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """One value for each round that did not fail."""

    workload: str
    peer: str
    failed: int = 0
    rates: tuple[float, ...] = ()
    """Mails a second, from the start of the client until the last mail is at the next hop."""
    accept_seconds: tuple[float, ...] = ()
    latency_ms: tuple[tuple[float, float], ...] = ()
    """Median and 99th percentile, from connect (d1, d2: from the final dot) until the mail is at the next hop."""
    cpu_ms: tuple[float, ...] = ()
    """CPU of all processes of the peer, for each mail."""
    memory_mib: tuple[float, ...] = ()
    resting_mib: tuple[tuple[float, ...], ...] = ()
    """Of each worker process: resident memory before the first mail."""
    peak_mib: tuple[tuple[float, ...], ...] = ()
    """Of each worker process: the most resident memory it ever had."""
    normal_rates: tuple[float, ...] = ()
    """As `rates`, before the next hop went and after; `rates` are then those of draining, from its return."""
    scanner_cpu_ms: tuple[float, ...] = ()
    """CPU of the scanner, which is none of the peer's processes, for each mail."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The figures of one workload and how they were taken."""

    workload: str
    moment: str
    """UTC, `2026-11-25 10:10`."""
    commit: str
    """Abbreviated; `+` at the end: with changes that were not committed."""
    how: str
    """A sentence without its full stop."""
    figures: tuple[Figures, ...]
