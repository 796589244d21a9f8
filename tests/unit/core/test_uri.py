"""Server specifications: defaults, canonical form, hostile spellings, advice."""

import pytest

from posthouse.core.service_type import ROWS, ServiceType
from posthouse.core.uri import Problem, Specification, advise, mask, parse_address, parse_host, parse_specification

SMTP, CORE = ServiceType.SMTP, ServiceType.METADEFENDER_CORE
VAULT, CLAMAV = ServiceType.METADEFENDER_VAULT, ServiceType.CLAMAV


def canonical(text: str, service_type: ServiceType = SMTP) -> str:
    parsed = parse_specification(text, service_type)
    assert isinstance(parsed, Specification), parsed
    return str(parsed)


def parts(text: str, service_type: ServiceType = SMTP) -> list[str]:
    parsed = parse_specification(text, service_type)
    assert not isinstance(parsed, Specification), str(parsed)
    return [problem.part for problem in parsed]


@pytest.mark.parametrize(
    ("service_type", "text", "expected"),
    [  # the seed's "Server profile examples" and its table of defaults, each part left out in turn
        (SMTP, "smtp://127.0.0.1:25", "smtp://127.0.0.1:25"),
        (CORE, "http://127.0.0.1:8008", "http://127.0.0.1:8008"),
        (VAULT, "http://127.0.0.1:8010/vault_rest", "http://127.0.0.1:8010/vault_rest"),
        (SMTP, "127.0.0.1", "smtp://127.0.0.1:25"),
        (CORE, "127.0.0.1", "http://127.0.0.1:8008"),
        (VAULT, "127.0.0.1", "http://127.0.0.1:8010/vault_rest"),
        (CLAMAV, "127.0.0.1", "clamd://127.0.0.1:3310"),
        (SMTP, "smtps://mail.example", "smtps://mail.example:465"),
        (CORE, "https://core.example", "https://core.example:8008"),
        (VAULT, "https://10.0.2.1:443", "https://10.0.2.1:443/vault_rest"),
        (VAULT, "http://10.0.0.10:25/vault_rest", "http://10.0.0.10:25/vault_rest"),
        (VAULT, "http://10.0.2.1/", "http://10.0.2.1:8010/vault_rest"),
        (VAULT, "http://10.0.2.1/other/", "http://10.0.2.1:8010/other"),
        (SMTP, "mail.example:2525", "smtp://mail.example:2525"),
        (SMTP, "[2001:db8::1]:25", "smtp://[2001:db8::1]:25"),
        (SMTP, "[2001:DB8:0:0::1]", "smtp://[2001:db8::1]:25"),
        (SMTP, "SMTP://Mail.Example", "smtp://mail.example:25"),
        (SMTP, "smtp://bücher.example", "smtp://xn--bcher-kva.example:25"),
        (SMTP, "smtp://xn--bcher-kva.example", "smtp://xn--bcher-kva.example:25"),
        (SMTP, "smtp:2525", "smtp://smtp:2525"),
        (SMTP, "localhost", "smtp://localhost:25"),
        (SMTP, "mail_1:65535", "smtp://mail_1:65535"),
        (SMTP, "mx1.3com.example", "smtp://mx1.3com.example:25"),
        (CLAMAV, "clamd:///run/clamav/clamd.ctl", "clamd:///run/clamav/clamd.ctl"),
        (CLAMAV, "/run/clamav/clamd.ctl", "clamd:///run/clamav/clamd.ctl"),
        (CLAMAV, "clamd://scanner:3311", "clamd://scanner:3311"),
    ],
)
def test_canonical_form_with_defaults(service_type: ServiceType, text: str, expected: str) -> None:
    assert canonical(text, service_type) == expected


