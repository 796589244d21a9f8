"""What becomes of stored secrets when a profile is given anew."""

import pytest

from posthouse.core.fields import Secret
from posthouse.core.inventory import apply_document, build_inventory
from posthouse.core.kept_secret import changed_secrets, given_texts, keep_secrets, with_secrets, without_texts
from posthouse.core.profile import KEPT, parse_profile

STORED: dict[str, object] = {
    "name": "exchange",
    "type": "smtp",
    "servers": ["smtp://10.0.0.1:25", "smtps://mail.example:465"],
    "username": "relay",
    "password": {"set": True},
}
GIVEN: dict[str, object] = {"name": "Exchange", "type": "smtp", "servers": ["10.0.0.1"], "username": "relay"}


def kept(given: dict[str, object], stored: dict[str, object] | None = STORED) -> tuple[object, list[str]]:
    """The password that comes out of it, and the fields of the faults."""
    document, faults = keep_secrets(given, stored, "p")
    assert "canary" not in str(faults)
    return document.get("password", "absent"), [fault.field for fault in faults]


def test_absent_and_set_keep_what_is_stored() -> None:
    assert kept(GIVEN) == (KEPT, [])
    assert kept({**GIVEN, "password": {"set": True}}) == (KEPT, [])


def test_null_removes_and_texts_and_references_replace() -> None:
    assert kept({**GIVEN, "password": None}) == (None, [])
    assert kept({**GIVEN, "password": "canary"}) == ("canary", [])
    assert kept({**GIVEN, "password": {"env": "P"}}) == ({"env": "P"}, [])


@pytest.mark.parametrize("stored", [None, {**STORED, "password": {"env": "P"}}, {**GIVEN, "name": "exchange"}])
def test_set_where_nothing_is_stored_is_a_fault(stored: dict[str, object] | None) -> None:
    assert kept({**GIVEN, "password": {"set": True}}, stored)[1] == ["p.password"]


def test_a_reference_that_is_absent_is_gone() -> None:
    assert kept(GIVEN, {**STORED, "password": {"env": "P"}}) == ("absent", [])


def test_an_absent_password_goes_with_its_user_name_and_with_a_type_that_has_none() -> None:
    without = {name: value for name, value in GIVEN.items() if name != "username"}
    assert kept(without) == ("absent", [])
    assert kept({"name": "exchange", "type": "clamav", "servers": ["clamd://10.0.0.1"]}) == ("absent", [])


@pytest.mark.parametrize(
    "servers", [["10.0.0.2"], ["10.0.0.1", "10.0.0.2"], ["10.0.0.1:2525"], ["smtps://other.example"]]
)
@pytest.mark.parametrize("password", [{}, {"password": {"set": True}}])
def test_a_stored_secret_is_not_kept_for_a_host_that_is_new(servers: list[str], password: dict[str, object]) -> None:
    assert kept({**GIVEN, "servers": servers, **password})[1] == ["p.password"]
    assert kept({**GIVEN, "servers": servers, "password": "canary"})[1] == []


def test_fewer_servers_and_other_spellings_of_the_same_are_no_change_of_host() -> None:
    assert kept({**GIVEN, "servers": ["smtps://MAIL.example"]})[1] == []
    assert kept({**GIVEN, "servers": ["smtp://10.0.0.1:25"]})[1] == []


REQUIRED: dict[str, object] = {"tls": "starttls-required"}
OPTIONAL: dict[str, object] = {"tls": "starttls-optional"}
VERIFIED: dict[str, object] = {**OPTIONAL, "tls_verify": "verify"}
UNVERIFIED: dict[str, object] = {**REQUIRED, "tls_verify": "none"}
PINNED: dict[str, object] = {**REQUIRED, "tls_verify": "pinned", "tls_pin": "0a" * 32}
IMPLICIT: dict[str, object] = {"servers": ["smtps://10.0.0.1:25"]}
PLAIN: dict[str, object] = {"allow_plaintext_auth": True}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (IMPLICIT, {}),
        (IMPLICIT, OPTIONAL),
        (IMPLICIT, {**IMPLICIT, "tls_verify": "none"}),
        (REQUIRED, OPTIONAL),
        (REQUIRED, VERIFIED),
        (REQUIRED, {}),
        (UNVERIFIED, OPTIONAL),
        (OPTIONAL, {}),
        (VERIFIED, OPTIONAL),
        ({}, PLAIN),
        (OPTIONAL, PLAIN),
        (REQUIRED, UNVERIFIED),
        (PINNED, UNVERIFIED),
        (PINNED, REQUIRED),
        (PINNED, {**PINNED, "tls_pin": "0b" * 32}),
        (REQUIRED, PINNED),
        (REQUIRED, {**REQUIRED, "tls_ca": "/ca.pem"}),
        ({**REQUIRED, "tls_ca": "/ca.pem"}, REQUIRED),
        (REQUIRED, {**REQUIRED, "tls_name": "other.example"}),
        ({**REQUIRED, "tls_name": "other.example"}, REQUIRED),
    ],
)
@pytest.mark.parametrize("password", [{}, {"password": {"set": True}}])
def test_a_stored_secret_is_not_kept_for_a_weaker_way_to_the_same_server(
    before: dict[str, object], now: dict[str, object], password: dict[str, object]
) -> None:
    stored = {**GIVEN, "servers": ["smtp://10.0.0.1:25"], "password": {"set": True}, **before}
    _, (fault,) = keep_secrets({**GIVEN, **now, **password}, stored, "p")
    assert (fault.field, fault.remedy) == ("p.password", "Enter the secret again.")
    assert "10.0.0.1:25" in fault.rule
    assert kept({**GIVEN, **now, "password": "canary"}, stored)[1] == []


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, OPTIONAL),
        ({}, {**UNVERIFIED, "tls_ca": "/ca.pem"}),
        ({}, IMPLICIT),
        (PLAIN, {}),
        (PLAIN, PLAIN),
        (OPTIONAL, REQUIRED),
        (OPTIONAL, PINNED),
        (UNVERIFIED, PINNED),
        (UNVERIFIED, {**UNVERIFIED, "tls_ca": "/ca.pem"}),
        (VERIFIED, REQUIRED),
        (REQUIRED, IMPLICIT),
        (IMPLICIT, REQUIRED),
        (IMPLICIT, {**IMPLICIT, "tls": "starttls-optional", "allow_plaintext_auth": True}),
        (REQUIRED, {**REQUIRED, "allow_plaintext_auth": True}),
        (REQUIRED, {**REQUIRED, "tls_name": "10.0.0.1"}),
        (PINNED, {**PINNED, "tls_pin": "0A:" * 31 + "0A", "tls_name": "other.example"}),
        (REQUIRED, {**REQUIRED, "client_certificate": True, "tls_min": "1.3", "pool": {"enabled": True}}),
    ],
)
def test_a_way_that_protects_as_well_keeps_the_secret(before: dict[str, object], now: dict[str, object]) -> None:
    stored = {**GIVEN, "servers": ["smtp://10.0.0.1:25"], "password": {"set": True}, **before}
    assert kept({**GIVEN, **now}, stored) == (KEPT, [])


