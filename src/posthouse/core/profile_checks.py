"""Properties of a server profile that must match each other, and the canonical form of those that have one.

| Table of the seed | Here |
| --- | --- |
| type x property | `check_properties`, by `service_type.ROWS` |
| type x scheme | `uri.parse_specification`, by `service_type.ROWS` |
| scheme x encryption | `check_dependencies`, by `service_type.Encryption` |

Standards: seed 3.7 (property validation); design sections 2.6 to 2.9, 2.12 and 2.13.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from posthouse.core.details_link import parse_details_pattern
from posthouse.core.encryption import Tls, TlsVerify, encryption_of, parse_pin, parse_tls_name, tls_comes_about
from posthouse.core.faults import Fault
from posthouse.core.fields import Values, join, shown
from posthouse.core.public_url import parse_public_url
from posthouse.core.service_type import ROWS, TLS_SETTINGS, Encryption, ServiceType
from posthouse.core.uri import Problem, Specification, mask

Servers = tuple[tuple[str, Specification], ...]
"""Specifications with the paths where they stand."""


def check_properties(values: Values, service_type: ServiceType, path: str) -> Iterator[Fault]:
    """Type x property (seed: "Server profile type" column of the properties; design 2.9 and 2.13)."""
    row = ROWS[service_type]
    for name in sorted(values.given - row.properties - {"name", "type", "servers"}):
        able = ", ".join(other for other, candidate in ROWS.items() if name in candidate.properties)
        rule = f"A {service_type} profile has no {name}."
        yield Fault(join(path, name), "", rule, f"Leave it out; only these types have it: {able}.")
    for name in sorted(row.required - values.given):
        rule = f"A {service_type} profile needs {name}."
        yield Fault(join(path, name), "", rule, 'Give it, best as { file = "PATH" }.')


def check_dependencies(
    values: Values, service_type: ServiceType, servers: Servers, path: str, *, tls_known: bool
) -> Iterator[Fault]:
    """What must match among the properties that the type has; `servers` are those without a fault.

    `tls_known`: the setting `tls` is none of the faults, so that nothing false is told of where TLS comes about.
    """
    allowed = ROWS[service_type].properties
    for name, other in (("username", "password"), ("password", "username")):
        if name in allowed & values.given and other not in values.given:
            rule = f"{name} is given without {other}."
            yield Fault(join(path, other), "", rule, f"Give {other}, too, or leave out both.")
    if values.optional_text("tls_verify") == TlsVerify.PINNED and "tls_pin" not in values.given:
        rule = "tls_verify is pinned, but no certificate is pinned."
        yield Fault(join(path, "tls_pin"), "", rule, "Give the SHA-256 of the certificate.")
    if not tls_known:
        return
    tls = Tls(values.text("tls"))
    clear = [where for where, server in servers if not tls_comes_about(encryption_of(service_type, server), tls)]
    if values.boolean("client_certificate") and "client_certificate" in allowed:
        for where in clear:
            rule = f"{where} is reached without TLS, so no client certificate can be shown."
            remedy = f"{_use_tls(service_type)} for every server, or set client_certificate = false."
            yield Fault(join(path, "client_certificate"), "true", rule, remedy)
    if servers and len(clear) == len(values.entries("servers")):
        for name in sorted(allowed & TLS_SETTINGS & values.given):
            if not _asks_nothing(name, values.value(name)):
                rule = f"No server is reached by TLS, so {name} would ask nothing of any."
                remedy = f"{_use_tls(service_type)}, or leave {name} out."
                yield Fault(join(path, name), shown(values.value(name)), rule, remedy)


def canonical(values: Values, path: str, faults: list[Fault]) -> Mapping[str, str]:
    """The texts of `_CANONICAL` in their canonical form, empty if not given; faults are added."""
    texts: dict[str, str] = {}
    for name, parse in _CANONICAL.items():
        text = values.optional_text(name)
        found = parse(text) if text is not None else ""
        texts[name] = found if isinstance(found, str) else ""
        if text is not None and not isinstance(found, str):
            faults.extend(problem_faults(join(path, name), text, found))
    return texts


def problem_faults(where: str, text: str, problems: Iterable[Problem]) -> Iterator[Fault]:
    """A fault for each part of `text`, which stands at `where`; what may be a password in it is hidden."""
    value = shown(mask(text))
    return (Fault(where, value, f"{p.part.capitalize()}: {p.rule}", p.remedy) for p in problems)


def _asks_nothing(name: str, value: object) -> bool:
    """Settings that hold without TLS, too: what is told of every profile, and that nothing is verified."""
    return (name, value) in (("tls_min", "1.2"), ("tls_verify", TlsVerify.NONE.value))


def _use_tls(service_type: ServiceType) -> str:
    schemes = ROWS[service_type].schemes
    always = " or ".join(s.name for s in schemes if s.encryption is Encryption.ALWAYS)
    as_set = " or tls = starttls-required" if any(s.encryption is Encryption.AS_SET for s in schemes) else ""
    return f"Use scheme {always}{as_set}"


def _pin(text: str) -> str | tuple[Problem, ...]:
    remedy = "Write 64 hexadecimal digits, with or without colons; of several certificates with a space between."
    return parse_pin(text) or (Problem("fingerprint", "This is no SHA-256 of a certificate.", remedy),)


def _tls_name(text: str) -> str | tuple[Problem, ...]:
    found = parse_tls_name(text)
    return found if isinstance(found, str) else (found,)


_CANONICAL: Mapping[str, Callable[[str], str | tuple[Problem, ...]]] = {
    "tls_name": _tls_name,
    "tls_pin": _pin,
    "public_url": parse_public_url,
    "details_pattern": parse_details_pattern,
    "batch_pattern": parse_details_pattern,
}
