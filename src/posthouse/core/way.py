"""How a mail went to its next hop: what is known of a connection and the same for every mail on it.

Not the settings, but what came of them: a connection in clear text says so, whatever the profile prefers.
"""

from dataclasses import dataclass
from enum import StrEnum

CLEAR_TEXT = "none"


class Certificate(StrEnum):
    """What was asked of the server's certificate, and held."""

    VERIFIED = "verified"
    """Valid, for the server's name, of a trusted CA."""
    PINNED = "pinned"
    UNVERIFIED = "unverified"
    """Any would have done."""
    NONE = "none"
    """No TLS, so none was shown."""


@dataclass(frozen=True, slots=True)
class WayFacts:
    """One connection to a next hop; made a few times for each connection, never for a mail."""

    local: str = ""
    """Address and port of ours, such as `192.0.2.1:41234` or `[2001:db8::1]:41234`; empty if not known."""
    remote: str = ""
    """Address and port in fact connected to: one of those that the server's name stands for."""
    tls: str = CLEAR_TEXT
    """TLS version and cipher, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`; `none` in clear text."""
    certificate: Certificate = Certificate.NONE
    login: str = ""
    """User name that the server accepted with its password; empty without login."""
