"""Structured logs on stderr: JSON unless a terminal. One event a line, control characters escaped.

Remote text (replies, addresses, HELO names) reaches a log only through these functions, which keep it on
one line and cut it at `LONGEST` characters.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import MutableMapping

import structlog

LONGEST = 1000
_UNRAISABLE_SECONDS = 60.0
_encode = json.JSONEncoder(ensure_ascii=False).encode
_SAFE_ESCAPES = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160))} | {0x2028: "\\u2028", 0x2029: "\\u2029"}


def one_line(text: str) -> str:
    """`text` with control characters and line separators escaped, cut at LONGEST."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    return text if text.isprintable() else text.translate(_SAFE_ESCAPES)


def _clean(_logger: object, _name: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = one_line(value)
    return event


class _Lines:
    """Writes whole lines to stderr; a full log disk must not stop mail."""

    def msg(self, line: str) -> None:
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except OSError:
            pass

    debug = info = warning = error = critical = exception = msg


class _OtherLogs(logging.Handler):
    """What libraries log (uvicorn, asyncio), in the same form as all else."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info)
        except Exception:  # a library's log line must not stop what it tells of
            logger(record.name).error("a line of the log cannot be written", line=str(record.msg))


class _Unraisable:
    """For errors that Python can raise nowhere: it would print a traceback for each.

    A client can cause them at will (its server name in a TLS handshake is not ASCII): a line a minute says how many.
    """

    def __init__(self) -> None:
        self._next = 0.0
        self._count = 0

    def __call__(self, found: "sys.UnraisableHookArgs") -> None:
        self._count += 1
        if time.monotonic() < self._next:
            return
        kind = getattr(found.exc_type, "__name__", "")
        where = found.exc_traceback
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else ""
        error = f"{kind}: {found.exc_value}"
        logger("python").error("an error that could be raised nowhere", error=error, at_line=place, count=self._count)
        self._next, self._count = time.monotonic() + _UNRAISABLE_SECONDS, 0


def configure(process: str) -> None:
    """Called once by each process; `process` (serve, worker-0, console) is in every line."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _clean,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.dev.ConsoleRenderer(pad_event_to=24)
            if terminal
            else structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    sys.unraisablehook = _Unraisable()
    logging.basicConfig(handlers=[_OtherLogs()], level=logging.WARNING)


def _dumps(event: object, **_: object) -> str:
    return json.dumps(event, ensure_ascii=False, default=str)


def logger(part: str) -> structlog.typing.FilteringBoundLogger:
    """The log of one part of the program."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=part)
    return bound


class DeliveryLog:
    """One grep-able line per delivery result: id, from, to, relay, dsn, delay.

    On the hot path, so by hand, and all lines of one turn of the loop in one write.
    """

    def __init__(self, process: str) -> None:
        self._lines: list[str] = []
        self._tail = f', "part": "delivery", "process": {json.dumps(process)}}}\n'
        self._second = -1
        self._stamp = ""

    def result(
        self,
        now: float,
        mail_id: str,
        sender: str,
        to: str,
        relay: str,
        result: str,
        status: str,
        delay: float,
        reply: str,
    ) -> None:
        """`delay` is seconds since receipt; `status` the RFC 3463 code."""
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        fraction = int((now - second) * 1000)
        line = (
            f'{{"at": "{self._stamp}.{fraction:03d}Z", "event": "{result}", "id": "{mail_id}", '
            f'"from": {_text(sender)}, "to": {_text(to)}, "relay": {_text(relay)}, '
            f'"dsn": "{status}", "delay": {delay:.3f}, '
            f'"reply": {_text(reply)}{self._tail}'
        )
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        self._lines.append(line)

    def _write(self) -> None:
        lines = "".join(self._lines)
        self._lines.clear()
        try:
            sys.stderr.write(lines)
            sys.stderr.flush()
        except OSError:
            pass  # a full log disk must not stop mail


def _text(text: str) -> str:
    return _encode(one_line(text))
