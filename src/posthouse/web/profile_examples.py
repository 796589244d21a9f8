"""What the OpenAPI document shows of adding and changing server profiles: bodies and every answer."""

from collections.abc import Mapping

from posthouse.web.profile_tests import FAILED_TEST

Answers = dict[int | str, dict[str, object]]

GIVEN: dict[str, object] = {
    "name": "exchange",
    "type": "smtp",
    "servers": ["10.0.0.1", "mail.example:2525"],
    "preference": "failover",
    "tls": "starttls-required",
    "username": "relay",
    "password": {"file": "/run/credentials/relay"},
}
TESTED: dict[str, object] = {
    "state": "passed",
    "at": 1764000000.0,
    "by": "key admin (k1)",
    "reason": "",
    "forced": False,
    "revision": 4,
    "failed": [],
}
PROFILE: dict[str, object] = {
    **GIVEN,
    "servers": ["smtp://10.0.0.1:25", "smtp://mail.example:2525"],
    "tls_min": "1.2",
    "client_certificate": False,
    "allow_plaintext_auth": False,
    "pool": {
        "enabled": False,
        "connections": 20,
        "expiry_seconds": 180,
        "max_age_seconds": 300,
        "max_messages": 0,
    },
    "tested": TESTED,
}
ORDER: dict[str, object] = {"servers": ["mail.example:2525", "10.0.0.1"]}


def _problem(status: int, title: str, detail: str, *errors: Mapping[str, str], **more: object) -> dict[str, object]:
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "errors": list(errors),
        **more,
    }


def _error(field: str, value: str, rule: str, remedy: str) -> dict[str, str]:
    return {"field": field, "value": value, "rule": rule, "remedy": remedy}


_INVALID = _problem(
    422,
    "Unprocessable Entity",
    "1 fault found.",
    _error("servers[0]", "smtp://10.0.0.1:0", "Port: A port is from 1 to 65535.", "Leave it out for port 25."),
)
_TEST_FAILED = _problem(
    422,
    "Unprocessable Entity",
    "The test fails at 1 of 1 servers, so nothing is saved. force=true saves it untested.",
    _error(
        "servers[0]",
        "smtp://10.0.0.1:25",
        "The test fails at connect: connection refused.",
        "Check the port, and that the mail server runs and listens on this address: nothing accepts at port 25.",
    ),
    test=FAILED_TEST,
)
_NAME_TAKEN = _problem(
    409,
    "Conflict",
    "Another server profile has this name.",
    _error(
        "name",
        "Exchange",
        "The server profile exchange has this name already; case is ignored.",
        "Give each server profile a name of its own.",
    ),
)
_IN_USE = _problem(
    409,
    "Conflict",
    "The server profile is in use.",
    _error(
        "rules[inbound].relay.profile",
        "exchange",
        "The rule relays by this server profile.",
        "Name another one there.",
    ),
)
_NO_MATCH = _problem(412, "Precondition Failed", "It has changed since it was read.")
_MATCH_NEEDED = _problem(
    428,
    "Precondition Required",
    "Send If-Match with the ETag of what you read, so that no other change is overwritten.",
)


def _problems(description: str, **examples: Mapping[str, object]) -> dict[str, object]:
    shown = {name: {"value": value} for name, value in examples.items()}
    return {"description": description, "content": {"application/problem+json": {"examples": shown}}}


def _profile(description: str) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"example": PROFILE}}}


_422 = _problems(
    "Invalid values, all at once; or the TEST has failed and `test` has its ladders. Nothing is saved",
    invalid=_INVALID,
    test_failed=_TEST_FAILED,
)
_412 = _problems("If-Match does not match", changed=_NO_MATCH)
_429: dict[str, object] = {
    "description": "60 tests a minute and two at once for each key; see Retry-After",
    "content": {"application/problem+json": {}},
}
_503: dict[str, object] = {
    "description": "Others were tested for 15 s, so nothing was tested and nothing is saved; see Retry-After",
    "content": {"application/problem+json": {}},
}

ADDED: Answers = {
    201: _profile("Saved: canonical, secrets masked. Location, and ETag: its revision"),
    409: _problems("The name is taken, or there is no key to encrypt a secret", name_taken=_NAME_TAKEN),
    422: _422,
    429: _429,
    503: _503,
}
CHANGED: Answers = {
    200: _profile("Saved. ETag: its revision; Content-Location: where it is now"),
    409: _problems(
        "The name is taken; what names the profile could name it no more; or there is no key to encrypt a secret",
        name_taken=_NAME_TAKEN,
        in_use=_IN_USE,
    ),
    412: _412,
    422: _422,
    428: _problems("If-Match is missing", missing=_MATCH_NEEDED),
    429: _429,
    503: _503,
}
REMOVED: Answers = {
    204: {"description": "Removed"},
    409: _problems("In use: `errors` has each place", in_use=_IN_USE),
    412: _412,
}
ORDERED: Answers = {
    200: _profile("Saved. ETag: its revision"),
    412: _412,
    422: _problems(
        "Not the servers of the profile, each exactly once",
        invalid=_problem(
            422,
            "Unprocessable Entity",
            "1 fault found.",
            _error(
                "servers",
                "1 servers",
                "The order leaves out smtp://mail.example:2525.",
                "Name every server of the profile.",
            ),
        ),
    ),
}
