"""What each resource answers."""

from typing import Any

import pytest

from posthouse.core.fields import name_key
from posthouse.ports import Acted
from posthouse.settings import NodeSettings, OwnMail
from support.rest import INVENTORY, Rest


def _json(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


# --- mails -------------------------------------------------------------------------------------------


def test_mails_come_newest_first_and_page_by_cursor() -> None:
    client = Rest().client()
    first = _json(client.get("/api/v1/mails?limit=2"))
    assert [mail["id"] for mail in first["items"]] == ["01mail0002", "01mail0001"]
    assert first["next"] == "01mail0001"
    second = _json(client.get("/api/v1/mails", params={"limit": 2, "next": first["next"]}))
    assert [mail["id"] for mail in second["items"]] == ["01mail0000"]
    assert second["next"] is None


def test_a_page_that_holds_the_last_row_exactly_has_no_next() -> None:
    assert _json(Rest().client().get("/api/v1/mails?limit=3"))["next"] is None


def test_filters_reach_the_history_as_given() -> None:
    rest = Rest()
    parameters = {
        "from": "sender1",
        "to": "user1@",
        "subject": "offer",
        "status": "queued",
        "rule": "inbound",
        "since": "2025-11-24T00:00:00Z",
        "until": "1764100000",
    }
    page = _json(rest.client().get("/api/v1/mails", params=parameters))
    assert [mail["id"] for mail in page["items"]] == ["01mail0001"]
    asked = rest.history.asked[-1]
    assert (asked.sender, asked.recipient, asked.subject) == ("sender1", "user1@", "offer")
    assert (asked.status, asked.rule) == ("queued", "inbound")
    assert (asked.since, asked.until) == (1763942400.0, 1764100000.0)


def test_a_moment_without_zone_is_utc() -> None:
    rest = Rest()
    _json(rest.client().get("/api/v1/mails?since=2025-11-24T00:00:00"))
    assert rest.history.asked[-1].since == 1763942400.0


def test_failed_asks_for_failed_mails_only() -> None:
    rest = Rest()
    assert _json(rest.client().get("/api/v1/failed?to=x")) == {"items": [], "next": None}
    assert (rest.history.asked, rest.history.asked_kept[-1].recipient) == ([], "x")


def test_one_mail_is_shown_whole() -> None:
    mail = _json(Rest().client().get("/api/v1/mails/01mail0001"))
    assert {"session", "recipients", "attempts", "trail"} <= set(mail)


@pytest.mark.parametrize("mail_id", ["nosuch", "a%00b", "..", "%2e%2e%2f", "x" * 100, "%ff"])
def test_a_mail_that_is_not_there_is_404(mail_id: str) -> None:
    assert _json(Rest().client().get(f"/api/v1/mails/{mail_id}"), 404)["status"] == 404


# --- queue -------------------------------------------------------------------------------------------


def test_the_queue_is_told_per_next_hop() -> None:
    page = _json(Rest().client().get("/api/v1/queue"))
    assert page["items"][0]["profile"] == "exchange"


FIRST, SECOND = "smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"


def _refusing(rest: Rest, worker: str, server: str, seconds: float) -> None:
    next_probe = rest.clock.now() + seconds
    circuit = rest.circuit("connection refused", next_probe=next_probe)
    rest.knows(worker, "exchange", server, endpoint=circuit, not_now="circuit open: connection refused")


def _waits_for(rest: Rest) -> Any:
    (row,) = _json(rest.client().get("/api/v1/queue"))["items"]
    (recipient,) = _json(rest.client().get("/api/v1/mails/01mail0001"))["recipients"]
    assert recipient["waits_for"] == row["waits_for"]
    return row["waits_for"]


def test_the_queue_tells_why_no_server_of_a_profile_may_be_addressed() -> None:
    rest = Rest()
    assert _waits_for(rest) is None
    _refusing(rest, "w/0", FIRST, 40)
    rest.knows("w/0", "exchange", SECOND)
    assert _waits_for(rest) is None
    locked = "the login was refused there and is left alone for 15 minutes"
    rest.knows("w/0", "exchange", SECOND, not_now=locked, login_locked_until=rest.clock.now() + 900)
    assert _waits_for(rest) == (
        f"{FIRST}: circuit open: connection refused, next probe 16:00:40Z; {SECOND}: {locked}, until 16:15:00Z"
    )
    rest.knows("w/0", "exchange", SECOND, not_now="the limit of 10 open transactions is reached there")
    assert _waits_for(rest).endswith(f"{SECOND}: the limit of 10 open transactions is reached there")


def test_mail_that_waits_on_some_workers_only_is_told_as_that() -> None:
    rest = Rest().with_live("w/0", "w/1")
    for server in (FIRST, SECOND):
        _refusing(rest, "w/0", server, 40)
        rest.knows("w/1", "exchange", server)
    assert _waits_for(rest).endswith("next probe 16:00:40Z (on 1 of 2 workers)")


def test_a_long_list_of_servers_is_cut() -> None:
    rest = Rest()
    servers = [f"smtp://10.0.0.{number}:25" for number in range(1, 7)]
    changed = {"server_profiles": [{"name": "exchange", "type": "smtp", "servers": servers}]}
    _json(rest.client().post("/api/v1/config/apply", json=changed))
    for server in servers:
        _refusing(rest, "w/0", server, 40)
    assert _waits_for(rest).split("; ")[2:] == [
        "smtp://10.0.0.3:25: circuit open: connection refused, next probe 16:00:40Z",
        "and 3 more servers",
    ]


def test_mail_waits_for_a_worker_or_for_a_profile_that_is_gone() -> None:
    rest = Rest()
    rest.clock.epoch += 60
    assert _waits_for(rest) == "no worker is running"
    rest = Rest()
    rest.history.waiting = [{"profile": "former", "queued": 1, "held": 0, "oldest_at": 0.0, "next_due": 0.0}]
    (row,) = _json(rest.client().get("/api/v1/queue"))["items"]
    assert row["waits_for"] == "there is no server profile of this name any more"


def test_mail_for_a_profile_of_another_type_waits_and_says_so() -> None:
    rest = Rest()
    rest.history.waiting = [{"profile": "core", "queued": 1, "held": 0, "oldest_at": 0.0, "next_due": 0.0}]
    core = {"name": "core", "type": "metadefender-core", "servers": ["10.0.1.1"]}
    _json(rest.client().post("/api/v1/config/apply", json={"server_profiles": [core]}))
    (row,) = _json(rest.client().get("/api/v1/queue"))["items"]
    assert row["waits_for"] == "the server profile of this name is of type metadefender-core, which relays no mail"


def test_what_is_only_held_or_has_ended_waits_for_nothing() -> None:
    rest = Rest()
    for server in (FIRST, SECOND):
        _refusing(rest, "w/0", server, 40)
    rest.history.waiting = [{"profile": "exchange", "queued": 0, "held": 2, "oldest_at": 0.0, "next_due": None}]
    (row,) = _json(rest.client().get("/api/v1/queue"))["items"]
    assert row["waits_for"] is None
    (recipient,) = _json(rest.client().get("/api/v1/mails/01mail0000"))["recipients"]
    assert "waits_for" not in recipient


def test_an_action_is_submitted_and_answers_what_the_workers_reported() -> None:
    rest = Rest().with_live("n/0/b", "n/1/b")
    rest.commands.obey = lambda command: Acted(2, command.mails[:1])
    answer = _json(rest.client("operator").post("/api/v1/queue/hold", json={"mails": ["m1", "m2"]}))
    command = rest.commands.submitted[0]
    assert (command.kind, command.mails, command.by) == ("hold", ("m1", "m2"), "key operator (k2)")
    assert answer["recipients"] == 4
    assert answer["complete"] is True
    assert (answer["workers"], answer["reported"]) == (2, 2)


def test_all_open_mail_of_one_profile_can_be_meant() -> None:
    rest = Rest()
    _json(rest.client().post("/api/v1/queue/retry", json={"all": True, "profile": "exchange"}))
    command = rest.commands.submitted[0]
    assert (command.mails, command.profile) == ((), "exchange")


def test_an_action_that_not_all_workers_have_reported_is_not_complete() -> None:
    rest = Rest(wait_seconds=0.1)
    rest.commands.obey = None
    answer = _json(rest.client().post("/api/v1/queue/retry", json={"all": True}))
    assert answer["complete"] is False
    assert (answer["workers"], answer["reported"]) == (1, 0)


def test_an_action_waits_for_a_worker_that_reports_later() -> None:
    rest = Rest(wait_seconds=3.0)
    rest.commands.obey = None
    asked = 0
    progress = rest.commands.progress

    def later(command_id: int, now: float) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            rest.commands.report("n/0/b", command_id, Acted(5), now)
        return progress(command_id, now)

    rest.commands.progress = later  # type: ignore[method-assign]
    answer = _json(rest.client().post("/api/v1/queue/retry", json={"all": True}))
    assert (answer["recipients"], answer["complete"]) == (5, True)


def test_without_a_live_worker_an_action_is_kept_but_not_complete() -> None:
    rest = Rest(wait_seconds=3.0).with_live()
    answer = _json(rest.client().post("/api/v1/queue/retry", json={"all": True}))
    assert answer["complete"] is False
    assert len(rest.commands.submitted) == 1


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("retry", {}, "mails"),
        ("retry", {"mails": ["m1"], "all": True}, "mails"),
        ("retry", {"mails": ["m 1"]}, "mails[0]"),
        ("retry", {"all": 1}, "all"),
        ("retry", {"all": True, "target": "archive"}, "target"),
        ("retry", {"all": True, "nonsense": 1}, "nonsense"),
        ("reroute", {"all": True}, "target"),
        ("reroute", {"all": True, "target": "nosuch"}, "target"),
        ("explode", {"all": True}, "action"),
    ],
)
def test_a_faulty_action_is_refused_with_the_field(action: str, body: object, field: str) -> None:
    rest = Rest()
    problem = _json(rest.client().post(f"/api/v1/queue/{action}", json=body), 422)
    assert [error["field"] for error in problem["errors"]] == [field]
    assert not rest.commands.submitted


