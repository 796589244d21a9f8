"""REST of TEST: what is tested, for whom, with which secrets, and how often."""

import json
from dataclasses import replace
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from posthouse.core.fields import Secret
from posthouse.core.profile_test import Inquiry, StageResult
from posthouse.mailflow.profile_test import ProfileTest
from posthouse.settings import NodeSettings, OwnMail
from posthouse.web.rate import Rate
from posthouse.web.server import create_app
from support.rest import Rest

UNSAVED = {"name": "new", "type": "smtp", "servers": ["10.0.0.9"]}
TESTS = "/api/v1/server-profile-tests"
SAVED = "/api/v1/server-profiles/exchange/test"
STORED = {
    "server_profiles": [
        {
            "name": "exchange",
            "type": "smtp",
            "servers": ["10.0.0.1", "10.0.0.2:2525"],
            "tls": "starttls-required",
            "username": "relay",
            "password": "hunter2",
        }
    ]
}


def posted(rest: Rest, path: str, body: object = None, role: str = "administrator") -> Any:
    return rest.client(role).post(path, json=body)


def with_password(password: object) -> Rest:
    rest = Rest()
    document = {"server_profiles": [{**STORED["server_profiles"][0], "password": password}]}
    answer = posted(rest, "/api/v1/config/apply", document)
    assert answer.status_code == 200, answer.text
    return rest


def faults(answer: Any) -> list[str]:
    return [fault["field"] for fault in answer.json()["errors"]]


def test_the_answer_has_the_shape_of_the_design() -> None:
    rest = Rest()
    rest.tester.refusing.add("smtp://10.0.0.2:2525")
    answer = posted(rest, SAVED)
    assert answer.status_code == 200
    good = {
        "name": "quit",
        "ok": True,
        "seconds": 0.1,
        "detail": {},
        "transcript": ["C: QUIT", "S: 221 \x1b[2Jbye"],
        "advice": "",
    }
    resolved = {"name": "resolve", "ok": True, "seconds": 0.0, "detail": {"addresses": ["10.0.0.1"]}}
    assert answer.json()["ok"] is False
    one, two = answer.json()["servers"]
    assert (one["server"], one["ok"]) == ("smtp://10.0.0.1:25", True)
    assert one["stages"] == [{**resolved, "transcript": [], "advice": ""}, good]
    assert (two["server"], two["ok"]) == ("smtp://10.0.0.2:2525", False)
    assert two["stages"][1]["detail"]["fault"] == "connection refused"
    assert "nothing accepts at port 2525" in two["stages"][1]["advice"]


def test_a_profile_that_is_not_saved_is_tested_and_not_saved() -> None:
    rest = Rest()
    assert posted(rest, TESTS, UNSAVED).json()["ok"] is True
    assert [server for _, server, _ in rest.tester.tested] == ["smtp://10.0.0.9:25"]
    assert rest.client().get("/api/v1/server-profiles/new").status_code == 404


def test_all_faults_of_the_values_come_at_once_and_nothing_is_connected_to() -> None:
    rest = Rest()
    bad = {"name": "a/b", "type": "smtp", "servers": ["http://x"], "username": "u", "rcpt_to": "nobody", "colour": 1}
    answer = posted(rest, TESTS, bad)
    assert answer.status_code == 422
    assert set(faults(answer)) == {"name", "servers[0]", "password", "rcpt_to", "colour"}
    assert rest.tester.tested == []


def test_credentials_without_tls_are_no_fault_of_the_values() -> None:
    body = {**UNSAVED, "username": "u", "password": "p"}
    assert posted(Rest(), TESTS, body).status_code == 200


