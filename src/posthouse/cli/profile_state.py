"""How the servers of a profile are now, for `posthouse profile show`: an overview, then what there is to say of each.

At a terminal nothing is wider than it, from 80 columns on; piped, each fact is one line. A server without anything
to tell is one line.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import cast

from posthouse.cli.output import console, line, moment, plain, span, table

Facts = Mapping[str, object]

_LABEL = 15
_ENDS_SOON = ((3, "GRAVE: "), (14, "WARNING: "), (30, "renew it: "))
"""Days left of a certificate below which it is said so."""


def show_servers(servers: Sequence[object], state: Sequence[Facts]) -> None:
    """`servers` as the profile has them; `state` is empty for a type whose servers have no live state."""
    known = {str(one.get("server")): one for one in state}
    if known:
        scan = any("scanned" in one for one in state)
        row = _scan_row if scan else _row
        line("")
        table(
            ("#", "Server", "State", "In use", *(("Scanned",) if scan else ("Relayed", "Reused"))),
            (row(number, str(server), known.get(str(server), {})) for number, server in enumerate(servers, 1)),
            "",
        )
    for number, server in enumerate(servers, 1):
        line(f"server {number}: {server}")
        for label, said in _told(known.get(str(server), {})):
            _lines(label, said)


def _row(number: int, server: str, one: Facts) -> tuple[object, ...]:
    reuse = _part(one, "reuse")
    in_use = f"{one.get('in_use')} of {one.get('limit')}" if one.get("circuit") else ""
    rate = reuse.get("rate")
    reused = f"{rate:.1%}" if isinstance(rate, int | float) else ""
    return number, server, _state(one), in_use, one.get("relayed"), reused


def _scan_row(number: int, server: str, one: Facts) -> tuple[object, ...]:
    """Empty where no worker has told yet."""
    known = one.get("circuit") is not None
    return number, server, _state(one), one.get("in_use") if known else "", one.get("scanned") if known else ""


def _state(one: Facts) -> object:
    return _part(one, "drain").get("kind") or one.get("circuit") or "unknown"


def _told(one: Facts) -> Iterator[tuple[str, str]]:
    """Label and text of what there is to say of a server."""
    if drain := _part(one, "drain"):
        yield str(drain.get("kind")), _drain(drain)
    circuit = one.get("circuit")
    if circuit and (circuit != "closed" or one.get("reason")):
        probe = moment(one.get("next_probe"))
        then = f"; next probe {probe}" if probe else ""
        yield "circuit", f"{circuit} since {moment(one.get('since'))}: {one.get('reason')}{then}"
    for why in _not_now(one):
        yield "no mail now", why
    if served := moment(one.get("served_at")):
        yield "served last", served
    if text := _connections(one):
        yield "connections", text
    if text := _times(_part(one, "times")):
        yield "p50 / p95", text
    if certificate := _part(one, "certificate"):
        yield "certificate", _certificate(certificate)
    if others := cast(Sequence[object], one.get("also_used_by", ())):
        yield "also used by", ", ".join(map(str, others))
    for error in cast(Sequence[Facts], one.get("last_errors", ())):
        times = error.get("times")
        again = f" ({times} times)" if isinstance(times, int) and times > 1 else ""
        yield "error", f"{moment(error.get('at'))} {error.get('stage')}: {error.get('text')}{again}"


def _drain(drain: Facts) -> str:
    until = f" until {moment(drain.get('until'))}" if drain.get("until") is not None else ""
    reason = f": {drain.get('reason')}" if drain.get("reason") else ""
    return f"since {moment(drain.get('at'))}{until} by {drain.get('by')}{reason}"


def _not_now(one: Facts) -> Iterator[str]:
    """What else keeps mail from it, on how many workers: a locked login, a limit that is reached."""
    workers = cast(Sequence[Facts], one.get("workers", ()))
    reasons = [str(worker.get("not_now") or "") for worker in workers]
    for why in dict.fromkeys(reasons):
        if why and not why.startswith(("circuit ", "drained ", "treated as down ")):
            count = reasons.count(why)
            yield why if count == len(reasons) else f"{why} (on {count} of {len(reasons)} workers)"


def _connections(one: Facts) -> str:
    reuse = _part(one, "reuse")
    if not reuse.get("opened"):
        return ""
    text = f"{reuse.get('opened')} opened, {one.get('idle')} kept idle"
    if reuse.get("tcp_saved"):
        text += f"; handshakes saved: {reuse.get('tcp_saved')} TCP, {reuse.get('tls_saved')} TLS"
    return text


def _times(times: Facts) -> str:
    measured = [(name, _part(times, key)) for name, key in _KINDS if _part(times, key).get("samples")]
    return ", ".join(f"{name} {span(of.get('p50'))} / {span(of.get('p95'))}" for name, of in measured)


_KINDS = (("connect", "connect"), ("TLS", "tls"), ("transaction", "transaction"))


def _certificate(certificate: Facts) -> str:
    left, names = cast(int, certificate.get("days_left")), certificate.get("names")
    if left < 0:
        return f"GRAVE: expired on {moment(certificate.get('expires_at'))}, for {names}"
    urgency = next((word for days, word in _ENDS_SOON if left < days), "")
    return f"{urgency}{left} days left, for {names}"


def _part(facts: Facts, name: str) -> Facts:
    found = facts.get(name)
    return found if isinstance(found, dict) else {}


def _lines(label: str, said: str) -> None:
    """One fact; wrapped at a terminal only, so that what is piped can be searched line by line."""
    begin, margin = f"  {label:<{_LABEL}}", " " * (_LABEL + 2)
    if not sys.stdout.isatty():
        line(begin + said)
        return
    for text in wrap(plain(said), console().width - 1, initial_indent=begin, subsequent_indent=margin):
        line(text)
