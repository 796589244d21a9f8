"""Speaks REST to a running node. Proxy variables are ignored; a data dir's key goes to its own node only."""

import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import SplitResult, quote, urlsplit

from posthouse.cli.errors import Exit, Stop
from posthouse.core.faults import Fault
from posthouse.core.own_address import is_loopback

if TYPE_CHECKING:
    from httpx2 import Response

DEFAULT_SERVER = "http://127.0.0.1:8025"
CA_VARIABLE = "POSTHOUSE_SERVER_CA"
_OF_EVERY_PROBLEM = {"type", "title", "status", "detail", "instance", "errors"}
TIMEOUT_SECONDS = 30.0
"""More than the 3 s that a queue action waits and than a large inventory takes."""


@dataclass(frozen=True, slots=True)
class NodeFile:
    """`node.json` of a data dir: where the node that runs on it is reached."""

    console: str
    smtp: tuple[str, ...]
    pid: int


def node_file(data_dir: str) -> NodeFile | None:
    """None if there is none or it cannot be read."""
    try:
        document = json.loads((Path(data_dir) / "node.json").read_text("utf-8"))
        return NodeFile(
            str(document["console"]), tuple(str(address) for address in document["smtp"]), int(document["pid"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Remote:
    """One command's conversation with a node; a context manager."""

    def __init__(self, server: str | None, data_dir: str, *, login: bool = True) -> None:
        import httpx2

        node = node_file(data_dir)
        self.server = (server or (node.console if node else DEFAULT_SERVER)).rstrip("/")
        parts = _split(self.server)
        own = node is not None and _is_own(parts, node)
        headers = {"Accept": "application/json, application/problem+json"}
        if login:
            headers["Authorization"] = f"Bearer {_key(data_dir, parts, node)}"
        self._client = httpx2.Client(
            base_url=self.server,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            follow_redirects=False,
            verify=_tls(data_dir, own=own, named=bool(server)) if self.server.lower().startswith("https:") else True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, parameters: Mapping[str, object] | None = None) -> dict[str, object]:
        """The answer's document. `path` as `/api/v1/mails`; parameters that are None or empty are left out."""
        return self.call("GET", path, parameters)

    def post(
        self, path: str, body: Mapping[str, object], parameters: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        return self.call("POST", path, parameters, body)

    def tagged(self, path: str) -> tuple[dict[str, object], str]:
        """The answer's document and its ETag, for `call(..., if_match=...)`."""
        answer = self._answer("GET", path, {}, None, {})
        return _document(self.server, answer), answer.headers.get("ETag", "")

    def whole(self, path: str) -> dict[str, object]:
        """A list, all its pages as one."""
        items: list[object] = []
        cursor: object = None
        while True:
            page = self.get(path, {"next": cursor})
            items += cast(list[object], page["items"])
            cursor = page.get("next")
            if not cursor:
                return {"items": items, "next": None}

    def pages(self, path: str, parameters: Mapping[str, object], limit: int) -> Iterator[dict[str, object]]:
        """Up to `limit` items of a list, page by page."""
        cursor: object = None
        left = limit
        while left > 0:
            page = self.get(path, {**parameters, "limit": min(left, 500), "next": cursor})
            items = cast(list[dict[str, object]], page["items"])
            yield from items[:left]
            left -= len(items)
            cursor = page.get("next")
            if not cursor or not items:
                return

    def call(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        if_match: str = "",
    ) -> dict[str, object]:
        """Stop with the fitting exit code for whatever goes wrong."""
        headers = {"If-Match": if_match} if if_match else {}
        return _document(self.server, self._answer(method, path, parameters or {}, body, headers))

    def _answer(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, object],
        body: Mapping[str, object] | None,
        headers: Mapping[str, str],
    ) -> "Response":
        query = {name: _text(value) for name, value in parameters.items() if value not in (None, "")}
        content = None if body is None else json.dumps(body).encode()
        sent = dict(headers) if body is None else {**headers, "Content-Type": "application/json"}
        with self._reached():
            answer = self._client.request(method, path, params=query, content=content, headers=sent)
        if answer.status_code >= 400:
            raise _stop(self.server, answer)
        return answer

    def lines(self, path: str, body: Mapping[str, object]) -> Iterator[dict[str, object]]:
        """The documents of an answer that comes line by line, as they come."""
        headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"}
        content = json.dumps(body).encode()
        with self._reached(), self._client.stream("POST", path, content=content, headers=headers) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise _stop(self.server, answer)
            for line in answer.iter_lines():
                yield _object(self.server, line)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Faults of the connection as the end of the command."""
        import httpx2

        try:
            yield
        except httpx2.TimeoutException as fault:
            raise Stop(Exit.UNREACHABLE, f"{self.server} does not answer in {TIMEOUT_SECONDS:.0f} s.") from fault
        except httpx2.HTTPError as fault:
            if (refused := _certificate_fault(fault)) is not None:
                raise Stop(
                    Exit.UNREACHABLE,
                    f"{self.server} is not trusted: {getattr(refused, 'verify_message', None) or refused}",
                    remedy=f"Name the node's data dir with --data-dir, or the file of its CA with {CA_VARIABLE}.",
                ) from fault
            raise Stop(
                Exit.UNREACHABLE,
                f"{self.server} cannot be reached: {fault or type(fault).__name__}",
                remedy="Start the node with `posthouse serve`, or name it with POSTHOUSE_SERVER or --server.",
            ) from fault


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _document(server: str, answer: "Response") -> dict[str, object]:
    return _object(server, answer.content) if answer.content else {}


def _object(server: str, text: str | bytes) -> dict[str, object]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Stop(Exit.UNREACHABLE, f"{server} answers, but not as a posthouse console.")
    return document


def _stop(server: str, answer: "Response") -> Stop:
    """Problem details as the end of the command."""
    status = answer.status_code
    code = Exit.REFUSED if status in (401, 403) else Exit.UNREACHABLE if status in (502, 503, 504) else Exit.FAULT
    try:
        problem = json.loads(answer.content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "detail" not in problem:
        return Stop(code, f"{server} answers {status} {answer.reason_phrase}.")
    entries = problem.get("errors")
    faults = [
        Fault(*(str(entry.get(name, "")) for name in ("field", "value", "rule", "remedy")))
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    ]
    remedy = "Set POSTHOUSE_API_KEY, or make a key with `posthouse key create`." if status == 401 else ""
    more = {name: value for name, value in problem.items() if name not in _OF_EVERY_PROBLEM}
    return Stop(code, str(problem["detail"]), faults, remedy, more)


def _split(server: str) -> SplitResult:
    """The console's address, with a host."""
    try:
        parts = urlsplit(server)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host or parts.scheme not in ("http", "https"):
        raise Stop(Exit.USAGE, f"{server!r} is no address of a console.", remedy="Write http://HOST:PORT.")
    return parts


def _is_own(server: SplitResult, node: NodeFile) -> bool:
    """The node of the data dir is meant, however its host is written."""
    console = urlsplit(node.console)
    if server.netloc == console.netloc:
        return True
    return is_loopback(server.hostname or "") and _port(server) == _port(console)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


class _OwnNode(ssl.SSLContext):
    """Knows the node by the certificate that it shows, whoever issued it, and whatever its names, dates and usages
    say: it is the one in the data dir, or the one that the console left word of there. Nothing is sent before."""

    data_dir = ""

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        """Raises ssl.SSLCertVerificationError."""
        connection = super().wrap_socket(*given, **named)
        shown = sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
        if shown not in _known(self.data_dir):
            connection.close()
            raise ssl.SSLCertVerificationError(
                f"it shows another certificate than that of the data dir {self.data_dir}"
            )
        return connection


def _known(data_dir: str) -> set[str]:
    from posthouse.core.certificate import fingerprint
    from posthouse.digital_id.stand_in import noted
    from posthouse.digital_id.store import DigitalIds

    found = DigitalIds(data_dir).certificate()
    return {noted(data_dir)} if found is None else {noted(data_dir), fingerprint(found)}


def _tls(data_dir: str, *, own: bool, named: bool) -> ssl.SSLContext:
    """The node of the data dir is known by what lies there. Others are verified, with the system's CAs or those of
    the file POSTHOUSE_SERVER_CA; so is one that was `named` where that file is given."""
    ca = os.environ.get(CA_VARIABLE) or None
    if own and (ca is None or not named):
        context = _OwnNode(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.data_dir = data_dir
        return context
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as fault:
        raise Stop(Exit.USAGE, f"{CA_VARIABLE}: {ca} is no file of certificates (PEM).") from fault


def _certificate_fault(fault: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The fault of a certificate that has led to this one."""
    while fault is not None and not isinstance(fault, ssl.SSLCertVerificationError):
        fault = fault.__cause__ or fault.__context__
    return fault


def _key(data_dir: str, server: SplitResult, node: NodeFile | None) -> str:
    """POSTHOUSE_API_KEY, else the key file; the file's key is never sent to a foreign host."""
    key = os.environ.get("POSTHOUSE_API_KEY", "").strip()
    path = Path(data_dir) / "console.key"
    if not key and (is_loopback(server.hostname or "") or (node is not None and _is_own(server, node))):
        try:
            key = path.read_text("utf-8").strip()
        except (OSError, ValueError):
            key = ""
    if not key:
        raise Stop(
            Exit.REFUSED,
            "There is no API key to log in with.",
            remedy=f"Set POSTHOUSE_API_KEY, or name the data dir of the node with --data-dir (looked at {path}).",
        )
    if not (key.isascii() and key.isprintable()):
        raise Stop(Exit.USAGE, "The API key has characters that no key has.")
    return key
