"""`quarantine` in REST: lists, details with links, downloads, the safe view, and acts with their audit rows."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import httpx2
import pytest

from posthouse.core.kept_act import KeptAct, options_of
from posthouse.core.scan import Verdict
from posthouse.ports import ContentUnreadable, SecretKeyUnusable
from posthouse.scan_ports import ExaminationFailed, ExaminerUnavailable
from posthouse.settings import OwnMail
from posthouse.web import quarantine
from support.rest import Rest

API = "/api/v1/quarantine"
TEXT = b"Dear reader,\r\n.a dot\r\n"
HTML = (
    b'<p onclick="x()">Pay <a href="https://pay.example/?a=1">here</a></p><script>alert(1)</script>'
    b'<img src="https://track.example/x.gif"><form action="https://f.example"><input name="p"></form>'
)
EXE = b"MZ\x90\x00not a program"
MAIL = b"\r\n".join(
    [
        b"From: =?utf-8?q?J=C3=B6rg?= <a@example.net>",
        b"Subject: Invoice",
        b"MIME-Version: 1.0",
        b'Content-Type: multipart/mixed; boundary="b"',
        b"",
        b"--b",
        b"Content-Type: text/plain; charset=utf-8",
        b"",
        TEXT + b"--b",
        b"Content-Type: text/html; charset=utf-8",
        b"",
        HTML,
        b"--b",
        b'Content-Type: application/octet-stream; name="a\x22;x=.exe"',
        b'Content-Disposition: attachment; filename="in\xc3\xbcvoice.exe"',
        b"",
        EXE,
        b"--b--",
        b"",
    ]
)


@pytest.fixture
def rest() -> Rest:
    made = Rest()
    made.settings = replace(made.settings, own_mail=OwnMail("exchange", "postmaster@ours.example", ""))
    made.keeps("01kept", MAIL)
    return made


def _json(answer: Any) -> Any:
    return json.loads(answer.content)


def _fields(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["field"] for error in _json(answer)["errors"]]


# --- Lists and details ------------------------------------------------------------------------------------


def test_the_list_asks_for_what_the_filters_say(rest: Rest) -> None:
    answer = rest.client("helpdesk").get(
        API,
        params={
            "from": "a",
            "to": "b",
            "subject": "c",
            "rule": "d",
            "cause": "blocked",
            "pinned": "true",
            "since": 5,
        },
    )
    assert _json(answer) == {"items": [], "next": None}
    (query,) = rest.history.asked_kept
    assert (query.sender, query.recipient, query.subject, query.rule) == ("a", "b", "c", "d")
    assert (query.cause, query.pinned, query.since, query.until, query.limit) == ("blocked", True, 5.0, None, 51)


def test_the_list_is_paged(rest: Rest) -> None:
    rest.keeps("01kept2", MAIL)
    client = rest.client()
    first = _json(client.get(API, params={"limit": 1}))
    assert ([mail["id"] for mail in first["items"]], first["next"]) == (["01kept2"], "01kept2")
    assert first["items"][0]["quarantine"]["cause"] == "blocked"
    second = _json(client.get(API, params={"limit": 1, "next": first["next"]}))
    assert ([mail["id"] for mail in second["items"]], second["next"]) == (["01kept"], None)


def test_each_verdict_that_puts_mail_into_quarantine_is_a_cause() -> None:
    assert set(get_args(quarantine.Cause)) == {"", *Verdict} - {"clean"}


def test_details_link_to_the_server_that_scanned_unless_there_is_a_public_url(rest: Rest) -> None:
    client = rest.client("auditor")
    (scan,) = _json(client.get(f"{API}/01kept"))["scans"]
    assert scan["details_url"] == "http://10.0.1.1:8008/#/user/dashboard/processingHistory/dataId/d1"
    assert scan["batch_url"] == "http://10.0.1.1:8008/file/batch/b1"
    assert scan["details_warning"] is None
    core = {
        "name": "core",
        "type": "metadefender-core",
        "servers": ["10.0.1.1"],
        "public_url": "https://core.example",
        "details_pattern": "{base}/see/{data_id}",
    }
    made = rest.client().post("/api/v1/server-profiles?force=true", json=core)
    assert made.status_code == 201, made.text
    for path in (f"{API}/01kept", "/api/v1/mails/01kept"):
        (scan,) = _json(client.get(path))["scans"]
        assert scan["details_url"] == "https://core.example/see/d1"


def test_a_link_that_only_this_machine_can_follow_has_a_warning(rest: Rest) -> None:
    scans: Any = rest.history.mails[-1]["scans"]
    scans[0]["server"] = "http://127.0.0.1:8008"
    (told,) = _json(rest.client().get(f"{API}/01kept"))["scans"]
    assert "broken on any other machine" in told["details_warning"]


@pytest.mark.parametrize("path", ["", "/content", "/view", "/parts/1"])
def test_a_mail_that_is_not_in_quarantine_is_not_found_there(rest: Rest, path: str) -> None:
    rest.history.contents["01mail0001", None] = b"x\r\n.\r\n"
    for mail_id in ("01mail0001", "none", "a%0d%0ab"):
        assert rest.client().get(f"{API}/{mail_id}{path}").status_code == 404


# --- Content ----------------------------------------------------------------------------------------------


def test_the_original_is_a_download_without_dot_stuffing(rest: Rest) -> None:
    answer = rest.client("operator").get(f"{API}/01kept/content")
    assert answer.content == MAIL
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="01kept.eml"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_content_that_cannot_be_had_is_told(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Iterator[bytes]:
        yield from ()
        raise ContentUnreadable("the key is gone")

    monkeypatch.setattr(rest.history, "kept_content", lambda _: pieces())
    for path in ("content", "view", "parts/1"):
        answer = rest.client().get(f"{API}/01kept/{path}")
        assert answer.status_code == 503
        assert "the key is gone" in _json(answer)["detail"]
    monkeypatch.setattr(rest.history, "kept_content", lambda _: None)
    assert rest.client().get(f"{API}/01kept/content").status_code == 404


@pytest.mark.parametrize("path", ["content", "view", "parts/3"])
@pytest.mark.parametrize("role", ["auditor", "helpdesk"])
def test_bodies_are_for_administrators_and_operators(rest: Rest, role: str, path: str) -> None:
    assert rest.client(role).get(f"{API}/01kept").status_code == 200
    assert rest.client(role).get(f"{API}/01kept/{path}").status_code == 403
    assert rest.reader.begun == 0


def test_the_view_has_texts_parts_and_what_was_found_in_them(rest: Rest) -> None:
    scans: Any = rest.history.mails[-1]["scans"]
    scans[0]["part"] = "3"
    view = _json(rest.client("operator").get(f"{API}/01kept/view"))
    assert {field["name"]: field["value"] for field in view["header"]} == {
        "From": "Jörg <a@example.net>",
        "Subject": "Invoice",
    }
    plain, html = view["bodies"]
    assert (plain["part"], plain["type"], plain["text"], plain["html"]) == ("1", "text/plain", TEXT.decode()[:-2], "")
    assert (html["part"], html["type"], html["text"], html["cut"]) == ("2", "text/html", "", False)
    assert html["html"] == "<p>Pay <a>here</a></p>"
    assert html["links"] == ["https://pay.example/?a=1"]
    program = next(part for part in view["parts"] if part["path"] == "3")
    assert program["attachment"]
    assert "inüvoice.exe" in program["names"]
    assert program["size"] == len(EXE)
    assert [(v["verdict"], v["threat"]) for v in program["verdicts"]] == [("blocked", "Eicar-Test-Signature")]
    assert rest.reader.closed == 1


def test_a_part_is_a_download_whose_name_cannot_break_the_header(rest: Rest) -> None:
    answer = rest.client("operator").get(f"{API}/01kept/parts/3")
    assert answer.content == EXE
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert rest.reader.closed == 1
    assert rest.client().get(f"{API}/01kept/parts/9").status_code == 404
    assert rest.reader.closed == 2


def test_a_mail_over_which_the_examiner_fails_can_still_be_downloaded(rest: Rest) -> None:
    rest.reader.fails = ExaminationFailed("it took more than 30 s")
    answer = rest.client().get(f"{API}/01kept/view")
    assert (answer.status_code, _json(answer)["errors"]) == (422, [])
    assert "it took more than 30 s. Its content can be downloaded." in _json(answer)["detail"]
    rest.reader.fails = ExaminerUnavailable("none can be started")
    assert rest.client().get(f"{API}/01kept/view").status_code == 503


def test_two_mails_are_read_at_a_time_and_others_are_told_to_come_later(rest: Rest) -> None:
    async def main() -> None:
        rest.reader.waits_for = asyncio.Event()
        transport = httpx2.ASGITransport(app=rest.app())
        headers = {"Authorization": f"Bearer {rest.secrets['operator']}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            first = [asyncio.create_task(client.get(f"{API}/01kept/{path}")) for path in ("view", "parts/1")]
            async with asyncio.timeout(10):
                await rest.reader.under_way.acquire()
                await rest.reader.under_way.acquire()
                refused = await client.get(f"{API}/01kept/view")
                assert refused.status_code == 503
                assert refused.headers["retry-after"] == "5"
                rest.reader.waits_for.set()
                assert [(await each).status_code for each in first] == [200, 200]
                assert (await client.get(f"{API}/01kept/view")).status_code == 200

    asyncio.run(main())


# --- Acts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "act", "body"),
    [
        ("release", KeptAct.RELEASE, {"cleaned": True, "to": ["user0@ours.example"], "reason": "awaited"}),
        ("forward", KeptAct.FORWARD, {"to": ["abuse@ours.example", '"a b"@ours.example']}),
        ("rescan", KeptAct.RESCAN, {"release_if_clean": True, "passwords": ["open sesame"]}),
        ("pin", KeptAct.PIN, {}),
        ("unpin", KeptAct.UNPIN, {"reason": "done"}),
        ("delete", KeptAct.DELETE, {}),
    ],
)
def test_an_act_is_a_command_and_an_audit_row(rest: Rest, action: str, act: KeptAct, body: dict[str, Any]) -> None:
    answer = rest.client("operator").post(f"{API}/{action}", json={"mails": ["01kept", "x", "01kept"], **body})
    assert answer.status_code == 200, answer.text
    assert _json(answer) == {
        "command": 1,
        "recipients": 2,
        "mails": ["01kept", "x"],
        "complete": True,
        "workers": 1,
        "reported": 1,
    }
    (command,) = rest.commands.submitted
    assert (command.kind, command.mails, command.by) == (act.value, ("01kept", "x"), "key operator (k2)")
    options = options_of(command.target)
    assert options.cleaned == body.get("cleaned", False)
    assert options.to == tuple(body.get("to", ()))
    assert options.passwords == tuple(body.get("passwords", ()))
    assert options.release_if_clean == body.get("release_if_clean", False)
    assert options.reason == body.get("reason", "")
    row = rest.inventory.rows[0]
    assert (row["by"], row["what"]) == ("key operator (k2)", f"{act.value.replace('-', ' ')} asked for")
    detail: Any = row["detail"]
    assert detail["mails"] == ["01kept", "x"]
    assert detail["reason"] == body.get("reason", "")
    assert "sesame" not in json.dumps(rest.inventory.rows)


def test_helpdesk_may_release_and_nothing_else(rest: Rest) -> None:
    client = rest.client("helpdesk")
    assert client.post(f"{API}/release", json={"mails": ["01kept"]}).status_code == 200
    for action in ("forward", "rescan", "pin", "unpin", "delete"):
        assert client.post(f"{API}/{action}", json={"mails": ["01kept"]}).status_code == 403
    assert len(rest.commands.submitted) == 1


def test_all_faults_of_an_act_are_told_at_once_and_nothing_is_done(rest: Rest) -> None:
    rest.settings = replace(rest.settings, own_mail=None)
    before = len(rest.inventory.rows)
    body = {
        "mails": ["01kept"],
        "to": ["a@b.example", "no address", "a@b@c", "a@b.example>\r\nRCPT TO:<x@y.example"],
        "cleaned": True,
        "passwords": ["canary"],
        "release_if_clean": True,
    }
    answer = rest.client().post(f"{API}/forward", json=body)
    assert _fields(answer) == ["cleaned", "passwords", "release_if_clean", "to[1]", "to[2]", "to[3]", "own_mail"]
    assert "canary" not in answer.text
    assert _fields(rest.client().post(f"{API}/forward", json={"mails": ["01kept"]})) == ["to", "own_mail"]
    assert _fields(rest.client().post(f"{API}/pin", json=body))[0] == "cleaned"
    assert rest.commands.submitted == []
    assert len(rest.inventory.rows) == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "mails"),
        ({"mails": []}, "mails"),
        ({"mails": ["a b"]}, "mails[0]"),
        ({"mails": [f"m{n}" for n in range(1001)]}, "mails"),
        ({"mails": ["a"], "reason": "a\nb"}, "reason"),
        ({"mails": ["a"], "passwords": [""]}, "passwords[0]"),
        ({"mails": ["a"], "passwords": [["canary"]]}, "passwords[0]"),
        ({"mails": ["a"], "password": "canary"}, "password"),
        ({"mails": ["a"], "all": True}, "all"),
    ],
)
def test_a_body_that_is_none_is_refused(rest: Rest, body: dict[str, Any], field: str) -> None:
    answer = rest.client().post(f"{API}/rescan", json=body)
    assert _fields(answer) == [field]
    assert "canary" not in answer.text


def test_passwords_that_cannot_be_sealed_are_given_to_nobody(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object) -> int:
        raise SecretKeyUnusable("there is no key", "Bring it back.")

    monkeypatch.setattr(rest.commands, "submit", submit)
    answer = rest.client().post(f"{API}/rescan", json={"mails": ["a"], "passwords": ["canary"]})
    assert answer.status_code == 409
    assert "there is no key. Bring it back." in _json(answer)["detail"]


def test_an_act_whose_workers_are_slow_is_not_complete(rest: Rest) -> None:
    rest.commands.obey = None
    answer = _json(rest.client().post(f"{API}/rescan", json={"mails": ["01kept"]}))
    assert (answer["complete"], answer["reported"], answer["workers"]) == (False, 0, 1)
