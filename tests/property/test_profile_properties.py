"""Server profiles survive writing and reading, and whatever is given yields a valid profile or faults."""

from hypothesis import given
from hypothesis import strategies as st

from posthouse.core.encryption import encryption_of, tls_comes_about
from posthouse.core.faults import Fault
from posthouse.core.profile import (
    PROFILE_FIELDS,
    Preference,
    ServerProfile,
    Tls,
    TlsVerify,
    parse_profile,
    profile_json,
    without_defaults,
)
from posthouse.core.profile_advice import advise_profile
from posthouse.core.service_type import ROWS, TLS_SETTINGS, ServiceType

HOSTS = st.sampled_from(
    ["10.0.0.1", "10.0.0.2:2525", "[2001:db8::1]", "Mail.Example", "bücher.example:465", "localhost"]
)
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=64).filter(
    lambda name: "/" not in name and name not in (".", "..")
)
SECRETS = st.sampled_from([{"env": "KEY"}, {"file": "/run/credentials/key"}])
PINS = st.binary(min_size=32, max_size=32).map(lambda octets: octets.hex())
POOLS = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "connections": st.integers(1, 999),
        "expiry_seconds": st.integers(1, 60000),
        "max_age_seconds": st.integers(1, 86400),
        "max_messages": st.integers(0, 1000000),
    },
)
VALUES: dict[str, st.SearchStrategy[object]] = {
    "preference": st.sampled_from([preference.value for preference in Preference]),
    "tls": st.sampled_from([tls.value for tls in Tls]),
    "tls_verify": st.sampled_from([verify.value for verify in TlsVerify]),
    "tls_name": HOSTS.map(lambda host: host if host.startswith("[") else host.partition(":")[0]),
    "tls_ca": st.sampled_from(["/etc/ca.pem", "ca bundle.pem"]),
    "tls_pin": st.one_of(PINS, PINS.map(lambda pin: bytes.fromhex(pin).hex(":").upper())),
    "tls_min": st.sampled_from(["1.2", "1.3"]),
    "username": st.sampled_from(["relay", "relay@ours.example"]),
    "password": SECRETS,
    "client_certificate": st.booleans(),
    "allow_plaintext_auth": st.booleans(),
    "pool": POOLS,
    "api_key": SECRETS,
    "public_url": st.sampled_from(["https://Core.Example/", "http://10.0.1.1:8008", "https://h:443/a/b/"]),
    "details_pattern": st.sampled_from(["{base}/data/{data_id}", "https://h/?{data_id}"]),
    "batch_pattern": st.sampled_from(["{base}/batch/{batch_id}", "HTTP://h:80/{batch_id}"]),
}


def test_every_property_is_generated() -> None:
    assert {"name", "type", "servers", *VALUES} == {spec.name for spec in PROFILE_FIELDS}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    """Of one type with properties that it has; nearly all are valid."""
    service_type = draw(st.sampled_from(ServiceType))
    row = ROWS[service_type]
    schemes = st.sampled_from(["", *[f"{scheme.name}://" for scheme in row.schemes]])
    server: st.SearchStrategy[str] = st.builds(str.__add__, schemes, HOSTS)
    if row.socket_path:
        server = st.one_of(server, st.just("/run/clamav/clamd.ctl"))
    document: dict[str, object] = {
        "name": draw(NAMES),
        "type": service_type.value,
        "servers": draw(st.lists(server, min_size=1, max_size=min(4, row.maximum_servers))),
    }
    for name in sorted(row.properties):
        if name in row.required or draw(st.booleans()):
            document[name] = draw(VALUES[name])
    return document


def mended(document: dict[str, object], faults: tuple[Fault, ...]) -> dict[str, object]:
    """Without the properties that have a fault; a server that is there twice is named once."""
    wrong = {fault.field.partition("[")[0].partition(".")[0] for fault in faults}
    if {"username", "password"} & wrong:
        wrong |= {"username", "password"}
    if "tls_pin" in wrong:
        wrong.add("tls_verify")
    kept = {name: value for name, value in document.items() if name not in wrong}
    return {**kept, "servers": [str(document["servers"][0])] if "servers" in wrong else document["servers"]}  # type: ignore[index]


@st.composite
def profiles(draw: st.DrawFn) -> ServerProfile:
    document = draw(documents())
    for _ in range(3):
        profile, faults = parse_profile(document, "")
        if profile is not None:
            return profile
        document = mended(document, faults)
    raise AssertionError(faults)


@given(profiles())
def test_reading_what_was_written_gives_the_same(profile: ServerProfile) -> None:
    written = profile_json(profile)
    assert parse_profile(written, "") == (profile, ())
    assert parse_profile(without_defaults(written), "") == (profile, ())
    assert profile_json(parse_profile(written, "")[0] or profile) == written


@given(profiles())
def test_a_valid_profile_has_no_properties_that_do_not_match(profile: ServerProfile) -> None:
    row = ROWS[profile.type]
    written = profile_json(profile)
    assert set(written) - {"name", "type", "servers"} <= row.properties
    assert row.required <= set(written)
    assert len(set(profile.server_texts)) == len(profile.servers) <= row.maximum_servers
    by_tls = [tls_comes_about(encryption_of(profile.type, server), profile.tls) for server in profile.servers]
    if profile.client_certificate:
        assert all(by_tls)
    if TLS_SETTINGS & set(without_defaults(written)) - {"tls_verify"} or profile.tls_verify in ("verify", "pinned"):
        assert any(by_tls)
    assert bool(profile.username) == (profile.password is not None)


@given(profiles())
def test_advice_is_on_properties_that_the_profile_has(profile: ServerProfile) -> None:
    written = profile_json(profile)
    for advice in advise_profile(profile):
        assert advice.field.partition("[")[0].partition(".")[0] in written
        assert advice.sentence


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@given(documents(), st.sampled_from([spec.name for spec in PROFILE_FIELDS]), ANYTHING)
def test_one_property_that_is_anything_yields_a_valid_profile_or_faults(
    document: dict[str, object], name: str, value: object
) -> None:
    profile, faults = parse_profile({**document, name: value}, "p")
    assert (profile is None) == bool(faults)
    assert all(fault.field.startswith("p.") and fault.rule and fault.remedy for fault in faults)
    if profile is not None:
        assert parse_profile(profile_json(profile), "p") == (profile, ())
