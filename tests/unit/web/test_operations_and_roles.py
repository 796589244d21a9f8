"""Every operation of OpenAPI x every role: who may call it, and that nobody may without a key."""

from dataclasses import dataclass, replace

import pytest

from posthouse.core.certificate import facts_of
from posthouse.core.inventory import apply_document
from posthouse.digital_id.authorities import Authorities
from posthouse.digital_id.store import DigitalIds
from posthouse.settings import OwnMail
from support.certificates import NOW, issuer, pem
from support.rest import INVENTORY, ROLES, Rest

ALL = frozenset(ROLES)
READERS = frozenset({"administrator", "operator", "auditor"})
OPERATORS = frozenset({"administrator", "operator"})
AUDITORS = frozenset({"administrator", "auditor"})
ADMINISTRATOR = frozenset({"administrator"})
RELEASERS = frozenset({"administrator", "operator", "helpdesk"})

QUESTION = {"client": "192.0.2.7", "from": "", "to": ["a@ours.example"]}
UNSAVED = {"name": "new", "type": "smtp", "servers": ["10.0.0.9"]}
RULE = {"name": "new", "match": {"recipients": ["*@new.example"]}, "relay": {"profile": "exchange"}}
MAILS = {"mails": ["01mail0001"]}
KEPT = {"mails": ["01kept"]}
FAILED = {"mails": ["01failed"], "even_if_told": True}
PASSWORD = "four words nobody joins"
REROUTE = {"all": True, "target": "archive"}
ORDER = {"servers": ["10.0.0.2:2525", "10.0.0.1"]}
CA, OTHER_CA = issuer("CA"), issuer("Other CA")


@dataclass(frozen=True)
class Row:
    """An operation, who may call it, and a call that then is answered with 2xx."""

    method: str
    path: str
    """As OpenAPI has it, without /api/v1/."""
    allowed: frozenset[str]
    body: object = None
    at: str = ""
    """The path of the call, where it has parameters."""

    @property
    def url(self) -> str:
        """Of the call."""
        return f"/api/v1/{self.at or self.path}".replace("OTHER_CA", facts_of(OTHER_CA.certificate).sha256)

    def __str__(self) -> str:
        return f"{self.method} {self.at or self.path}"


TABLE = (
    Row("GET", "mails", ALL),
    Row("GET", "mails/{mail_id}", ALL, at="mails/01mail0001"),
    Row("GET", "failed", ALL),
    Row("GET", "failed/{mail_id}", ALL, at="failed/01failed"),
    Row("GET", "failed/{mail_id}/content", OPERATORS, at="failed/01failed/content"),
    Row("POST", "failed/retry", OPERATORS, FAILED),
    Row("POST", "failed/reroute", OPERATORS, {**FAILED, "target": "archive"}),
    Row("POST", "failed/delete", OPERATORS, {"mails": ["01failed"]}),
    Row("GET", "quarantine", ALL),
    Row("GET", "quarantine/{mail_id}", ALL, at="quarantine/01kept"),
    Row("GET", "quarantine/{mail_id}/content", OPERATORS, at="quarantine/01kept/content"),
    Row("GET", "quarantine/{mail_id}/view", OPERATORS, at="quarantine/01kept/view"),
    Row("GET", "quarantine/{mail_id}/parts/{path}", OPERATORS, at="quarantine/01kept/parts/1"),
    Row("POST", "quarantine/release", RELEASERS, KEPT),
    Row("POST", "quarantine/forward", OPERATORS, {**KEPT, "to": ["a@ours.example"]}),
    Row("POST", "quarantine/rescan", OPERATORS, KEPT),
    Row("POST", "quarantine/pin", OPERATORS, KEPT),
    Row("POST", "quarantine/unpin", OPERATORS, KEPT),
    Row("POST", "quarantine/delete", OPERATORS, KEPT),
    Row("GET", "queue", READERS),
    Row("POST", "queue/{action}", OPERATORS, MAILS, at="queue/retry"),
    Row("POST", "queue/{action}", OPERATORS, MAILS, at="queue/hold"),
    Row("POST", "queue/{action}", OPERATORS, MAILS, at="queue/release"),
    Row("POST", "queue/{action}", OPERATORS, MAILS, at="queue/delete"),
    Row("POST", "queue/{action}", OPERATORS, REROUTE, at="queue/reroute"),
    Row("GET", "server-profiles", READERS),
    Row("GET", "server-profiles/{name}", READERS, at="server-profiles/exchange"),
    Row("GET", "server-profiles/{name}/state", READERS, at="server-profiles/exchange/state"),
    Row("GET", "server-profiles/{name}/advice", READERS, at="server-profiles/exchange/advice"),
    Row("POST", "server-profiles/{name}/test", OPERATORS, at="server-profiles/exchange/test"),
    Row("POST", "server-profile-tests", OPERATORS, UNSAVED),
    Row("POST", "server-profiles", ADMINISTRATOR, UNSAVED),
    Row("PUT", "server-profiles/{name}", ADMINISTRATOR, UNSAVED, at="server-profiles/exchange"),
    Row("DELETE", "server-profiles/{name}", ADMINISTRATOR, at="server-profiles/spare"),
    Row("POST", "server-profiles/{name}/order", ADMINISTRATOR, ORDER, at="server-profiles/exchange/order"),
    Row("POST", "server-profiles/{name}/drain", OPERATORS, {"server": "1"}, at="server-profiles/exchange/drain"),
    Row("DELETE", "server-profiles/{name}/drain", OPERATORS, at="server-profiles/exchange/drain?server=1"),
    Row("GET", "rules", READERS),
    Row("POST", "rules", ADMINISTRATOR, RULE),
    Row("GET", "rules/{name}", READERS, at="rules/inbound"),
    Row("PUT", "rules/{name}", ADMINISTRATOR, RULE, at="rules/inbound"),
    Row("DELETE", "rules/{name}", ADMINISTRATOR, at="rules/inbound"),
    Row("POST", "rules/{name}/move", ADMINISTRATOR, {"position": 1}, at="rules/inbound/move"),
    Row("POST", "rule-explanations", READERS, QUESTION),
    Row("POST", "rule-replays", READERS, {"inventory": {}}),
    Row("GET", "config", READERS),
    Row("POST", "config/diff", READERS, INVENTORY),
    Row("POST", "config/apply", ADMINISTRATOR, INVENTORY),
    Row("GET", "keys", AUDITORS),
    Row("POST", "keys", ADMINISTRATOR, {"name": "x", "role": "helpdesk"}),
    Row("GET", "keys/{key_id}", AUDITORS, at="keys/k4"),
    Row("DELETE", "keys/{key_id}", ADMINISTRATOR, at="keys/k4"),
    Row("GET", "users", AUDITORS),
    Row("POST", "users", ADMINISTRATOR, {"name": "x", "role": "helpdesk", "password": PASSWORD}),
    Row("GET", "users/{name}", AUDITORS, at="users/ann"),
    Row("PUT", "users/{name}", ADMINISTRATOR, {"name": "ann", "role": "auditor"}, at="users/ann"),
    Row("DELETE", "users/{name}", ADMINISTRATOR, at="users/ann"),
    Row("PUT", "users/{name}/password", ADMINISTRATOR, {"password": PASSWORD}, at="users/ann/password"),
    Row("GET", "audit", AUDITORS),
    Row("GET", "audit/{number}", AUDITORS, at="audit/1"),
    Row("GET", "digital-id", READERS),
    Row("POST", "digital-id/generate", ADMINISTRATOR, {}),
    Row("POST", "digital-id/renew", ADMINISTRATOR, {}),
    Row("POST", "digital-id/request", ADMINISTRATOR, {}),
    Row("POST", "digital-id/import", ADMINISTRATOR, {"certificate": CA.leaf().pem().decode()}),
    Row("GET", "certificate-authorities", READERS),
    Row("POST", "certificate-authorities", ADMINISTRATOR, {"certificate": pem(CA.certificate).decode()}),
    Row("DELETE", "certificate-authorities/{id}", ADMINISTRATOR, at="certificate-authorities/OTHER_CA"),
)
WITHOUT_LOGIN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}


