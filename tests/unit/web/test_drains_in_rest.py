"""`server-profiles/{name}/drain`: what is stored, what is refused, and what state and queue say of it."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from posthouse.core.drain import Drain, DrainKind
from support.rest import Rest

DRAIN = "/api/v1/server-profiles/Exchange/drain"
STATE = "/api/v1/server-profiles/exchange/state"
FIRST, SECOND = "smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"


def state(rest: Rest) -> list[dict[str, Any]]:
    servers = rest.client().get(STATE).json()["servers"]
    assert isinstance(servers, list)
    return servers


def test_a_server_is_drained_without_end_by_its_short_uri() -> None:
    rest = Rest()
    answer = rest.client("operator").post(DRAIN, json={"server": "10.0.0.1", "reason": "new disks"})
    now = rest.clock.now()
    kept = {
        "server": FIRST,
        "kind": "drained",
        "at": now,
        "until": None,
        "by": "key operator (k2)",
        "reason": "new disks",
    }
    assert (answer.status_code, answer.json()) == (200, {"profile": "exchange", **kept})
    assert rest.inventory.stored.drains == (
        Drain("exchange", FIRST, DrainKind.DRAINED, now, None, "key operator (k2)", "new disks"),
    )
    assert [server["drain"] for server in state(rest)] == [kept, None]
    assert rest.inventory.rows[0]["by"] == "key operator (k2)"


def test_a_rehearsal_is_told_by_number_and_ends() -> None:
    rest = Rest()
    answer = rest.client().post(DRAIN, json={"server": "2", "seconds": 600, "simulate": True})
    assert (answer.json()["server"], answer.json()["kind"]) == (SECOND, "simulated")
    assert answer.json()["until"] == rest.clock.now() + 600
    assert state(rest)[1]["drain"]["kind"] == "simulated"
    rest.clock.epoch += 600
    assert state(rest)[1]["drain"] is None


def test_undraining_tells_what_was_there_and_again_changes_nothing() -> None:
    rest = Rest()
    made = rest.client().post(DRAIN, json={"server": FIRST, "seconds": 60}).json()
    taken = rest.client().delete(DRAIN, params={"server": "10.0.0.1:25"})
    made.pop("profile")
    assert (taken.status_code, taken.json()) == (200, {"profile": "exchange", "server": FIRST, "before": made})
    revision, rows = rest.inventory.revision(), len(rest.inventory.rows)
    again = rest.client().delete(DRAIN, params={"server": "1"})
    assert (again.status_code, again.json()["before"]) == (200, None)
    assert (rest.inventory.revision(), len(rest.inventory.rows)) == (revision, rows)


@pytest.mark.parametrize(
    "server", ["10.0.0.9", "smtps://10.0.0.1:25", "0", "3", "99999999999", "²", "a b", "http://x"]
)
def test_a_server_that_the_profile_does_not_have_is_404(server: str) -> None:
    rest = Rest()
    for answer in (
        rest.client().post(DRAIN, json={"server": server}),
        rest.client().delete(DRAIN, params={"server": server}),
    ):
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"This is no server of the profile; it has {FIRST}, {SECOND}."
    assert rest.client().post("/api/v1/server-profiles/nosuch/drain", json={"server": "1"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "server"),
        ({"server": ""}, "server"),
        ({"server": 1}, "server"),
        ({"server": "1", "seconds": 0.5}, "seconds"),
        ({"server": "1", "seconds": 86401}, "seconds"),
        ({"server": "1", "seconds": True}, "seconds"),
        ({"server": "1", "simulate": True}, "seconds"),
        ({"server": "1", "simulate": "yes"}, "simulate"),
        ({"server": "1", "reason": "x" * 201}, "reason"),
        ({"server": "1", "reason": "a\nb"}, "reason"),
        ({"server": "1", "minutes": 5}, "minutes"),
    ],
)
def test_what_is_not_allowed_is_told_by_field(body: dict[str, object], field: str) -> None:
    rest = Rest()
    answer = rest.client().post(DRAIN, json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert rest.inventory.stored.drains == ()


def test_only_servers_that_mail_is_relayed_to_can_be_drained() -> None:
    rest = Rest()
    clamd = {"name": "clamav", "type": "clamav", "servers": ["clamd://10.0.0.7:3310"]}
    assert rest.client().post("/api/v1/config/apply", json={"server_profiles": [clamd]}).status_code == 200
    answer = rest.client().post("/api/v1/server-profiles/clamav/drain", json={"server": "1"})
    assert (answer.status_code, "clamav" in answer.json()["detail"]) == (409, True)


def test_a_drain_goes_when_its_server_does() -> None:
    rest = Rest()
    rest.client().post(DRAIN, json={"server": "1"})
    fewer = {"name": "exchange", "type": "smtp", "servers": ["10.0.0.2:2525"]}
    rest.client().post("/api/v1/config/apply", json={"server_profiles": [fewer]})
    assert rest.inventory.stored.drains == ()


def test_the_queue_says_who_keeps_mail_from_its_servers() -> None:
    rest = Rest()
    why = "drained by key op (k1) since 2025-11-24 16:00:00Z"
    refused = rest.circuit("connection refused", next_probe=rest.clock.now() + 40)
    for server in (FIRST, SECOND):
        rest.knows("w/0", "exchange", server, not_now=why, endpoint=refused)
    (row,) = rest.client().get("/api/v1/queue").json()["items"]
    assert row["waits_for"] == f"{FIRST}: {why}; {SECOND}: {why}"


def test_a_drain_stays_where_a_file_spells_the_profile_otherwise() -> None:
    rest = Rest()
    rest.client().post(DRAIN, json={"server": "1"})
    document = {"server_profiles": [{"name": "EXCHANGE", "type": "smtp", "servers": ["10.0.0.1", "10.0.0.2:2525"]}]}
    assert rest.client().post("/api/v1/config/apply", json=document).status_code == 200
    assert [drain.profile for drain in rest.inventory.stored.drains] == ["EXCHANGE"]


def test_the_same_drain_again_answers_with_the_one_in_force() -> None:
    rest = Rest()
    made = rest.client().post(DRAIN, json={"server": "1"}).json()
    revision = rest.inventory.revision()
    rest.clock.epoch += 60
    assert rest.client("operator").post(DRAIN, json={"server": FIRST}).json() == made
    assert (rest.inventory.revision(), rest.inventory.stored.drains[0].at) == (revision, made["at"])


def test_a_key_may_drain_and_undrain_sixty_times_a_minute() -> None:
    rest = Rest()
    app = rest.app()

    def calls(role: str) -> TestClient:
        key = {"Authorization": f"Bearer {rest.secrets[role]}"}
        return TestClient(app, base_url="http://127.0.0.1:8025", headers=key)

    operator = calls("operator")
    for _ in range(30):
        assert operator.post(DRAIN, json={"server": "1"}).status_code == 200
        assert operator.delete(DRAIN, params={"server": "1"}).status_code == 200
    revision = rest.inventory.revision()
    for refused in (operator.post(DRAIN, json={"server": "1"}), operator.delete(DRAIN, params={"server": "1"})):
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert refused.headers["content-type"] == "application/problem+json"
    assert rest.inventory.revision() == revision
    assert calls("administrator").post(DRAIN, json={"server": "1"}).status_code == 200
    rest.clock.steady += 60
    assert operator.delete(DRAIN, params={"server": "1"}).status_code == 200


def test_openapi_tells_of_the_rate() -> None:
    operations = Rest().app().openapi()["paths"]["/api/v1/server-profiles/{name}/drain"]
    for method in ("post", "delete"):
        assert "Retry-After" in operations[method]["responses"]["429"]["description"]


def test_with_if_match_a_number_means_no_other_server_after_a_change_of_the_order() -> None:
    rest = Rest()
    client, profile = rest.client(), "/api/v1/server-profiles/exchange"
    read = {"If-Match": client.get(profile).headers["etag"]}
    assert client.post(DRAIN, json={"server": "2"}, headers=read).json()["server"] == SECOND, "it may have drains"
    assert client.post(f"{profile}/order", json={"servers": [SECOND, FIRST]}).status_code == 200
    drains = rest.inventory.stored.drains
    for refused in (
        client.post(DRAIN, json={"server": "2"}, headers=read),
        client.delete(DRAIN, params={"server": "1"}, headers=read),
    ):
        assert (refused.status_code, rest.inventory.stored.drains) == (412, drains)
    again = {"If-Match": client.get(profile).headers["etag"]}
    assert client.delete(DRAIN, params={"server": "1"}, headers=again).json()["before"]["server"] == SECOND