@pytest.mark.parametrize(
    ("asked", "inquiry"),
    [
        ({}, None),
        ({"rcpt_to": "b@ours.example"}, Inquiry("post@ours.example", "b@ours.example")),
        ({"rcpt_to": "b@ours.example", "mail_from": ""}, Inquiry("", "b@ours.example")),
        ({"rcpt_to": "b@ours.example", "mail_from": "a@x.example"}, Inquiry("a@x.example", "b@ours.example")),
    ],
)
def test_an_address_to_ask_for(asked: dict[str, str], inquiry: Inquiry | None) -> None:
    own = OwnMail("exchange", "post@ours.example", "admin@ours.example")
    rest = Rest(settings=NodeSettings(hostname="mx.test", own_mail=own))
    assert posted(rest, SAVED, asked).status_code == 200
    assert [given for _, _, given in rest.tester.tested] == [inquiry] * 2


@pytest.mark.parametrize(
    "asked", [{"mail_from": "a@x.example"}, {"rcpt_to": "a@x\r\nDATA"}, {"rcpt_to": 1}, {"rcpt_to": ""}]
)
def test_an_address_that_is_none(asked: dict[str, object]) -> None:
    assert faults(posted(Rest(), SAVED, asked)) == ["rcpt_to"]


def test_changed_fields_are_laid_over_the_saved_profile() -> None:
    rest = Rest()
    posted(rest, SAVED, {"tls": "starttls-required", "servers": ["10.0.0.7"]})
    ((profile, server, _),) = rest.tester.tested
    assert (profile.tls.value, server) == ("starttls-required", "smtp://10.0.0.7:25")
    assert rest.client().get("/api/v1/server-profiles/exchange").json()["tls"] == "none"


def test_there_must_be_such_a_profile() -> None:
    assert posted(Rest(), "/api/v1/server-profiles/nosuch/test").status_code == 404


# --- secrets -----------------------------------------------------------------------------------------


def test_a_stored_secret_is_used_for_its_own_servers() -> None:
    rest = with_password("hunter2")
    assert posted(rest, SAVED, {"tls_min": "1.3", "servers": ["10.0.0.1"]}).status_code == 200
    ((profile, _, _),) = rest.tester.tested
    assert profile.password is not None
    assert profile.password.source != "set"


@pytest.mark.parametrize("password", ["hunter2", {"env": "RELAY"}, {"file": "/run/credentials/relay"}])
@pytest.mark.parametrize("servers", [["10.0.0.66"], ["10.0.0.1", "10.0.0.66"], ["10.0.0.1:2526"]])
def test_a_saved_secret_is_never_sent_to_a_changed_host(password: object, servers: list[str]) -> None:
    rest = with_password(password)
    answer = posted(rest, SAVED, {"servers": servers})
    assert answer.status_code == 422
    assert faults(answer) == ["password"]
    assert "Enter the secret again" in answer.json()["errors"][0]["remedy"]
    assert rest.tester.tested == []
    assert posted(rest, SAVED, {"servers": servers, "password": "again"}).status_code == 200
    assert {str(profile.password and profile.password.value) for profile, _, _ in rest.tester.tested} == {"again"}


@pytest.mark.parametrize("password", ["hunter2", {"env": "RELAY"}, {"file": "/run/credentials/relay"}])
@pytest.mark.parametrize(
    "changes",
    [
        {"tls": "starttls-optional"},
        {"tls": "none", "allow_plaintext_auth": True},
        {"tls_verify": "none"},
        {"tls_ca": "/tmp/mine.pem"},
        {"tls_name": "mine.example"},
    ],
)
def test_a_saved_secret_is_never_sent_by_a_weaker_way(password: object, changes: dict[str, object]) -> None:
    rest = with_password(password)
    answer = posted(rest, SAVED, changes)
    assert answer.status_code == 422
    assert [(fault["field"], fault["remedy"]) for fault in answer.json()["errors"]] == [
        ("password", "Enter the secret again.")
    ]
    assert rest.tester.tested == []
    assert posted(rest, SAVED, {**changes, "password": "again"}).status_code == 200


