"""Addresses of this machine, and those that a TEST must not connect to: own listeners, and link-local ones. Pure.

Standards: design 2.11 and section 3 (last line); RFC 3927; RFC 4291 section 2.5.6.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

OWN_LISTENER = "the server is a listener of this node: mail would loop"
LINK_LOCAL = "link-local addresses are not tested"


def refusal(address: str, port: int, listeners: Iterable[tuple[str, int]], *, local: bool) -> str:
    """Why not to connect there, one sentence; empty if there is nothing against it.

    `listeners`: addresses and ports where this node listens. `local`: the address is one of this machine, so that a
    listener on all addresses is meant by it, too.
    """
    found = _plain(address)
    if found.is_link_local:
        return LINK_LOCAL
    for host, own_port in listeners:
        own = _plain(host)
        if port == own_port and (found == own or (local and (own.is_unspecified or found.is_unspecified))):
            return OWN_LISTENER
    return ""


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, is of this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _plain(address: str) -> IPv4Address | IPv6Address:
    """Without scope; an IPv4 address in an IPv6 one is what it stands for."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
