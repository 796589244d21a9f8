"""REST that changes server profiles: every outcome, what is tested before, what is saved and audited."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from posthouse.core.fields import Secret
from posthouse.core.profile import ServerProfile
from posthouse.core.profile_mark import Mark, MarkState, mark_json
from posthouse.core.profile_test import Inquiry, StageResult, Told, unheard
from posthouse.mailflow.profile_test import ProfileTest
from posthouse.settings import NodeSettings, OwnMail
from posthouse.web.server import create_app
from support.rest import Rest, ScriptedTester

PROFILES = "/api/v1/server-profiles"
NEW: dict[str, object] = {"name": "new", "type": "smtp", "servers": ["10.0.0.9"]}
DEAD = "smtp://10.0.0.66:25"
LOGIN: dict[str, object] = {"tls": "starttls-required", "username": "relay", "password": "canary-1"}
OWN = NodeSettings(hostname="mx.test", own_mail=OwnMail("archive", "post@ours.example", "admin@ours.example"))
BY = "key administrator (k1)"


def rest_with(*refusing: str) -> Rest:
    rest = Rest()
    rest.tester.refusing.update(refusing or {DEAD})
    return rest


def get(client: TestClient, name: str = "exchange") -> tuple[dict[str, Any], dict[str, str]]:
    """A profile, and the header for changing it."""
    answer = client.get(f"{PROFILES}/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json(), {"If-Match": answer.headers["etag"]}


def put(client: TestClient, of: str = "exchange", query: str = "", /, **change: object) -> Any:
    """GET, change, PUT."""
    body, match = get(client, of)
    return client.put(f"{PROFILES}/{of}{query}", json={**body, **change}, headers=match)


def without_testers(rest: Rest) -> TestClient:
    """An administrator's client of a node that can test no type."""
    app = create_app(replace(rest.tools, profile_test=ProfileTest({})))
    key = {"Authorization": f"Bearer {rest.secrets['administrator']}"}
    return TestClient(app, base_url="http://127.0.0.1:8025", headers=key)


def fields(answer: Any) -> list[str]:
    return [fault["field"] for fault in answer.json()["errors"]]


def last_audit(rest: Rest) -> Mapping[str, Any]:
    return rest.inventory.rows[0]


# --- what is answered ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", NEW),
        ("PUT", "/exchange", {**NEW, "name": "exchange", **LOGIN}),
        ("PUT", "/exchange", {**NEW, "name": "renamed", **LOGIN}),
        ("POST", "/exchange/order", {"servers": ["10.0.0.2:2525", "smtp://10.0.0.1:25"]}),
    ],
)
def test_an_answer_is_of_this_change_not_of_one_that_came_after(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Mapping[str, object]
) -> None:
    rest = rest_with()
    client = rest.client()
    _, match = get(client)
    save = rest.inventory.replace
    saved: list[Any] = []

    def replaced(*given: Any, **more: Any) -> int:
        revision = save(*given, **more)
        name = str(body.get("name", "exchange"))
        saved.append(next(p for p in rest.inventory.stored.profiles if p.document["name"] == name))
        others = [
            {**p.document, "servers": ["smtp://10.9.9.9:25"]} if p.document["name"] == name else p.document
            for p in rest.inventory.stored.profiles
        ]
        save(others, rest.inventory.stored.rules, expected_revision=revision, by="another", now=1.0)
        return revision

    monkeypatch.setattr(rest.inventory, "replace", replaced)
    answer = client.request(method, f"{PROFILES}{path}", json=body, headers=match if method == "PUT" else {})
    assert answer.status_code in (200, 201), answer.text
    assert answer.headers["etag"] == f'"{saved[0].revision}"'
    assert answer.json() == {**saved[0].document, "tested": mark_json(saved[0].tested)}


