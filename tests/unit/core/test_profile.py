"""Server profiles: properties, ranges and cross-dependencies of the seed, and what is not built yet."""

from collections.abc import Mapping

import pytest

from posthouse.core.faults import Fault
from posthouse.core.profile import (
    Pool,
    Preference,
    ServerProfile,
    Tls,
    parse_profile,
    profile_json,
    without_defaults,
)
from posthouse.core.service_type import ROWS, ServiceType

BUILT = "not built yet"
PIN = "0a" * 32
SERVERS = {
    "smtp": "smtps://h",
    "metadefender-core": "https://h",
    "metadefender-vault": "https://h",
    "clamav": "clamd://h",
}
GIVEN: Mapping[str, object] = {
    "preference": "failover",
    "tls": "none",
    "tls_verify": "verify",
    "tls_name": "h",
    "tls_ca": "/ca.pem",
    "tls_pin": PIN,
    "tls_min": "1.3",
    "username": "u",
    "password": "p",
    "client_certificate": False,
    "allow_plaintext_auth": False,
    "pool": {"enabled": False},
    "api_key": {"file": "/key"},
    "public_url": "https://core.example",
    "details_pattern": "{base}/data/{data_id}",
    "batch_pattern": "{base}/batch/{batch_id}",
}
"""A valid value for each property that a type may have or not."""


def faults(**given: object) -> list[Fault]:
    """All faults, without those of things not built yet."""
    return [fault for fault in parse_profile(document(**given), "p")[1] if fault.rule != BUILT]


def document(**given: object) -> dict[str, object]:
    return {"name": "x", "type": "smtp", "servers": ["10.0.0.1"], **given}


def profile(**given: object) -> ServerProfile:
    parsed, found = parse_profile(document(**given), "p")
    assert found == ()
    assert parsed is not None
    return parsed


def test_omitted_properties_have_the_seeds_defaults() -> None:
    parsed = profile()
    assert parsed.preference is Preference.FAILOVER
    assert parsed.tls is Tls.NONE
    assert parsed.pool == Pool(enabled=False, connections=20, expiry_seconds=180)
    assert not parsed.client_certificate
    assert parsed.server_texts == ("smtp://10.0.0.1:25",)


@pytest.mark.parametrize("preference", ["failover", "round-robin", "random-start"])
def test_every_preference_is_taken(preference: str) -> None:
    assert profile(preference=preference).preference == preference


@pytest.mark.parametrize("name", sorted(GIVEN))
@pytest.mark.parametrize("service_type", list(ServiceType))
def test_a_property_is_taken_by_the_types_that_have_it_and_an_error_for_others(
    service_type: ServiceType, name: str
) -> None:
    given: dict[str, object] = {"type": service_type.value, "servers": [SERVERS[service_type]], name: GIVEN[name]}
    if service_type is ServiceType.METADEFENDER_VAULT:
        given["api_key"] = {"file": "/key"}
    if name in ("username", "password"):
        given |= {"username": "u", "password": "p"}
    fields = [fault.field for fault in faults(**given)]
    if name in ROWS[service_type].properties:
        assert fields == []
    else:
        assert f"p.{name}" in fields


TABLE_OF_THE_SEED = {
    "preference": {"smtp", "metadefender-core", "clamav"},
    "tls": {"smtp"},
    "username": {"smtp"},
    "password": {"smtp"},
    "client_certificate": {"smtp", "metadefender-core"},
    "api_key": {"metadefender-vault", "metadefender-core"},
    "pool": {"smtp"},
}
"""The seed's column "Server profile type"; clamav and the Core's key are ours (design 2.1, 2.9)."""


@pytest.mark.parametrize("name", sorted(TABLE_OF_THE_SEED))
def test_types_by_property_are_those_of_the_seed(name: str) -> None:
    assert {t.value for t, row in ROWS.items() if name in row.properties} == TABLE_OF_THE_SEED[name]


@pytest.mark.parametrize(
    ("service_type", "schemes"),
    [
        ("smtp", {"smtp": 25, "smtps": 465}),
        ("metadefender-core", {"http": 8008, "https": 8008}),
        ("metadefender-vault", {"http": 8010, "https": 8010}),
        ("clamav", {"clamd": 3310}),
    ],
)
def test_schemes_and_ports_by_type_are_those_of_the_seed(service_type: str, schemes: dict[str, int]) -> None:
    assert {scheme.name: scheme.port for scheme in ROWS[ServiceType(service_type)].schemes} == schemes