def test_reroute_carries_its_target() -> None:
    rest = Rest()
    _json(rest.client().post("/api/v1/queue/reroute", json={"mails": ["m1"], "target": "archive"}))
    assert rest.commands.submitted[0].target == "archive"


# --- server profiles, rules, explanations ------------------------------------------------------------


def test_profiles_are_canonical_and_have_an_etag() -> None:
    client = Rest().client()
    page = client.get("/api/v1/server-profiles")
    assert _json(page)["items"][0]["servers"] == ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"]
    assert page.headers["etag"] == '"1"'
    one = client.get("/api/v1/server-profiles/Exchange")
    assert _json(one)["name"] == "exchange"
    assert one.headers["etag"] == '"1"'
    assert client.get("/api/v1/server-profiles/nosuch").status_code == 404


def test_the_etag_of_a_profile_changes_only_when_it_changes() -> None:
    client = Rest().client()
    changed = {"server_profiles": [{"name": "archive", "type": "smtp", "servers": ["10.9.9.9"]}]}
    _json(client.post("/api/v1/config/apply", json=changed))
    assert client.get("/api/v1/server-profiles/exchange").headers["etag"] == '"1"'
    assert client.get("/api/v1/server-profiles/archive").headers["etag"] == '"2"'


def test_profiles_of_every_type_are_kept_and_shown() -> None:
    others = [
        {"name": "core", "type": "metadefender-core", "servers": ["10.0.1.1"], "public_url": "HTTPS://core.example/"},
        {"name": "vault", "type": "metadefender-vault", "servers": ["10.0.2.1"], "api_key": {"env": "K"}},
        {"name": "clamav", "type": "clamav", "servers": ["10.0.3.1", "/run/clamd.ctl"]},
    ]
    client = Rest().client()
    _json(client.post("/api/v1/config/apply", json={"server_profiles": others}))
    assert _json(client.get("/api/v1/server-profiles/core"))["public_url"] == "https://core.example"
    assert _json(client.get("/api/v1/server-profiles/vault"))["api_key"] == {"env": "K"}
    clamav = _json(client.get("/api/v1/server-profiles/clamav"))
    assert clamav["servers"] == ["clamd://10.0.3.1:3310", "clamd:///run/clamd.ctl"]
    state = _json(client.get("/api/v1/server-profiles/clamav/state"))
    assert [server["circuit"] for server in state["servers"]] == [None, None]
    export = _json(client.get("/api/v1/config"))
    assert _json(client.post("/api/v1/config/diff", json=export))["changes"] == []


