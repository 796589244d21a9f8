"""Problem details (RFC 9457): every answer above 399 has this shape, one `errors` entry per fault.

Nothing here echoes a secret, and whatever a client sent is written as ASCII JSON, so that no input can make
the answer itself fail.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from secrets import token_hex

from fastapi import FastAPI, Request
from fastapi import HTTPException as ApiException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from posthouse.core.faults import Fault
from posthouse.core.fields import sounds_secret, without_secrets
from posthouse.telemetry import logger

VALUE_SHOWN = 200
"""Characters of a faulty value that go into its fault."""

_REMEDIES = {
    "missing": "Give it.",
    "extra_forbidden": "Leave it out; the names allowed are in /api/v1/openapi.json.",
    "json_invalid": "Send one JSON document in UTF-8.",
    "model_attributes_type": "Send a JSON object with the field Content-Type: application/json.",
    "dict_type": "Send a JSON object with the field Content-Type: application/json.",
    "int_parsing": "Give a whole number.",
    "int_type": "Give a whole number.",
    "bool_parsing": "Give true or false.",
    "bool_type": "Give true or false.",
    "string_type": "Give a text.",
    "string_unicode": "Give a text without lone surrogates.",
    "string_pattern_mismatch": "Leave out control characters.",
    "list_type": "Give a list.",
}

log = logger("web")


class Json(JSONResponse):
    """JSON in ASCII: lone surrogates and the like stay escaped and cannot break the encoding."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


class Problem(ApiException):
    """Raised by endpoints; becomes problem details. FastAPI's own kind, so that reading a body hands it on."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """`more`: members of the problem details besides those that all have."""
        super().__init__(status, detail, dict(headers) if headers else None)
        self.faults = tuple(faults)
        self.more = dict(more or {})


def invalid(faults: Sequence[Fault]) -> Problem:
    """422 with all faults at once."""
    count = len(faults)
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{count} fault{'s' if count != 1 else ''} found.", faults)


def problem_response(
    status: int,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Json:
    """The answer itself."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "errors": [fault_json(fault) for fault in faults],
        **(more or {}),
    }
    return Json(body, status, dict(headers or {}), media_type="application/problem+json")


def fault_json(fault: Fault) -> dict[str, str]:
    """`{field, value, rule, remedy}`."""
    return {"field": fault.field, "value": fault.value, "rule": fault.rule, "remedy": fault.remedy}


def install(app: FastAPI) -> None:
    """Makes every fault of the app a problem: ours, FastAPI's, Starlette's and bugs."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_bug)


async def _on_http(request: Request, exception: Exception) -> Json:
    assert isinstance(exception, HTTPException)
    headers = exception.headers
    faults = exception.faults if isinstance(exception, Problem) else ()
    detail = exception.detail
    if exception.status_code == HTTPStatus.BAD_REQUEST and not faults:
        faults = (Fault("body", "", "The body cannot be read.", _REMEDIES["json_invalid"]),)
    if exception.status_code == HTTPStatus.NOT_FOUND and detail == _title(404):
        detail = "There is no such resource."
    if exception.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _allowed(request)):
        headers = {**(headers or {}), "Allow": ", ".join(methods)}
    more = exception.more if isinstance(exception, Problem) else {}
    return problem_response(exception.status_code, detail, faults, headers, more)


def _allowed(request: Request) -> list[str]:
    """The methods of this path that OpenAPI tells of; Starlette names those of one route only."""
    found: set[str] = set()
    paths = request.app.openapi()["paths"]
    asked = request.scope["path"]
    for path, operations in ({asked: paths[asked]} if asked in paths else paths).items():
        if compile_path(path)[0].match(asked):
            found |= {method.upper() for method in operations}
    return sorted(found)


async def _on_validation(_request: Request, exception: Exception) -> Json:
    assert isinstance(exception, RequestValidationError)
    faults = tuple(_translated(error) for error in exception.errors())
    problem = invalid(faults)
    return problem_response(problem.status_code, problem.detail, faults)


async def _on_bug(request: Request, exception: Exception) -> Json:
    incident = token_hex(4)
    log.error("internal trouble", id=incident, path=request.url.path, exc_info=exception)
    return problem_response(500, f"Internal trouble; the log has it under id {incident}.")


def _translated(error: Mapping[str, object]) -> Fault:
    """One of FastAPI's validation errors as a fault."""
    where = error.get("loc")
    path = _dotted(where if isinstance(where, tuple) else ())
    kind = str(error.get("type", ""))
    context = error.get("ctx")
    expected = context.get("expected") if isinstance(context, Mapping) else None
    remedy = f"Use {expected}." if expected else _REMEDIES.get(kind, "See /api/v1/openapi.json for what is allowed.")
    rule = str(error.get("msg", "is invalid")).rstrip(".") + "."
    value = "" if kind in ("missing", "json_invalid") else shown(path, error.get("input"))
    return Fault(path, value, rule, remedy)


def shown(path: str, value: object) -> str:
    """A given value as text, cut, or `***` if its field sounds like a secret; likewise for what stands in it."""
    if sounds_secret(path):
        return "***"
    if value is None:
        return "null"
    text = str(without_secrets(value)) if isinstance(value, str) else _as_json(value)
    return text if len(text) <= VALUE_SHOWN else text[:VALUE_SHOWN] + "…"


def _as_json(value: object) -> str:
    if isinstance(value, bytes):
        return value[:VALUE_SHOWN].decode("utf-8", "replace")
    try:
        return json.dumps(without_secrets(value), default=str)
    except (ValueError, RecursionError):
        return type(value).__name__


def _dotted(parts: Sequence[object]) -> str:
    """`("body", "mails", 0)` as `mails[0]`; body, query, path and header are left out before a name."""
    named = parts[1:] if len(parts) > 1 and isinstance(parts[1], str) else parts[:1]
    path = ""
    for part in named:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
