"""`users` and `keys` in REST."""

from typing import Any

import pytest

from posthouse.core.account import check_new_user
from support.rest import Rest

PASSWORD = "four words nobody joins"
NEW = {"name": "Bea", "role": "helpdesk", "password": PASSWORD}
BY = "key administrator (k1)"


def _json(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_user_is_added_found_and_listed_and_the_password_is_shown_nowhere() -> None:
    rest = Rest()
    client = rest.client()
    made = client.post("/api/v1/users", json=NEW)
    user = _json(made, 201)
    assert user == {"name": "Bea", "role": "helpdesk", "created_at": rest.clock.now()}
    found = client.get(made.headers["location"])
    assert (_json(found), found.headers["etag"]) == (user, made.headers["etag"])
    listed = client.get("/api/v1/users")
    assert [each["name"] for each in _json(listed)["items"]] == ["ann", "Bea", "Root"]
    assert all(PASSWORD not in answer.text for answer in (made, found, listed))
    assert rest.accounts.verify_user("BEA", PASSWORD) is not None
    assert rest.accounts.done[-1] == ("user added", BY)
    first = _json(client.get("/api/v1/users?limit=2"))
    assert (first["next"], _json(client.get("/api/v1/users?next=bea"))["items"][0]["name"]) == ("Bea", "Root")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name", "role", "password"]),
        ({**NEW, "password": "elevenchars"}, ["password"]),
        ({**NEW, "password": "a" * 129}, ["password"]),
        ({**NEW, "password": "with a \x07 bell in it"}, ["password"]),
        ({**NEW, "name": "Somebody Else", "password": "somebody else"}, ["password"]),
        ({**NEW, "password": 123456789012}, ["password"]),
        ({**NEW, "password": {"env": "PASSWORD"}}, ["password"]),
        (
            {"name": "a/b", "role": "emperor", "password": "x", "nonsense": 1},
            ["nonsense", "name", "role", "password"],
        ),
    ],
)
def test_a_faulty_user_is_refused_with_every_field_and_no_password(body: dict[str, Any], fields: list[str]) -> None:
    rest = Rest()
    answer = rest.client().post("/api/v1/users", json=body)
    assert [error["field"] for error in _json(answer, 422)["errors"]] == fields
    assert [error["value"] for error in answer.json()["errors"] if error["field"] == "password"] in (
        [],
        [""],
        ["***"],
    )
    assert _json(answer, 422)["errors"] == [
        {"field": f.field, "value": f.value, "rule": f.rule, "remedy": f.remedy} for f in check_new_user(body)[3]
    ]
    assert len(rest.accounts.users()) == 2


@pytest.mark.parametrize("password", ["a" * 12, "a" * 128, "ö" * 12, "o\u0308" * 128])
def test_the_length_of_a_password_is_counted_in_characters(password: str) -> None:
    rest = Rest()
    _json(rest.client().post("/api/v1/users", json={**NEW, "password": password}), 201)
    composed = {"a": password, "ö": password, "o": "ö" * 128}[password[0]]
    assert rest.accounts.verify_user("bea", composed) is not None, "stored in NFC"


def test_a_name_that_is_taken_is_409_whatever_its_case() -> None:
    client = Rest().client()
    assert _json(client.post("/api/v1/users", json={**NEW, "name": "ANN"}), 409)["errors"][0]["field"] == "name"
    body = {"name": "ROOT", "role": "operator"}
    assert _json(client.put("/api/v1/users/ann", json=body, headers={"If-Match": "*"}), 409)