def test_no_mail_goes_by_a_profile_of_another_type() -> None:
    rest = Rest(settings=NodeSettings("mx.test", own_mail=OwnMail("core", "p@ours.example", "admin@own.example")))
    client = rest.client()
    core = {"name": "core", "type": "metadefender-core", "servers": ["10.0.1.1"]}
    _json(client.post("/api/v1/config/apply", json={"server_profiles": [core]}))
    (fault,) = _json(client.post("/api/v1/queue/reroute", json={"all": True, "target": "core"}), 422)["errors"]
    assert fault["field"] == "target"
    question = {"client": "192.0.2.7", "from": "a@example.net", "to": ["postmaster"]}
    (answer,) = _json(client.post("/api/v1/rule-explanations", json=question))["items"]
    assert (answer["profile"], answer["servers"], answer["preference"]) == ("core", [], None)


def test_advice_on_a_profile_tells_field_and_sentence() -> None:
    client = Rest().client("auditor")
    assert _json(client.get("/api/v1/server-profiles/exchange/advice"))["items"] == []
    relay = {"name": "Relay", "type": "smtp", "servers": ["10.0.0.1:465"]}
    rest = Rest()
    _json(rest.client().post("/api/v1/config/apply", json={"server_profiles": [relay]}))
    (advice,) = _json(rest.client("auditor").get("/api/v1/server-profiles/relay/advice"))["items"]
    assert (advice["field"], advice["grave"]) == ("servers[0]", False)
    assert "smtps" in advice["sentence"]
    assert rest.client().get("/api/v1/server-profiles/nosuch/advice").status_code == 404


