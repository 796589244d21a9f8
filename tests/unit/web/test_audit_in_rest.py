"""`audit` in REST: filters, pages, and how much of a large change a list shows."""

from typing import Any

import pytest

from support.rest import Rest


def _json(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def _rest() -> Rest:
    rest = Rest()
    rest.inventory.rows = [
        {
            "id": number,
            "at": 1_764_000_000.0 + number,
            "by": by,
            "what": what,
            "detail": {"changes": [{"change": "changed", "field": field, "old": 1, "new": 2}]},
        }
        for number, by, what, field in (
            (3, "key ops (k2)", "rule changed", "rules[Räte].enabled"),
            (2, "cli (root)", "user added", "users[ann]"),
            (1, "key ops (k2)", "config applied", "rules[inbound].enabled"),
        )
    ]
    return rest


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [3, 2, 1]),
        ("by=OPS", [3, 1]),
        ("what=rule", [3]),
        ("about=inbound", [1]),
        ("about=rules[r%C3%A4te]", [3]),
        ("by=ops&what=applied&about=enabled", [1]),
        ("since=1764000002", [3, 2]),
        ("until=1764000002", [1]),
        ("since=2025-11-24T16:00:02Z&until=2025-11-24T16:00:03Z", [2]),
        ("by=nobody", []),
    ],
)
def test_rows_are_found_by_all_filters_given(query: str, ids: list[int]) -> None:
    page = _json(_rest().client("auditor").get(f"/api/v1/audit?{query}"))
    assert [row["id"] for row in page["items"]] == ids


def test_filters_hold_on_every_page() -> None:
    client = _rest().client("auditor")
    first = _json(client.get("/api/v1/audit?by=ops&limit=1"))
    assert ([row["id"] for row in first["items"]], first["next"]) == ([3], "3")
    second = _json(client.get("/api/v1/audit?by=ops&limit=1&next=3"))
    assert ([row["id"] for row in second["items"]], second["next"]) == ([1], None)


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "next=x", "next=-1", "since=whenever", "by=a%00b"])
def test_a_faulty_question_is_refused(query: str) -> None:
    assert _json(_rest().client().get(f"/api/v1/audit?{query}"), 422)["errors"]


def test_a_list_shows_fifty_changes_of_a_row_and_the_row_has_all() -> None:
    rest = Rest()
    rule = {"match": {"recipients": ["*@a.example"]}, "relay": {"profile": "exchange"}}
    document = {"rules": [{"name": f"r{number}", **rule} for number in range(60)]}
    _json(rest.client().post("/api/v1/config/apply", json=document))
    client = rest.client("auditor")
    (row,) = _json(client.get("/api/v1/audit?limit=1"))["items"]
    assert (len(row["detail"]["changes"]), row["detail"]["more"]) == (50, 10)
    whole = _json(client.get(f"/api/v1/audit/{row['id']}"))
    assert whole["detail"]["changes"][:50] == row["detail"]["changes"]
    assert len(whole["detail"]["changes"]) == 60
    assert client.get("/api/v1/audit/999").status_code == 404
