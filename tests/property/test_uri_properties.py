"""Specifications survive writing and reading; `rfc3986` as oracle of the syntax."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from rfc3986 import uri_reference  # type: ignore[import-untyped]
from rfc3986.validators import Validator  # type: ignore[import-untyped]

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
