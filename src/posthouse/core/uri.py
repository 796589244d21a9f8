"""Server specifications: reading what people write, canonical form, advice.

| Service type | Schemes (first = default) | Port | Path |
| --- | --- | --- | --- |
| smtp | smtp, smtps | 25, 465 | none |
| metadefender-core | http, https | 8008 | none |
| metadefender-vault | http, https | 8010 | /vault_rest |
| clamav | clamd | 3310 | absolute path of a socket instead of host and port |

Input may be short (`10.0.0.1`, `mail.example:2525`, `[2001:db8::1]:25`); `str(specification)` is the canonical form
and `parse_specification(str(s), type) == s`. No lenient spelling of addresses (`0x7f.1`, `2130706433`, `1.2.3`).
Standards: RFC 3986 section 3; RFC 5890 section 2.3.2.1 (A-labels); seed 3.7; design sections 2.1 to 2.3.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

from posthouse.core.fields import has_control
from posthouse.core.service_type import ROWS, Scheme, ServiceType, ServiceTypeRow, scheme_of

LONGEST = 2048
"""Characters of a specification."""
SOCKET_PATH_OCTETS = 107
"""A socket address holds 108 octets with the closing NUL."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCHEME_WITHOUT_SLASHES = re.compile(r"([A-Za-z][A-Za-z0-9+-]*):/?(?!/)")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")


@dataclass(frozen=True, slots=True)
class Specification:
    """One server; all fields canonical."""

    scheme: str
    """Lower case."""
    host: str
    """Name in lower case (A-labels), IPv4, or IPv6 without brackets; empty for a socket."""
    port: int
    """1-65535, always set; 0 for a socket."""
    path: str = ""
    """Path of a vault (`/vault_rest`), absolute path of a socket, else empty."""

    def __str__(self) -> str:
        if not self.host:
            return f"{self.scheme}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one part of a specification; fits a `Fault`."""

    part: str
    """specification, scheme, user info, host, port, path, query or fragment."""
    rule: str
    remedy: str


def parse_specification(text: str, service_type: ServiceType) -> Specification | tuple[Problem, ...]:
    """The specification, or everything that is wrong with it, part by part."""
    row = ROWS[service_type]
    example = _example(row)
    if has_control(text):
        return (Problem("specification", "There are control characters in it.", f"Write it as {example}."),)
    if not text or any(char.isspace() for char in text):
        rule = "There is white space in it." if text else "The specification is empty."
        return (Problem("specification", rule, f"Write it as {example}."),)
    if len(text) > LONGEST:
        return (Problem("specification", f"It has more than {LONGEST} characters.", f"Write it as {example}."),)
    problems: list[Problem] = []
    scheme, rest = _split_scheme(text, service_type, problems)
    authority, slash, tail = without_query(rest, problems).partition("/")
    path = slash + tail
    if row.socket_path and slash and not authority:
        problems.extend(_check_socket_path(path))
        return tuple(problems) or Specification(scheme.name, "", 0, path)
    host, port = parse_authority(authority, problems, "Use username and password of the profile.")
    if port is None:
        port = scheme.port
    path = _parse_path(path, row, problems)
    return tuple(problems) or Specification(scheme.name, host, port, path)


def without_query(rest: str, problems: list[Problem]) -> str:
    """What stands before a query and a fragment, neither of which is allowed."""
    rest, hash_sign, _ = rest.partition("#")
    if hash_sign:
        problems.append(Problem("fragment", "No fragment (#) is allowed.", "Leave out # and what follows."))
    rest, question_mark, _ = rest.partition("?")
    if question_mark:
        problems.append(Problem("query", "No query (?) is allowed.", "Leave out ? and what follows."))
    return rest