def test_at_least_one_server_is_needed() -> None:
    assert [fault.field for fault in faults(servers=[])] == ["p.servers"]
    assert [fault.field for fault in faults(servers=None)] == ["p.servers"]


def test_a_vault_has_exactly_one_server() -> None:
    given = {"type": "metadefender-vault", "api_key": {"file": "/k"}, "servers": ["http://a", "http://b"]}
    (fault,) = faults(**given)
    assert fault.field == "p.servers"
    assert "exactly one" in fault.rule


def test_too_many_servers_are_told_once() -> None:
    for kind in ("smtp", "metadefender-core", "clamav"):
        assert faults(type=kind, servers=[f"h{number}" for number in range(100)]) == []
        (fault,) = faults(type=kind, servers=[f"h{number}" for number in range(101)])
        assert fault.field == "p.servers"
        assert "100" in fault.rule
        assert "exactly one" not in fault.rule


def test_a_vault_needs_its_key() -> None:
    assert [f.field for f in faults(type="metadefender-vault", servers=["http://a"])] == ["p.api_key"]


def test_the_same_server_twice_is_an_error_however_it_is_written() -> None:
    (fault,) = faults(servers=["10.0.0.1", "10.0.0.2", "SMTP://10.0.0.1:25"])
    assert fault.field == "p.servers[2]"
    assert "p.servers[0]" in fault.rule


def test_each_bad_server_is_told_with_its_part() -> None:
    found = faults(servers=["10.0.0.1", "http://10.0.0.2", 5, "u:canary@10.0.0.3:0"])
    assert [fault.field for fault in found] == ["p.servers[2]", "p.servers[1]", "p.servers[3]", "p.servers[3]"]
    assert [fault.rule.split(":")[0] for fault in found[1:]] == ["Scheme", "User info", "Port"]
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("option", "default", "low", "high"),
    [
        ("connections", 20, 1, 999),
        ("expiry_seconds", 180, 1, 60000),
        ("max_age_seconds", 300, 1, 86400),
        ("max_messages", 0, 0, 1000000),
    ],
)
def test_pool_ranges_and_defaults_are_those_of_the_seed(option: str, default: int, low: int, high: int) -> None:
    assert getattr(profile(pool={}).pool, option) == default
    for value in (low, high):
        assert getattr(profile(pool={option: value}).pool, option) == value
    for value in (low - 1, high + 1):
        assert [fault.field for fault in faults(pool={option: value})] == [f"p.pool.{option}"]


def test_pool_switch_and_unknown_options_are_checked() -> None:
    assert [f.field for f in faults(pool={"enabled": "yes", "conections": 5})] == [
        "p.pool.conections",
        "p.pool.enabled",
    ]


@pytest.mark.parametrize(
    ("value", "word"),
    [("tls", "smtps"), ("TLS", "smtps"), ("starttls", "starttls-required"), ("StartTLS", "optional")],
)
def test_old_names_of_tls_settings_are_refused_with_the_remedy(value: str, word: str) -> None:
    (fault,) = faults(tls=value)
    assert fault.field == "p.tls"
    assert word in fault.remedy


@pytest.mark.parametrize("tls", ["none", "starttls-optional", "starttls-required"])
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_each_tls_setting_is_valid_for_smtp_and_irrelevant_for_smtps(scheme: str, tls: str) -> None:
    assert faults(servers=[f"{scheme}://h"], tls=tls) == []


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({"servers": ["smtp://h"], "tls": "none"}, False),
        ({"servers": ["smtp://h"], "tls": "starttls-optional"}, True),
        ({"servers": ["smtp://h"], "tls": "starttls-required"}, True),
        ({"servers": ["smtps://h"]}, True),
        ({"servers": ["smtps://h", "smtp://h"]}, False),
        ({"type": "metadefender-core", "servers": ["https://h"]}, True),
        ({"type": "metadefender-core", "servers": ["http://h"]}, False),
        ({"type": "metadefender-vault", "servers": ["https://h"], "api_key": {"file": "/k"}}, False),
        ({"type": "clamav", "servers": ["clamd://h"]}, False),
    ],
)
def test_a_client_certificate_needs_tls_at_every_server(given: dict[str, object], allowed: bool) -> None:
    found = faults(**given, client_certificate=True)
    assert (found == []) is allowed
    assert {fault.field for fault in found} <= {"p.client_certificate"}