def test_name_and_role_change_only_as_they_were_read_and_the_password_stays() -> None:
    rest = Rest()
    client = rest.client()
    tag = client.get("/api/v1/users/Ann").headers["etag"]
    body = {"name": "Anna", "role": "auditor"}
    assert _json(client.put("/api/v1/users/ann", json=body), 428)
    assert _json(client.put("/api/v1/users/ann", json=body, headers={"If-Match": '"1"'}), 412)
    changed = client.put("/api/v1/users/ann", json=body, headers={"If-Match": tag})
    assert _json(changed)["role"] == "auditor"
    assert changed.headers["content-location"] == "/api/v1/users/Anna"
    assert rest.accounts.verify_user("anna", "the password of ann") is not None
    assert rest.accounts.done[-1] == ("user changed", BY)
    assert _json(client.put("/api/v1/users/ann", json=body, headers={"If-Match": tag}), 404)
    faulty = client.put("/api/v1/users/anna", json={"name": "x", "password": "y"}, headers={"If-Match": "*"})
    assert {error["field"] for error in _json(faulty, 422)["errors"]} == {"role", "password"}


def test_a_password_is_set_and_never_told() -> None:
    rest = Rest()
    client = rest.client()
    answer = client.put("/api/v1/users/ANN/password", json={"password": PASSWORD})
    assert (answer.status_code, answer.content) == (204, b"")
    assert rest.accounts.verify_user("ann", PASSWORD) is not None
    assert rest.accounts.verify_user("ann", "the password of ann") is None
    assert rest.accounts.done[-1] == ("password set", BY)
    assert client.get("/api/v1/users/ann/password").status_code == 405
    assert client.put("/api/v1/users/nosuch/password", json={"password": PASSWORD}).status_code == 404
    for body, fields in (({}, ["password"]), ({"password": "short", "x": 1}, ["x", "password"])):
        problem = _json(client.put("/api/v1/users/ann/password", json=body), 422)
        assert [error["field"] for error in problem["errors"]] == fields


def test_the_last_administrator_is_neither_removed_nor_made_less() -> None:
    rest = Rest()
    client = rest.client()
    less = {"name": "Root", "role": "auditor"}
    assert "last administrator" in _json(client.delete("/api/v1/users/root"), 409)["detail"]
    assert _json(client.put("/api/v1/users/root", json=less, headers={"If-Match": "*"}), 409)
    _json(client.post("/api/v1/users", json={**NEW, "role": "administrator"}), 201)
    assert _json(client.put("/api/v1/users/root", json=less, headers={"If-Match": "*"}))["role"] == "auditor"
    assert client.delete("/api/v1/users/bea").status_code == 409
    assert client.delete("/api/v1/users/root").status_code == 204
    assert client.delete("/api/v1/users/root").status_code == 404


def test_a_user_is_removed_only_as_it_was_read_where_that_is_said() -> None:
    rest = Rest()
    client = rest.client()
    assert _json(client.delete("/api/v1/users/ann", headers={"If-Match": '"1"'}), 412)
    tag = client.get("/api/v1/users/ann").headers["etag"]
    assert client.delete("/api/v1/users/ann", headers={"If-Match": tag}).status_code == 204
    assert rest.accounts.done[-1] == ("user removed", BY)


def test_keys_are_made_and_revoked_in_the_name_of_the_key_that_asks() -> None:
    rest = Rest()
    client = rest.client()
    made = client.post("/api/v1/keys", json={"name": "desk", "role": "helpdesk"})
    assert rest.accounts.done[-1] == ("key created", BY)
    found = _json(client.get(made.headers["location"]))
    assert (found["name"], "key" in found, found["revoked_at"]) == ("desk", False, None)
    assert client.delete(made.headers["location"]).status_code == 204
    assert rest.accounts.done[-1] == ("key revoked", BY)
    assert _json(client.get(made.headers["location"]))["revoked_at"] == rest.clock.now()
    assert client.get("/api/v1/keys/nosuch").status_code == 404


def test_keys_page_by_cursor() -> None:
    client = Rest().client()
    first = _json(client.get("/api/v1/keys?limit=3"))
    assert ([key["id"] for key in first["items"]], first["next"]) == (["k1", "k2", "k3"], "k3")
    assert [key["id"] for key in _json(client.get("/api/v1/keys?limit=3&next=k3"))["items"]] == ["k4"]
    assert _json(client.get("/api/v1/keys?next=k9"), 409)
