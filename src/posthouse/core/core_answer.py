"""What the answers of MetaDefender Core say of a file. Pure; whatever comes, only what is known to be clean is clean.

The decision is `process_info.result`, which includes the policy of Core's own rule. Yet `Allowed` alone makes nothing
clean: a Core may be set to allow what it did not scan, or what an engine found, and then our own rule decides
(`on_blocked`, `on_encrypted`, `on_failed` and the like). So a file is clean if it is allowed *and* its code is 0 or 7
(nothing found, or trusted by Core's administrator); with any other code it is what the code says. The answer must be
about this file: `data_id` is that of the submission, and `file_info.sha256` that of the octets sent. Both progress
values, as far as they are there, are 100.
Source: OpenAPI of MetaDefender Core 4.18 (AnalysisResult); design section 3.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from posthouse.core.core_code import CodeGroup, group_of, name_of
from posthouse.core.examination import NAME_LENGTH
from posthouse.core.http_ladder import Answer
from posthouse.core.mime_text import one_line
from posthouse.core.scan import Engine, Failure, Found, Verdict

RESULT_OCTETS = 2 * 1024 * 1024
"""Of an answer with the result of one file; those of archives with many members are long."""
TEXT_LENGTH = 200
"""Characters of others' texts that are kept."""
ENGINES_KEPT = 50
_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
"""It goes into the path of the next request."""
_FILE_NAME = re.compile(r"""filename(\*?)\s*=\s*(?:"([^"]{0,4096})"|([^;"\s]{1,4096}))""", re.IGNORECASE)
_TOO_LARGE = re.compile(r"too (?:large|big)|(?:exceed|max).{0,40}size|size.{0,40}(?:exceed|limit)", re.IGNORECASE)
_THREAT_WORDS = ("infected", "suspicious", "malware", "dirty", "unwanted program", "yara", "vulnerab")
_ENCRYPTED_WORDS = ("encrypted", "password protected")


