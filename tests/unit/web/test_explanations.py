"""`rule-explanations`: where the mail would go now, and the same against an inventory that is not saved."""

from typing import Any

import pytest

from posthouse.settings import NodeSettings, OwnMail
from posthouse.web.explanations import NEW_SERVER, NO_WORKER, NOT_TOLD, OTHER_CONNECTION
from support.rest import Rest

CANARY = "canary-in-a-coal-mine"
FIRST, SECOND = "smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"
QUESTION: dict[str, Any] = {"client": "192.0.2.7", "from": "a@example.net", "to": ["b@ours.example"]}
EXCHANGE = {"name": "exchange", "type": "smtp", "servers": ["10.0.0.1", "10.0.0.2:2525"]}


def explain(rest: Rest, status: int = 200, **more: Any) -> Any:
    answer = rest.client("auditor").post("/api/v1/rule-explanations", json={**QUESTION, **more})
    assert answer.status_code == status, answer.text
    assert CANARY not in answer.text
    return answer.json()["items"][0] if status == 200 else answer.json()


def with_one_down(rest: Rest) -> Rest:
    """The circuit of the first server is open, as its only worker sees it."""
    down = rest.circuit("connection refused", next_probe=1764072010.0)
    rest.knows("n/0/b", "exchange", FIRST, endpoint=down, not_now="circuit open: connection refused", limit=20)
    rest.knows("n/0/b", "exchange", SECOND, in_use=3)
    return rest


def test_a_server_whose_circuit_is_open_is_skipped_and_the_next_one_gets_the_mail() -> None:
    item = explain(with_one_down(Rest()))
    why = "circuit open: connection refused, next probe 12:00:10Z"
    assert item["now"] == f"{FIRST} is skipped: {why}; the mail goes to {SECOND}."
    assert (item["servers"], item["goes_to"], item["start"]) == ([FIRST, SECOND], [SECOND], "")
    assert item["states"] == [
        {
            "server": FIRST,
            "circuit": "open",
            "reason": "connection refused",
            "next_probe": 1764072010.0,
            "in_use": 0,
            "limit": 20,
            "may_be_addressed": "no",
            "why": why,
        },
        {
            "server": SECOND,
            "circuit": "closed",
            "reason": "",
            "next_probe": None,
            "in_use": 3,
            "limit": 10,
            "may_be_addressed": "yes",
            "why": "",
        },
    ]


def test_a_limit_that_is_reached_and_workers_that_differ_are_told() -> None:
    rest = Rest()
    limit = "the limit of 2 open transactions is reached there"
    rest.knows("w/0", "exchange", FIRST, not_now=limit, in_use=2, limit=2)
    rest.knows("w/0", "exchange", SECOND)
    rest.knows("w/1", "exchange", FIRST, in_use=1, limit=2)
    rest.knows("w/1", "exchange", SECOND)
    item = explain(rest)
    assert item["goes_to"] == [FIRST, SECOND]
    state = item["states"][0]
    assert (state["may_be_addressed"], state["in_use"], state["limit"]) == ("on some workers", 3, 4)
    assert state["why"] == f"{limit} (on 1 of 2 workers)"


def test_a_server_of_which_no_worker_has_told_is_not_known() -> None:
    item = explain(Rest())
    assert [(s["may_be_addressed"], s["why"], s["circuit"]) for s in item["states"]] == [
        ("not known", NOT_TOLD, None)
    ] * 2
    assert item["now"] == f"The mail goes to {FIRST}, whose state is not known."


def test_without_a_worker_nothing_is_known_and_that_is_said() -> None:
    rest = with_one_down(Rest())
    rest.clock.epoch += 15
    assert [(s["circuit"], s["why"]) for s in explain(rest)["states"]] == [(None, NO_WORKER)] * 2


@pytest.mark.parametrize(
    ("preference", "told"), [("round-robin", "assumed as the start"), ("random-start", "chance")]
)
def test_what_is_assumed_of_the_start_is_said(preference: str, told: str) -> None:
    item = explain(with_one_down(Rest()), inventory={"server_profiles": [{**EXCHANGE, "preference": preference}]})
    assert told in item["start"]
    assert item["goes_to"] == [SECOND]


