"""schemathesis over the OpenAPI: whatever is sent, the answer is one that the document tells of."""

from dataclasses import replace
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from posthouse.settings import OwnMail
from posthouse.web import drains
from support.rest import Rest

HOST = "testserver"
"""What schemathesis calls the app."""


def with_kept_mail() -> Rest:
    """Own mail is set, so that mail can be forwarded."""
    rest = Rest(hosts=(HOST,))
    rest.settings = replace(rest.settings, own_mail=OwnMail("archive", "postmaster@ours.example", ""))
    rest.keeps("01kept", b"Subject: x\r\n\r\ntext\r\n")
    rest.keeps("01failed", b"Subject: x\r\n\r\ntext\r\n", failed=True)
    return rest


APP = with_kept_mail().app()
KEY = Rest().secrets["administrator"]
CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            "positive_data_acceptance": {
                # 412 and 428: no generated If-Match is that of what is stored.
                "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "412", "428", "429"]
            },
            # Parameters of the path are names and ids: whatever is no name is no resource, which is 404.
            "negative_data_rejection": {
                "expected-statuses": ["400", "401", "403", "404", "405", "409", "412", "422", "428", "429"]
            },
        }
    }
)
schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", APP, config=CONFIG)

MORE_THAN_A_SCHEMA_SAYS = {
    "POST /api/v1/server-profile-tests": "specifications, and which properties a service type has",
    "POST /api/v1/server-profiles/{name}/test": "as above",
    "POST /api/v1/server-profiles": "as above, and what must match what",
    "PUT /api/v1/server-profiles/{name}": "as above",
    "POST /api/v1/server-profiles/{name}/order": "which servers the profile has",
    "POST /api/v1/server-profiles/{name}/drain": "a server of the profile, by specification or number",
    "POST /api/v1/digital-id/import": "certificates, keys, and which belongs to which",
    "POST /api/v1/certificate-authorities": "certificates",
    "POST /api/v1/digital-id/generate": "what a host name is",
    "POST /api/v1/digital-id/request": "as above",
    "POST /api/v1/digital-id/renew": "whole numbers are not taken as 3649.0",
    "POST /api/v1/rule-explanations": "IP addresses and mail addresses",
    "POST /api/v1/rule-replays": "an inventory: as config/apply",
    "POST /api/v1/rules": "patterns, networks, open relays, names of profiles, how many rules there are",
    "PUT /api/v1/rules/{name}": "as above",
    "POST /api/v1/rules/{name}/move": "how many rules there are",
    "POST /api/v1/config/diff": "specifications, patterns, networks, what must match what",
    "POST /api/v1/config/apply": "as above",
    "GET /api/v1/mails": "moments: leap seconds, years beyond 9999",
    "GET /api/v1/failed": "as above",
    "GET /api/v1/quarantine": "as above",
    "POST /api/v1/quarantine/release": "mail addresses, and which options an act has",
    "POST /api/v1/quarantine/forward": "as above",
    "POST /api/v1/quarantine/rescan": "as above",
    "POST /api/v1/quarantine/pin": "as above",
    "POST /api/v1/quarantine/unpin": "as above",
    "POST /api/v1/quarantine/delete": "as above",
    "POST /api/v1/failed/retry": "which options an act has; a target is the name of a server profile",
    "POST /api/v1/failed/reroute": "which options an act has; a target is the name of a server profile",
    "POST /api/v1/failed/delete": "which options an act has; a target is the name of a server profile",
    "GET /api/v1/audit": "as above",
    "POST /api/v1/users": "names that are longer than 64 characters in NFC, white space that a pattern knows not of",
    "PUT /api/v1/users/{name}": "as above",
    "POST /api/v1/queue/{action}": "either `mails` or `all`; a target is the name of a server profile",
}
"""Operations that refuse some of what their schema allows (422), and why; elsewhere what it allows is accepted."""


@schema.parametrize()
@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_one_that_openapi_tells_of(case: Any) -> None:
    APP.state.tools = with_kept_mail().tools
    APP.state.drain_rate = drains.new_rate()
    excluded = [CHECKS.get_one("positive_data_acceptance")] if case.operation.label in MORE_THAN_A_SCHEMA_SAYS else []
    if case.method == "GET":
        # It counts unknown parameters of a query as invalid, and these are ignored; and Authorization is always sent.
        excluded.append(CHECKS.get_one("negative_data_rejection"))
    case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, excluded_checks=excluded)


def test_only_operations_that_there_are_refuse_more_than_their_schema_says() -> None:
    labels = {f"{method.upper()} {path}" for path, methods in APP.openapi()["paths"].items() for method in methods}
    assert set(MORE_THAN_A_SCHEMA_SAYS) <= labels
