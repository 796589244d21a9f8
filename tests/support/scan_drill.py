"""The drill of a scanner that lies, hangs, is busy or gone, and recovers, again and again while mail flows.

The scanner is the double of MetaDefender Core, whose manner changes under way. It keeps a ledger of the octets that
it was shown whole and honestly pronounced clean; whatever it says in another manner is not in there, though it says
"Allowed". The next hop notes what it takes and when. Asserted: each delivered mail, as a whole and its text, stood in
the ledger before it was delivered; each accepted mail has been delivered once or, if it carries EICAR, quarantined;
no DSN was made; and once the scanner is well the queue empties by itself.

    python -m support.scan_drill --mails 10000
"""

import argparse
import hashlib
import itertools
import random
import smtplib
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, cast

from support.contents import queue_id
from support.drill_record import run
from support.http_servers import HttpServer, Request, Response, http_server
from support.mock_core import KEY
from support.processes import Node
from support.recording import Recorder, Taken, recording_sink
from support.stateful_core import EICAR, File, Plan, StatefulCore
from support.waiting import eventually

SCAN_SECONDS = 5
"""The least that `[limits]` takes."""
DIRTY = 10
"""One mail of so many carries EICAR."""
MANNER_SECONDS = 90.0
"""A manner is shown to somebody within this: a circuit may be open when it begins."""


class Manner(Enum):
    """How the scanner behaves at the time."""

    HONEST = "honest"
    OTHER_ID = "result of another submission"
    OTHER_OCTETS = "result of other octets"
    UNKNOWN_CODE = "unknown code"
    NOT_SCANNED = "not scanned, yet allowed"
    EXPIRED = "result expired"
    GARBAGE = "garbage"
    BUSY = "503"
    STUCK = "stuck at 99 %"
    EARLY = "allowed before it has finished"
    HANGS = "hangs"
    BREAKS_OFF = "breaks off"
    GONE = "connection refused"


BAD = [manner for manner in Manner if manner is not Manner.HONEST]


def mail(key: str, *, dirty: bool) -> tuple[bytes, bytes]:
    """Header section and text of the mail of a key."""
    line = random.Random(key).randbytes(36).hex().encode() + b"\r\n"
    head = b"From: a@out.example\r\nSubject: drill " + key.encode() + b"\r\nX-Key: " + key.encode() + b"\r\n\r\n"
    return head, line * 12 + (EICAR + b"\r\n" if dirty else b"") + b"end of " + key.encode() + b"\r\n"


def _lie(manner: Manner) -> Plan:
    def twist(document: dict[str, Any]) -> None:
        process, scan = document["process_info"], document["scan_results"]
        process |= {"result": "Allowed", "blocked_reason": "", "progress_percentage": 100, "verdicts": []}
        scan |= {"scan_all_result_i": 0, "progress_percentage": 100}
        match manner:
            case Manner.OTHER_ID:
                document["data_id"] = scan["data_id"] = "f" * 32
            case Manner.OTHER_OCTETS:
                document["file_info"]["sha256"] = hashlib.sha256(b"other octets").hexdigest()
            case Manner.UNKNOWN_CODE:
                scan["scan_all_result_i"] = 77
            case Manner.NOT_SCANNED:
                scan["scan_all_result_i"] = 10
            case Manner.EARLY:
                scan["progress_percentage"] = 42
            case _:
                raise AssertionError(manner)

    return Plan(polls=0, twist=twist)


_LIES = {
    manner: _lie(manner)
    for manner in (
        Manner.OTHER_ID,
        Manner.OTHER_OCTETS,
        Manner.UNKNOWN_CODE,
        Manner.NOT_SCANNED,
        Manner.EARLY,
    )
}
_HONEST, _STUCK = Plan(polls=0), Plan(stuck_at=99)


