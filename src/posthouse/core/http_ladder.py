"""What MetaDefender Core and Vault answer in a TEST. Pure; of anything that is neither, nothing is repeated.

The key is asked about only after the server has answered as what it should be. Every reading is `(facts, fault)`;
the fault is one sentence, empty if the stage is good.
Standards: OpenAPI of MetaDefender Core 4.18; REST API of Vault (October 2019); design 2.9, 2.11.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Facts = tuple[dict[str, object], str]

NOT_HTTP = "the server did not answer as HTTP"
NOT_HTTP_SMTP = f"{NOT_HTTP}: it speaks SMTP"
NOT_HTTP_TLS = f"{NOT_HTTP}: it speaks TLS"
BROKEN = "the connection was lost within the answer, or its HTTP is broken"
LOST = "connection lost before the answer"
LOST_IN_CLEAR = f"{LOST} in clear text"
"""As servers do that expect TLS."""
BAD_REQUEST = "the server finds the request bad (400): it may expect TLS"
NO_ANSWER = "no answer within the time of the test"
NOT_ENDED = "the answer did not end within the time of the test"
TOO_LONG = "the answer is longer than it should be"
NOT_CORE = "the server did not answer as MetaDefender Core"
NOT_VAULT = "the server did not answer as Vault"
KEY_UNSEEN = "the server misses a field of the request (401), although the API key was sent"
"""Of Vault, whose 403 is a key that is wrong or has expired."""
NO_LICENCE = "MetaDefender Core has no valid licence"
LICENCE_EXPIRED = "the licence of MetaDefender Core has expired"
NO_ENGINE = "MetaDefender Core has no active engine"
NOT_READY = "MetaDefender Core is not ready"

MOST_OCTETS = 256 * 1024
"""Of a body: far more than any answer of a TEST has, and bounded."""
BEGINNING = 5
"""Octets of what came first: enough to tell HTTP, and what else it may be."""

_SMTP = re.compile(rb"[245]\d\d[ -]")
_VERSION = re.compile(r"[0-9A-Za-z.+_-]{1,40}")
_WORD = re.compile(r"[\w.+\- ]{1,60}")
_DATE = re.compile(r"[0-9A-Za-z:./+ -]{4,40}")
_UNLICENSED = {"deployment", "deployment_id", "reactivate"}
"""All that a Core without a licence tells; a form of answer that is not known yet is no fault."""
_WELL = ("ok", "true", "valid", "ready", "healthy")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP, bounded."""

    status: int
    body: bytes
    """At most `MOST_OCTETS`."""
    whole: bool = True
    """False: there was more of it."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Of its head, by name in lower case."""


def stranger(beginning: bytes) -> str:
    """What is wrong with the first octets of a server; empty if they are those of HTTP."""
    if beginning.startswith(b"HTTP/"):
        return ""
    if _SMTP.match(beginning):
        return NOT_HTTP_SMTP
    return NOT_HTTP_TLS if beginning[:2] in (b"\x15\x03", b"\x16\x03") else NOT_HTTP


# --- MetaDefender Core -----------------------------------------------------------------------------------


def core_version(answer: Answer) -> Facts:
    """`GET /version`, which needs no key: `{"product_id": "MSCL", "version": "4.18.0"}`."""
    document = _object(answer)
    product, version = document.get("product_id"), document.get("version")
    if answer.status != 200 or not (isinstance(product, str) and isinstance(version, str)):
        return {}, _amiss(answer) or (BAD_REQUEST if answer.status == 400 else NOT_CORE)
    if not (_WORD.fullmatch(product) and _VERSION.fullmatch(version)):
        return {}, NOT_CORE
    return {"version": version, "product": product}, ""


def core_ready(answer: Answer) -> Facts:
    """`GET /readyz`, since 5.0: 200, or 503 until every condition that the administrator has set is met.

    Which conditions the body tells, the products of the family do not agree on: those that are not well are named.
    """
    if 200 <= answer.status < 300 or _strange(answer):
        return {}, _strange(answer)
    unmet = _unmet(_object(answer))
    facts: dict[str, object] = {"unmet": list(unmet)} if unmet else {}
    if answer.status != 503 and not unmet:
        return {}, _amiss(answer) or f"{NOT_READY} ({answer.status})"
    if "license" in unmet:
        return facts, LICENCE_EXPIRED if unmet["license"] == "expired" else NO_LICENCE
    return facts, f"{NOT_READY}: {', '.join(unmet)}" if unmet else NOT_READY


