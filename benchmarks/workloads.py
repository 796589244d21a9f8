"""The workloads and the tables in which their figures are shown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from benchmarks.figures import Figures, Taken


class Kind(Enum):
    """What a workload is about."""

    RATE = auto()
    LATENCY = auto()
    MEMORY = auto()
    BACKLOG = auto()
    SCAN = auto()


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload in words."""

    title: str
    short: str
    """For the chart."""
    kind: Kind = Kind.RATE


WORKLOADS = {
    "a": Workload("4 KiB, 20 sessions, one mail a connection", "4 KiB, one a connection"),
    "b": Workload("4 KiB, 20 sessions, connections of the client kept", "4 KiB, connections kept"),
    "c": Workload("1 MiB, 10 sessions", "1 MiB"),
    "d": Workload("latency of single mails, one after the other", "single mails", Kind.LATENCY),
    "d1": Workload("single mails, from the final dot to the next hop", "final dot to next hop", Kind.LATENCY),
    "d2": Workload("as d1, 20 ms between mails", "final dot to next hop, pauses", Kind.LATENCY),
    "e": Workload("as a, next hop 20 ms away", "next hop 20 ms away"),
    "f": Workload("as b, STARTTLS in and out", "STARTTLS in and out, kept"),
    "f1": Workload("as a, STARTTLS in and out", "STARTTLS, one a connection"),
    "g": Workload("20 sessions x 25 MiB: peak memory of a worker", "25 MiB", Kind.MEMORY),
    "h": Workload("backlog when the next hop returns", "backlog", Kind.BACKLOG),
    "i": Workload("4 KiB, every mail scanned", "4 KiB, scanned", Kind.SCAN),
    "i1": Workload("256 KiB with an attachment, every mail scanned", "256 KiB, scanned", Kind.SCAN),
    "i2": Workload("5 MiB with an attachment, every mail scanned", "5 MiB, scanned", Kind.SCAN),
}
"""d1 and d2 are measured with d, f1 with f, i1 and i2 with i."""
SCANNING_PEER = "postfix-amavis"
"""What posthouse is compared with where mails are scanned."""

Row = list[str]


def report(taken: Sequence[Taken]) -> str:
    """A table of Markdown for each workload."""
    return "\n".join(_section(each) for each in taken)


def _section(taken: Taken) -> str:
    work = WORKLOADS[taken.workload]
    head, rows = _TABLES[work.kind](taken.figures)
    lines = "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
    return f"### {taken.workload}: {work.title}\n{taken.moment} UTC, commit {taken.commit}; {taken.how}.\n\n{lines}\n"


def _by_rate(figures: Sequence[Figures]) -> tuple[Row, list[Row]]:
    base = postfix(figures)
    rows = []
    for each in figures:
        rows.append([each.peer, spread(each.rates, 0), shown_ratio(each.rates, base.rates), *_cost(each, base)])
    return ["peer", "mails/s", "x Postfix", *_COST], rows


def _by_latency(figures: Sequence[Figures]) -> tuple[Row, list[Row]]:
    base = postfix(figures)
    rows = []
    for each in figures:
        medians, tails = [p50 for p50, _ in each.latency_ms], [p99 for _, p99 in each.latency_ms]
        compared = shown_ratio(medians, [p50 for p50, _ in base.latency_ms])
        rows.append([each.peer, spread(medians, 2), compared, spread(tails, 1), *_cost(each, base)])
    return ["peer", "p50 ms", "of Postfix's", "p99 ms", *_COST], rows


def _by_memory(figures: Sequence[Figures]) -> tuple[Row, list[Row]]:
    """Of the worker that had most, in each round."""
    head = ["peer", "workers", "peak MiB of a worker", "at rest before", "mails/s", "failed runs"]
    rows = []
    for each in figures:
        workers = str(len(each.peak_mib[0])) if each.peak_mib else "-"
        peak, rest = (spread([max(one) for one in values], 0) for values in (each.peak_mib, each.resting_mib))
        rows.append([each.peer, workers, peak, rest, spread(each.rates, 1), str(each.failed)])
    return head, rows


def _by_backlog(figures: Sequence[Figures]) -> tuple[Row, list[Row]]:
    head = [
        "peer",
        "drained, mails/s",
        "normal, mails/s",
        "of the normal rate",
        "CPU ms/mail",
        "peak MiB of a worker",
    ]
    return [*head, "failed runs"], [
        [
            each.peer,
            spread(each.rates, 0),
            spread(each.normal_rates, 0),
            shown_ratio(each.rates, each.normal_rates),
            spread(each.cpu_ms, 2),
            spread([max(one) for one in each.peak_mib], 0),
            str(each.failed),
        ]
        for each in figures
    ]


def _by_scan(figures: Sequence[Figures]) -> tuple[Row, list[Row]]:
    """CPU of the gateway alone, and with the scanner, which is one for all."""
    base = peer(figures, SCANNING_PEER)
    head = ["peer", "mails/s", "x amavisd-new", "CPU ms/mail", "of amavisd-new's", "with clamd", "of amavisd-new's"]
    return [*head, "memory MiB", "failed runs"], [
        [
            each.peer,
            spread(each.rates, 1),
            shown_ratio(each.rates, base.rates),
            spread(each.cpu_ms, 1),
            shown_ratio(each.cpu_ms, base.cpu_ms),
            spread(_with_scanner(each), 1),
            shown_ratio(_with_scanner(each), _with_scanner(base)),
            *_cost(each, base)[2:],
        ]
        for each in figures
    ]


def _with_scanner(each: Figures) -> list[float]:
    return [own + scanner for own, scanner in zip(each.cpu_ms, each.scanner_cpu_ms, strict=False)]


_TABLES = {
    Kind.RATE: _by_rate,
    Kind.LATENCY: _by_latency,
    Kind.MEMORY: _by_memory,
    Kind.BACKLOG: _by_backlog,
    Kind.SCAN: _by_scan,
}
_COST = ["CPU ms/mail", "of Postfix's", "memory MiB", "failed runs"]


def _cost(each: Figures, base: Figures) -> Row:
    memory = f"{statistics.median(each.memory_mib):.0f}" if each.memory_mib else "-"
    return [spread(each.cpu_ms, 2), shown_ratio(each.cpu_ms, base.cpu_ms), memory, str(each.failed)]


def peer(figures: Sequence[Figures], name: str) -> Figures:
    """Without a value if it was not measured."""
    return next((each for each in figures if each.peer == name), Figures("", name))


def postfix(figures: Sequence[Figures]) -> Figures:
    """What the others are compared with."""
    return peer(figures, "postfix")


def spread(values: Sequence[float], digits: int) -> str:
    """Median (least-most); a single value alone."""
    if not values:
        return "-"
    median = f"{statistics.median(values):.{digits}f}"
    return median if len(values) == 1 else f"{median} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratio(values: Sequence[float], base: Sequence[float]) -> float | None:
    """Of the medians."""
    return statistics.median(values) / statistics.median(base) if values and base and any(base) else None


def shown_ratio(values: Sequence[float], base: Sequence[float]) -> str:
    found = ratio(values, base)
    return "-" if found is None else f"{found:.2f}"
