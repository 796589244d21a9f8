"""`rules` in REST: what is checked, what is answered, and what the audit log has of it."""

from typing import Any

import pytest

from posthouse.core.inventory import parse_inventory
from support.rest import Rest

NEW: dict[str, Any] = {"name": "new", "match": {"recipients": ["*@new.example"]}, "relay": {"profile": "Exchange"}}


def _json(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def _names(rest: Rest) -> list[object]:
    return [rule["name"] for rule in rest.inventory.load().rules]


def _audited(rest: Rest) -> tuple[object, list[tuple[object, object]]]:
    row: Any = rest.inventory.rows[0]
    return row["what"], [(change["change"], change["field"]) for change in row["detail"]["changes"]]


def test_a_rule_is_added_last_canonical_and_where_it_is_found_again() -> None:
    rest = Rest()
    client = rest.client()
    made = client.post("/api/v1/rules", json=NEW)
    rule = _json(made, 201)
    assert rule == {**NEW, "enabled": True, "open_relay": False, "relay": {"profile": "exchange"}}
    assert _names(rest) == ["old", "inbound", "new"]
    found = client.get(made.headers["location"])
    assert (_json(found), found.headers["etag"]) == (rule, made.headers["etag"])
    assert _audited(rest) == ("rule added", [("added", "rules[new]")])
    assert rest.inventory.rows[0]["by"] == "key administrator (k1)"


@pytest.mark.parametrize(
    ("position", "names"), [(1, "new old inbound"), (2, "old new inbound"), (3, "old inbound new")]
)
def test_a_rule_is_added_where_the_position_says(position: int, names: str) -> None:
    rest = Rest()
    _json(rest.client().post(f"/api/v1/rules?position={position}", json=NEW), 201)
    assert _names(rest) == names.split()


@pytest.mark.parametrize("position", ["0", "4", "x", "-1"])
def test_a_position_that_there_is_not_is_a_fault(position: str) -> None:
    rest = Rest()
    problem = _json(rest.client().post(f"/api/v1/rules?position={position}", json=NEW), 422)
    assert [error["field"] for error in problem["errors"]] == ["position"]
    assert len(_names(rest)) == 2


def test_all_faults_of_a_rule_are_told_in_the_words_of_the_core() -> None:
    rule = {
        "name": "INBOUND",
        "direction": "sideways",
        "match": {"clients": ["10.0.0.1/8"], "recipients": ["*"]},
        "relay": {"profile": "exchagne"},
        "scan": {},
        "nonsense": 1,
    }
    rest = Rest()
    profiles = [profile.document for profile in rest.inventory.load().profiles]
    inbound = rest.inventory.load().rules[1]
    told = parse_inventory({"server_profiles": profiles, "rules": [inbound, rule]})[2]
    core = {(fault.field.removeprefix("rules[1]."), fault.rule, fault.remedy) for fault in told}
    problem = _json(rest.client().post("/api/v1/rules", json=rule), 422)
    fields = [error["field"] for error in problem["errors"]]
    assert set(fields) >= {"name", "direction", "match.clients[0]", "relay.profile", "scan.profiles", "nonsense"}
    said = {(error["field"], error["rule"], error["remedy"]) for error in problem["errors"]}
    assert {each for each in said if each[0] != "name"} == {each for each in core if each[0] != "name"}
    assert _names(rest) == ["old", "inbound"]


def test_a_name_that_is_taken_is_409_whatever_its_case() -> None:
    problem = _json(Rest().client().post("/api/v1/rules", json={**NEW, "name": "Inbound"}), 409)
    assert [error["field"] for error in problem["errors"]] == ["name"]


def test_a_rule_is_replaced_only_as_it_was_read() -> None:
    rest = Rest()
    client = rest.client()
    read = client.get("/api/v1/rules/INBOUND")
    changed = {**_json(read), "enabled": False}
    assert _json(client.put("/api/v1/rules/inbound", json=changed), 428)
    assert _json(client.put("/api/v1/rules/inbound", json=changed, headers={"If-Match": '"1"'}), 412)
    answer = client.put("/api/v1/rules/inbound", json=changed, headers={"If-Match": read.headers["etag"]})
    assert _json(answer) == changed
    assert answer.headers["etag"] == client.get("/api/v1/rules/inbound").headers["etag"] != read.headers["etag"]
    assert _audited(rest) == ("rule changed", [("changed", "rules[inbound].enabled")])
    again = client.put("/api/v1/rules/inbound", json=NEW, headers={"If-Match": read.headers["etag"]})
    assert _json(again, 412)
    assert _names(rest) == ["old", "inbound"]


def test_a_replaced_rule_has_the_default_where_nothing_is_given() -> None:
    rest = Rest()
    body = {"name": "old", "match": {"recipients": ["*@old.example"]}, "relay": {"profile": "archive"}}
    rule = _json(rest.client().put("/api/v1/rules/old", json=body, headers={"If-Match": "*"}))
    assert rule["enabled"] is True


def test_a_rule_is_renamed_at_its_place_and_not_to_a_name_that_is_taken() -> None:
    rest = Rest()
    client = rest.client()
    rule = _json(client.get("/api/v1/rules/old"))
    assert _json(client.put("/api/v1/rules/old", json={**rule, "name": "Inbound"}, headers={"If-Match": "*"}), 409)
    answer = client.put("/api/v1/rules/old", json={**rule, "name": "Räte"}, headers={"If-Match": "*"})
    assert _json(answer)["name"] == "Räte"
    assert answer.headers["content-location"] == "/api/v1/rules/R%C3%A4te"
    assert _names(rest) == ["Räte", "inbound"]
    assert client.get("/api/v1/rules/old").status_code == 404
    assert _audited(rest) == ("rule renamed", [("removed", "rules[old]"), ("added", "rules[Räte]")])
    _json(client.put("/api/v1/rules/Räte", json={**rule, "name": "RÄTE"}, headers={"If-Match": "*"}))
    assert _names(rest) == ["RÄTE", "inbound"]


def test_a_removed_rule_is_gone() -> None:
    rest = Rest()
    client = rest.client()
    assert _json(client.delete("/api/v1/rules/inbound", headers={"If-Match": '"x"'}), 412)
    assert client.delete("/api/v1/rules/Inbound").status_code == 204
    assert _names(rest) == ["old"]
    assert _audited(rest) == ("rule removed", [("removed", "rules[inbound]")])
    assert client.delete("/api/v1/rules/inbound").status_code == 404


def test_a_moved_rule_stays_the_same_and_the_others_keep_their_order() -> None:
    rest = Rest()
    client = rest.client()
    _json(client.post("/api/v1/rules", json=NEW), 201)
    tag = client.get("/api/v1/rules/new").headers["etag"]
    moved = client.post("/api/v1/rules/NEW/move", json={"position": 1})
    assert (_json(moved), moved.headers["etag"]) == ({"name": "new", "position": 1}, '"3"')
    assert _names(rest) == ["new", "old", "inbound"]
    assert client.get("/api/v1/rules/new").headers["etag"] == tag
    assert _audited(rest) == ("rule moved", [("moved", "rules")])
    _json(client.post("/api/v1/rules/new/move", json={"position": 2}))
    assert _names(rest) == ["old", "new", "inbound"]
    _json(client.post("/api/v1/rules/new/move", json={"position": 3}))
    assert _names(rest) == ["old", "inbound", "new"]


@pytest.mark.parametrize("body", [{"position": 3}, {"position": 0}, {"position": "1"}, {}, {"position": 1, "x": 1}])
def test_a_faulty_move_is_refused(body: object) -> None:
    rest = Rest()
    assert _json(rest.client().post("/api/v1/rules/inbound/move", json=body), 422)["errors"]
    assert _names(rest) == ["old", "inbound"]


def test_a_place_in_a_list_that_has_changed_since_is_412() -> None:
    rest = Rest()
    client = rest.client()
    tag = client.get("/api/v1/rules").headers["etag"]
    _json(client.post("/api/v1/rules", json=NEW, headers={"If-Match": tag}), 201)
    assert _json(client.post("/api/v1/rules", json={**NEW, "name": "b"}, headers={"If-Match": tag}), 412)
    assert _json(client.post("/api/v1/rules/new/move", json={"position": 1}, headers={"If-Match": tag}), 412)
    assert _names(rest) == ["old", "inbound", "new"]


def test_a_rule_whose_profile_goes_meanwhile_is_not_added() -> None:
    rest = Rest()
    replace = rest.inventory.replace
    calls = 0

    def racing(*arguments: Any, **named: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            replace([], [], expected_revision=1, by="other", now=0)
        return replace(*arguments, **named)

    rest.inventory.replace = racing  # type: ignore[method-assign]
    problem = _json(rest.client().post("/api/v1/rules", json=NEW), 422)
    assert [error["field"] for error in problem["errors"]] == ["relay.profile"]


def test_what_no_database_can_carry_is_a_fault() -> None:
    body = b'{"name": "\\ud800", "relay": {"profile": "exchange"}}'
    answer = Rest().client().post("/api/v1/rules", content=body, headers={"Content-Type": "application/json"})
    assert _json(answer, 422)["errors"][0]["field"] == "body"


@pytest.mark.parametrize("path", ["rules", "server-profiles"])
def test_lists_page_by_cursor_and_say_when_their_place_is_gone(path: str) -> None:
    rest = Rest()
    client = rest.client()
    whole = _json(client.get(f"/api/v1/{path}"))
    first = _json(client.get(f"/api/v1/{path}?limit=1"))
    assert (first["items"], first["next"]) == (whole["items"][:1], whole["items"][0]["name"])
    second = _json(client.get(f"/api/v1/{path}", params={"limit": 1, "next": first["next"].upper()}))
    assert (second["items"], second["next"]) == (whole["items"][1:], None)
    assert _json(client.get(f"/api/v1/{path}?next=gone"), 409)
    assert _json(client.get(f"/api/v1/{path}?limit=0"), 422)