def test_a_refused_recipient_goes_nowhere() -> None:
    item = explain(with_one_down(Rest()), to=["c@else.example"])
    assert (item["accepted"], item["servers"], item["states"], item["goes_to"], item["now"]) == (
        False,
        [],
        [],
        [],
        "",
    )


def test_own_mail_by_a_profile_that_does_not_relay_waits() -> None:
    rest = Rest(settings=NodeSettings("mx.test", own_mail=OwnMail("core", "p@ours.example", "admin@own.example")))
    item = explain(rest, to=["postmaster"])
    assert item["now"] == "There is no SMTP server profile core, so the mail waits."


# --- an inventory that is not saved -----------------------------------------------------------------------


def test_an_unsaved_inventory_is_laid_over_what_is_stored_and_not_saved() -> None:
    rest = with_one_down(Rest())
    vip = {"name": "vip", "match": {"recipients": ["b@ours.example"]}, "relay": {"profile": "archive"}}
    item = explain(rest, inventory={"rules": [vip]})
    assert (item["rule"], item["servers"]) == ("vip", ["smtp://10.0.0.3:25"])
    assert [told["rule"] for told in item["rules"]] == ["vip", "old", "inbound"]
    document = {"server_profiles": [{"name": "exchange", "type": "smtp", "servers": ["10.0.0.3"]}]}
    pruned = explain(rest, inventory=document, prune=True)
    assert (pruned["rule"], pruned["rules"]) == (None, [])
    assert rest.inventory.revision() == 1
    assert explain(rest)["rule"] == "inbound"


def test_what_is_known_of_a_server_holds_for_the_file_too_and_new_ones_are_not_known() -> None:
    rest = with_one_down(Rest())
    changed = {"name": "Exchange", "type": "smtp", "servers": ["10.0.0.1", "10.0.0.9"]}
    item = explain(rest, inventory={"server_profiles": [changed]})
    assert [(s["server"], s["may_be_addressed"], s["why"]) for s in item["states"][1:]] == [
        ("smtp://10.0.0.9:25", "not known", NEW_SERVER)
    ]
    assert item["states"][0]["circuit"] == "open"
    assert item["goes_to"] == ["smtp://10.0.0.9:25"]


def test_nothing_is_known_of_a_new_profile_or_of_other_settings_of_the_connection() -> None:
    rest = with_one_down(Rest())
    tls = explain(rest, inventory={"server_profiles": [{**EXCHANGE, "tls": "starttls-required"}]})
    assert [(s["circuit"], s["why"]) for s in tls["states"]] == [(None, OTHER_CONNECTION)] * 2
    new = {"name": "new", "type": "smtp", "servers": ["10.0.0.1"]}
    rule = {"name": "inbound", "match": {"recipients": ["*@ours.example"]}, "relay": {"profile": "new"}}
    item = explain(rest, inventory={"server_profiles": [new], "rules": [rule]})
    assert [(s["circuit"], s["why"]) for s in item["states"]] == [(None, NEW_SERVER)]


def test_faults_of_question_and_inventory_come_together_and_no_secret_is_echoed() -> None:
    login = {"username": "u", "password": CANARY, "allow_plaintext_auth": True}
    good = {**EXCHANGE, **login}
    assert explain(Rest(), inventory={"server_profiles": [good]})["profile"] == "exchange"
    bad = {"server_profiles": [{**good, "servers": ["ftp://x"], "api_key": CANARY}], "rules": [{"name": "r"}]}
    problem = explain(Rest(), 422, client="nowhere", inventory=bad)
    fields = [error["field"] for error in problem["errors"]]
    assert fields[0] == "client"
    assert "inventory.server_profiles[0].servers[0]" in fields
    assert "inventory.rules[0].relay" in fields
    for strange in ({"server_profiles": [{"password": [CANARY]}]}, {"server_profiles": {"password": CANARY}}):
        explain(Rest(), 422, inventory=strange)


def test_an_inventory_that_no_database_could_hold_is_a_fault_at_its_field() -> None:
    body = b'{"client": "::1", "from": "", "to": ["a@b.c"], "inventory": {"rules": [{"name": "\\ud800"}]}}'
    answer = (
        Rest().client().post("/api/v1/rule-explanations", content=body, headers={"Content-Type": "application/json"})
    )
    assert [error["field"] for error in answer.json()["errors"]] == ["inventory"]