@pytest.mark.parametrize("password", ["hunter2", {"env": "RELAY"}])
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"servers": ["10.0.0.1"]}, "servers"),
        ({"servers": ["smtps://10.0.0.1:25", "10.0.0.2:2525"]}, "servers"),
        ({"tls_min": "1.3"}, "tls_min"),
        ({"tls_verify": "verify"}, "tls_verify"),
        ({"username": "other"}, "username"),
        ({"client_certificate": True}, "client_certificate"),
        ({"allow_plaintext_auth": True}, "allow_plaintext_auth"),
    ],
)
def test_an_operator_tests_with_a_saved_secret_only_what_is_saved(
    password: object, changes: dict[str, object], field: str
) -> None:
    rest = with_password(password)
    answer = posted(rest, SAVED, changes, "operator")
    assert answer.status_code == 403
    assert faults(answer) == [field]
    assert rest.tester.tested == []
    assert posted(rest, SAVED, {**changes, "password": "again"}, "operator").status_code == 200
    assert posted(rest, SAVED, changes).status_code == 200


def test_an_operator_may_say_what_is_saved_in_other_words() -> None:
    rest = with_password("hunter2")
    body = {"servers": ["SMTP://10.0.0.1", "10.0.0.2:2525"], "tls": "starttls-required", "preference": "round-robin"}
    assert posted(rest, SAVED, body, "operator").status_code == 200


def test_without_its_user_name_the_saved_password_is_not_used() -> None:
    rest = with_password("hunter2")
    assert posted(rest, SAVED, {"username": None, "servers": ["10.0.0.66"]}).status_code == 200
    assert rest.tester.tested[0][0].password is None


def test_an_unsaved_profile_cannot_refer_to_a_stored_secret() -> None:
    rest = with_password("hunter2")
    body = {**STORED["server_profiles"][0], "password": {"set": True}}
    assert faults(posted(rest, TESTS, body)) == ["password"]


@pytest.mark.parametrize("reference", [{"env": "SECRET_KEY"}, {"file": "/etc/shadow"}])
@pytest.mark.parametrize("path", [TESTS, SAVED])
def test_an_operator_cannot_have_the_node_read_a_secret(reference: dict[str, str], path: str) -> None:
    rest = Rest()
    body = {**UNSAVED, "username": "u", "password": reference}
    answer = posted(rest, path, body, "operator")
    assert answer.status_code == 403
    assert rest.tester.tested == []
    assert posted(rest, path, body).status_code == 200
    assert rest.tester.tested[0][0].password == Secret(*next(iter(reference.items())))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tls": "starttls-required", "tls_ca": "/etc/shadow"}, "tls_ca"),
        ({"type": "metadefender-core", "servers": ["https://10.0.0.9"], "tls_ca": "/etc/shadow"}, "tls_ca"),
        ({"type": "clamav", "servers": ["10.0.0.9", "/run/docker.sock"]}, "servers[1]"),
    ],
)
def test_an_operator_cannot_have_the_node_open_a_file(changes: dict[str, object], field: str) -> None:
    rest = Rest()
    answer = posted(rest, TESTS, {**UNSAVED, **changes}, "operator")
    assert answer.status_code == 403
    assert faults(answer) == [field]
    assert "/etc/shadow" not in answer.text
    assert rest.tester.tested == []
    assert posted(rest, TESTS, {**UNSAVED, **changes}).status_code == 200


@pytest.mark.parametrize(
    ("saved", "other"),
    [
        ({"type": "smtp", "servers": ["smtps://h"], "tls_ca": "/ca.pem"}, {"tls_ca": "/etc/shadow"}),
        ({"type": "clamav", "servers": ["/run/clamd.ctl", "h"]}, {"servers": ["/run/docker.sock"]}),
    ],
)
def test_an_operator_tests_the_files_that_are_saved(saved: dict[str, object], other: dict[str, object]) -> None:
    rest = Rest()
    document = {"server_profiles": [{"name": "mine", **saved}]}
    assert posted(rest, "/api/v1/config/apply", document).status_code == 200
    path = "/api/v1/server-profiles/mine/test"
    for body in (None, saved):
        assert posted(rest, path, body, "operator").status_code == 200
    assert posted(rest, path, other, "operator").status_code == 403
    assert posted(rest, path, other).status_code == 200