def test_a_change_that_changes_nothing_answers_the_revision_that_stays() -> None:
    rest = rest_with()
    client = rest.client()
    body, match = get(client)
    assert put(client, "archive", servers=["10.0.0.7"]).headers["etag"] != match["If-Match"]
    answer = client.put(f"{PROFILES}/exchange", json=body, headers=match)
    assert (answer.status_code, answer.headers["etag"], answer.json()) == (200, match["If-Match"], body)


# --- every outcome -----------------------------------------------------------------------------------

IN_MATCH: Any = object()
"""As GET has told."""
ORDER = {"servers": ["10.0.0.2:2525", "smtp://10.0.0.1:25"]}
OUTCOMES: list[tuple[str, str, object, object, int]] = [
    ("POST", "", NEW, None, 201),
    ("POST", "", {**NEW, "name": "EXCHANGE"}, None, 409),
    ("POST", "", {**NEW, "name": "a/b"}, None, 422),
    ("POST", "", {**NEW, "servers": ["10.0.0.66"]}, None, 422),
    ("POST", "?force=true", {**NEW, "servers": ["10.0.0.66"]}, None, 201),
    ("POST", "?force=true", {**NEW, "tls": "tls"}, None, 422),
    ("POST", "?force=true", {**NEW, "name": "exchange"}, None, 409),
    ("POST", "?force=maybe", NEW, None, 422),
    ("POST", "?force=true&reason=a%0Ab", NEW, None, 422),
    ("POST", "?force=true&reason=" + "a" * 501, NEW, None, 422),
    ("POST", "", [NEW], None, 422),
    ("POST", "", {**NEW, "password": {"set": True}, "username": "u"}, None, 422),
    ("PUT", "/exchange", {**NEW, "name": "exchange"}, IN_MATCH, 200),
    ("PUT", "/EXCHANGE", {**NEW, "name": "exchange"}, IN_MATCH, 200),
    ("PUT", "/exchange", {**NEW, "name": "exchange"}, "*", 200),
    ("PUT", "/exchange", {**NEW, "name": "exchange"}, None, 428),
    ("PUT", "/exchange", {**NEW, "name": "exchange"}, '"77"', 412),
    ("PUT", "/exchange", {**NEW, "name": "archive"}, IN_MATCH, 409),
    ("PUT", "/exchange", {**NEW, "name": "x", "colour": 1}, IN_MATCH, 422),
    ("PUT", "/exchange", {**NEW, "name": "exchange", "servers": ["10.0.0.66"]}, IN_MATCH, 422),
    ("PUT", "/exchange?force=true", {**NEW, "name": "exchange", "servers": ["10.0.0.66"]}, IN_MATCH, 200),
    ("PUT", "/exchange", {"name": "exchange", "type": "clamav", "servers": ["h"]}, IN_MATCH, 409),
    ("PUT", "/nosuch", NEW, "*", 404),
    ("DELETE", "/exchange", None, None, 409),
    ("DELETE", "/nosuch", None, None, 404),
    ("POST", "/exchange/order", ORDER, None, 200),
    ("POST", "/exchange/order", ORDER, IN_MATCH, 200),
    ("POST", "/exchange/order", ORDER, '"77"', 412),
    ("POST", "/exchange/order", {"servers": ["10.0.0.1"]}, None, 422),
    ("POST", "/nosuch/order", ORDER, None, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "match", "status"), OUTCOMES)
def test_an_outcome(method: str, path: str, body: object, match: object, status: int) -> None:
    rest = rest_with()
    client = rest.client()
    before = rest.inventory.load()
    headers = {} if match is None else get(client)[1] if match is IN_MATCH else {"If-Match": str(match)}
    answer = client.request(method, f"{PROFILES}{path}", json=body, headers=headers)
    assert answer.status_code == status, answer.text
    if status < 300:
        assert answer.headers["etag"] == f'"{before.revision + 1}"'
        assert answer.json()["servers"] == [text for text in answer.json()["servers"] if text.startswith("smtp://")]
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert rest.inventory.load() == before