def core_engines(answer: Answer) -> Facts:
    """`GET /stat/engines`, before 5.0: without a licence, or while they are being fetched, none is active (inferred:
    the vendor does not tell what a Core without a licence answers here)."""
    engines = _json(answer)
    if answer.status != 200 or not isinstance(engines, list):
        denied = answer.status in (401, 403, 405)
        return {}, _strange(answer) if denied else _amiss(answer) or NOT_READY
    active = sum(isinstance(each, Mapping) and each.get("active") is True for each in engines)
    return {"engines": active}, "" if active else NO_ENGINE


def core_key(answer: Answer) -> Facts:
    """`GET /stat/nodes` with the key: 403 if it is wrong, 405 if its user may not look at nodes, which is none of a
    gateway's rights."""
    return {}, _amiss(answer) or ("" if answer.status == 405 else _accepted(answer))


def core_licence(answer: Answer) -> Facts:
    """`GET /admin/license` with the key; without a licence the answer has nothing but the id of the deployment."""
    if answer.status in (401, 403, 405) and answer.whole:
        return {"licence": "not shown to this key"}, ""
    document = _object(answer)
    if answer.status != 200 or not document:
        return {}, _amiss(answer) or _code(answer)
    days, until = document.get("days_left"), document.get("expiration")
    facts: dict[str, object] = {}
    if isinstance(until, str) and _DATE.fullmatch(until):
        facts["expires"] = until
    if isinstance(days, int) and not isinstance(days, bool):
        return {**facts, "days_left": days}, LICENCE_EXPIRED if days <= 0 else ""
    return facts, NO_LICENCE if document.keys() <= _UNLICENSED else ""


def _unmet(document: Mapping[str, object]) -> dict[str, str]:
    """Conditions whose status is not well, with that status."""
    found = {}
    for name, part in document.items():
        status = part.get("status") if isinstance(part, Mapping) else None
        text = str(status).lower()
        if isinstance(status, (str, bool)) and text not in _WELL and _WORD.fullmatch(name):
            found[name] = text if _WORD.fullmatch(text) else "not well"
    return found


# --- Vault -----------------------------------------------------------------------------------------------


def vault_there(answer: Answer) -> Facts:
    """`GET /tokens/0/1` without a key, which a vault refuses: 401 is a missing field, 403 a wrong key.

    Any web server may answer so. One that asks for a login of its own, or shows people a page, gets no key.
    """
    if answer.status in (401, 403):
        page = answer.fields.get("content-type", "").strip().lower().startswith(("text/html", "application/xhtml"))
        return {}, _amiss(answer) or (NOT_VAULT if page or "www-authenticate" in answer.fields else "")
    return {}, _amiss(answer) or (BAD_REQUEST if answer.status == 400 else NOT_VAULT)


def vault_key(answer: Answer) -> Facts:
    """`GET /tokens/0/1` with the key. What it lists is not looked at: it has keys in it.

    401 is a field that is missing, which none is: what answers does not see the key, or wants something else.
    """
    return {}, _amiss(answer) or (KEY_UNSEEN if answer.status == 401 else _accepted(answer))


# --- Both ------------------------------------------------------------------------------------------------


def refused(status: int) -> str:
    """The fault of a key that is not accepted."""
    return f"the server refuses the API key ({status})"


def _accepted(answer: Answer) -> str:
    if answer.status == 200:
        return ""
    return refused(answer.status) if answer.status in (400, 401, 403) else _code(answer)


def _amiss(answer: Answer) -> str:
    """What is wrong with an answer whoever gave it; empty if that is for its reader to say."""
    return _strange(answer) or (_code(answer) if answer.status >= 500 else "")


def _strange(answer: Answer) -> str:
    """Answers that no question here has."""
    if 300 <= answer.status < 400:
        return f"the server redirects ({answer.status}), which is not followed"
    return "" if answer.whole else TOO_LONG


def _code(answer: Answer) -> str:
    return f"the server answers {answer.status}"


def _object(answer: Answer) -> Mapping[str, object]:
    found = _json(answer)
    return found if isinstance(found, dict) else {}


def _json(answer: Answer) -> object:
    """None if it is none. RecursionError: a body may be nested as deep as it is long."""
    try:
        return json.loads(answer.body) if answer.whole else None
    except (ValueError, RecursionError):
        return None