def parse_authority(text: str, problems: list[Problem], instead: str) -> tuple[str, int | None]:
    """Canonical host, and the port or None, of what stands between the scheme and a path (RFC 3986 section 3); what
    is faulty is empty or 0, with a problem. `instead`: the remedy for user info, which is not allowed."""
    _, at_sign, text = text.rpartition("@")
    if at_sign:
        problems.append(Problem("user info", "No user info (before @) is allowed.", instead))
    host_text, port_text = _split_port(text, problems)
    host = parse_host(host_text) if host_text is not None else ""
    if isinstance(host, Problem):
        problems.append(host)
        host = ""
    return host, None if port_text is None else _parse_port(port_text, problems, 1)


def parse_host(text: str) -> str | Problem:
    """Canonical host of a name, an IPv4 address, or an IPv6 address in brackets (returned without them)."""
    if text.startswith("["):
        return _parse_ipv6(text)
    if not text:
        return Problem("host", "The host is missing.", "Write a name, an IPv4 address or [an IPv6 address].")
    if len(text) > 253:
        return Problem("host", "The host has more than 253 characters.", "Write a shorter name.")
    host = text.lower()
    if not host.isascii() or "xn--" in host:
        try:
            host = idna.encode(host, uts46=True, std3_rules=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return Problem("host", "This is no internationalized domain name.", "Write a name that IDNA allows.")
    if host.endswith("."):
        return Problem("host", "A host does not end in a dot.", f"Write {host.rstrip('.') or 'a name'}.")
    labels = host.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            # What came out of IDNA mapping (full-width digits) is a lenient spelling, too.
            return str(IPv4Address(text))
        except AddressValueError:
            return Problem(
                "host",
                "A host that ends in a number must be an IPv4 address of four decimal numbers.",
                "Write it like 10.0.0.1, without leading zeros.",
            )
    for label in labels:
        if not _LABEL.fullmatch(label):
            rule = (
                "A label of the name has characters that names have not."
                if label
                else "A label of the name is empty."
            )
            return Problem("host", rule, "Use letters, digits and inner hyphens, at most 63 characters a label.")
    return host


def parse_address(text: str) -> tuple[str, int] | list[Problem]:
    """Host and port of an address to listen on, `HOST:PORT`; port 0 is allowed and means any free one."""
    problems: list[Problem] = []
    host_text, port_text = _split_port(text, problems)
    host = parse_host(host_text) if host_text is not None else ""
    if isinstance(host, Problem):
        problems.append(host)
        host = ""
    if port_text is None and host_text is not None:
        problems.append(Problem("port", "The port is missing.", "Write HOST:PORT."))
    port = _parse_port(port_text, problems, 0) if port_text is not None else 0
    return problems or (host, port)


def advise(specification: Specification, service_type: ServiceType) -> str:
    """A sentence where a valid specification is probably not what was meant, else empty."""
    match service_type, specification.scheme, specification.port:
        case ServiceType.SMTP, "smtp", 465:
            return "Port 465 speaks TLS from the start: did you mean smtps?"
        case ServiceType.SMTP, "smtps", 25 | 587:
            return f"Port {specification.port} usually starts in clear text: did you mean smtp with StartTLS?"
        case ServiceType.METADEFENDER_VAULT, _, 8000:
            return "MetaDefender Vault listens on 8010 since 1.3.7; 8000 was its port before."
        case _:
            return ""


def plain_path(path: str) -> bool:
    """An absolute path of which no server makes another one: no `.`, `..`, empty parts or percent-encoding."""
    return bool(_PATH.fullmatch(path)) and not any(part in (".", "..") for part in path.split("/"))


def mask(text: str) -> str:
    """A specification as it may be shown: what stands before @ is hidden, as it may be a password."""
    found = _SCHEME.match(text)
    start = found.end() if found else 0
    at = text.rfind("@", start)
    return text if at < 0 else f"{text[:start]}***{text[at:]}"


def _example(row: ServiceTypeRow) -> str:
    scheme = row.schemes[0]
    return f"{scheme.name}://10.0.0.1:{scheme.port}{row.path}"


def _split_scheme(text: str, service_type: ServiceType, problems: list[Problem]) -> tuple[Scheme, str]:
    schemes = ROWS[service_type].schemes
    names = " or ".join(scheme.name for scheme in schemes)
    found = _SCHEME.match(text)
    if found is not None:
        name = found.group(1).lower()
        scheme = scheme_of(service_type, name)
        if scheme is None:
            problems.append(Problem("scheme", f"A {service_type} profile has no scheme {name}.", f"Use {names}."))
        return scheme or schemes[0], text[found.end() :]
    if text.startswith(("//", "://")):
        problems.append(Problem("scheme", "The scheme is missing before //.", f"Use {names}."))
        return schemes[0], text.partition("//")[2]
    short = _SCHEME_WITHOUT_SLASHES.match(text)
    if short is not None and (scheme := scheme_of(service_type, short.group(1).lower())) is not None:
        remedy = f"Write {scheme.name}://{text[short.end() :]}."
        if not _PORT.fullmatch(text[short.end() :]):
            problems.append(Problem("scheme", "The scheme is not followed by ://.", remedy))
            return scheme, text[short.end() :]
    return schemes[0], text


def _split_port(authority: str, problems: list[Problem]) -> tuple[str | None, str | None]:
    """Host and port as text, the port None without colon; the host is None when a problem with it is among
    `problems` already."""
    if authority.startswith("["):
        end = authority.rfind("]")
        if end < 0:
            problems.append(Problem("host", "The closing ] is missing.", "Write it like [2001:db8::1]."))
            return None, None
        host, rest = authority[: end + 1], authority[end + 1 :]
        if not rest:
            return host, None
        if not rest.startswith(":"):
            problems.append(Problem("port", "Only :PORT may follow the ].", "Write it like [2001:db8::1]:25."))
            return host, None
        return host, rest[1:]
    if authority.count(":") > 1:
        problems.append(
            Problem("host", "There is more than one colon.", "Write an IPv6 address in brackets: [2001:db8::1].")
        )
        return None, None
    host, colon, port = authority.partition(":")
    return host, port if colon else None


def _parse_port(text: str, problems: list[Problem], least: int) -> int:
    """The port, or 0 and a problem."""
    if text == "0" and least == 0:
        return 0
    if _PORT.fullmatch(text) and int(text) <= 65535:
        return int(text)
    rule = "This is no port." if text else "The port after the colon is missing."
    problems.append(Problem("port", rule, f"Write a number from {least} to 65535, or leave out the colon."))
    return 0


def _parse_ipv6(text: str) -> str | Problem:
    if not text.endswith("]"):
        return Problem("host", "The closing ] is missing.", "Write it like [2001:db8::1].")
    inner = text[1:-1]
    if "%" in inner:
        return Problem("host", "An IPv6 address has no zone here.", "Leave out % and what follows.")
    try:
        address = IPv6Address(inner)
    except AddressValueError:
        return Problem("host", "This is no IPv6 address.", "Write it like [2001:db8::1].")
    if address.ipv4_mapped is not None:
        return Problem("host", "This is an IPv4 address in IPv6 clothes.", f"Write {address.ipv4_mapped}.")
    return str(address)


def _parse_path(path: str, row: ServiceTypeRow, problems: list[Problem]) -> str:
    if not row.path:
        if path:
            problems.append(Problem("path", "No path is allowed, only scheme, host and port.", "Leave out the path."))
        return ""
    if path in ("", "/"):
        return row.path
    path = path.removesuffix("/")
    if not plain_path(path):
        problems.append(Problem("path", "This is no plain absolute path.", f"Write it like {row.path}."))
    return path


def _check_socket_path(path: str) -> list[Problem]:
    parts = path.split("/")[1:]
    if "%" in path or any(part in ("", ".", "..") for part in parts):
        return [Problem("path", "This is no plain absolute path.", "Write it like clamd:///run/clamav/clamd.ctl.")]
    if len(path.encode()) > SOCKET_PATH_OCTETS:
        return [Problem("path", f"It has more than {SOCKET_PATH_OCTETS} octets.", "Use a shorter path.")]
    return []
