"""Operation x role, and what a request without a valid key gets."""

import pytest
from fastapi.routing import APIRoute

from posthouse.core.certificate import facts_of
from posthouse.digital_id.authorities import Authorities
from posthouse.digital_id.store import DigitalIds
from posthouse.web import (
    certificates,
    config,
    drains,
    explanations,
    inventory,
    keys,
    mails,
    profile_tests,
    profiles,
    queue,
    replays,
)
from posthouse.web.auth import RIGHTS, GuardedRoute, Right, Role, may
from support.certificates import NOW, issuer, pem
from support.rest import INVENTORY, ROLES, Rest

ALL = set(ROLES)
READERS = {"administrator", "operator", "auditor"}
QUESTION = {"client": "192.0.2.7", "from": "", "to": ["a@ours.example"]}
UNSAVED = {"name": "new", "type": "smtp", "servers": ["10.0.0.9"]}

CA, OTHER_CA = issuer("CA"), issuer("Other CA")
ISSUED = CA.leaf()

OPERATIONS: list[tuple[str, str, object, set[str]]] = [
    ("GET", "mails", None, ALL),
    ("GET", "mails/01mail0001", None, ALL),
    ("GET", "failed", None, ALL),
    ("GET", "queue", None, READERS),
    *(
        ("POST", f"queue/{action}", {"mails": ["01mail0001"]}, {"administrator", "operator"})
        for action in ("retry", "hold", "release", "delete")
    ),
    ("POST", "queue/reroute", {"all": True, "target": "archive"}, {"administrator", "operator"}),
    ("GET", "server-profiles", None, READERS),
    ("GET", "server-profiles/exchange", None, READERS),
    ("GET", "server-profiles/exchange/state", None, READERS),
    ("POST", "server-profile-tests", UNSAVED, {"administrator", "operator"}),
    ("POST", "server-profiles/exchange/test", None, {"administrator", "operator"}),
    ("POST", "server-profiles", UNSAVED, {"administrator"}),
    ("POST", "server-profiles/exchange/order", {"servers": ["10.0.0.2:2525", "10.0.0.1"]}, {"administrator"}),
    ("POST", "server-profiles/exchange/drain", {"server": "1"}, {"administrator", "operator"}),
    ("DELETE", "server-profiles/exchange/drain?server=1", None, {"administrator", "operator"}),
    ("GET", "rules", None, READERS),
    ("POST", "rule-explanations", QUESTION, READERS),
    ("POST", "rule-replays", {"inventory": {}}, READERS),
    ("GET", "config", None, READERS),
    ("POST", "config/diff", INVENTORY, READERS),
    ("POST", "config/apply", INVENTORY, {"administrator"}),
    ("GET", "keys", None, {"administrator", "auditor"}),
    ("POST", "keys", {"name": "x", "role": "helpdesk"}, {"administrator"}),
    ("DELETE", "keys/k4", None, {"administrator"}),
    ("GET", "audit", None, {"administrator", "auditor"}),
    ("GET", "digital-id", None, READERS),
    ("POST", "digital-id/generate", {}, {"administrator"}),
    ("POST", "digital-id/renew", {}, {"administrator"}),
    ("POST", "digital-id/request", {}, {"administrator"}),
    ("POST", "digital-id/import", {"certificate": ISSUED.pem().decode()}, {"administrator"}),
    ("GET", "certificate-authorities", None, READERS),
    ("POST", "certificate-authorities", {"certificate": pem(CA.certificate).decode()}, {"administrator"}),
    ("DELETE", "certificate-authorities/OTHER_CA", None, {"administrator"}),
]


def certified() -> Rest:
    """With a digital ID and an own CA."""
    rest = Rest()
    DigitalIds(rest.settings.data_dir).ensure("mx.test", NOW)
    Authorities(rest.settings.data_dir).add(pem(OTHER_CA.certificate), NOW)
    return rest


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path", "body", "allowed"), OPERATIONS)
def test_a_role_may_do_what_the_table_says_and_nothing_else(
    method: str, path: str, body: object, allowed: set[str], role: str
) -> None:
    path = path.replace("OTHER_CA", facts_of(OTHER_CA.certificate).sha256)
    answer = certified().client(role).request(method, f"/api/v1/{path}", json=body)
    if role in allowed:
        assert answer.status_code in (200, 201, 204), answer.text
        assert answer.headers["cache-control"] == "no-store"
    else:
        assert answer.status_code == 403
        assert role in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "body", "allowed"), OPERATIONS)
def test_nothing_is_answered_without_a_key(method: str, path: str, body: object, allowed: set[str]) -> None:
    answer = Rest().client(None).request(method, f"/api/v1/{path}", json=body)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_table_of_operations_is_complete() -> None:
    routers = (
        inventory.router,
        explanations.router,
        replays.router,
        profile_tests.router,
        profiles.router,
        mails.router,
        queue.router,
        queue.steering,
        config.reading,
        config.changing,
        keys.reading,
        keys.changing,
        keys.auditing,
        drains.router,
        certificates.reading,
        certificates.changing,
    )
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    assert all(isinstance(route, GuardedRoute) for route in routes)
    documented = {
        (method.upper(), path.removeprefix("/api/v1/"))
        for path, methods in Rest().app().openapi()["paths"].items()
        if path.startswith("/api/v1/")
        for method in methods
    }
    assert len(documented) == len(routes)
    assert {path.split("/")[0] for _, path in documented} == {path.split("/")[0] for _, path, _, _ in OPERATIONS}


@pytest.mark.parametrize(
    "field",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer wrong",
        "Bearer ph_" + "a" * 500,
        "Bearer a\tb",
        "Token ph_1",
    ],
)
def test_a_field_that_is_no_valid_key_gets_401(field: str) -> None:
    rest = Rest()
    answer = rest.client(None).get("/api/v1/mails", headers={"Authorization": field})
    assert answer.status_code == 401


def test_a_key_with_octets_beyond_ascii_gets_401() -> None:
    answer = Rest().client(None).get("/api/v1/mails", headers=[(b"authorization", b"Bearer \xff\xfe")])
    assert answer.status_code == 401


def test_a_revoked_key_gets_401_at_once() -> None:
    rest = Rest()
    client = rest.client("operator")
    assert client.get("/api/v1/queue").status_code == 200
    rest.accounts.revoke_key("k2", rest.clock.now())
    assert client.get("/api/v1/queue").status_code == 401


def test_the_role_is_looked_at_before_the_body_is_read() -> None:
    answer = (
        Rest()
        .client("helpdesk")
        .post("/api/v1/config/apply", content=b"{broken", headers={"Content-Type": "application/json"})
    )
    assert answer.status_code == 403


def test_a_role_that_is_not_known_may_nothing() -> None:
    rest = Rest()
    _, secret = rest.accounts.create_key(name="x", role="emperor", now=0)
    answer = rest.client(None).get("/api/v1/mails", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 403


def test_an_auditor_reads_all_and_changes_nothing() -> None:
    for right in Right:
        assert may(Role.AUDITOR, right) == right.value.startswith(("read", "list")), right
    assert RIGHTS[Role.ADMINISTRATOR] == frozenset(Right)
