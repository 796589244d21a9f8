"""Networks of clients: strict CIDR, how much they cover, whether an address lies in them."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from posthouse.core.faults import Fault
from posthouse.core.fields import Values, shown

Network = IPv4Network | IPv6Network
_CIDR = re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?")


def parse_network(text: str) -> Network | tuple[str, str]:
    """The network of `10.0.0.0/8`, `2001:db8::/32` or one address; else the rule broken and a remedy."""
    example = "Write it like 10.0.0.0/8, 2001:db8::/32 or 10.0.0.1."
    if not _CIDR.fullmatch(text):
        return "This is no address or network in CIDR form.", example
    try:
        network = ip_network(text)
    except ValueError:
        try:
            loose = ip_network(text, strict=False)
        except ValueError:
            return "This is no address or network in CIDR form.", example
        return "The address has bits outside the prefix.", f"Did you mean {loose}?"
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        return "Clients over IPv4 are known by their IPv4 address.", "Write the network in IPv4 form."
    return network


def parse_client(text: str) -> IPv4Address | IPv6Address | None:
    """A client's address, IPv4-mapped ones as IPv4; None if it is none (a local socket, an unknown client)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def cover_more_than(networks: Iterable[Network], ipv4_prefix: int, ipv6_prefix: int) -> bool:
    """All the networks together hold more addresses than one network of that prefix."""
    ipv4: list[IPv4Network] = []
    ipv6: list[IPv6Network] = []
    for network in networks:
        if isinstance(network, IPv4Network):
            ipv4.append(network)
        else:
            ipv6.append(network)
    return (
        sum(n.num_addresses for n in collapse_addresses(ipv4)) > 1 << (32 - ipv4_prefix)
        or sum(n.num_addresses for n in collapse_addresses(ipv6)) > 1 << (128 - ipv6_prefix)
    )  # fmt: skip


def read_networks(values: Values, name: str, faults: list[Fault]) -> tuple[Network, ...]:
    """The networks listed under `name`; those that are none become faults."""
    networks: list[Network] = []
    for where, text in values.entries(name):
        network = parse_network(text)
        if isinstance(network, tuple):
            faults.append(Fault(where, shown(text), *network))
        else:
            networks.append(network)
    return tuple(networks)
