"""Transport level encryption of a server profile: its settings, and at which servers TLS comes about.

`service_type.Encryption` says it per scheme; the seed's table "scheme x transport level encryption" follows from it:
the setting `tls` decides for smtp, is irrelevant for smtps, and there is none for the other schemes.
Standards: seed 3.7 (transport level encryption, property validation); design sections 2.6 and 2.8.
"""

import re
from enum import StrEnum

from posthouse.core.service_type import Encryption, ServiceType, scheme_of
from posthouse.core.uri import Problem, Specification, parse_host

_PIN = re.compile(r"[0-9a-f]{64}|[0-9a-f]{2}(?::[0-9a-f]{2}){31}")


class Tls(StrEnum):
    """Transport level encryption for scheme smtp (design 2.6)."""

    NONE = "none"
    STARTTLS_OPTIONAL = "starttls-optional"
    STARTTLS_REQUIRED = "starttls-required"


class TlsVerify(StrEnum):
    """What is asked of the server's certificate."""

    VERIFY = "verify"
    PINNED = "pinned"
    NONE = "none"


def encryption_of(service_type: ServiceType, server: Specification) -> Encryption:
    """Of the scheme of a valid specification."""
    scheme = scheme_of(service_type, server.scheme)
    return scheme.encryption if scheme is not None else Encryption.NEVER


def tls_comes_about(encryption: Encryption, tls: Tls) -> bool:
    """Whether a server is reached by TLS; with starttls-optional that is so if the server offers it."""
    match encryption:
        case Encryption.AS_SET:
            return tls is not Tls.NONE
        case Encryption.ALWAYS:
            return True
        case Encryption.NEVER:
            return False


def verified_by(encryption: Encryption, tls: Tls, tls_verify: TlsVerify | None) -> TlsVerify:
    """What is asked of a server's certificate where TLS comes about: the setting, or its default, which is nothing
    for starttls-optional (design 2.6)."""
    optional = encryption is Encryption.AS_SET and tls is Tls.STARTTLS_OPTIONAL
    return tls_verify or (TlsVerify.NONE if optional else TlsVerify.VERIFY)


def parse_pin(text: str) -> str | None:
    """Canonical `tls_pin`, 64 hexadecimal digits in lower case, of such digits in either case, with a colon after
    every second one or without; None if it is no SHA-256."""
    pin = text.strip().lower()
    return pin.replace(":", "") if _PIN.fullmatch(pin) else None


def parse_tls_name(text: str) -> str | Problem:
    """Canonical `tls_name`: a host as in a specification, but an IPv6 address may stand without brackets, too, and
    is returned without them."""
    if text.count(":") > 1 and not text.startswith("["):
        return parse_host(f"[{text}]")
    return parse_host(text)
