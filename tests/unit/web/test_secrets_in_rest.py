"""Secrets through REST: kept, replaced, removed, never shown, wherever somebody has put them."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from posthouse.ports import SecretKeyUnusable
from support.rest import Rest

CANARY = "canary-in-a-coal-mine"
PROFILE: dict[str, object] = {"name": "a", "type": "smtp", "servers": ["10.0.0.9"], "username": "u"}
SET = {"set": True}


def document(**more: object) -> dict[str, object]:
    return {"server_profiles": [{**PROFILE, **more}]}


def apply(client: TestClient, status: int = 200, **more: object) -> Any:
    answer = client.post("/api/v1/config/apply", json=document(**more))
    assert answer.status_code == status, answer.text
    assert CANARY not in answer.text
    return answer.json()


def password(client: TestClient) -> object:
    """As everybody sees it."""
    shown = client.get("/api/v1/server-profiles/a")
    assert CANARY not in shown.text + client.get("/api/v1/config").text
    return shown.json().get("password")


def test_a_text_is_stored_and_shown_as_set_and_stays_until_it_is_given_anew() -> None:
    rest = Rest()
    client = rest.client()
    first = apply(client, password=CANARY)
    assert first["revision"] == 2
    for same in ({"password": CANARY}, {"password": SET}, {}):
        again = apply(client, **same)
        assert (again["changes"], again["revision"]) == ([], 2)
        assert password(client) == SET
    other = apply(client, password=CANARY + "2")
    field = "server_profiles[a].password"
    assert other["changes"] == [{"change": "changed", "field": field, "old": SET, "new": SET}]
    assert other["revision"] == 3
    (profile,) = [p for p in rest.inventory.load().profiles if p.document["name"] == "a"]
    assert rest.inventory.same_secret(profile.secrets["password"], CANARY + "2")
    assert profile.revision == 3


def test_null_removes_and_a_reference_replaces() -> None:
    client = Rest().client()
    apply(client, password=CANARY)
    assert [c["field"] for c in apply(client, password={"env": "P"})["changes"]] == ["server_profiles[a].password"]
    assert password(client) == {"env": "P"}
    apply(client, password=CANARY)
    apply(client, password=None, username=None)
    assert password(client) is None


def test_a_secret_must_be_entered_again_for_a_changed_host() -> None:
    client = Rest().client()
    apply(client, password=CANARY)
    for keeps in ({}, {"password": SET}):
        problem = apply(client, 422, servers=["10.0.0.10"], **keeps)
        assert [e["field"] for e in problem["errors"]] == ["server_profiles[0].password"]
        assert "enter the secret again" in problem["errors"][0]["remedy"].lower()
    assert apply(client, servers=["10.0.0.10"], password=CANARY)["applied"]


def test_set_where_nothing_is_stored_is_a_fault() -> None:
    problem = apply(Rest().client(), 422, password=SET)
    assert [e["field"] for e in problem["errors"]] == ["server_profiles[0].password"]


def test_only_who_may_change_a_secret_is_told_whether_a_text_is_another() -> None:
    rest = Rest()
    apply(rest.client(), password=CANARY)
    for role, told in (("administrator", 1), ("operator", 0), ("auditor", 0)):
        answer = rest.client(role).post("/api/v1/config/diff", json=document(password="guess"))
        assert len(answer.json()["changes"]) == told, role


def test_without_a_usable_key_nothing_is_stored_and_the_remedy_is_told() -> None:
    rest = Rest()

    def refuse(*_: object, **__: object) -> int:
        raise SecretKeyUnusable("there is no key: looked for here and there", "Bring it back.")

    rest.inventory.replace = refuse  # type: ignore[method-assign]
    problem = apply(rest.client(), 409, password=CANARY)
    assert "looked for here and there. Bring it back." in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        document(password=[CANARY]),
        document(password={"text": CANARY}),
        document(password={"env": CANARY + "\n"}),
        document(password=CANARY + "\x00"),
        document(pasword=CANARY),
        document(password=CANARY, api_key=CANARY, tls="no such thing"),
        document(servers=[f"smtp://u:{CANARY}@10.0.0.9"]),
        document(servers=[f"u:{CANARY}@10.0.0.9"]),
        document(servers=[{"uri": "10.0.0.9", "password": CANARY}]),
        document(servers={"uri": f"smtp://u:{CANARY}@10.0.0.9"}),
        document(servers=f"u:{CANARY}@10.0.0.9"),
        document(servers=[[f"smtp://u:{CANARY}@10.0.0.9"]]),
        document(pool=[{"password": CANARY}]),
        {"server_profiles": {**PROFILE, "password": CANARY}},
        {"server_profiles": {**PROFILE, "passwort": {"text": CANARY}}},
        {"server_profiles": [[{**PROFILE, "password": CANARY}]]},
        {"server_profiles": f"smtp://u:{CANARY}@10.0.0.9"},
        {"rules": [{"name": "r", "password": CANARY, "relay": {"api_key": CANARY}, "match": [{"token": CANARY}]}]},
        [{**PROFILE, "password": CANARY}],
        f"smtp://u:{CANARY}@10.0.0.9",
    ],
)
def test_a_secret_in_a_wrong_place_is_not_repeated(body: object) -> None:
    for path in ("config/diff", "config/apply"):
        answer = Rest().client().post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 422, answer.text
        assert CANARY not in answer.text
        assert answer.json()["errors"]


def test_a_number_as_password_is_not_repeated() -> None:
    assert "13371337" not in str(apply(Rest().client(), 422, password=13371337))
