"""Advice on valid server profiles: when it is given, on which field, and that it never keeps a profile away."""

import pytest

from posthouse.core.profile import parse_profile
from posthouse.core.profile_advice import Advice, advice_json, advise_profile

CORE: dict[str, object] = {"type": "metadefender-core", "servers": ["https://10.0.1.1"]}
VAULT: dict[str, object] = {"type": "metadefender-vault", "servers": ["https://10.0.2.1"], "api_key": {"file": "/k"}}
LOGIN: dict[str, object] = {"username": "u", "password": {"env": "P"}}
PIN = "0a" * 32


def advice(**given: object) -> tuple[Advice, ...]:
    parsed, faults = parse_profile({"name": "x", "type": "smtp", "servers": ["10.0.0.1"], **given}, "")
    assert parsed is not None, faults
    return advise_profile(parsed)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"servers": ["smtps://mail.example"], **LOGIN},
        {"tls": "starttls-required", **LOGIN},
        {"tls": "starttls-optional", "tls_verify": "none"},
        {"tls": "starttls-required", "tls_verify": "pinned", "tls_pin": PIN},
        {"tls": "starttls-required", "tls_ca": "/ca.pem"},
        {"servers": ["smtps://h", "smtp://h:2525"], "tls": "starttls-optional", "tls_ca": "/ca.pem"},
        {"pool": {"enabled": True, "connections": 20}},
        {"pool": {"enabled": False, "connections": 999}},
        {**CORE, "api_key": {"env": "K"}},
        {**CORE, "servers": ["http://10.0.1.1"]},
        {**CORE, "servers": ["http://127.0.0.1"], "public_url": "https://core.example"},
        VAULT,
        {**VAULT, "servers": ["http://127.0.0.1"]},
        {"type": "clamav", "servers": ["clamd://127.0.0.1", "/run/clamd.ctl"]},
    ],
)
def test_there_is_no_advice_where_nothing_is_to_be_told(given: dict[str, object]) -> None:
    assert advice(**given) == ()


@pytest.mark.parametrize(
    ("given", "field", "word"),
    [
        ({"servers": ["10.0.0.1", "10.0.0.2:465"]}, "servers[1]", "smtps"),
        ({**VAULT, "servers": ["https://10.0.2.1:8000"]}, "servers[0]", "8010"),
        ({"pool": {"enabled": True, "connections": 21}}, "pool.connections", "Exchange"),
        (LOGIN, "tls", "10.0.0.1:25"),
        ({**LOGIN, "servers": ["smtps://h", "smtp://h"]}, "tls", "smtp://h:25"),
        ({"tls": "starttls-required", "tls_verify": "none"}, "tls_verify", "certificate"),
        ({"servers": ["smtps://h"], "tls_verify": "none"}, "tls_verify", "certificate"),
        ({"tls": "starttls-required", "tls_pin": PIN}, "tls_pin", "pinned"),
        ({"tls": "starttls-optional", "tls_ca": "/ca.pem"}, "tls_ca", "verify"),
        ({"servers": ["smtps://h"], "tls_verify": "pinned", "tls_pin": PIN, "tls_ca": "/c"}, "tls_ca", "verify"),
        ({**CORE, "servers": ["http://10.0.1.1"], "api_key": {"env": "K"}}, "api_key", "http://10.0.1.1:8008"),
        ({**VAULT, "servers": ["http://10.0.2.1"]}, "api_key", "https"),
        ({**CORE, "servers": ["http://10.0.1.1", "http://127.0.0.1"]}, "servers[1]", "public_url"),
        ({**CORE, "servers": ["http://[::1]"]}, "servers[0]", "public_url"),
        ({**CORE, "servers": ["http://localhost"]}, "servers[0]", "public_url"),
    ],
)
def test_advice_tells_the_field_and_what_might_be_better(given: dict[str, object], field: str, word: str) -> None:
    (found,) = advice(**given)
    assert found.field == field
    assert word in found.sentence
    assert not found.grave


def test_a_password_in_clear_text_is_grave() -> None:
    for more in ({}, {"servers": ["smtps://h", "smtp://h"]}):
        (found,) = advice(**LOGIN, allow_plaintext_auth=True, **more)
        assert advice_json(found) == {"field": "allow_plaintext_auth", "sentence": found.sentence, "grave": True}
        assert "may be sent in clear text" in found.sentence


@pytest.mark.parametrize(
    "given",
    [
        {**LOGIN, "servers": ["smtps://h"]},
        {**LOGIN, "tls": "starttls-required"},
        {**LOGIN, "tls": "starttls-optional", "tls_verify": "verify"},
        {},
    ],
)
def test_where_no_password_is_sent_in_clear_text_none_is_said_to_be(given: dict[str, object]) -> None:
    (found,) = advice(**given, allow_plaintext_auth=True)
    assert (found.field, found.grave) == ("allow_plaintext_auth", False)
    assert "not needed" in found.sentence


def test_all_advice_is_given_at_once_servers_first() -> None:
    found = advice(servers=["h:465"], allow_plaintext_auth=True, pool={"enabled": True, "connections": 50}, **LOGIN)
    assert [one.field for one in found] == ["servers[0]", "allow_plaintext_auth", "pool.connections"]
