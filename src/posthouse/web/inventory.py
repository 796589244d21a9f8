"""`server-profiles`: what is in force."""

from http import HTTPStatus

from posthouse.core.faults import InvalidInput
from posthouse.core.fields import name_key
from posthouse.core.inventory import Inventory, build_inventory
from posthouse.core.profile_advice import advice_json, advise_profile
from posthouse.core.profile_change import MARK
from posthouse.core.profile_mark import mark_json
from posthouse.ports import StoredInventory, StoredProfile
from posthouse.web.auth import Right, guarded
from posthouse.web.paging import LARGEST_PAGE, AfterName, ListLimit, page_after
from posthouse.web.problems import Json, Problem
from posthouse.web.schemas import PROFILE_ANSWER, answer, page_of, problem
from posthouse.web.states import whole_state
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.CONFIG_READ)

_PROFILE = {
    "name": "exchange",
    "type": "smtp",
    "servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"],
    "preference": "failover",
    "tls": "none",
    "tested": {
        "state": "untested",
        "at": 1764000000.0,
        "by": "key admin (k1)",
        "reason": "the server comes on Monday",
        "forced": True,
        "revision": 4,
        "failed": [],
    },
}
_ADVICE = {
    "field": "servers[0]",
    "sentence": "Port 465 speaks TLS from the start: did you mean smtps?",
    "grave": False,
}
_CIRCUIT = {"phase": "closed", "reason": "", "since": 1763990000.0, "next_probe": None, "faults": 0}
_OPEN = {
    "phase": "open",
    "reason": "connection refused",
    "since": 1764000000.0,
    "next_probe": 1764000040.0,
    "faults": 3,
}
_ERROR = {"at": 1764000000.0, "stage": "connect", "text": "connection refused", "times": 3}
_TIMES = {
    "connect": {"samples": 12, "p50": 0.0013, "p95": 0.0041},
    "tls": {"samples": 12, "p50": 0.0055, "p95": 0.0088},
    "transaction": {"samples": 590, "p50": 0.016, "p95": 0.053},
}
_STATE = {
    "profile": "exchange",
    "servers": [
        {
            "server": "smtp://10.0.0.1:25",
            "circuit": "open",
            "reason": "connection refused",
            "since": 1764000000.0,
            "next_probe": 1764000040.0,
            "in_use": 0,
            "limit": 20,
            "idle": 0,
            "relayed": 1200,
            "served_at": 1763999990.0,
            "last_fault": "connection refused",
            "last_fault_at": 1764000000.0,
            "last_errors": [_ERROR],
            "reuse": {
                "transactions": 1201,
                "rate": 0.9667,
                "tcp_saved": 1161,
                "tls_saved": 1161,
                "opened": 43,
                "tls": 42,
            },
            "times": _TIMES,
            "certificate": {"names": "mail.example", "expires_at": 1766000000.0, "days_left": 23},
            "workers": [
                {
                    "worker": "0a1b2c3d4e5f/0/8d7c6b5a",
                    "at": 1764000000.5,
                    "endpoint": _OPEN,
                    "identity": _CIRCUIT,
                    "login_locked_until": None,
                    "not_now": "circuit open: connection refused",
                    "in_use": 0,
                    "limit": 20,
                    "ceiling": 20,
                    "relayed": 1200,
                    "served_at": 1763999990.0,
                    "last_fault": "connection refused",
                    "last_fault_at": 1764000000.0,
                    "last_errors": [_ERROR],
                    "pool": {
                        "idle": 0,
                        "fresh": 40,
                        "reused": 1163,
                        "stale": 2,
                        "opened": 43,
                        "tls": 42,
                        "tls_saved": 1161,
                    },
                    "times": _TIMES,
                    "certificate": {"names": "mail.example", "expires_at": 1766000000.0},
                }
            ],
            "drain": {
                "server": "smtp://10.0.0.1:25",
                "kind": "drained",
                "at": 1764000100.0,
                "until": None,
                "by": "key anna (k2)",
                "reason": "new disks",
            },
            "also_used_by": ["archive"],
        }
    ],
    "rules": ["inbound"],
    "own_mail": False,
}