def test_the_state_of_a_profile_sums_its_workers_up_per_server() -> None:
    rest = Rest()
    now, first = rest.clock.now(), "smtp://10.0.0.1:25"
    pool = {"idle": 2, "fresh": 3, "reused": 40, "stale": 0, "opened": 3}
    rest.knows("w/0", "exchange", first, in_use=3, relayed=40, served_at=now - 5, pool=pool)
    rest.knows(
        "w/1",
        "exchange",
        first,
        endpoint=rest.circuit("connection refused", next_probe=now + 40),
        identity=rest.circuit("535 5.7.8 wrong password", phase="half-open"),
        relayed=2,
        served_at=now - 90,
        last_fault="connection refused",
        last_fault_at=now - 1,
    )
    rest.knows("w/1", "archive", "smtp://10.0.0.3:25")
    state = _json(rest.client().get("/api/v1/server-profiles/EXCHANGE/state"))
    assert state["profile"] == "exchange"
    one, other = state["servers"]
    assert [row["worker"] for row in one.pop("workers")] == ["w/0", "w/1"]
    assert one == {
        "server": first,
        "circuit": "open",
        "reason": "connection refused",
        "since": now,
        "next_probe": now + 40,
        "in_use": 3,
        "limit": 20,
        "idle": 2,
        "relayed": 42,
        "served_at": now - 5,
        "last_fault": "connection refused",
        "last_fault_at": now - 1,
        "last_errors": [],
        "reuse": {"transactions": 43, "rate": 0.9302, "tcp_saved": 40, "tls_saved": 0, "opened": 3, "tls": 0},
        "times": {key: {"samples": 0, "p50": None, "p95": None} for key in ("connect", "tls", "transaction")},
        "certificate": None,
        "drain": None,
        "also_used_by": [],
    }
    assert (state["rules"], state["own_mail"]) == (["inbound"], False)
    assert (other["server"], other["circuit"], other["workers"]) == ("smtp://10.0.0.2:2525", None, [])
    assert rest.client().get("/api/v1/server-profiles/nosuch/state").status_code == 404


