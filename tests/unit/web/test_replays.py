"""`rule-replays`: past mails asked of the policy in force and of an inventory that is not saved."""

from typing import Any

import pytest

from posthouse.settings import NodeSettings, OwnMail
from posthouse.web import replays
from support.rest import INVENTORY, Rest, mail

CANARY = "canary-in-a-coal-mine"
PRUNED: dict[str, Any] = {"server_profiles": [{"name": "x", "type": "smtp", "servers": ["10.0.0.7"]}]}


def replay(rest: Rest, inventory: dict[str, Any], status: int = 200, **more: Any) -> Any:
    answer = rest.client("auditor").post("/api/v1/rule-replays", json={"inventory": inventory, **more})
    assert answer.status_code == status, answer.text
    assert CANARY not in answer.text
    return answer.json()


def test_the_inventory_in_force_differs_in_nothing() -> None:
    rest = Rest()
    for same in ({}, INVENTORY, rest.client().get("/api/v1/config").json()):
        told = replay(rest, same, prune=bool(same))
        assert (told["mails"], told["recipients"], told["mails_differ"], told["count"]) == (3, 3, 0, 0)
        assert (told["items"], told["by"]) == ([], {})
        assert told["sentence"] == "Of all 3 mails in the history this file would treat 0 differently."
        assert told["decided_otherwise"] == {"count": 0, "sentence": ""}
        assert "refused are not in the history" in told["not_seen"]


def test_each_difference_is_told_newest_mail_first_and_nothing_is_saved() -> None:
    rest = Rest()
    vip = {"name": "vip", "match": {"recipients": ["user1@ours.example"]}, "relay": {"profile": "archive"}}
    told = replay(rest, {"rules": [vip]})
    assert told["by"] == {"rule": 1, "profile": 1, "servers": 1, "preference": 1}
    assert told["items"] == [
        {
            "mail": "01mail0001",
            "received_at": rest.clock.now() - 99,
            "client": "192.0.2.7",
            "from": "sender1@example.net",
            "recipient": "user1@ours.example",
            "before": {
                "rule": "inbound",
                "profile": "exchange",
                "refused": False,
                "servers": ["smtp://10.0.0.1:25", "smtp://10.0.0.2:2525"],
            },
            "after": {"rule": "vip", "profile": "archive", "refused": False, "servers": ["smtp://10.0.0.3:25"]},
            "differs": ["rule", "profile", "servers", "preference"],
            "sentence": "rule vip decides instead of rule inbound; "
            "relayed by archive instead of exchange, with other servers and preference",
        }
    ]
    changed = {name: told["items"][0][name] for name in ("before", "after", "differs", "sentence")}
    assert told["changes"] == [{"recipients": 1, **changed}]
    told = replay(rest, PRUNED, prune=True)
    assert [(item["mail"], item["after"]["refused"]) for item in told["items"]] == [
        ("01mail0002", True),
        ("01mail0001", True),
        ("01mail0000", True),
    ]
    assert rest.inventory.revision() == 1
    assert rest.inventory.rows[0]["id"] == 1


def test_only_the_last_mails_are_asked_about_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "PAGE", 2)
    rest = Rest()
    rest.history.mails = [mail(number, rest.clock.now()) for number in range(7)]
    told = replay(rest, PRUNED, prune=True, mails=5)
    assert [item["mail"][-1] for item in told["items"]] == ["6", "5", "4", "3", "2"]
    assert told["since"] == rest.clock.now() - 98
    assert told["sentence"] == "Of the last 5 mails this file would treat 5 differently."
    assert replay(rest, PRUNED, prune=True)["mails"] == 7
    rest.history.mails = []
    assert (replay(rest, {})["sentence"], replay(rest, {})["since"]) == ("The history has no mails to replay.", None)


def test_the_list_is_bounded_and_the_count_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "DIFFERENCES_TOLD", 2)
    told = replay(Rest(), PRUNED, prune=True)
    assert (told["count"], len(told["items"])) == (3, 2)


def test_mail_of_our_own_is_left_out_and_own_mail_of_postmasters_is_not() -> None:
    rest = Rest(settings=NodeSettings("mx.test", own_mail=OwnMail("archive", "p@ours.example", "admin@own.example")))
    generated, postmaster = mail(7, rest.clock.now()), mail(8, rest.clock.now())
    generated["own"] = True
    postmaster["recipients"] = [{"address": "admin@own.example", "rule": "", "profile": "archive"}]
    rest.history.mails = [generated, postmaster]
    moved = {"server_profiles": [{"name": "archive", "type": "smtp", "servers": ["10.0.0.4"]}]}
    (item,) = replay(rest, moved)["items"]
    assert (item["recipient"], item["before"]["rule"], item["after"]["profile"]) == (
        "admin@own.example",
        None,
        "archive",
    )


def test_decisions_of_then_that_the_policy_in_force_would_not_take_are_counted_apart() -> None:
    rest = Rest()
    recipients: Any = rest.history.mails[0]["recipients"]
    recipients[0]["rule"] = "gone"
    told = replay(rest, {})
    assert (told["count"], told["decided_otherwise"]["count"]) == (0, 1)
    assert "rules were edited meanwhile" in told["decided_otherwise"]["sentence"]


def test_faults_of_the_inventory_are_told_all_at_once_and_no_secret() -> None:
    bad = {"server_profiles": [{"name": "x", "type": "smtp", "servers": [], "password": CANARY}], "rules": [{}]}
    problem = replay(Rest(), bad, 422)
    fields = {error["field"] for error in problem["errors"]}
    assert {"inventory.server_profiles[0].servers", "inventory.rules[0].name"} <= fields


@pytest.mark.parametrize("mails", [0, -1, 10_001, "5", 1.5, True])
def test_how_many_mails_is_bounded(mails: object) -> None:
    assert [error["field"] for error in replay(Rest(), {}, 422, mails=mails)["errors"]] == ["mails"]


def test_helpdesk_may_read_mails_but_not_replay_them() -> None:
    answer = Rest().client("helpdesk").post("/api/v1/rule-replays", json={"inventory": {}})
    assert answer.status_code == 403
    assert "may not read what a file would do" in answer.json()["detail"]