@router.get(
    "/server-profiles",
    summary="All server profiles",
    responses={
        200: answer("ETag: revision of the inventory", page_of(PROFILE_ANSWER), {"items": [_PROFILE], "next": None}),
        409: problem("The entry that the page begins after is gone"),
    },
)
def list_profiles(tools: Tools, limit: ListLimit = LARGEST_PAGE, cursor: AfterName = "") -> Json:
    """Canonical, defaults included; secrets never. `tested` is the mark of the last test: `passed`, `failed` (by
    server in `failed`), `untested` (`forced`: by whom and for which `reason`), `testing`; null if none is known."""
    stored = tools.inventory.load()
    page = page_after([profile_body(profile) for profile in stored.profiles], "name", limit, cursor)
    return Json(page, headers={"ETag": etag(stored.revision)})


@router.get(
    "/server-profiles/{name}",
    summary="One server profile",
    responses={200: answer("ETag: its revision", PROFILE_ANSWER, _PROFILE)},
)
def get_profile(tools: Tools, name: str) -> Json:
    """By name, case ignored. A test changes `tested` and not the ETag."""
    profile = stored_profile(tools, name)
    return Json(profile_body(profile), headers={"ETag": etag(profile.revision)})


@router.get(
    "/server-profiles/{name}/state",
    summary="What the workers know of the servers of a profile",
    responses={
        200: {
            "description": "Per server the worst circuit and the sums over all workers, then each worker's row",
            "content": {"application/json": {"example": _STATE}},
        }
    },
)
def get_profile_state(tools: Tools, name: str) -> Json:
    """At most two seconds old. Times are epoch seconds; `circuit` is `open`, `half-open` or `closed`, null while no
    worker has told. An endpoint, its limit and what is in use belong to all profiles that name it. `times` are of the
    last 5 to 10 minutes. Of a scan profile `scanned` counts mails in the place of `relayed`, and what only next hops
    have (`limit`, `idle`, `reuse`, `times`, `certificate`, `also_used_by`) is left out; `in_use` and `scanned` are
    null while no worker has told, and always of a vault. docs/operations.md has the meaning of every fact."""
    document = stored_profile(tools, name).document
    return Json(whole_state(tools, tools.inventory.load(), document))


@router.get(
    "/server-profiles/{name}/advice",
    summary="What is valid in a server profile and yet hardly meant, or to be known",
    responses={
        200: {
            "description": "By field; `grave`: a secret or mail is in danger",
            "content": {"application/json": {"example": {"items": [_ADVICE], "next": None}}},
        }
    },
)
def get_profile_advice(tools: Tools, name: str) -> Json:
    """Advice never keeps a profile from being saved. Empty if there is nothing to tell."""
    profile = snapshot(tools.inventory.load()).profiles[str(stored_profile(tools, name).document["name"])]
    return Json({"items": [advice_json(advice) for advice in advise_profile(profile)], "next": None})


def stored_profile(tools: WebTools, name: str) -> StoredProfile:
    """By name, case ignored; 404 if there is none."""
    return find_profile(tools.inventory.load(), name)


def profile_body(profile: StoredProfile) -> dict[str, object]:
    """A profile as GET answers it: with its mark."""
    return {**profile.document, MARK: mark_json(profile.tested)}


def find_profile(stored: StoredInventory, name: str) -> StoredProfile:
    """By name, case ignored; 404 if there is none."""
    for profile in stored.profiles:
        if name_key(str(profile.document.get("name"))) == name_key(name):
            return profile
    raise Problem(HTTPStatus.NOT_FOUND, "There is no server profile of that name.")


def etag(revision: int) -> str:
    """Strong entity tag of a revision."""
    return f'"{revision}"'


def snapshot(stored: StoredInventory) -> Inventory:
    """409 if what is stored does not hold by the rules of this version."""
    try:
        return build_inventory(stored.revision, [(p.document, p.revision) for p in stored.profiles], stored.rules)
    except InvalidInput as error:
        raise Problem(HTTPStatus.CONFLICT, "The stored inventory is not valid.", error.faults) from error