def test_user_name_and_password_need_each_other() -> None:
    assert [fault.field for fault in faults(username="u")] == ["p.password"]
    assert [fault.field for fault in faults(password="p")] == ["p.username"]
    assert faults(username="u", password={"env": "P"}) == []


def test_pinned_needs_a_pin() -> None:
    assert [fault.field for fault in faults(servers=["smtps://h"], tls_verify="pinned")] == ["p.tls_pin"]
    assert faults(servers=["smtps://h"], tls_verify="pinned", tls_pin=PIN) == []


@pytest.mark.parametrize("pin", [PIN, PIN.upper(), ":".join(["0A"] * 32), f" {PIN} "])
def test_a_pin_has_one_canonical_form(pin: str) -> None:
    assert profile(servers=["smtps://h"], tls_verify="pinned", tls_pin=pin).tls_pin == PIN


@pytest.mark.parametrize("between", [" ", ", ", ",", "  "])
def test_several_certificates_may_be_pinned(between: str) -> None:
    other = "0b" * 32
    pins = between.join((PIN, ":".join(["0B"] * 32), PIN.upper()))
    assert profile(servers=["smtps://h"], tls_verify="pinned", tls_pin=pins).tls_pin == f"{PIN} {other}"
    assert len(faults(servers=["smtps://h"], tls_verify="pinned", tls_pin=f"{PIN}{between}00")) == 1


@pytest.mark.parametrize(
    "pin", ["00", "0a" * 20, PIN[:-1], PIN + "0", PIN[:-1] + "g", ":" + PIN, "0:a0:" + "a0" * 30]
)
def test_a_pin_is_a_sha_256(pin: str) -> None:
    (fault,) = faults(servers=["smtps://h"], tls_verify="pinned", tls_pin=pin)
    assert (fault.field, fault.value) == ("p.tls_pin", pin)
    assert "SHA-256" in fault.rule


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Mail.Example", "mail.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
    ],
)
def test_a_tls_name_is_a_canonical_host(text: str, canonical: str) -> None:
    parsed = profile(servers=["smtps://h"], tls_name=text)
    assert parsed.tls_name == canonical
    assert parse_profile(profile_json(parsed), "p") == (parsed, ())


@pytest.mark.parametrize("text", ["a b", "a:25", "*.example", "smtp://a", "[::1", "a..b", "0x7f.1", "a@b", "mail."])
def test_a_tls_name_that_is_no_host_is_a_fault(text: str) -> None:
    (fault,) = faults(servers=["smtps://h"], tls_name=text)
    assert fault.field == "p.tls_name"
    assert fault.rule.startswith("Host: ")


@pytest.mark.parametrize("name", ["tls_verify", "tls_name", "tls_ca", "tls_pin", "tls_min"])
@pytest.mark.parametrize(
    ("given", "possible"),
    [
        ({"servers": ["smtp://h"]}, False),
        ({"servers": ["smtp://h"], "tls": "starttls-optional"}, True),
        ({"servers": ["smtps://h", "smtp://h"]}, True),
        ({"type": "metadefender-core", "servers": ["http://h"]}, False),
        ({"type": "metadefender-core", "servers": ["http://h", "https://g"]}, True),
        ({"type": "metadefender-vault", "servers": ["http://h"], "api_key": {"file": "/k"}}, False),
    ],
)
def test_what_is_asked_of_tls_needs_tls_at_one_server(name: str, given: dict[str, object], possible: bool) -> None:
    found = faults(**given, **{name: GIVEN[name]})
    assert [fault.field for fault in found] == ([] if possible else [f"p.{name}"])
    assert all("https" in fault.remedy or "smtps" in fault.remedy for fault in found)