def test_an_operator_tests_the_saved_profile_with_its_reference() -> None:
    rest = with_password({"env": "RELAY"})
    assert posted(rest, SAVED, None, "operator").status_code == 200


def test_a_secret_that_no_octets_can_carry_is_refused() -> None:
    rest = Rest()
    body = json.dumps({**UNSAVED, "username": "u", "password": "\ud800"})
    answer = rest.client().post(TESTS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert faults(answer) == ["body"]
    assert rest.tester.tested == []


# --- audit and rate ----------------------------------------------------------------------------------


def test_every_test_is_audited_without_secrets() -> None:
    rest = Rest()
    rest.tester.refusing.add("smtp://10.0.0.1:25")
    posted(rest, SAVED, {"username": "u", "password": "canary-p", "tls": "starttls-required"}, "operator")
    row = rest.inventory.rows[0]
    assert row["what"] == "server profile tested"
    assert str(row["by"]).startswith("key operator")
    assert row["detail"] == {
        "server_profile": "exchange",
        "as_saved": False,
        "ok": False,
        "servers": [
            {"server": "smtp://10.0.0.1:25", "ok": False, "failed_at": "connect"},
            {"server": "smtp://10.0.0.2:2525", "ok": True, "failed_at": None},
        ],
    }


@pytest.mark.parametrize(
    ("body", "as_saved"),
    [
        (None, True),
        ({}, True),
        ({"rcpt_to": "b@ours.example"}, True),
        ({"rcpt_to": "b@ours.example", "mail_from": "a@ours.example"}, True),
        ({"rcpt_to": "b@ours.example", "tls": "none"}, False),
        ({"tls": "none"}, False),
    ],
)
def test_an_address_to_ask_for_changes_nothing_of_what_is_saved(body: object, as_saved: bool) -> None:
    rest = Rest()
    assert posted(rest, SAVED, body).status_code == 200
    assert cast(dict[str, object], rest.inventory.rows[0]["detail"])["as_saved"] is as_saved


def test_a_test_that_is_cut_short_is_audited_too() -> None:
    rest = Rest()

    async def cut(*_: object) -> tuple[StageResult, ...]:
        raise OSError("out of everything")

    rest.tester.test = cut  # type: ignore[method-assign,assignment]
    app = create_app(rest.tools)
    client = TestClient(app, base_url="http://127.0.0.1:8025", raise_server_exceptions=False)
    answer = client.post(SAVED, headers={"Authorization": f"Bearer {rest.secrets['administrator']}"})
    assert answer.status_code == 500
    row = rest.inventory.rows[0]
    assert row["what"] == "server profile tested"
    assert row["detail"] == {"server_profile": "exchange", "as_saved": True, "ok": None, "servers": []}


def test_a_key_may_test_sixty_times_a_minute() -> None:
    rest = Rest()
    client = rest.client()
    for _ in range(60):
        assert client.post(TESTS, json=UNSAVED).status_code == 200
    rest.clock.steady += 20.5
    refused = client.post(SAVED)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "40"
    assert refused.headers["content-type"] == "application/problem+json"
    assert len(rest.tester.tested) == 60
    rest.clock.steady += 40
    assert client.post(SAVED).status_code == 200


def test_a_rate_is_counted_for_each_name_and_forgets() -> None:
    rate = Rate(2, 60.0)
    assert [rate.take("a", 0.0), rate.take("a", 30.0), rate.take("b", 30.0)] == [0, 0, 0]
    assert rate.take("a", 59.5) == 1
    assert rate.take("a", 60.0) == 0
    assert rate.take("a", 60.0) == 30
    assert rate.take("c", 500.0) == 0
    assert rate.take("a", 500.0) == 0


def test_openapi_has_both_operations_with_examples() -> None:
    paths = Rest().app().openapi()["paths"]
    for path in (TESTS, "/api/v1/server-profiles/{name}/test"):
        operation = paths[path]["post"]
        assert {"200", "422", "429"} <= set(operation["responses"])
        assert operation["responses"]["200"]["content"]["application/json"]["example"]["servers"]
        assert operation["requestBody"]


def test_a_type_that_nobody_can_test_is_told_with_those_that_can_be() -> None:
    rest = Rest()
    app = create_app(replace(rest.tools, profile_test=ProfileTest({})))
    client = TestClient(app, base_url="http://127.0.0.1:8025")
    answer = client.post(TESTS, json=UNSAVED, headers={"Authorization": f"Bearer {rest.secrets['administrator']}"})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert (fault["field"], fault["rule"], fault["remedy"]) == (
        "type",
        "not built yet",
        "These types can be tested: none.",
    )


def test_a_passed_test_of_a_profile_as_saved_unlocks_its_login_at_the_workers() -> None:
    rest = with_password("hunter2")
    assert posted(rest, SAVED, role="operator").json()["ok"]
    assert posted(rest, SAVED, {"rcpt_to": "b@ours.example"}).json()["ok"]  # changes nothing of the profile
    found = [(command.kind, command.profile, command.by) for command in rest.commands.submitted]
    assert found == [
        ("unlock-login", "exchange", "key operator (k2)"),
        ("unlock-login", "exchange", "key administrator (k1)"),
    ]


def test_no_other_test_unlocks_a_login() -> None:
    rest = with_password("hunter2")
    assert posted(rest, SAVED, {"tls": "starttls-required"}).json()["ok"]  # it might be another than the saved one
    assert posted(rest, TESTS, UNSAVED).json()["ok"]
    assert posted(rest, "/api/v1/server-profiles/archive/test").json()["ok"]  # it has no login
    rest.tester.refusing.add("smtp://10.0.0.2:2525")
    assert not posted(rest, SAVED).json()["ok"]
    assert rest.commands.submitted == []


def live(rest: Rest, path: str, body: object, role: str = "administrator") -> Any:
    return rest.client(role).post(path, json=body, headers={"Accept": "application/x-ndjson"})


@pytest.mark.parametrize(("path", "body"), [(SAVED, None), (TESTS, {**UNSAVED, "servers": ["10.0.0.1", "10.0.0.9"]})])
def test_ladders_can_be_watched_while_they_grow(path: str, body: object) -> None:
    rest = Rest()
    rest.tester.refusing |= {"smtp://10.0.0.2:2525", "smtp://10.0.0.9:25"}
    answer = live(rest, path, body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    *grown, whole = [json.loads(line) for line in answer.text.splitlines()]
    assert whole == posted(rest, path, body).json()
    for server in whole["servers"]:
        lengths = [len(each["stages"]) for each in grown if each["server"] == server["server"]]
        assert lengths == [1, 2]
    last = [each for each in grown if not each["ok"]]
    assert [each["stages"][-1]["advice"] for each in last] == [whole["servers"][1]["stages"][-1]["advice"]]
    assert len([row for row in rest.inventory.rows if row["what"] == "server profile tested"]) == 2


def test_what_refuses_a_test_is_a_problem_also_for_who_would_watch() -> None:
    rest = Rest()
    assert live(rest, TESTS, {**UNSAVED, "servers": []}).status_code == 422
    app = create_app(rest.tools)
    app.state.test_rate = Rate(1, 60.0)
    client = TestClient(app, base_url="http://127.0.0.1:8025", headers=dict(rest.client().headers))
    headers = {"Accept": "application/x-ndjson"}
    assert client.post(TESTS, json=UNSAVED, headers=headers).status_code == 200
    refused = client.post(TESTS, json=UNSAVED, headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
