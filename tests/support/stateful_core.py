"""A MetaDefender Core that scans: batches, files, progress, results, sanitized files; each file as its `Plan` says.

Written from the OpenAPI of 4.18; what it answers unless a plan makes it lie is held against the shapes of that
(`openapi_shapes`), and faults are kept in `StatefulCore.faults`. EICAR is found in octets as they are, nowhere else.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from posthouse.core.core_code import name_of
from support.http_servers import Request, Response
from support.mock_core import KEY, MockCore
from support.openapi_shapes import faults, recorded

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass(frozen=True)
class Plan:
    """How one file is scanned."""

    polls: int = 1
    """Answers that it is not finished, before the result."""
    stuck_at: int | None = None
    """Never finished: progress as far as this."""
    result: str | None = None
    """None: Blocked if there is EICAR in it."""
    code: int | None = None
    reason: str = ""
    expires: int = 0
    """So many submissions of it are forgotten before they are asked for."""
    submit: Response | None = None
    poll: Response | None = None
    """Instead of what is so."""
    twist: Callable[[dict[str, Any]], object] | None = None
    """Changes the result: a lie."""
    sanitized: bytes | None = None
    sanitized_as: str = "a%20clean%20file.docx"
    sanitize_failed: bool = False
    fetch: Response | None = None
    """Instead of the sanitized file."""


@dataclass
class File:
    """As it was submitted."""

    data_id: str
    request: Request
    polls: int = 0
    forgotten: bool = False

    @property
    def name(self) -> str:
        return unquote(self.request.fields.get("filename", ""))


@dataclass
class Batch:
    batch_id: str
    request: Request
    files: list[str] = field(default_factory=list)
    closed: bool = False
    cancelled: bool = False


@dataclass
class StatefulCore:
    """`answer` for `http_server`; `plans` by name of the file."""

    plans: Mapping[str, Plan] = field(default_factory=dict)
    key: str = KEY
    """Empty: none is asked for."""
    opening: Response | None = None
    """Instead of a batch."""
    most_polls: int = 1000
    newer: bool = False
    """Batches are cancelled at another path."""
    files: dict[str, File] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    polled: threading.Event = field(default_factory=threading.Event)
    """A result was asked for."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ids: int = 0

    def answer(self, request: Request) -> Response:
        with self._lock:
            operation, response, honest = self._answered(request)
            if honest and operation:
                shape = recorded()[operation].get(str(response.status))
                told = response.octets is None
                if shape is None:
                    self.faults.append(f"{operation}: {response.status} is not in the document")
                elif told:
                    self.faults += [f"{operation}: {fault}" for fault in faults(response.document, shape)]
            return response

    def of(self, name: str) -> list[File]:
        """All submissions of a file."""
        return [file for file in self.files.values() if file.name == name]

    # --- operations ---------------------------------------------------------------------------------------

    def _answered(self, request: Request) -> tuple[str, Response, bool]:
        """The operation of the document, the answer, and whether it is meant to be as the document has it."""
        parts = request.path.strip("/").split("/")
        match request.method, *parts:
            case "POST", "file", "batch":
                return "POST /file/batch", self.opening or self._open(request), self.opening is None
            case "POST", "file":
                return self._submit(request)
            case "POST", "file", "batch", batch, "close":
                return "POST /file/batch/{batchId}/close", self._close(request, batch), True
            case "POST", "file", batch, "cancel" if not self.newer:
                return "POST /file/{batchId}/cancel", self._cancel(request, batch), True
            case "POST", "file", _, "cancel":
                return "", Response(404, {"err": "Not found"}), True
            case "POST", "file", "batch", batch, "cancel":
                return "POST /file/{batchId}/cancel", self._cancel(request, batch), True
            case "GET", "file", "converted", data_id:
                return self._converted(request, data_id)
            case "GET", "file", data_id:
                return self._poll(request, data_id)
            case "GET", _:
                return "", MockCore().answer(request), True
            case _:
                raise AssertionError(f"not asked of a Core: {request.method} {request.path}")

    def _open(self, request: Request) -> Response:
        if self._denied(request):
            return Response(403, {"err": "Access denied"})
        batch = Batch(self._id(), request)
        self.batches[batch.batch_id] = batch
        return Response(200, {"batch_id": batch.batch_id})

    def _submit(self, request: Request) -> tuple[str, Response, bool]:
        operation = "POST /file"
        batch = self.batches.get(request.fields.get("batch", ""))
        if self._denied(request) or batch is None or batch.closed:
            return operation, Response(403, {"err": "Access denied"}), True
        if "content-length" not in request.fields:
            return operation, Response(411, {"err": "Missing Content-Length header."}), True
        if not request.body:
            return operation, Response(422, {"err": "File is empty."}), True
        file = File(self._id(), request)
        plan = self._plan(file)
        if plan.submit is not None:
            return operation, plan.submit, False
        file.forgotten = plan.expires > 0 and len(self.of(file.name)) < plan.expires
        self.files[file.data_id] = file
        batch.files.append(file.data_id)
        return operation, Response(200, {"data_id": file.data_id}), True

    def _poll(self, request: Request, data_id: str) -> tuple[str, Response, bool]:
        operation = "GET /file/{data_id}"
        file = self.files.get(data_id)
        if file is None or file.forgotten or self._denied(request):
            return operation, Response(200, {data_id: "Not Found"}), False
        plan = self._plan(file)
        file.polls += 1
        self.polled.set()
        assert file.polls < self.most_polls, "it is asked without end"
        if plan.poll is not None:
            return operation, plan.poll, False
        document = self._document(file, plan)
        if plan.twist is not None:
            plan.twist(document)
        return operation, Response(200, document), plan.twist is None

    def _document(self, file: File, plan: Plan) -> dict[str, Any]:
        body = file.request.body
        found = EICAR in body
        finished = plan.stuck_at is None and file.polls > plan.polls
        result = plan.result or ("Blocked" if found else "Allowed")
        code = plan.code if plan.code is not None else int(found)
        progress = 100 if finished else plan.stuck_at if plan.stuck_at is not None else min(99, 10 * file.polls)
        if not finished:
            result, code = "Processing", 255
        post: dict[str, Any] = {"actions_ran": "", "actions_failed": ""}
        if finished and plan.sanitized is not None:
            post["actions_ran"] = "Sanitized | PAscript"
        if finished and plan.sanitize_failed:
            post["actions_failed"] = "Sanitization Failed"
        return {
            "data_id": file.data_id,
            "file_info": {
                "display_name": file.name,
                "file_size": len(body),
                "md5": hashlib.md5(body, usedforsecurity=False).hexdigest(),
                "sha256": hashlib.sha256(body).hexdigest().upper(),
            },
            "process_info": {
                "result": result,
                "blocked_reason": plan.reason or ("Infected" if finished and found else ""),
                "progress_percentage": progress,
                "profile": unquote(file.request.fields.get("rule", "File process")),
                "post_processing": post,
                "user_agent": file.request.fields.get("user_agent", ""),
                "verdicts": [name_of(code)],
            },
            "scan_results": {
                "data_id": file.data_id,
                "progress_percentage": progress,
                "scan_all_result_a": name_of(code),
                "scan_all_result_i": code,
                "scan_details": {
                    "ClamAV": {
                        "eng_id": "clamav_1_linux",
                        "scan_result_i": int(found),
                        "threat_found": "Eicar-Test-Signature" if found else "",
                    }
                },
            },
        }

    def _converted(self, request: Request, data_id: str) -> tuple[str, Response, bool]:
        operation = "GET /file/converted/{data_id}"
        file = self.files.get(data_id)
        plan = self._plan(file) if file is not None else Plan()
        if plan.fetch is not None:
            return operation, plan.fetch, False
        if self._denied(request):
            return operation, Response(405, {"err": "Access denied"}), True
        if plan.sanitized is None:
            return operation, Response(404, {"err": "File could not be found"}), True
        told = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{plan.sanitized_as}"',
        }
        return operation, Response(200, octets=plan.sanitized, fields=told), True

    def _close(self, request: Request, batch_id: str) -> Response:
        batch = self.batches.get(batch_id)
        if batch is None or self._denied(request):
            return Response(403 if batch else 404, {"err": "Batch not found"})
        batch.closed = True
        return Response(200, {"batch_id": batch_id, "is_closed": True})

    def _cancel(self, request: Request, batch_id: str) -> Response:
        batch = self.batches.get(batch_id)
        if batch is None or self._denied(request):
            return Response(403 if batch else 404, {"err": "Batch not found"})
        batch.closed = batch.cancelled = True
        return Response(200, {batch_id: "cancelled"})

    def _plan(self, file: File) -> Plan:
        return self.plans.get(file.name, Plan())

    def _denied(self, request: Request) -> bool:
        return bool(self.key) and request.fields.get("apikey") != self.key

    def _id(self) -> str:
        self._ids += 1
        return f"{self._ids:032x}"