@dataclass(frozen=True, slots=True)
class ServerFault:
    """The server did not do what it was asked for; nothing is known of the file."""

    why: str
    failure: Failure
    """UNREACHABLE, BUSY: the next server is asked. CONFIGURATION: none is."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """To be asked again later."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The server knows nothing of the file, or no more."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The result of a file."""

    found: Found
    sanitized: bool = False
    """There is a sanitized file to be fetched in its place; `found` is CLEAN."""


Reading = ServerFault | Unfinished | Gone | Decided


# --- Submission --------------------------------------------------------------------------------------


def batch_id(answer: Answer) -> str | ServerFault:
    """Of `POST /file/batch`."""
    return _id(answer, "batch_id")


def data_id(answer: Answer) -> str | Decided | ServerFault:
    """Of `POST /file`. A file that is larger than Core's rule or a web server before it takes is no fault of the
    request: the documents do not tell the status (inferred: 400, 403 or 413), so the text decides."""
    if answer.status == 413 or (400 <= answer.status < 500 and _TOO_LARGE.search(_err(answer))):
        return failed(Failure.NOT_SCANNED, f"the server takes no file of this size ({answer.status}{_err(answer)})")
    return _id(answer, "data_id")


def _id(answer: Answer, name: str) -> str | ServerFault:
    if fault := fault_of(answer):
        return fault
    document = _object(answer)
    found = document.get(name) if document is not None else None
    if not isinstance(found, str) or not _ID.fullmatch(found):
        return ServerFault(f"the server did not answer as MetaDefender Core: no {name}", Failure.UNREACHABLE)
    return found


def fault_of(answer: Answer) -> ServerFault | None:
    """What a status says of the server or of our request; None for 200.

    An answer that no Core gives (a redirect, a page of a proxy) is the server's fault: the next one may be a Core.
    """
    status = answer.status
    if status == 200:
        return None
    why = f"the server answers {status}{_err(answer)}"
    if status in (429, 503):
        return ServerFault(why, Failure.BUSY)
    if status >= 500 or status < 400 or status == 408:
        return ServerFault(why, Failure.UNREACHABLE)
    return ServerFault(f"the server refuses the request: it answers {status}{_err(answer)}", Failure.CONFIGURATION)


# --- Result ------------------------------------------------------------------------------------------


def result(answer: Answer, asked: str, sha256: str, *, sanitize: bool = False) -> Reading:
    """Of `GET /file/{data_id}`. `asked`: the data_id; `sha256` of the octets that were sent; `sanitize`: a sanitized
    file is wanted."""
    if answer.status == 404:
        return Gone()
    if fault := fault_of(answer):
        return fault
    if not answer.whole:
        return failed(Failure.PROCESSING, "the result is longer than can be read", asked)
    document = _object(answer)
    if document is None:
        return ServerFault("the server did not answer as MetaDefender Core: no JSON object", Failure.UNREACHABLE)
    process, scan = document.get("process_info"), document.get("scan_results")
    if process is None and scan is None:
        return Gone()  # `{"<data_id>": "Not Found"}`, with 200
    if not isinstance(process, Mapping) or not isinstance(scan, Mapping):
        return failed(Failure.PROCESSING, "the result is not whole", asked)
    if document.get("data_id") != asked or scan.get("data_id", asked) != asked:
        return failed(Failure.PROCESSING, "the result is that of another submission", asked)
    return _finished(process, scan) or _decided(document, process, scan, asked, sha256, sanitize=sanitize)


def _finished(process: Mapping[str, object], scan: Mapping[str, object]) -> Unfinished | Decided | None:
    """None if it is."""
    progress = [part["progress_percentage"] for part in (process, scan) if "progress_percentage" in part]
    if not progress or not all(type(each) is int and 0 <= each <= 100 for each in progress):
        return failed(Failure.PROCESSING, "the result does not tell its progress")
    code = scan.get("scan_all_result_i")
    waits = type(code) is int and group_of(code) is CodeGroup.WAIT
    if waits or process.get("result") == "Processing" or progress != [100] * len(progress):
        return Unfinished()
    return None


def _decided(
    document: Mapping[str, object],
    process: Mapping[str, object],
    scan: Mapping[str, object],
    asked: str,
    sha256: str,
    *,
    sanitize: bool,
) -> Decided:
    decision, code = process.get("result"), scan.get("scan_all_result_i")
    if decision not in ("Allowed", "Blocked"):
        return failed(Failure.PROCESSING, "the result is none that is known", asked)
    blocked = decision == "Blocked"
    info = document.get("file_info")
    told = info.get("sha256") if isinstance(info, Mapping) else None
    if isinstance(told, str) and told.lower() != sha256.lower():
        return failed(Failure.PROCESSING, "the result is that of other octets", asked)
    if not isinstance(told, str) and not blocked:
        return failed(Failure.PROCESSING, "the result does not tell of which octets it is", asked)
    if type(code) is not int and not blocked:
        return failed(Failure.PROCESSING, "the result has no code", asked)
    group, named = (group_of(code), name_of(code)) if type(code) is int else (CodeGroup.UNKNOWN, "blocked")
    verdict, failure = _verdict(blocked=blocked, group=group, why=_reasons(process))
    engines = _engines(scan)
    reason = _text(process.get("blocked_reason")) or ("" if verdict is Verdict.CLEAN else named)
    failed_actions, done_actions = (_actions(process, name) for name in ("actions_failed", "actions_ran"))
    not_sanitized = sanitize and ("sanitization failed" in failed_actions or _sanitization_failed(reason))
    if not_sanitized and verdict in (Verdict.CLEAN, Verdict.POLICY) and group is CodeGroup.CLEAN:
        verdict, failure, reason = (
            Verdict.FAILED,
            Failure.SANITIZE,
            _why_not_sanitized(process) or reason or "Sanitization Failed",
        )
    threat = next((engine.threat for engine in engines if engine.threat), "") if verdict is Verdict.BLOCKED else ""
    found = Found(verdict, threat, reason, failure, asked, engines)
    return Decided(found, sanitized=sanitize and verdict is Verdict.CLEAN and "sanitized" in done_actions)


def _verdict(*, blocked: bool, group: CodeGroup, why: str) -> tuple[Verdict, Failure | None]:
    match group:
        case CodeGroup.CLEAN if not blocked:
            return Verdict.CLEAN, None
        case CodeGroup.CLEAN | CodeGroup.UNKNOWN if blocked:
            # Blocked by Core's rule for something that no code tells: its words may.
            if any(word in why for word in _THREAT_WORDS) or group is CodeGroup.UNKNOWN:
                return Verdict.BLOCKED, None
            encrypted = any(word in why for word in _ENCRYPTED_WORDS)
            return Verdict.ENCRYPTED if encrypted else Verdict.POLICY, None
        case CodeGroup.THREAT:
            return Verdict.BLOCKED, None
        case CodeGroup.POLICY:
            return Verdict.POLICY, None
        case CodeGroup.ENCRYPTED:
            return Verdict.ENCRYPTED, None
        case CodeGroup.NOT_COMPLETED:
            return Verdict.FAILED, Failure.NOT_SCANNED
        case _:
            return Verdict.FAILED, Failure.PROCESSING


def failed(failure: Failure, why: str, asked: str = "") -> Decided:
    """No scanner could tell."""
    return Decided(Found(Verdict.FAILED, reason=why, failure=failure, data_id=asked))


# --- Sanitized file ----------------------------------------------------------------------------------


def sanitized_file(answer: Answer) -> Found | ServerFault | None:
    """Of `GET /file/converted/{data_id}`, whose body went into a file: why it cannot be had; None if it was."""
    if answer.status in (404, 405):
        return _not_sanitized(f"the sanitized file cannot be had{_err(answer)} ({answer.status})")
    if fault := fault_of(answer):
        return fault
    return None if answer.whole else _not_sanitized("the sanitized file is larger than it may be")


def _not_sanitized(why: str) -> Found:
    return Found(Verdict.FAILED, reason=why, failure=Failure.SANITIZE)


def sanitized_name(disposition: str) -> str:
    """The name in a Content-Disposition, percent-encoded UTF-8, without folders and what cannot be seen; empty if
    there is none that can be used. RFC 6266 section 4.3."""
    found = {star: quoted or bare for star, quoted, bare in _FILE_NAME.findall(disposition[:8192])}
    text = found.get("*", "").rpartition("'")[2] or found.get("", "")
    name = re.split(r"[/\\]", unquote(text, errors="replace"))[-1]
    seen = "".join(c for c in name if c.isprintable() and c not in '<>:"|?*\ufffd').strip(" .")
    if len(seen) <= NAME_LENGTH:
        return seen
    stem, dot, extension = seen.rpartition(".")
    if not dot or len(extension) > 20:
        return seen[:NAME_LENGTH]
    return stem[: NAME_LENGTH - len(extension) - 1] + dot + extension


# --- Texts of others ---------------------------------------------------------------------------------


def _text(value: object) -> str:
    return one_line(value[:TEXT_LENGTH]).strip() if isinstance(value, str) else ""


def _err(answer: Answer) -> str:
    """`{"err": "text"}`, as all of Core's faults have it."""
    document = _object(answer)
    text = _text(document.get("err")) if document is not None else ""
    return f": {text}" if text else ""


