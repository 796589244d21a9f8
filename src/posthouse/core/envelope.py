"""The envelope of a mail and what is known of the SMTP session that brought it.

Standards: RFC 5321 sections 2.3.1, 4.1.2; RFC 3461 section 4; RFC 6531.
"""

from dataclasses import dataclass
from enum import StrEnum


class Body(StrEnum):
    """The BODY parameter of MAIL (RFC 6152); `UNSTATED` if the client sent none."""

    UNSTATED = ""
    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path with its RFC 3461 parameters."""

    address: str
    """Forward-path without angle brackets, domain in lower case, local part as given."""
    notify: str = ""
    """NOTIFY as upper-case list such as `SUCCESS,FAILURE`, `NEVER`, or empty."""
    orcpt: str = ""
    """ORCPT as received (`rfc822;user@example`, xtext kept), or empty."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path, forward-paths and parameters of one mail transaction."""

    reverse_path: str
    """Without angle brackets; empty for the null reverse-path `<>`."""
    recipients: tuple[Recipient, ...]
    body: Body = Body.UNSTATED
    smtputf8: bool = False
    ret: str = ""
    """`FULL`, `HDRS` or empty (RFC 3461 section 4.3)."""
    envid: str = ""
    """ENVID as received, xtext kept, or empty (RFC 3461 section 4.4)."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What one SMTP session told us, as it goes into trail, policy and Received."""

    client_address: str
    """IP address, in its shortest text form; after PROXY or XCLIENT the address they named."""
    client_port: int
    helo: str
    protocol: str
    """RFC 3848 keyword for Received: SMTP, ESMTP, ESMTPS, UTF8SMTP, UTF8SMTPS."""
    listener: str
    """The listener's address such as `0.0.0.0:25`."""
    tls: str = ""
    """TLS version and cipher, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`, or empty."""
    trusted: bool = False
    """The client is in `trusted_clients`."""
    peer_address: str = ""
    """The connecting address where PROXY or XCLIENT named another client, else empty."""