def test_a_worker_that_is_gone_tells_nothing_of_servers() -> None:
    rest = Rest()
    rest.knows("w/0", "exchange", "smtp://10.0.0.1:25", in_use=3)
    rest.clock.epoch += 15
    state = _json(rest.client().get("/api/v1/server-profiles/exchange/state"))
    assert [server["workers"] for server in state["servers"]] == [[], []]


def test_rules_come_in_their_order() -> None:
    assert [rule["name"] for rule in _json(Rest().client().get("/api/v1/rules"))["items"]] == ["old", "inbound"]


def test_an_explanation_tells_each_condition_and_the_servers() -> None:
    question = {"client": "192.0.2.7", "from": "a@example.net", "to": ["b@ours.example", "c@else.example"]}
    inside, outside = _json(Rest().client().post("/api/v1/rule-explanations", json=question))["items"]
    assert (inside["rule"], inside["profile"], inside["accepted"]) == ("inbound", "exchange", True)
    assert inside["servers"] == ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"]
    first, second = inside["rules"]
    assert [c["met"] for c in first["conditions"]] == [False, True, True, False]
    assert second["matched"] is True
    assert (outside["rule"], outside["accepted"], outside["servers"]) == (None, False, [])
    assert "550 5.7.1" in outside["outcome"]


def test_an_explanation_knows_the_postmaster_of_own_mail() -> None:
    settings = NodeSettings(hostname="mx.test", own_mail=OwnMail("archive", "pm@ours.example", "admin@there.example"))
    question = {"client": "192.0.2.7", "from": "", "to": ["postmaster"]}
    (item,) = _json(Rest(settings=settings).client().post("/api/v1/rule-explanations", json=question))["items"]
    assert (item["address"], item["profile"]) == ("admin@there.example", "archive")
    assert item["servers"] == ["smtp://10.0.0.3:25"]


def test_a_faulty_question_names_every_fault() -> None:
    question = {"client": "nowhere", "from": "no address", "to": ["b@ours.example", "<x>"]}
    problem = _json(Rest().client().post("/api/v1/rule-explanations", json=question), 422)
    assert [error["field"] for error in problem["errors"]] == ["client", "from", "to[1]"]


# --- config ------------------------------------------------------------------------------------------


def test_export_applied_again_changes_nothing() -> None:
    client = Rest().client()
    exported = client.get("/api/v1/config")
    answer = _json(client.post("/api/v1/config/apply?prune=true", json=_json(exported)))
    assert answer == {"applied": True, "revision": 1, "changes": []}
    assert exported.headers["etag"] == '"1"'


def test_diff_tells_what_apply_then_does() -> None:
    rest = Rest()
    client = rest.client()
    document = {"server_profiles": [{"name": "exchange", "type": "smtp", "servers": ["10.0.0.1"]}]}
    told = _json(client.post("/api/v1/config/diff", json=document))
    dry = _json(client.post("/api/v1/config/apply?dry_run=true", json=document))
    assert (dry["applied"], dry["revision"], rest.inventory.revision()) == (False, 1, 1)
    done = _json(client.post("/api/v1/config/apply", json=document))
    assert told["changes"] == dry["changes"] == done["changes"] != []
    assert rest.inventory.revision() == done["revision"] == 2
    assert [row["by"] for row in rest.inventory.rows][:1] == ["key administrator (k1)"]


def test_prune_removes_what_is_not_named() -> None:
    rest = Rest()
    document = {"server_profiles": [{"name": "exchange", "type": "smtp", "servers": ["10.0.0.1"]}], "rules": []}
    _json(rest.client().post("/api/v1/config/apply?prune=true", json=document))
    assert [name_key(str(p.document["name"])) for p in rest.inventory.load().profiles] == ["exchange"]
    assert rest.inventory.load().rules == ()


