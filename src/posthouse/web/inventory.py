"""`server-profiles`: what is in force."""

from http import HTTPStatus

from posthouse.core.faults import InvalidInput
from posthouse.core.fields import name_key
from posthouse.core.inventory import Inventory, build_inventory
from posthouse.core.profile_advice import advice_json, advise_profile
from posthouse.ports import StoredInventory, StoredProfile
from posthouse.web.auth import Right, guarded
from posthouse.web.paging import LARGEST_PAGE, AfterName, ListLimit, page_after
from posthouse.web.problems import Json, Problem
from posthouse.web.schemas import PROFILE_ANSWER, answer, page_of, problem
from posthouse.web.states import profile_state, server_texts
from posthouse.web.tools import Tools, WebTools

router = guarded(Right.CONFIG_READ)

_PROFILE = {
    "name": "exchange",
    "type": "smtp",
    "servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"],
    "preference": "failover",
    "tls": "none",
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
_STATE = {
    "profile": "exchange",
    "servers": [
        {
            "server": "smtp://10.0.0.1:25",
            "circuit": "open",
            "reason": "connection refused",
            "next_probe": 1764000040.0,
            "in_use": 0,
            "limit": 20,
            "idle": 0,
            "relayed": 1200,
            "served_at": 1763999990.0,
            "last_fault": "connection refused",
            "last_fault_at": 1764000000.0,
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
                    "pool": {"idle": 0, "fresh": 40, "reused": 1163, "stale": 2, "opened": 43},
                }
            ],
        }
    ],
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
    """Canonical, defaults included; secrets never."""
    stored = tools.inventory.load()
    page = page_after([profile.document for profile in stored.profiles], "name", limit, cursor)
    return Json(page, headers={"ETag": etag(stored.revision)})


@router.get(
    "/server-profiles/{name}",
    summary="One server profile",
    responses={200: answer("ETag: its revision", PROFILE_ANSWER, _PROFILE)},
)
def get_profile(tools: Tools, name: str) -> Json:
    """By name, case ignored."""
    profile = stored_profile(tools, name)
    return Json(dict(profile.document), headers={"ETag": etag(profile.revision)})


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
    worker has told. An endpoint, its limit and what is in use belong to all profiles that name it."""
    document = stored_profile(tools, name).document
    states = tools.commands.server_states(tools.clock.now())
    return Json(profile_state(str(document["name"]), server_texts(document), states))


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
    for profile in tools.inventory.load().profiles:
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
