"""Start-up settings of one node: posthouse.toml with environment and flags on top."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from posthouse.core.limits import Limits

Network = IPv4Network | IPv6Network


class ListenerTls(StrEnum):
    """TLS of a listener."""

    NONE = "none"
    STARTTLS_OPTIONAL = "starttls-optional"
    STARTTLS_REQUIRED = "starttls-required"
    IMPLICIT = "implicit"


class BareNewlines(StrEnum):
    """What a bare CR or LF in content leads to."""

    REFUSE = "refuse"
    NORMALISE = "normalise"


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port to listen on; port 0 asks the system for one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One SMTP listener."""

    listen: Address
    tls: ListenerTls = ListenerTls.NONE
    max_size: int = 50 * 1024 * 1024
    bare_newlines: BareNewlines = BareNewlines.REFUSE
    """For clients outside `trusted_clients`; for those in it `trusted_bare_newlines` holds."""
    trusted_bare_newlines: BareNewlines = BareNewlines.NORMALISE
    proxy_protocol_from: tuple[Network, ...] = ()
    xclient_from: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnMail:
    """How mail that posthouse generates leaves; design section 3."""

    profile: str
    sender: str
    """`from` in the file: the address in the From field of DSNs."""
    postmaster: str


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """All of posthouse.toml."""

    hostname: str
    data_dir: str = "./posthouse-data"
    database: str = "sqlite"
    workers: int = 1
    listeners: tuple[ListenerSettings, ...] = (ListenerSettings(Address("127.0.0.1", 2525)),)
    console: Address = Address("127.0.0.1", 8025)
    own_mail: OwnMail | None = None
    trusted_clients: tuple[Network, ...] = ()
    limits: Limits = field(default_factory=Limits)
