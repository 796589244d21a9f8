"""`/healthz`, `/readyz` and `/metrics`: without login, for supervisors and Prometheus."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from threading import Lock

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from posthouse.core.owner import Start
from posthouse.digital_id.authorities import AuthoritiesUnusable
from posthouse.digital_id.endings import endings
from posthouse.ports import WorkerState
from posthouse.web.problems import Json, problem_response
from posthouse.web.tools import Tools, WebTools

router = APIRouter()

_QUEUE_SECONDS = 5.0
"""How old the queue's numbers in the metrics may be: anyone may ask, the database shall not feel it."""

SHA256_SHOWN = 16
"""Digits of a certificate's fingerprint in a label; who is told its subject has to log in."""

_GAUGES = {
    "sessions": "open SMTP sessions",
    "memory_mails": "mails in the worker's memory",
    "inventory_revision": "revision of the inventory in force",
}
_COUNTERS = {
    "received": "mails accepted since the worker started",
    "relayed": "recipients relayed since the worker started",
    "scanned": "mails scanned for the recipients of one rule since the worker started",
    "found_bad": "those of them in which something was found",
}


@router.get("/healthz", summary="The console process answers")
async def healthz() -> Json:
    """Says nothing about workers: see /readyz."""
    return Json({"ok": True})


@router.get("/readyz", summary="At least one worker accepts mail", responses={503: {"description": "No live worker"}})
def readyz(tools: Tools) -> Json:
    """503 until a worker of this start of this node has a heartbeat younger than 15 s. Other nodes on the same
    database say nothing about this one."""
    workers = sum(Start.of(state.worker) == tools.start for state in tools.commands.workers(tools.clock.now()))
    if not workers:
        return problem_response(HTTPStatus.SERVICE_UNAVAILABLE, "No worker has reported in the last 15 seconds.")
    return Json({"ready": True, "workers": workers})


@router.get("/metrics", summary="Metrics of all workers for Prometheus", response_class=Response)
def metrics(request: Request, tools: Tools) -> Response:
    """Text format of prometheus-client."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Facts(tools, request.app.state.queue_numbers))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Facts(Collector):
    """The workers' live rows and the queue as metric families."""

    def __init__(self, tools: WebTools, queue: "QueueNumbers") -> None:
        self._tools = tools
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        now = self._tools.clock.now()
        workers = self._tools.commands.workers(now)
        info = GaugeMetricFamily("posthouse_info", "version of the node", labels=["version"])
        info.add_metric([self._tools.version], 1)
        yield info
        yield GaugeMetricFamily("posthouse_workers", "workers with a fresh heartbeat", value=len(workers))
        for fact, meaning in _GAUGES.items():
            gauge = GaugeMetricFamily(f"posthouse_{fact}", meaning, labels=["worker"])
            for worker in workers:
                gauge.add_metric([worker.worker], _number(worker, fact))
            yield gauge
        for fact, meaning in _COUNTERS.items():
            counter = CounterMetricFamily(f"posthouse_{fact}", meaning, labels=["worker"])
            for worker in workers:
                counter.add_metric([worker.worker], _number(worker, fact))
            yield counter
        queue = GaugeMetricFamily("posthouse_queue_recipients", "recipients waiting", labels=["profile", "state"])
        for row in self._queue.rows():
            for state in ("queued", "held"):
                count = row.get(state)
                queue.add_metric([str(row.get("profile")), state], count if isinstance(count, int) else 0)
        yield queue
        yield _expiry(self._tools.settings.data_dir)


def _expiry(data_dir: str) -> Metric:
    """Those that cannot be read are missing: the log and `doctor` say why."""
    gauge = GaugeMetricFamily(
        "posthouse_certificate_expiry_seconds",
        "epoch seconds at which a certificate of this node expires",
        labels=["certificate", "sha256"],
    )
    try:
        for ending in endings(data_dir):
            gauge.add_metric([ending.kind, ending.facts.sha256[:SHA256_SHOWN]], ending.facts.not_after)
    except AuthoritiesUnusable:
        pass
    return gauge


class QueueNumbers:
    """The queue's numbers, looked up at most every `_QUEUE_SECONDS`, by one thread at a time."""

    def __init__(self, tools: WebTools) -> None:
        self._tools = tools
        self._lock = Lock()
        self._rows: list[Mapping[str, object]] = []
        self._at = -_QUEUE_SECONDS - 1

    def rows(self) -> list[Mapping[str, object]]:
        """As `History.queue`."""
        with self._lock:
            now = self._tools.clock.monotonic()
            if now - self._at > _QUEUE_SECONDS:
                self._rows, self._at = self._tools.history.queue(), now
            return self._rows


def _number(worker: WorkerState, fact: str) -> float:
    value = worker.facts.get(fact)
    return float(value) if isinstance(value, int | float) else 0.0