def called() -> Rest:
    """With a digital ID, an own CA, own mail, a server profile that nothing names, and mail that is kept."""
    rest = Rest()
    rest.settings = replace(rest.settings, own_mail=OwnMail("archive", "postmaster@ours.example", ""))
    rest.keeps("01kept", b"Subject: x\r\n\r\ntext\r\n")
    rest.keeps("01failed", b"Subject: x\r\n\r\ntext\r\n", failed=True)
    DigitalIds(rest.settings.data_dir).ensure("mx.test", NOW)
    Authorities(rest.settings.data_dir).add(pem(OTHER_CA.certificate), NOW)
    stored = rest.inventory.load()
    spare = {"server_profiles": [{"name": "spare", "type": "smtp", "servers": ["10.0.0.4"]}]}
    profiles, rules, _ = apply_document([p.document for p in stored.profiles], stored.rules, spare, prune=False)
    rest.inventory.replace(profiles, rules, expected_revision=stored.revision, by="test", now=NOW)
    return rest


def _operations() -> set[tuple[str, str]]:
    paths = Rest().app().openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_the_table_has_every_operation_and_no_other() -> None:
    assert {(row.method, f"/api/v1/{row.path}") for row in TABLE} == _operations() - WITHOUT_LOGIN


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("row", TABLE, ids=str)
def test_a_role_may_do_what_the_table_says_and_nothing_else(row: Row, role: str) -> None:
    headers = {"If-Match": "*"}
    answer = called().client(role).request(row.method, row.url, json=row.body, headers=headers)
    if role in row.allowed:
        assert answer.status_code in (200, 201, 204), answer.text
        assert answer.headers["cache-control"] == "no-store"
    else:
        assert answer.status_code == 403
        assert role in answer.json()["detail"]


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_nothing_is_answered_without_a_key(row: Row) -> None:
    rest = Rest()
    before = (rest.inventory.revision(), len(rest.inventory.rows), rest.accounts.keys())
    for body in (row.body, None):
        answer = rest.client(None).request(row.method, row.url, json=body)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    assert (rest.inventory.revision(), len(rest.inventory.rows), rest.accounts.keys()) == before
    assert rest.commands.submitted == []


@pytest.mark.parametrize(("method", "path"), sorted(WITHOUT_LOGIN))
def test_three_addresses_are_answered_without_a_key(method: str, path: str) -> None:
    assert Rest().client(None).request(method, path).status_code == 200