@dataclass
class DrillCore(StatefulCore):
    """A Core whose `manner` changes; `clean` is its ledger: when octets were pronounced clean, by their SHA-256."""

    manner: Manner = Manner.HONEST
    changed: threading.Event = field(default_factory=threading.Event)
    """Set when the manner ends: what hangs goes on."""
    clean: dict[str, float] = field(default_factory=dict)
    misbehaved: Counter[Manner] = field(default_factory=Counter)
    """Answers by manner."""

    def answer(self, request: Request) -> Response:
        manner, changed = self.manner, self.changed
        asked = request.method == "GET" and request.path.startswith("/file/")
        match manner:
            case Manner.HANGS:
                self.misbehaved[manner] += 1
                changed.wait(10)
                raise ConnectionAbortedError
            case Manner.GONE:
                raise ConnectionAbortedError  # over a connection from before
            case Manner.BUSY:
                self.misbehaved[manner] += 1
                return Response(503, {"err": "Server is too busy."})
            case Manner.GARBAGE if asked:
                self.misbehaved[manner] += 1
                return Response(200, octets=b'{"process_info": {"result": "Allowed", \xff')
            case Manner.EXPIRED if asked:
                self.misbehaved[manner] += 1
                return Response(200, {request.path.rpartition("/")[2]: "Not Found"})
            case Manner.BREAKS_OFF if asked:
                self.misbehaved[manner] += 1
                whole = super().answer(request).body
                return Response(200, octets=whole[: len(whole) // 2], length=len(whole), dies=True)
        return super().answer(request)

    def _plan(self, file: File) -> Plan:
        if self.manner is Manner.STUCK:
            return _STUCK
        return _LIES.get(self.manner, _HONEST)

    def _document(self, file: File, plan: Plan) -> dict[str, Any]:
        document = super()._document(file, plan)
        if plan is not _HONEST:
            self.misbehaved[self.manner] += 1
        elif document["process_info"]["result"] == "Allowed" and self.manner is Manner.HONEST:
            self.clean.setdefault(hashlib.sha256(file.request.body).hexdigest(), time.monotonic())
        return document

    def during(self, server: HttpServer, manner: Manner) -> AbstractContextManager[None]:
        """For as long as the manner lasts."""
        return server.closed_port() if manner is Manner.GONE else nullcontext()

    def take(self, manner: Manner) -> None:
        """The manner from now on."""
        before, self.changed = self.changed, threading.Event()
        self.manner = manner
        before.set()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A mail as the next hop took it."""

    at: float
    mail_id: str
    reverse_path: str
    whole: str
    """SHA-256 of what was sent: what stands behind our own field."""
    text: str


@dataclass
class Arrivals(Recorder):
    arrivals: list[Arrival] = field(default_factory=list)

    def take(self, taken: Taken) -> None:
        at = time.monotonic()
        content = taken.content[taken.content.index(b"From: a@out.example\r\n") :]
        text = content.partition(b"\r\n\r\n")[2]
        digests = [hashlib.sha256(octets).hexdigest() for octets in (content, text)]
        self.arrivals.append(Arrival(at, queue_id(taken.content), taken.reverse_path, *digests))


class Sender:
    """Sends mails at a steady rate, in a thread; `accepted`: whether it is dirty, by the id of the 250."""

    def __init__(self, node: Node, rate: float) -> None:
        self._node, self._rate = node, rate
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._fault: BaseException | None = None
        self.accepted: dict[str, bool] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Raises what ended it before."""
        self._end.set()
        self._thread.join(60)
        if self._fault is not None:
            raise self._fault

    @property
    def works(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            with smtplib.SMTP(*self._node.smtp, timeout=60) as client:
                client.ehlo("out.example")
                for number in itertools.count():
                    dirty = number % DIRTY == DIRTY - 1
                    client.mail("a@out.example")
                    client.rcpt("you@ours.example")
                    code, reply = client.data(b"".join(mail(f"m{number}", dirty=dirty)))
                    assert code == 250, reply
                    self.accepted[reply.decode().rpartition(" ")[2]] = dirty
                    if self._end.wait(1 / self._rate):
                        return
        except BaseException as error:
            self._fault = error


def inventory(relay: int, core: str) -> str:
    return f"""
[[server_profiles]]
name = "next"
type = "smtp"
servers = ["127.0.0.1:{relay}"]

[[server_profiles]]
name = "core"
type = "metadefender-core"
servers = ["{core}"]
api_key = "{KEY}"

[[rules]]
name = "inbound"
match = {{ recipients = ["*@ours.example"] }}
scan = {{ profiles = ["core"] }}
relay = {{ profile = "next" }}
"""


CONFIG = f"""hostname = "mx.test"
own_mail = {{ profile = "next", from = "postmaster@ours.example", postmaster = "admin@ours.example" }}
[limits]
scan_seconds = {SCAN_SECONDS}
"""


def drill(
    folder: Path,
    mails: int,
    rate: float,
    *,
    answers: int = 20,
    between: int = 60,
    manners: Sequence[Manner] = BAD,
    retries: bool = False,
) -> dict[str, float]:
    """The figures of one run of at least `mails` mails. Each manner lasts for at least `answers` answers, or so many
    as an open circuit lets through, and between two of them `between` mails are delivered. `retries`: an operator has
    the queue retried after each manner, so that a short run need not wait for back-off."""
    core, began = DrillCore(), time.monotonic()
    with recording_sink(Arrivals()) as sink, http_server(core.answer) as server:
        node = Node(folder, inventory(sink.port, server.specification), CONFIG)
        node.start()
        sender = Sender(node, rate)
        rounds = 0
        try:
            sender.start()
            eventually(lambda: len(sink.arrivals) >= between or not sender.works, "the first mails", 120)
            while sender.works and len(sender.accepted) < mails:
                rounds += 1
                for manner in manners:
                    _misbehave(core, server, manner, answers)
                    if retries:
                        node.api("POST", "queue/retry", {"all": True})
                    wanted = len(sink.arrivals) + between
                    eventually(
                        lambda wanted=wanted: len(sink.arrivals) >= wanted or not sender.works,  # type: ignore[misc]
                        f"mail is delivered after: {manner.value}",
                        600,
                    )
                    if len(sender.accepted) >= mails and rounds > 1:
                        break
            sender.stop()
            sent, well = len(sender.accepted), time.monotonic()
            clean = sum(not dirty for dirty in sender.accepted.values())
            eventually(lambda: len(sink.arrivals) >= clean, "all clean mails at the next hop", 900)
            node.wait_empty(120)
            drained = time.monotonic() - well
            seen = {str(item["id"]): item for item in _all_mails(node)}
        finally:
            node.stop()
        _check(sender.accepted, sink.arrivals, core.clean, seen)
        assert not core.faults, core.faults[:5]
        assert all(core.misbehaved[manner] for manner in manners if manner is not Manner.GONE), core.misbehaved
    return {
        "mails": sent,
        "delivered": len(sink.arrivals),
        "quarantined": sent - clean,
        "unscanned deliveries": 0,
        "lost": 0,
        "DSNs": 0,
        "manners of failing": len(manners),
        "rounds": rounds,
        "dishonest answers": sum(core.misbehaved.values()),
        "drained s": round(drained, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def _misbehave(core: DrillCore, server: HttpServer, manner: Manner, answers: int) -> None:
    """Until the manner has been met `answers` times, or as often as a circuit opens after, and for a while."""
    before, began = core.misbehaved[manner], time.monotonic()
    with core.during(server, manner):
        core.take(manner)

        def met() -> bool:
            lasted = time.monotonic() - began
            if manner is Manner.GONE:
                return lasted >= 2
            count = core.misbehaved[manner] - before
            return count >= answers or (count >= 3 and lasted >= 2 * SCAN_SECONDS)

        eventually(met, f"the scanner is met: {manner.value}", MANNER_SECONDS)
        core.take(Manner.HONEST)


def _all_mails(node: Node) -> Iterator[Mapping[str, object]]:
    cursor = ""
    while True:
        page = node.get(f"mails?limit=500&next={cursor}")
        yield from cast(Sequence[Mapping[str, object]], page["items"])
        cursor = str(page["next"] or "")
        if not cursor:
            return


def _check(
    accepted: Mapping[str, bool],
    arrivals: Sequence[Arrival],
    clean: Mapping[str, float],
    seen: Mapping[str, Mapping[str, object]],
) -> None:
    """AssertionError with what must not be."""
    never = float("inf")
    unseen = [
        arrival.mail_id
        for arrival in arrivals
        if not (clean.get(arrival.whole, never) < arrival.at and clean.get(arrival.text, never) < arrival.at)
    ]
    assert not unseen, f"{len(unseen)} of {len(arrivals)} delivered though not found clean: {unseen[:5]}"
    times = Counter(arrival.mail_id for arrival in arrivals)
    assert not [mail_id for mail_id, count in times.items() if count > 1], "delivered twice"
    assert not [arrival for arrival in arrivals if not arrival.reverse_path], "a DSN was made"
    assert not [mail_id for mail_id, item in seen.items() if item["own"]], "a DSN was made"
    assert seen.keys() == accepted.keys(), f"{len(accepted)} accepted, {len(seen)} in the history"
    lost = [mail_id for mail_id, dirty in accepted.items() if not dirty and mail_id not in times]
    assert not lost, f"{len(lost)} lost: {lost[:5]}"
    wrong = [(m, seen[m]["status"]) for m, dirty in accepted.items() if dirty and seen[m]["status"] != "quarantined"]
    assert not wrong, f"not quarantined: {wrong[:5]}"


def main() -> int:
    """`scripts/drills scans`."""
    parser = argparse.ArgumentParser(prog="scripts/drills scans", description=__doc__)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=20, help="mails a second, roughly")
    return run("scans", parser, lambda folder, given: drill(folder, given.mails, given.rate))


if __name__ == "__main__":
    sys.exit(main())
