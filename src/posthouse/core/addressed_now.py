"""Where a mail goes first now: the preference order of its server profile, and what the workers know of the servers.

Each worker has circuits and limits of its own, and nobody knows which one takes the next mail; so the answer may be
several servers. The start of round-robin is known to each worker alone, that of random-start to nobody: `start` says
what is assumed. Pure; sentences are for mail administrators.
Source: design 2.5 and section 3 (Circuit, Throttle); issue 5, explain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.preference import Rotation, order
from posthouse.core.profile import Preference

Refusals = Mapping[str, str]
"""What one worker knows, by server: why no mail goes there now, empty if it may. It has not told of the others."""


class Addressable(StrEnum):
    """Whether a mail may be sent to a server now."""

    YES = "yes"
    NO = "no"
    SOME = "on some workers"
    NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class ServerNow:
    """One server of the order."""

    server: str
    addressable: Addressable
    why_not: str = ""
    """Of the first worker that sends nothing there."""
    refused_by: int = 0
    """Workers that send nothing there, of those that know it."""
    known_to: int = 0


@dataclass(frozen=True, slots=True)
class Now:
    """The order, and what comes of it at this moment."""

    servers: tuple[ServerNow, ...]
    """In preference order from the assumed start."""
    start: str
    """What is assumed of the start, one sentence; empty where the order is certain."""
    goes_to: tuple[str, ...]
    """Servers that may get the mail first; more than one where that depends on the worker or on chance. Empty: none
    may be addressed, so that it waits."""
    sentence: str


def addressed_now(preference: Preference, listed: Sequence[str], workers: Sequence[Refusals]) -> Now:
    """`listed`: the servers as in the profile. `workers`: one entry for each that has told of any of them."""
    in_order = order(preference, listed, Rotation(), 0.0)
    servers = tuple([_server(server, workers) for server in in_order])
    starts = range(len(in_order)) if preference is Preference.RANDOM_START else range(min(1, len(in_order)))
    firsts: set[str] = set()
    waiting = 0
    for worker in workers or ({},):
        found = {_first((*in_order[at:], *in_order[:at]), worker) for at in starts} - {""}
        firsts |= found
        waiting += not found
    goes_to = tuple([server for server in in_order if server in firsts])
    return Now(
        servers,
        _start(preference, in_order),
        goes_to,
        _sentence(preference, servers, goes_to, (waiting, len(workers))),
    )


def _server(server: str, workers: Sequence[Refusals]) -> ServerNow:
    told = [worker[server] for worker in workers if server in worker]
    refusals = [why for why in told if why]
    if not told:
        return ServerNow(server, Addressable.NOT_KNOWN)
    if not refusals:
        return ServerNow(server, Addressable.YES, known_to=len(told))
    addressable = Addressable.NO if len(refusals) == len(told) else Addressable.SOME
    return ServerNow(server, addressable, refusals[0], len(refusals), len(told))


def _first(in_order: Sequence[str], worker: Refusals) -> str:
    """The first that this worker may address; one it has not told of is new to it, and tried. Empty if none."""
    return next((server for server in in_order if not worker.get(server)), "")


def _start(preference: Preference, in_order: Sequence[str]) -> str:
    if len(in_order) < 2:
        return ""
    match preference:
        case Preference.FAILOVER:
            return ""
        case Preference.ROUND_ROBIN:
            return (
                "Each worker starts after the server that did its last service, which it does not tell; here "
                f"{in_order[0]} is assumed as the start."
            )
        case Preference.RANDOM_START:
            return f"The start is chance: any server may be the first; here the order is told from {in_order[0]}."


def _sentence(
    preference: Preference, servers: Sequence[ServerNow], goes_to: tuple[str, ...], waiting: tuple[int, int]
) -> str:
    """`waiting`: how many workers may address none, and how many there are."""
    if not servers:
        return "The server profile has no servers, so the mail waits."
    told = [_skipped(one) for one in _passed_over(preference, servers) if one.why_not]
    if not goes_to:
        told.append("no server may be addressed now, so the mail waits")
    elif len(goes_to) == 1:
        state_known = all(one.known_to for one in servers if one.server == goes_to[0])
        told.append(f"the mail goes to {goes_to[0]}{'' if state_known else ', whose state is not known'}")
    else:
        depends = "chance decides" if preference is Preference.RANDOM_START else "the worker that receives it decides"
        told.append(f"the mail goes to {' or '.join(goes_to)}: {depends}")
    if goes_to and waiting[0]:
        told.append(f"on {waiting[0]} of {waiting[1]} workers it waits")
    text = "; ".join(told)
    return f"{text[0].upper() if text.startswith(('the ', 'no ')) else text[0]}{text[1:]}."


def _passed_over(preference: Preference, servers: Sequence[ServerNow]) -> Sequence[ServerNow]:
    """Those that come before a server to which every worker sends; all of them where any may be the first."""
    if preference is Preference.RANDOM_START:
        return servers
    certain = (Addressable.YES, Addressable.NOT_KNOWN)
    end = next((at for at, one in enumerate(servers) if one.addressable in certain), len(servers))
    return servers[:end]


def _skipped(one: ServerNow) -> str:
    part_of = f" on {one.refused_by} of {one.known_to} workers" if one.refused_by < one.known_to else ""
    return f"{one.server} is skipped{part_of}: {one.why_not}"