def test_all_faults_of_a_document_are_told_at_once_and_nothing_is_stored() -> None:
    rest = Rest()
    document = {
        "server_profiles": [{"name": "a", "type": "smtp", "servers": ["smtp://10.0.0.1:99999"]}],
        "rules": [{"name": "r", "match": {"recipients": ["*"]}, "relay": {"profile": "nosuch"}}, "no table"],
    }
    problem = _json(rest.client().post("/api/v1/config/apply", json=document), 422)
    fields = {error["field"] for error in problem["errors"]}
    assert {"server_profiles[0].servers[0]", "rules[0].relay.profile", "rules[0].match.recipients"} <= fields
    assert all(set(error) == {"field", "value", "rule", "remedy"} for error in problem["errors"])
    assert rest.inventory.revision() == 1


def test_a_faulty_scan_is_refused_and_the_rule_never_relays_without_it() -> None:
    rest = Rest()
    rule = {"name": "r", "match": {"recipients": ["*@a.example"]}, "relay": {"profile": "exchange"}, "scan": {}}
    problem = _json(rest.client().post("/api/v1/config/apply", json={"rules": [rule]}), 422)
    assert [error["field"] for error in problem["errors"]] == ["rules[0].scan.profiles"]
    assert rest.inventory.revision() == 1


def test_if_match_guards_an_apply() -> None:
    client = Rest().client()
    assert _json(client.post("/api/v1/config/apply", json=INVENTORY, headers={"If-Match": '"7"'}), 412)
    for matching in ('"1"', "*", '"9", "1"'):
        assert client.post("/api/v1/config/apply", json=INVENTORY, headers={"If-Match": matching}).status_code == 200


def test_a_change_that_comes_first_is_merged_anew() -> None:
    rest = Rest()
    replace = rest.inventory.replace
    calls = 0

    def racing(*arguments: Any, **named: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            stored = rest.inventory.load()
            replace([p.document for p in stored.profiles], [], expected_revision=1, by="other", now=0)
        return replace(*arguments, **named)

    rest.inventory.replace = racing  # type: ignore[method-assign]
    document = {"server_profiles": [{"name": "new", "type": "smtp", "servers": ["10.0.0.9"]}]}
    answer = _json(rest.client().post("/api/v1/config/apply", json=document))
    assert answer["revision"] == 3
    assert rest.inventory.load().rules == (), "the other change stays"


# --- keys and audit ----------------------------------------------------------------------------------


def test_a_created_key_works_and_its_secret_is_shown_once() -> None:
    rest = Rest()
    client = rest.client()
    made = client.post("/api/v1/keys", json={"name": "desk", "role": "helpdesk"})
    key = _json(made, 201)
    assert made.headers["cache-control"] == "no-store"
    answer = rest.client(None).get("/api/v1/mails", headers={"Authorization": f"Bearer {key['key']}"})
    assert answer.status_code == 200
    listed = _json(client.get("/api/v1/keys"))["items"]
    assert listed[-1]["id"] == key["id"]
    assert all("key" not in item for item in listed)
    assert client.delete(f"/api/v1/keys/{key['id']}").status_code == 204
    assert client.delete(f"/api/v1/keys/{key['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name", "role"]),
        ({"name": "", "role": "helpdesk"}, ["name"]),
        ({"name": "a\x1b[31m", "role": "helpdesk"}, ["name"]),
        ({"name": "a" * 65, "role": "emperor"}, ["name", "role"]),
        ({"name": 7, "role": None}, ["name", "role"]),
    ],
)
def test_a_faulty_key_is_refused_with_every_field(body: object, fields: list[str]) -> None:
    problem = _json(Rest().client().post("/api/v1/keys", json=body), 422)
    assert [error["field"] for error in problem["errors"]] == fields


def test_audit_pages_by_cursor() -> None:
    rest = Rest()
    rest.inventory.rows = [{"id": n, "at": 1.0, "by": "x", "what": "y", "detail": {}} for n in (3, 2, 1)]
    client = rest.client("auditor")
    first = _json(client.get("/api/v1/audit?limit=2"))
    assert ([row["id"] for row in first["items"]], first["next"]) == ([3, 2], "2")
    assert [row["id"] for row in _json(client.get("/api/v1/audit?limit=2&next=2"))["items"]] == [1]