@pytest.mark.parametrize("service_type", list(ServiceType))
def test_each_type_takes_its_schemes_and_no_other(service_type: ServiceType) -> None:
    own = {scheme.name for scheme in ROWS[service_type].schemes}
    for scheme in ("smtp", "smtps", "http", "https", "clamd", "ftp", "lmtp"):
        if scheme in own:
            assert canonical(f"{scheme}://h.example:1", service_type).startswith(f"{scheme}://h.example:1")
        else:
            assert parts(f"{scheme}://h.example:1", service_type) == ["scheme"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["specification"]),
        (" 10.0.0.1", ["specification"]),
        ("10.0.0.1\n", ["specification"]),
        ("10.0.0.1\r\nRCPT TO:<x@y>", ["specification"]),
        ("10.0.0.1\0", ["specification"]),
        ("mail\u00a0x.example", ["specification"]),
        ("mail\u3000x.example", ["specification"]),
        ("a" * 3000, ["specification"]),
        ("//10.0.0.1", ["scheme"]),
        ("smtp:10.0.0.1", ["scheme"]),
        ("smtp:/10.0.0.1", ["scheme"]),
        ("://10.0.0.1", ["scheme"]),
        ("smtp://user@10.0.0.1", ["user info"]),
        ("smtp://user:secret@10.0.0.1", ["user info"]),
        ("smtp://good@evil", ["user info"]),
        ("smtp://10.0.0.1?x=1", ["query"]),
        ("smtp://10.0.0.1#x", ["fragment"]),
        ("smtp://10.0.0.1/", ["path"]),
        ("smtp://10.0.0.1/x", ["path"]),
        ("smtp://10.0.0.1:0", ["port"]),
        ("smtp://10.0.0.1:65536", ["port"]),
        ("smtp://10.0.0.1:25abc", ["port"]),
        ("smtp://10.0.0.1:-1", ["port"]),
        ("smtp://10.0.0.1:+25", ["port"]),
        ("smtp://10.0.0.1:025", ["port"]),
        ("smtp://10.0.0.1:٢٥", ["port"]),
        ("smtp://10.0.0.1:", ["port"]),
        ("smtp://", ["host"]),
        ("smtp://:25", ["host"]),
        ("smtp://0x7f.1", ["host"]),
        ("smtp://2130706433", ["host"]),
        ("smtp://1.2.3", ["host"]),
        ("smtp://0177.0.0.1", ["host"]),
        ("smtp://0x7f000001", ["host"]),
        ("smtp://127.1", ["host"]),
        ("smtp://256.1.1.1", ["host"]),
        ("smtp://1.2.3.4.5", ["host"]),
        ("smtp://127.0.0.01", ["host"]),
        ("smtp://１２７.０.０.１", ["host"]),
        ("smtp://localhost.", ["host"]),
        ("smtp://10.0.0.1.", ["host"]),
        ("smtp://a..b", ["host"]),
        ("smtp://.a", ["host"]),
        ("smtp://-a.example", ["host"]),
        ("smtp://a-.example", ["host"]),
        ("smtp://" + "a" * 64 + ".example", ["host"]),
        ("smtp://" + "a." * 130 + "example", ["host"]),
        ("smtp://a\\b", ["host"]),
        ("smtp://a%20b", ["host"]),
        ("smtp://a,b", ["host"]),
        ("smtp://*.example", ["host"]),
        ("smtp://xn--a.example", ["host"]),
        ("smtp://℀.example", ["host"]),
        ("smtp://2001:db8::1", ["host"]),
        ("smtp://a:1:2", ["host"]),
        ("smtp://[2001:db8::1", ["host"]),
        ("smtp://[::1]x", ["port"]),
        ("smtp://[fe80::1%25eth0]", ["host"]),
        ("smtp://[::ffff:127.0.0.1]", ["host"]),
        ("smtp://[v1.x]", ["host"]),
        ("smtp://[10.0.0.1]", ["host"]),
        ("smtp://[]", ["host"]),
        ("http://169.254.169.254/latest/meta-data", ["scheme", "path"]),
        ("ftp://u:p@0x7f.1:0/x?y#z", ["scheme", "fragment", "query", "user info", "host", "port", "path"]),
    ],
)
def test_errors_name_every_faulty_part(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


HOSTILE = [
    ("{scheme}://good@evil", "user info"),
    ("{scheme}://u:p@10.0.0.1", "user info"),
    ("{scheme}://0x7f.1", "host"),
    ("{scheme}://2130706433", "host"),
    ("{scheme}://1.2.3", "host"),
    ("{scheme}://localhost.", "host"),
    ("{scheme}://[::ffff:127.0.0.1]", "host"),
    ("{scheme}://[::ffff:7f00:1]", "host"),
    ("{scheme}://10.0.0.1:0", "port"),
    ("{scheme}://10.0.0.1:65536", "port"),
    ("{scheme}://10.0.0.1:25abc", "port"),
    ("{scheme}://10.0.0.1#x", "fragment"),
    ("{scheme}://10.0.0.1?x", "query"),
    ("{scheme}://10.0.0.1/../x", "path"),
    ("{scheme}://10.0.0.1/%2e%2e/x", "path"),
    ("{scheme}://10.0.0.1\r\nRCPT TO:<a@b>", "specification"),
    ("{scheme}://10.0.0.1\n", "specification"),
    ("{scheme}://10.0.0.1\0", "specification"),
    ("{scheme}://10.0.0.1 ", "specification"),
    ("{scheme}://mail\u202eexample", "specification"),
    ("gopher://10.0.0.1", "scheme"),
    ("file://10.0.0.1", "scheme"),
]
"""Spellings by which a server is reached that nobody meant to allow (SSRF), and the part that is told."""


@pytest.mark.parametrize(("text", "part"), HOSTILE)
@pytest.mark.parametrize("service_type", list(ServiceType))
def test_hostile_spellings_are_refused_for_every_type(service_type: ServiceType, text: str, part: str) -> None:
    scheme = ROWS[service_type].schemes[0].name
    assert parts(text.format(scheme=scheme), service_type) == [part]


@pytest.mark.parametrize(("text", "host"), [("раураl.example", "xn--l-7sba6dbr.example"), ("GOOGLE．example", "")])
def test_a_name_that_only_looks_like_another_is_stored_as_what_it_is(text: str, host: str) -> None:
    """Canonical form is A-labels: a homograph cannot be taken for the name that it imitates."""
    assert canonical(text) == f"smtp://{host or 'google.example'}:25"


def test_loopback_is_a_legal_server() -> None:
    """The examples of the seed use it; TEST and roles guard it, not the syntax."""
    for text in ("smtp://127.0.0.1:22", "smtp://[::1]:22", "smtp://localhost:22"):
        assert canonical(text) == text


@pytest.mark.parametrize("text", ["http://h/a b", "http://h/a%2fb", "http://h/../x", "http://h//x", "http://h/é"])
def test_a_vault_path_is_plain(text: str) -> None:
    assert parts(text, VAULT) in (["path"], ["specification"])


@pytest.mark.parametrize(
    "text", ["clamd:///", "clamd:////run/x", "clamd:///run/../x", "clamd:///run/%2e", "clamd:///" + "x" * 107]
)
def test_a_socket_path_is_plain_absolute_and_short(text: str) -> None:
    assert parts(text, CLAMAV) == ["path"]


def test_a_clamd_host_has_no_path() -> None:
    assert parts("clamd://host/run/x", CLAMAV) == ["path"]


def test_only_clamav_takes_a_socket() -> None:
    assert "host" in parts("smtp:///run/x")


@pytest.mark.parametrize(
    ("service_type", "text", "word"),
    [
        (SMTP, "smtp://h:465", "smtps"),
        (SMTP, "smtps://h:25", "smtp"),
        (SMTP, "smtps://h:587", "smtp"),
        (VAULT, "http://h:8000", "8010"),
        (SMTP, "smtp://h:25", ""),
        (SMTP, "smtps://h", ""),
        (CORE, "http://h:8000", ""),
    ],
)
def test_advice_where_another_value_was_probably_meant(service_type: ServiceType, text: str, word: str) -> None:
    specification = parse_specification(text, service_type)
    assert isinstance(specification, Specification)
    advice = advise(specification, service_type)
    assert word in advice
    assert bool(advice) == bool(word)


def test_problems_never_repeat_what_may_be_a_password() -> None:
    for text in ("smtp://user:canary@h", "smtp://user:can/canary@h", "smtp://u:canary]@[h"):
        parsed = parse_specification(text, SMTP)
        assert isinstance(parsed, tuple)
        assert "canary" not in str(parsed)
        assert "canary" not in mask(text)


def test_mask_leaves_what_is_harmless() -> None:
    assert mask("smtp://u:p@h:25") == "smtp://***@h:25"
    assert mask("smtp://h:25") == "smtp://h:25"
    assert mask("u:p@h") == "***@h"


def test_addresses_to_listen_on() -> None:
    assert parse_address("127.0.0.1:2525") == ("127.0.0.1", 2525)
    assert parse_address("[::1]:0") == ("::1", 0)
    assert parse_address("localhost:25") == ("localhost", 25)


@pytest.mark.parametrize("text", ["", "127.0.0.1", ":25", "h:65536", "h:x", "::1:25", "[::1]", "h:"])
def test_bad_addresses_to_listen_on(text: str) -> None:
    found = parse_address(text)
    assert isinstance(found, list)
    assert found


def test_hosts_are_canonical() -> None:
    assert parse_host("MX1.Example") == "mx1.example"
    assert isinstance(parse_host(""), Problem)
