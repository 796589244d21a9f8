"""What a request without a valid key gets; the table of rights. (Operation x role: test_operations_and_roles.)"""

import pytest

from posthouse.web.auth import RIGHTS, Right, Role, may
from support.rest import Rest


@pytest.mark.parametrize(
    "field",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer wrong",
        "Bearer ph_" + "a" * 500,
        "Bearer a\tb",
        "Token ph_1",
    ],
)
def test_a_field_that_is_no_valid_key_gets_401(field: str) -> None:
    rest = Rest()
    answer = rest.client(None).get("/api/v1/mails", headers={"Authorization": field})
    assert answer.status_code == 401


def test_a_key_with_octets_beyond_ascii_gets_401() -> None:
    answer = Rest().client(None).get("/api/v1/mails", headers=[(b"authorization", b"Bearer \xff\xfe")])
    assert answer.status_code == 401


def test_a_revoked_key_gets_401_at_once() -> None:
    rest = Rest()
    client = rest.client("operator")
    assert client.get("/api/v1/queue").status_code == 200
    rest.accounts.revoke_key("k2", by="test", now=rest.clock.now())
    assert client.get("/api/v1/queue").status_code == 401


def test_the_role_is_looked_at_before_the_body_is_read() -> None:
    answer = (
        Rest()
        .client("helpdesk")
        .post("/api/v1/config/apply", content=b"{broken", headers={"Content-Type": "application/json"})
    )
    assert answer.status_code == 403


def test_a_role_that_is_not_known_may_nothing() -> None:
    rest = Rest()
    _, secret = rest.accounts.create_key(name="x", role="emperor", by="test", now=0)
    answer = rest.client(None).get("/api/v1/mails", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 403


def test_an_auditor_reads_all_and_changes_nothing() -> None:
    for right in Right:
        assert may(Role.AUDITOR, right) == right.value.startswith(("read", "list")), right
    assert RIGHTS[Role.ADMINISTRATOR] == frozenset(Right)