@pytest.mark.parametrize("role", ["operator", "auditor", "helpdesk"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ""), ("PUT", "/exchange"), ("DELETE", "/exchange"), ("POST", "/exchange/order")],
)
def test_only_administrators_change_profiles(method: str, path: str, role: str) -> None:
    rest = Rest()
    answer = rest.client(role).request(method, f"{PROFILES}{path}", json=NEW, headers={"If-Match": "*"})
    assert answer.status_code == 403
    assert rest.tester.tested == []


# --- add ---------------------------------------------------------------------------------------------


def test_an_added_profile_is_canonical_masked_and_marked_as_passed() -> None:
    rest = Rest()
    answer = rest.client().post(PROFILES, json={**NEW, **LOGIN, "name": "New one"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/server-profiles/New%20one"
    body = answer.json()
    assert (body["servers"], body["password"]) == (["smtp://10.0.0.9:25"], {"set": True})
    assert body["tested"] == {
        "state": "passed",
        "at": rest.clock.now(),
        "by": BY,
        "reason": "",
        "forced": False,
        "revision": 2,
        "failed": [],
    }
    assert rest.client().get(answer.headers["location"]).json() == body
    assert "canary-1" not in answer.text
    ((tested, server, _),) = rest.tester.tested
    assert (tested.password, server) == (Secret("text", "canary-1"), "smtp://10.0.0.9:25")
    assert rest.inventory.texts == {"0": "canary-1"}
    assert last_audit(rest)["what"] == "server profile added"
    (change,) = last_audit(rest)["detail"]["changes"]
    assert (change["change"], change["field"], change["old"]) == ("added", "server_profiles[New one]", None)
    assert change["new"]["password"] == {"set": True}


def test_a_failed_test_saves_nothing_and_is_told_whole() -> None:
    rest = rest_with()
    answer = rest.client().post(PROFILES, json={**NEW, "servers": ["10.0.0.9", "10.0.0.66"]})
    assert answer.status_code == 422
    problem = answer.json()
    assert [(s["server"], s["ok"]) for s in problem["test"]["servers"]] == [
        ("smtp://10.0.0.9:25", True),
        (DEAD, False),
    ]
    (fault,) = problem["errors"]
    assert (fault["field"], fault["value"]) == ("servers[1]", DEAD)
    assert fault["rule"] == "The test fails at connect: connection refused."
    assert "nothing accepts at port 25" in fault["remedy"]
    assert "force=true" in problem["detail"]
    assert rest.client().get(f"{PROFILES}/new").status_code == 404
    assert last_audit(rest)["what"] == "server profile tested"
    assert last_audit(rest)["detail"]["ok"] is False


def test_force_saves_untested_with_who_when_and_why_and_tests_nothing() -> None:
    rest = rest_with()
    rest.clock.epoch += 5
    answer = rest.client().post(
        f"{PROFILES}?force=true&reason=the+server+comes+on+Monday", json={**NEW, "servers": ["10.0.0.66"]}
    )
    assert answer.status_code == 201
    mark = answer.json()["tested"]
    assert (mark["state"], mark["forced"], mark["reason"]) == ("untested", True, "the server comes on Monday")
    assert (mark["by"], mark["at"]) == (BY, rest.clock.now())
    assert rest.tester.tested == []


def test_the_reason_is_in_the_audit_log_whether_a_test_is_left_out_or_not_needed() -> None:
    rest = rest_with()
    client = rest.client()
    client.post(f"{PROFILES}?force=true&reason=on+Monday", json={**NEW, "servers": ["10.0.0.66"]})
    detail = last_audit(rest)["detail"]
    assert (detail["forced"], "reason" in detail) == ({"new": "on Monday"}, False)
    changed = put(client, "exchange", "?force=true&reason=less+load", pool={"enabled": True})
    assert changed.json()["tested"]["forced"] is False
    detail = last_audit(rest)["detail"]
    assert (detail["reason"], "forced" in detail) == ("less load", False)


def test_a_type_that_nobody_can_test_is_saved_by_force_only() -> None:
    client = without_testers(Rest())
    scanner = {"name": "scanner", "type": "clamav", "servers": ["10.0.0.8"]}
    answer = client.post(PROFILES, json=scanner)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["field"] == "type"
    assert "force=true" in fault["remedy"]
    assert client.post(f"{PROFILES}?force=true", json=scanner).status_code == 201


def test_all_faults_come_at_once_also_that_the_name_is_taken() -> None:
    body = {**NEW, "name": "Archive", "servers": ["http://x", "10.0.0.1"], "username": "u", "colour": 1}
    answer = Rest().client().post(PROFILES, json=body)
    assert answer.status_code == 422
    assert set(fields(answer)) == {"name", "servers[0]", "password", "colour"}


def test_tests_before_saving_count_for_the_rate() -> None:
    rest = rest_with()
    client = rest.client()
    for _ in range(60):
        assert client.post(PROFILES, json={**NEW, "servers": ["10.0.0.66"]}).status_code == 422
    refused = client.post(PROFILES, json=NEW)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert client.post(f"{PROFILES}?force=true", json=NEW).status_code == 201


# --- change ------------------------------------------------------------------------------------------


def test_what_get_answered_can_be_put_back_and_changes_nothing() -> None:
    rest = Rest()
    client = rest.client()
    client.post(PROFILES, json={**NEW, **LOGIN})
    rows, tested = len(rest.inventory.rows), len(rest.tester.tested)
    body, match = get(client, "new")
    answer = client.put(f"{PROFILES}/new", json=body, headers=match)
    assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, body, match["If-Match"])
    assert (len(rest.inventory.rows), len(rest.tester.tested)) == (rows, tested)


@pytest.mark.parametrize(
    "change",
    [
        {"preference": "round-robin"},
        {"pool": {"enabled": True}},
        {"servers": ["10.0.0.2:2525", "10.0.0.1"]},
        {"name": "next"},
    ],
)
def test_what_needs_no_test_is_saved_untested_servers_or_not(change: dict[str, object]) -> None:
    rest = rest_with("smtp://10.0.0.1:25")
    answer = put(rest.client(), **change)
    assert answer.status_code == 200, answer.text
    assert rest.tester.tested == []
    assert answer.json()["tested"]["by"] == "test", "the mark of the first save"


@pytest.mark.parametrize(
    "change", [{"servers": ["10.0.0.1"]}, {"tls": "starttls-required"}, {"name": "next", "tls": "starttls-optional"}]
)
def test_other_changes_are_tested_and_marked(change: dict[str, object]) -> None:
    rest = Rest()
    answer = put(rest.client(), **change)
    assert answer.status_code == 200, answer.text
    assert rest.tester.tested
    assert (answer.json()["tested"]["state"], answer.json()["tested"]["revision"]) == ("passed", 2)


def test_a_change_is_audited_with_before_and_after() -> None:
    rest = Rest()
    put(rest.client(), preference="round-robin")
    row = last_audit(rest)
    assert (row["what"], row["by"]) == ("server profile changed", BY)
    field = "server_profiles[exchange].preference"
    assert row["detail"]["changes"] == [
        {"change": "changed", "field": field, "old": "failover", "new": "round-robin"}
    ]


def test_a_rename_takes_rules_secrets_and_place_along() -> None:
    rest = Rest()
    client = rest.client()
    assert put(client, **LOGIN).status_code == 200
    tested = len(rest.tester.tested)
    answer = put(client, name="Next hop")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-location"] == "/api/v1/server-profiles/Next%20hop"
    stored = rest.inventory.load()
    assert [p.document["name"] for p in stored.profiles] == ["Next hop", "archive"]
    assert [rule["relay"] for rule in stored.rules] == [{"profile": "archive"}, {"profile": "Next hop"}]
    assert rest.inventory.same_secret(stored.profiles[0].secrets["password"], "canary-1")
    assert len(rest.tester.tested) == tested
    assert answer.json()["tested"]["state"] == "passed"
    row = last_audit(rest)
    assert row["what"] == "server profile renamed"
    assert [(c["change"], c["field"]) for c in row["detail"]["changes"]] == [
        ("changed", "server_profiles[Next hop].name"),
        ("changed", "rules[inbound].relay.profile"),
    ]
    assert client.get(f"{PROFILES}/exchange").status_code == 404
    assert stored.profiles[0].former == ("exchange",), "by which workers find waiting mail"


def test_a_name_may_change_its_case() -> None:
    rest = Rest()
    answer = put(rest.client(), name="Exchange")
    assert answer.status_code == 200, answer.text
    assert rest.inventory.load().rules[1]["relay"] == {"profile": "Exchange"}
    assert last_audit(rest)["what"] == "server profile changed"


def test_a_profile_of_own_mail_is_neither_renamed_nor_removed_nor_of_another_type() -> None:
    client = Rest(settings=OWN).client()
    clamav = {"name": "archive", "type": "clamav", "servers": ["10.0.0.3"]}
    match = get(client, "archive")[1]
    for answer in (put(client, "archive", name="x"), client.put(f"{PROFILES}/archive", json=clamav, headers=match)):
        assert answer.status_code == 409
        assert "own_mail.profile" in fields(answer)
    assert fields(client.delete(f"{PROFILES}/archive")) == ["rules[old].relay.profile", "own_mail.profile"]


@pytest.mark.parametrize(
    ("query", "profile"),
    [
        ("?prune=true", {"name": "exchange", "type": "smtp", "servers": ["10.0.0.1"]}),
        ("", {"name": "Archive", "type": "clamav", "servers": ["10.0.0.3"]}),
    ],
)
def test_nor_by_a_document_that_is_applied(query: str, profile: dict[str, object]) -> None:
    rest = Rest(settings=OWN)
    client = rest.client()
    assert client.delete("/api/v1/rules/old").status_code == 204
    revision = rest.inventory.revision()
    document = {"server_profiles": [profile], "rules": []}
    refusal = fields(client.delete(f"{PROFILES}/archive"))
    for path in ("diff", "apply"):
        answer = client.post(f"/api/v1/config/{path}{query}", json=document)
        assert (answer.status_code, fields(answer)) == (422, refusal)
    assert (refusal, rest.inventory.revision()) == (["own_mail.profile"], revision)


def test_secrets_are_kept_removed_and_entered_again_as_the_table_says() -> None:
    rest = Rest()
    client = rest.client()
    put(client, **LOGIN)
    for kept in ({"set": True}, "canary-1"):
        rest.tester.tested.clear()
        assert put(client, password=kept, preference="round-robin").status_code == 200
        assert rest.tester.tested == [], "the same secret needs no test"
    body, match = get(client)
    del body["password"]
    assert client.put(f"{PROFILES}/exchange", json=body, headers=match).json()["password"] == {"set": True}
    moved = put(client, servers=["10.0.0.77"])
    assert (moved.status_code, fields(moved)) == (422, ["password"])
    assert put(client, "exchange", "?force=true", servers=["10.0.0.77"]).status_code == 422, "force validates, too"
    assert rest.tester.tested == []
    assert put(client, servers=["10.0.0.77"], password="canary-2").status_code == 200
    assert rest.tester.tested[-1][0].password == Secret("text", "canary-2")
    assert put(client, tls_min="1.3").status_code == 200
    used = rest.tester.tested[-1][0].password
    assert used is not None
    assert rest.inventory.texts[used.value] == "canary-2", "a kept secret is tested, too"
    assert put(client, password="canary-3").status_code == 200
    assert rest.tester.tested[-1][0].password == Secret("text", "canary-3"), "another secret needs a test"
    gone = put(client, username=None, password=None)
    assert (gone.status_code, "password" in gone.json()) == (200, False)


@dataclass
class Meddled(ScriptedTester):
    """While the first server is tested, somebody else changes something."""

    meddle: Callable[[], object] = lambda: None

    async def test(
        self, profile: ServerProfile, server: str, inquiry: Inquiry | None, seconds: float, told: Told = unheard
    ) -> tuple[StageResult, ...]:
        if not self.tested:
            # The app is busy with this request, in another thread.
            thread = threading.Thread(target=self.meddle)
            thread.start()
            await asyncio.to_thread(thread.join, 20)
        return await super().test(profile, server, inquiry, seconds)


@pytest.mark.parametrize("match", [IN_MATCH, "*"])
def test_a_change_that_comes_first_while_the_test_runs_is_not_overwritten(match: object) -> None:
    tester = Meddled()
    rest = Rest(tester=tester)
    client = rest.client()
    tester.meddle = lambda: put(rest.client(), preference="random-start")
    body, read = get(client)
    headers = read if match is IN_MATCH else {"If-Match": str(match)}
    answer = client.put(f"{PROFILES}/exchange", json={**body, "tls": "starttls-required"}, headers=headers)
    assert answer.status_code == 412
    now, _ = get(client)
    assert (now["preference"], now["tls"]) == ("random-start", "none")


def test_a_change_of_another_profile_while_the_test_runs_is_kept() -> None:
    tester = Meddled()
    rest = Rest(tester=tester)
    client = rest.client()
    tester.meddle = lambda: put(rest.client(), "archive", preference="random-start")
    assert put(client, tls="starttls-required").status_code == 200
    assert get(client, "archive")[0]["preference"] == "random-start"
    assert get(client)[0]["tls"] == "starttls-required"


def test_a_name_that_is_taken_while_the_test_runs_is_taken() -> None:
    tester = Meddled()
    rest = Rest(tester=tester)
    tester.meddle = lambda: rest.client().post(f"{PROFILES}?force=true", json={**NEW, "name": "NEW"})
    answer = rest.client().post(PROFILES, json=NEW)
    assert (answer.status_code, fields(answer)) == (409, ["name"])


# --- remove and order --------------------------------------------------------------------------------


def test_a_profile_that_nothing_names_is_removed() -> None:
    rest = Rest()
    client = rest.client()
    client.post(PROFILES, json=NEW)
    assert client.delete(f"{PROFILES}/NEW", headers={"If-Match": '"77"'}).status_code == 412
    answer = client.delete(f"{PROFILES}/NEW", headers=get(client, "new")[1])
    assert (answer.status_code, answer.content) == (204, b"")
    assert [p.document["name"] for p in rest.inventory.load().profiles] == ["exchange", "archive"]
    (change,) = last_audit(rest)["detail"]["changes"]
    assert (last_audit(rest)["what"], change["change"]) == ("server profile removed", "removed")


def test_in_use_lists_the_rules_whatever_the_match() -> None:
    answer = Rest().client().delete(f"{PROFILES}/exchange")
    assert (answer.status_code, fields(answer)) == (409, ["rules[inbound].relay.profile"])


def test_the_order_of_servers_is_changed_without_a_test_and_the_mark_stays() -> None:
    rest = rest_with("smtp://10.0.0.1:25")
    rest.inventory.mark(
        "exchange", rest.inventory.load().profiles[0].tested, Mark(MarkState.PASSED, 1.0, "x", revision=1)
    )
    answer = rest.client().post(f"{PROFILES}/exchange/order", json=ORDER)
    assert answer.json()["servers"] == ["smtp://10.0.0.2:2525", "smtp://10.0.0.1:25"]
    assert answer.json()["tested"]["by"] == "x"
    assert rest.tester.tested == []
    assert last_audit(rest)["what"] == "server profile ordered"


@pytest.mark.parametrize(
    ("servers", "faulty"),
    [
        (["10.0.0.1"], ["servers"]),
        (["10.0.0.1", "10.0.0.1:25"], ["servers[1]"]),
        (["10.0.0.1", "10.0.0.2:2525", "10.0.0.3"], ["servers[2]"]),
        (["10.0.0.1", "http://10.0.0.2", 7], ["servers[2]", "servers[1]"]),
        ([], ["servers"]),
        ("10.0.0.1", ["servers"]),
    ],
)
def test_an_order_that_is_none(servers: object, faulty: list[str]) -> None:
    answer = Rest().client().post(f"{PROFILES}/exchange/order", json={"servers": servers})
    assert (answer.status_code, fields(answer)) == (422, faulty)
    other = Rest().client().post(f"{PROFILES}/exchange/order", json={"position": 2})
    assert set(fields(other)) == {"position", "servers"}


# --- the mark ----------------------------------------------------------------------------------------


def test_lists_show_the_mark_and_the_export_does_not() -> None:
    client = Rest().client()
    (first, _) = client.get(PROFILES).json()["items"]
    assert (first["tested"]["state"], first["tested"]["forced"]) == ("untested", False)
    assert "tested" not in str(client.get("/api/v1/config").json())


def test_a_test_of_the_profile_as_saved_renews_its_mark_and_no_etag() -> None:
    rest = rest_with("smtp://10.0.0.1:25")
    client = rest.client("operator")
    _, before = get(client)
    for body, state in ((None, "failed"), ({"tls": "starttls-required"}, "failed"), ({}, "passed")):
        if state == "passed":
            rest.tester.refusing.clear()
        client.post(f"{PROFILES}/exchange/test", json=body)
        assert get(client)[0]["tested"]["state"] == state
    assert get(client)[1] == before
    rest.tester.refusing.add("smtp://10.0.0.1:25")
    client.post(f"{PROFILES}/exchange/test", json={"rcpt_to": "nobody@ours.example"})
    assert get(client)[0]["tested"]["state"] == "passed", "an address that is refused is no fault of the profile"
    client.post(f"{PROFILES}/exchange/test")
    mark = get(client)[0]["tested"]
    assert (mark["state"], mark["by"], mark["revision"]) == ("failed", "key operator (k2)", 1)
    assert mark["failed"] == [{"server": "smtp://10.0.0.1:25", "stage": "connect", "fault": "connection refused"}]


def test_what_get_answered_can_be_tested_as_it_is() -> None:
    client = Rest().client()
    body, _ = get(client)
    assert client.post(f"{PROFILES}/exchange/test", json=body).status_code == 200
    assert client.post("/api/v1/server-profile-tests", json=body).status_code == 200


# --- OpenAPI -----------------------------------------------------------------------------------------


def test_openapi_shows_every_answer_with_an_example() -> None:
    paths = Rest().app().openapi()["paths"]
    wanted = {
        ("", "post"): {"201", "409", "422", "429"},
        ("/{name}", "put"): {"200", "409", "412", "422", "428", "429"},
        ("/{name}", "delete"): {"204", "409", "412"},
        ("/{name}/order", "post"): {"200", "412", "422"},
    }
    for (path, method), statuses in wanted.items():
        operation = paths[f"{PROFILES}{path}"][method]
        assert statuses <= set(operation["responses"])
        for status in statuses - {"204", "429"}:
            (content,) = operation["responses"][status]["content"].values()
            assert content.get("example") or content["examples"], (path, method, status)
    failed = paths[PROFILES]["post"]["responses"]["422"]["content"]["application/problem+json"]["examples"]
    assert failed["test_failed"]["value"]["test"]["ok"] is False


def test_without_testers_a_change_that_needs_no_test_is_saved() -> None:
    client = without_testers(Rest())
    assert put(client, preference="round-robin").status_code == 200
    assert put(client, tls="starttls-required").status_code == 422
