"""`failed` in REST: why mail failed, and acts that warn where the sender was told."""

import json
from typing import Any

import pytest

from support.rest import Rest

API = "/api/v1/failed"


@pytest.fixture
def rest() -> Rest:
    made = Rest()
    made.keeps("01failed", b"Subject: x\r\n\r\n.text\r\n", failed=True)
    return made


def _json(answer: Any) -> Any:
    return json.loads(answer.content)


def test_the_list_has_failed_emails_whose_content_is_kept(rest: Rest) -> None:
    answer = _json(rest.client("helpdesk").get(API, params={"rule": "inbound", "until": "2026-01-01", "limit": 7}))
    assert [mail["id"] for mail in answer["items"]] == ["01failed"]
    (query,) = rest.history.asked_kept
    assert (query.rule, query.until, query.limit, query.cause, query.pinned) == ("inbound", 1767225600.0, 8, "", None)


def test_details_tell_reasons_and_whether_the_sender_was_told(rest: Rest) -> None:
    found = _json(rest.client("auditor").get(f"{API}/01failed"))
    assert found["reasons"] == [
        {"seq": 0, "address": "user0@ours.example", "why": "550 5.1.1 no such user", "sender_told": True}
    ]
    assert found["attempts"][0]["server"] == "smtp://10.0.0.1:25"
    rest.history.mails[-1]["trail"] = []
    assert not _json(rest.client().get(f"{API}/01failed"))["reasons"][0]["sender_told"]
    assert rest.client().get(f"{API}/01mail0001").status_code == 404


def test_the_content_is_a_download(rest: Rest) -> None:
    answer = rest.client("operator").get(f"{API}/01failed/content")
    assert answer.content == b"Subject: x\r\n\r\n.text\r\n"
    assert answer.headers["content-disposition"] == 'attachment; filename="01failed.eml"'
    assert rest.client("auditor").get(f"{API}/01failed/content").status_code == 403
    rest.history.contents["01mail0001", None] = b"x\r\n.\r\n"
    assert rest.client().get(f"{API}/01mail0001/content").status_code == 404


@pytest.mark.parametrize(("action", "more"), [("retry", {}), ("reroute", {"target": "archive"})])
def test_what_was_told_to_the_sender_is_not_sent_again_unless_asked_for(
    rest: Rest, action: str, more: dict[str, object]
) -> None:
    rest.keeps("01untold", b"x\r\n", failed=True, trail=[])
    client, before = rest.client("operator"), len(rest.inventory.rows)
    body = {"mails": ["01untold", "01failed", "gone"], "reason": "mended", **more}
    refused = client.post(f"{API}/{action}", json=body)
    assert refused.status_code == 409
    problem = _json(refused)
    assert problem["told"] == [{"id": "01failed", "sender": "sender0@example.net", "subject": "Offer 0"}]
    assert [error["field"] for error in problem["errors"]] == ["even_if_told"]
    assert (rest.commands.submitted, len(rest.inventory.rows)) == ([], before)
    done = client.post(f"{API}/{action}", json={**body, "even_if_told": True})
    assert _json(done)["mails"] == ["01untold", "01failed", "gone"]
    (command,) = rest.commands.submitted
    assert (command.kind, command.target) == (action, more.get("target", ""))
    detail: Any = rest.inventory.rows[0]["detail"]
    assert rest.inventory.rows[0]["what"] == f"failed {action} asked for"
    assert (detail["mails"], detail["even_if_told"], detail["reason"]) == (list(command.mails), True, "mended")
    assert client.post(f"{API}/{action}", json={**body, "mails": ["01untold"]}).status_code == 200


def test_a_recipient_that_goes_on_by_now_is_no_reason_to_refuse(rest: Rest) -> None:
    rest.history.mails[-1]["recipients"][0]["state"] = "relayed"  # type: ignore[index]
    assert rest.client().post(f"{API}/retry", json={"mails": ["01failed"]}).status_code == 200


def test_delete_is_an_act_on_kept_content(rest: Rest) -> None:
    assert rest.client().post(f"{API}/delete", json={"mails": ["01failed"], "reason": "old"}).status_code == 200
    (command,) = rest.commands.submitted
    assert (command.kind, command.mails) == ("kept-delete", ("01failed",))
    assert rest.inventory.rows[0]["what"] == "kept delete asked for"


def test_faults_are_told_at_once_and_nothing_is_done(rest: Rest) -> None:
    client = rest.client()
    answer = client.post(f"{API}/delete", json={"mails": ["a"], "target": "archive", "even_if_told": True})
    assert [error["field"] for error in _json(answer)["errors"]] == ["target", "even_if_told"]
    for target in ("", "nobody"):
        answer = client.post(f"{API}/reroute", json={"mails": ["a"], "target": target})
        assert [error["field"] for error in _json(answer)["errors"]] == ["target"]
    assert rest.commands.submitted == []


@pytest.mark.parametrize("role", ["auditor", "helpdesk"])
def test_others_change_nothing(rest: Rest, role: str) -> None:
    for action in ("retry", "reroute", "delete"):
        assert rest.client(role).post(f"{API}/{action}", json={"mails": ["01failed"]}).status_code == 403