def test_where_tls_comes_about_is_not_told_while_it_is_not_known() -> None:
    assert [f.field for f in faults(tls="starttls", tls_ca="/ca.pem", client_certificate=True)] == ["p.tls"]
    assert [f.field for f in faults(servers=["smtp://h", "smpts://h"], tls_ca="/ca.pem")] == ["p.servers[1]"]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://core.example", "https://core.example"),
        ("HTTPS://Core.Example:443/", "https://core.example"),
        ("http://core.example:80", "http://core.example"),
        ("http://core.example:443", "http://core.example:443"),
        ("https://core.example:8008/a/b/", "https://core.example:8008/a/b"),
        ("https://[2001:DB8::0:1]:8008", "https://[2001:db8::1]:8008"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_a_public_url_has_one_canonical_form(text: str, canonical: str) -> None:
    parsed = profile(type="metadefender-core", public_url=text)
    assert parsed.public_url == canonical
    assert parse_profile(profile_json(parsed), "p") == (parsed, ())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("core.example", ["Scheme"]),
        ("//core.example", ["Scheme"]),
        ("/scans", ["Scheme"]),
        ("javascript://x", ["Scheme"]),
        ("ftp://core.example", ["Scheme"]),
        ("https:core.example", ["Scheme"]),
        ("https://", ["Host"]),
        ("https://0x7f.1", ["Host"]),
        ("https://u:canary@core.example", ["User info"]),
        ("https://core.example?x=1", ["Query"]),
        ("https://core.example/#x", ["Fragment"]),
        ("https://core.example:0", ["Port"]),
        ("https://core.example:65536", ["Port"]),
        ("https://core.example:", ["Port"]),
        ("https://core.example//x", ["Path"]),
        ("https://core.example//", ["Path"]),
        ("https://core.example/../x", ["Path"]),
        ("https://core.example/%2e", ["Path"]),
        ("https://core.example/a b", ["Address"]),
        ("https://u@1.2.3:x/..?#", ["Fragment", "Query", "User info", "Host", "Port", "Path"]),
    ],
)
def test_a_public_url_names_every_faulty_part(text: str, parts: list[str]) -> None:
    found = faults(type="metadefender-core", public_url=text)
    assert {fault.field for fault in found} == {"p.public_url"}
    assert [fault.rule.partition(":")[0] for fault in found] == parts
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "metadefender-core", "servers": ["http://h"], "api_key": {"env": "K"}},
        {"type": "metadefender-vault", "servers": ["http://h"], "api_key": {"file": "/k"}},
        {"type": "clamav", "servers": ["clamd://h", "/run/clamd.ctl"], "preference": "round-robin"},
    ],
)
def test_every_type_can_be_stored(given: dict[str, object]) -> None:
    parsed = profile(**given)
    assert parsed.type == given["type"]
    assert parse_profile(profile_json(parsed), "p") == (parsed, ())


def test_faults_of_all_kinds_are_told_at_once() -> None:
    found = faults(name="a/b", preference="best", pool={"connections": 0}, servers=["x y"], nmae=1, api_key="k")
    assert {fault.field for fault in found} == {
        "p.name",
        "p.preference",
        "p.pool.connections",
        "p.servers[0]",
        "p.nmae",
        "p.api_key",
    }


@pytest.mark.parametrize("value", [None, 5, "smtp", [], [{}]])
def test_what_is_no_table_is_a_fault(value: object) -> None:
    parsed, found = parse_profile(value, "p")
    assert parsed is None
    assert found[0].field == "p"


def test_an_unknown_type_is_a_fault() -> None:
    assert [fault.field for fault in faults(type="imap")] == ["p.type"]
    assert [fault.field for fault in faults(type=None)] == ["p.type"]


def test_a_secret_is_never_in_a_fault() -> None:
    _, found = parse_profile(document(username="u", password="canary", api_key="canary"), "p")
    assert "canary" not in str(found)


def test_json_includes_defaults_and_is_read_back_the_same() -> None:
    parsed = profile(preference="round-robin", servers=["10.0.0.1", "h:2525"], pool={"connections": 5})
    written = profile_json(parsed)
    assert written == {
        "name": "x",
        "type": "smtp",
        "servers": ["smtp://10.0.0.1:25", "smtp://h:2525"],
        "preference": "round-robin",
        "tls": "none",
        "tls_min": "1.2",
        "client_certificate": False,
        "allow_plaintext_auth": False,
        "pool": {
            "enabled": False,
            "connections": 5,
            "expiry_seconds": 180,
            "max_age_seconds": 300,
            "max_messages": 0,
        },
    }
    assert parse_profile(written, "p") == (parsed, ())


def test_export_leaves_out_defaults() -> None:
    assert without_defaults(profile_json(profile())) == document(servers=["smtp://10.0.0.1:25"])
    kept = without_defaults(profile_json(profile(preference="random-start", pool={"max_messages": 9})))
    assert kept["preference"] == "random-start"
    assert kept["pool"] == {"max_messages": 9}
