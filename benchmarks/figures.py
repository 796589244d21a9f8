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
    """Median and 99th percentile, from connect until the mail is at the next hop."""
    cpu_ms: tuple[float, ...] = ()
    """CPU of all processes of the peer, for each mail."""
    memory_mib: tuple[float, ...] = ()
