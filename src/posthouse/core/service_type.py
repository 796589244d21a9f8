"""Service types of server profiles: one row each. A new type is one member, one row here and one client module.

Seed: service type, allowed schemes, default ports, default path, properties by type; design sections 2.1, 2.2, 2.13.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ServiceType(StrEnum):
    """What the servers of a profile do."""

    SMTP = "smtp"
    METADEFENDER_CORE = "metadefender-core"
    METADEFENDER_VAULT = "metadefender-vault"
    CLAMAV = "clamav"


class Encryption(StrEnum):
    """Whether servers of a scheme are reached by TLS; the text is how documents tell it."""

    AS_SET = "as `tls` of the profile says"
    ALWAYS = "TLS from the first octet"
    NEVER = "clear text"


MOST_SERVERS = 100
"""Of a profile, whatever its type."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A scheme that a server specification may have."""

    name: str
    port: int
    """Used when the specification names none."""
    encryption: Encryption


@dataclass(frozen=True, slots=True)
class ServiceTypeRow:
    """What holds for one service type."""

    schemes: tuple[Scheme, ...]
    """The first is the default."""
    properties: frozenset[str]
    """Those allowed besides name, type and servers."""
    required: frozenset[str] = frozenset()
    path: str = ""
    """Default path; empty: no path is allowed."""
    socket_path: bool = False
    """An absolute path of a socket may stand instead of host and port."""
    maximum_servers: int = MOST_SERVERS


TLS_SETTINGS = frozenset({"tls_verify", "tls_name", "tls_ca", "tls_pin", "tls_min"})
"""What is asked of a server's TLS, however it came about: by StartTLS, smtps or https (design 2.13)."""

ROWS: Mapping[ServiceType, ServiceTypeRow] = {
    ServiceType.SMTP: ServiceTypeRow(
        schemes=(Scheme("smtp", 25, Encryption.AS_SET), Scheme("smtps", 465, Encryption.ALWAYS)),
        properties=TLS_SETTINGS
        | {"preference", "tls", "username", "password", "client_certificate", "allow_plaintext_auth", "pool"},
    ),
    ServiceType.METADEFENDER_CORE: ServiceTypeRow(
        schemes=(Scheme("http", 8008, Encryption.NEVER), Scheme("https", 8008, Encryption.ALWAYS)),
        properties=TLS_SETTINGS
        | {"preference", "client_certificate", "api_key", "public_url", "details_pattern", "batch_pattern"},
    ),
    ServiceType.METADEFENDER_VAULT: ServiceTypeRow(
        schemes=(Scheme("http", 8010, Encryption.NEVER), Scheme("https", 8010, Encryption.ALWAYS)),
        properties=TLS_SETTINGS | {"api_key"},
        required=frozenset({"api_key"}),
        path="/vault_rest",
        maximum_servers=1,
    ),
    ServiceType.CLAMAV: ServiceTypeRow(
        schemes=(Scheme("clamd", 3310, Encryption.NEVER),),
        properties=frozenset({"preference"}),
        socket_path=True,
    ),
}


def scheme_of(service_type: ServiceType, name: str) -> Scheme | None:
    """The scheme `name` of this type, or None."""
    return next((scheme for scheme in ROWS[service_type].schemes if scheme.name == name), None)
