"""Specifications survive writing and reading; `rfc3986` as oracle of the syntax."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from rfc3986 import uri_reference  # type: ignore[import-untyped]
from rfc3986.validators import Validator  # type: ignore[import-untyped]

from posthouse.core.public_url import PORTS, parse_public_url
from posthouse.core.service_type import ROWS, ServiceType
from posthouse.core.uri import Specification, parse_specification

LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(lambda x: x[2:4] != "--")
HOSTS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str).filter(lambda text: IPv6Address(text).ipv4_mapped is None),
)
PATHS = st.lists(st.from_regex(r"[A-Za-z0-9_~-]{1,8}", fullmatch=True), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


@st.composite
def specifications(draw: st.DrawFn) -> tuple[Specification, ServiceType]:
    service_type = draw(st.sampled_from(ServiceType))
    row = ROWS[service_type]
    scheme = draw(st.sampled_from(row.schemes)).name
    if row.socket_path and draw(st.booleans()):
        return Specification(scheme, "", 0, draw(PATHS)), service_type
    path = draw(PATHS) if row.path else ""
    return Specification(scheme, draw(HOSTS), draw(st.integers(1, 65535)), path), service_type


@given(specifications())
def test_reading_what_was_written_gives_the_same(case: tuple[Specification, ServiceType]) -> None:
    specification, service_type = case
    assert parse_specification(str(specification), service_type) == specification


@given(specifications())
def test_the_canonical_form_is_a_uri(case: tuple[Specification, ServiceType]) -> None:
    specification, _ = case
    reference = uri_reference(str(specification))
    Validator().require_presence_of("scheme").check_validity_of("scheme", "path").validate(reference)
    assert reference.scheme == specification.scheme
    if specification.host:
        Validator().check_validity_of("host", "port").validate(reference)
        assert (reference.host or "").strip("[]") == specification.host
        assert int(reference.port or 0) == specification.port
    assert (reference.path or "") == specification.path
    assert [reference.userinfo, reference.query, reference.fragment] == [None, None, None]


@given(st.text(max_size=60), st.sampled_from(ServiceType))
def test_any_text_gives_a_stable_specification_or_problems(text: str, service_type: ServiceType) -> None:
    parsed = parse_specification(text, service_type)
    if isinstance(parsed, Specification):
        assert parse_specification(str(parsed), service_type) == parsed
        assert str(parsed).isascii() or parsed.host == ""
    else:
        assert parsed
        assert all(problem.rule and problem.remedy for problem in parsed)


@given(st.text(alphabet="smtp:/@[].?#%0123456789abx-", max_size=40), st.sampled_from(ServiceType))
def test_near_specifications_never_hide_a_part(text: str, service_type: ServiceType) -> None:
    parsed = parse_specification(text, service_type)
    if isinstance(parsed, Specification) and parsed.host:  # a socket path of clamd may hold any of these
        # The path of a vault may hold an @ (RFC 3986 section 3.3); before the path it would be user info.
        assert set("@?#%") & set(text) <= set("@") & set(parsed.path)


PORTS_RIGHT = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
HOSTS_RIGHT = st.one_of(
    HOSTS.map(lambda host: f"[{host}]" if ":" in host else host.title()),
    st.ip_addresses(v=6).map(lambda address: f"[{address.exploded.upper()}]"),
)
HOSTILE: tuple[st.SearchStrategy[str], ...] = (
    st.sampled_from(["ftp://", "//", "smtp:", "http:/", "://"]),
    st.sampled_from(["u@", "u:p@", "good.example@", "%40@", "@"]),
    st.sampled_from(["", "0x7f.1", "2130706433", "127.1", "[::ffff:7f00:1]", "a%2eb", "a..b", "h.", "[::1", "::1"]),
    st.sampled_from([":", ":025", ":0", ":65536", ":25abc", ":-1", ":1:2"]),
    st.sampled_from(["/", "//", "/../x", "/a%2fb", "/x/.", "\\x"]),
    st.sampled_from(["?", "?q=1", "#", "#f", "?a@b#c"]),
)
"""Scheme, user info, host, port, path, query and fragment as attackers write them."""


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, ServiceType]:
    """What people and attackers write: right spellings of all parts, and up to two parts that are hostile."""
    service_type = draw(st.sampled_from(ServiceType))
    row = ROWS[service_type]
    schemes = st.sampled_from(["", *[f"{scheme.name}://" for scheme in row.schemes]])
    path = st.one_of(st.just(""), PATHS, PATHS.map(lambda path: f"{path}/")) if row.path else st.just("")
    right = (st.one_of(schemes, schemes.map(str.upper)), st.just(""), HOSTS_RIGHT, PORTS_RIGHT, path, st.just(""))
    hostile = draw(st.sets(st.integers(0, len(right) - 1), max_size=2))
    parts = [HOSTILE[at] if at in hostile else right[at] for at in range(len(right))]
    return "".join([draw(part) for part in parts]), service_type


@given(spellings())
def test_what_is_accepted_is_what_the_oracle_reads(case: tuple[str, ServiceType]) -> None:
    """No part is hidden, lost or read another way, so that nobody is sent to a host that was not written."""
    text, service_type = case
    parsed = parse_specification(text, service_type)
    if not isinstance(parsed, Specification):
        return
    whole = text if "://" in text else f"{parsed.scheme}://{text}"
    reference = uri_reference(whole)
    Validator().check_validity_of("scheme", "path").validate(reference)
    assert [reference.userinfo, reference.query, reference.fragment] == [None, None, None]
    assert (reference.scheme or "").lower() == parsed.scheme
    if not parsed.host:
        assert (reference.authority or "", reference.path) == ("", parsed.path)
        return
    Validator().check_validity_of("host", "port").validate(reference)
    host = (reference.host or "").strip("[]").lower()
    assert (str(IPv6Address(host)) if ":" in host else host) == parsed.host
    assert reference.port is None or int(reference.port) == parsed.port
    assert (reference.path or "").removesuffix("/") in ("", parsed.path)


@given(spellings())
def test_a_public_url_is_what_the_oracle_reads(case: tuple[str, ServiceType]) -> None:
    text, _ = case
    found = parse_public_url(text)
    if isinstance(found, str):
        assert parse_public_url(found) == found
        given_reference, reference = uri_reference(text), uri_reference(found)
        Validator().check_validity_of("scheme", "host", "port", "path").validate(reference)
        for one in (given_reference, reference):
            assert [one.userinfo, one.query, one.fragment] == [None, None, None]
        implied = str(PORTS[str(reference.scheme)])
        assert (given_reference.port or implied) == (reference.port or implied)
        assert (given_reference.path or "").removesuffix("/") == (reference.path or "")
        hosts = [(one.host or "").strip("[]").lower() for one in (given_reference, reference)]
        assert len({str(IPv6Address(host)) if ":" in host else host for host in hosts}) == 1