def _reasons(process: Mapping[str, object]) -> str:
    """All that tells why, in lower case. A list `blocked_reasons` is that of Core 5."""
    lists = [process.get(name) for name in ("verdicts", "blocked_reasons")]
    texts = [text for each in lists if isinstance(each, list) for text in each[:ENGINES_KEPT]]
    return " | ".join(_text(text) for text in (process.get("blocked_reason"), *texts)).lower()


def _actions(process: Mapping[str, object], name: str) -> frozenset[str]:
    """Names in lower case; `|` stands between them."""
    post = process.get("post_processing")
    value = post.get(name) if isinstance(post, Mapping) else None
    names = value.split("|", 100) if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(_text(each).lower() for each in names[:100])


def _sanitization_failed(reason: str) -> bool:
    return "sanitization failed" in reason.lower()


def _why_not_sanitized(process: Mapping[str, object]) -> str:
    post = process.get("post_processing")
    details = post.get("sanitization_details") if isinstance(post, Mapping) else None
    told = details if isinstance(details, Mapping) else {}
    return _text(told.get("failure_category")) or _text(told.get("description"))


def _engines(scan: Mapping[str, object]) -> tuple[Engine, ...]:
    details = scan.get("scan_details")
    if not isinstance(details, Mapping):
        return ()
    found = []
    for name, said in list(details.items())[:ENGINES_KEPT]:
        if isinstance(said, Mapping):
            code = said.get("scan_result_i")
            found.append(
                Engine(_text(name), name_of(code) if type(code) is int else "", _text(said.get("threat_found")))
            )
    return tuple(found)


def _object(answer: Answer) -> Mapping[str, object] | None:
    """None if it is none. RecursionError: a body may be nested as deep as it is long."""
    try:
        found = json.loads(answer.body) if answer.whole else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
