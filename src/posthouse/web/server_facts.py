"""What the rows of all workers say together of one server's connections, times, errors and certificate."""

from collections.abc import Iterable, Sequence

from posthouse.core import histogram
from posthouse.web.facts import Facts, moment, number, part, text, total

ERRORS_TOLD = 5


def reuse(pools: Sequence[Facts]) -> dict[str, object]:
    """What the connection pool has saved. A stale connection saved nothing: its mail went over a fresh one."""
    saved = total(pools, "reused") - total(pools, "stale")
    transactions = total(pools, "fresh") + saved
    return {
        "transactions": transactions,
        "rate": round(saved / transactions, 4) if transactions else None,
        "tcp_saved": saved,
        "tls_saved": total(pools, "tls_saved"),
        "opened": total(pools, "opened"),
        "tls": total(pools, "tls"),
    }


def times(rows: Sequence[Facts]) -> dict[str, object]:
    """Of each kind how many samples there are lately, and two quantiles in seconds."""
    return {kind: _quantiles([part(row, kind) for row in rows]) for kind in ("connect", "tls", "transaction")}


def _quantiles(rows: Iterable[Facts]) -> dict[str, object]:
    counts = histogram.merged({int(bucket): number(row, bucket) for bucket in row} for row in rows)
    p50, p95 = (histogram.quantile(counts, part_of) for part_of in (0.5, 0.95))
    return {"samples": histogram.samples(counts), "p50": _rounded(p50), "p95": _rounded(p95)}


def _rounded(seconds: float | None) -> float | None:
    """Three digits: the buckets know no more."""
    return float(f"{seconds:.3g}") if seconds is not None else None


def last_errors(rows: Iterable[Facts]) -> list[dict[str, object]]:
    """The newest, the same of several workers as one."""
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for row in rows:
        listed = row.get("last_errors")
        for each in listed if isinstance(listed, list) else ():
            key = text(each, "stage"), text(each, "text")
            at, times_so_far = found.get(key, (0.0, 0))
            found[key] = max(at, moment(each, "at") or 0.0), times_so_far + number(each, "times")
    newest = sorted(found.items(), key=lambda entry: entry[1][0], reverse=True)[:ERRORS_TOLD]
    return [{"at": at, "stage": stage, "text": said, "times": count} for (stage, said), (at, count) in newest]


def certificate(rows: Iterable[Facts]) -> dict[str, object] | None:
    """Of those that workers have seen last the one that ends last: a worker may not have met the renewed one yet."""
    shown = [part(row, "certificate") for row in rows]
    ends = [(at, text(each, "names")) for each in shown if (at := moment(each, "expires_at")) is not None]
    if not ends:
        return None
    expires_at, names = max(ends)
    return {"names": names, "expires_at": expires_at}


def with_days_left(shown: Facts | None, now: float) -> Facts | None:
    """The certificate, and for how many whole days it holds; negative once it has expired."""
    ends = moment(shown, "expires_at") if shown is not None else None
    return {**shown, "days_left": int((ends - now) // 86400)} if shown is not None and ends is not None else None