@pytest.mark.parametrize(
    ("kind", "before", "now", "fields"),
    [
        ("metadefender-core", "https://h:8008", "http://h:8008", ["p.api_key"]),
        ("metadefender-core", "http://h:8008", "https://h:8008", []),
        ("metadefender-core", "https://h:8008", "https://h:8009", ["p.api_key"]),
        ("metadefender-vault", "https://h:8010/vault_rest", "http://h:8010/vault_rest", ["p.api_key"]),
        ("metadefender-vault", "https://h:8010/vault_rest", "https://h:8010/other", ["p.api_key"]),
        ("metadefender-vault", "https://h:8010/vault_rest", "https://h", []),
    ],
)
def test_a_key_stays_with_its_scheme_port_and_path(kind: str, before: str, now: str, fields: list[str]) -> None:
    stored = {"name": "x", "type": kind, "servers": [before], "api_key": {"set": True}}
    _, faults = keep_secrets({"name": "x", "type": kind, "servers": [now]}, stored, "p")
    assert [fault.field for fault in faults] == fields


def test_what_is_not_valid_has_its_own_fault_only() -> None:
    for spoiled in ({"tls": "starttls"}, {"tls": 1}, {**REQUIRED, "servers": ["10.0.0.1", 7]}):
        assert kept({**GIVEN, **spoiled}, {**STORED, **REQUIRED})[1] == []


def test_applying_a_document_keeps_the_secret_and_tells_faults_where_they_stand() -> None:
    profiles, _, faults = apply_document([STORED], [], {"server_profiles": [GIVEN]}, prune=False)
    assert (profiles[0]["password"], faults) == ({"set": True}, ())
    other = {**GIVEN, "servers": ["10.9.9.9"]}
    fresh = {**GIVEN, "name": "fresh", "password": {"set": True}}
    _, _, faults = apply_document([STORED], [], {"server_profiles": [other, fresh]}, prune=False)
    assert [fault.field for fault in faults] == ["server_profiles[0].password", "server_profiles[1].password"]
    assert "10.9.9.9:25" in faults[0].rule


def test_what_a_document_does_not_name_keeps_its_secret() -> None:
    profiles, _, faults = apply_document([STORED], [], {}, prune=False)
    assert (profiles[0]["password"], faults) == ({"set": True}, ())


def test_texts_are_found_by_profile_whatever_the_case_and_can_be_left_out() -> None:
    document = {
        "server_profiles": [{**GIVEN, "password": "canary"}, {**GIVEN, "name": "b", "password": {"env": "P"}}]
    }
    texts = given_texts(document)
    assert texts == {"exchange": {"password": Secret("text", "canary")}}
    assert "canary" not in repr(texts)
    without = without_texts(document)
    assert without["server_profiles"] == [
        {**GIVEN, "password": {"set": True}},
        {**GIVEN, "name": "b", "password": {"env": "P"}},
    ]


def test_another_text_is_a_change_and_the_same_is_none() -> None:
    stored = [("Exchange", {"password": Secret("stored", "1", "token")})]
    given = {"exchange": {"password": Secret("text", "new")}}
    assert changed_secrets(stored, given, lambda _, text: text == "old") == ["server_profiles[Exchange].password"]
    assert changed_secrets(stored, given, lambda _, text: text == "new") == []
    assert changed_secrets(stored, {}, lambda _, text: False) == []


def test_a_snapshot_has_the_stored_secrets_of_who_logs_in() -> None:
    secret = Secret("stored", "1", "token")
    inventory = build_inventory(1, [(STORED, 1)], [], {"exchange": {"password": secret}})
    assert inventory.profiles["exchange"].password == secret
    profile, _ = parse_profile(STORED, "p")
    assert profile is not None
    assert with_secrets(profile, {}).password == Secret("set", "")


def test_a_stored_secret_is_the_same_after_a_rotation_and_another_after_an_edit() -> None:
    assert Secret("stored", "1", "old token") == Secret("stored", "1", "new token")
    assert hash(Secret("stored", "1", "old token")) == hash(Secret("stored", "1", "new token"))
    assert Secret("stored", "1", "token") != Secret("stored", "2", "token")
