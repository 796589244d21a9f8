"""PROXY protocol, versions 1 and 2: the header a load balancer writes before the client's octets.

A pure function over what has come so far; the caller adds octets and asks again. An incomplete header is
always incomplete to its last octet, so a caller may consume everything it was given when `None` comes back.
Standard: haproxy.org, "The PROXY protocol", versions 1 and 2 (2020/03/05).
"""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V1 = b"PROXY "
_V1_MAX = 107
"""Longest line of version 1, CRLF included (section 2.1)."""
V2_MAX = 4096
"""Longest header of version 2 that we read, TLVs included; the standard would allow 65,551 octets."""
_INET, _INET6 = 0x1, 0x2


class ProxyError(Exception):
    """The octets are no PROXY header; the connection is to be closed without a word."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header; `address` is empty where the proxy speaks for itself (LOCAL, UNKNOWN)."""

    octets: int
    """Length of the header."""
    address: str = ""
    """The client's IP address in its shortest text form."""
    port: int = 0


def parse_proxy(octets: bytes) -> ProxyHeader | None:
    """The header at the start of `octets`, None while it is incomplete. Raises ProxyError."""
    if octets.startswith(_V2[: len(octets)]):
        return _version2(octets) if len(octets) >= 16 else None
    if octets.startswith(_V1[: len(octets)]):
        return _version1(octets)
    raise ProxyError("no PROXY header")


def _version1(octets: bytes) -> ProxyHeader | None:
    end = octets.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(octets) >= _V1_MAX:
            raise ProxyError("PROXY line without an end")
        return None
    words = octets[:end].split(b" ")
    if len(words) >= 2 and words[1] == b"UNKNOWN":
        return ProxyHeader(end + 2)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyError("malformed PROXY line")
    ports = [_port(word) for word in words[4:]]
    try:
        if words[1] == b"TCP4":
            addresses = [str(IPv4Address(word.decode("ascii"))) for word in words[2:4]]
        else:
            addresses = [_ipv6(IPv6Address(word.decode("ascii"))) for word in words[2:4]]
    except (AddressValueError, UnicodeDecodeError) as error:
        raise ProxyError("malformed address in PROXY line") from error
    return ProxyHeader(end + 2, addresses[0], ports[0])


def _port(word: bytes) -> int:
    if not (word.isdigit() and len(word) <= 5 and int(word) <= 65535):
        raise ProxyError("malformed port in PROXY line")
    return int(word)


def _version2(octets: bytes) -> ProxyHeader | None:
    version, command = octets[12] >> 4, octets[12] & 0x0F
    family, transport = octets[13] >> 4, octets[13] & 0x0F
    size = int.from_bytes(octets[14:16], "big")
    total = 16 + size
    if version != 2 or command > 1:
        raise ProxyError("unknown version or command of PROXY header")
    if total > V2_MAX:
        raise ProxyError("PROXY header too long")
    if len(octets) < total:
        return None
    if command == 0 or transport != 1:
        return ProxyHeader(total)
    if family == _INET:
        if size < 12:
            raise ProxyError("PROXY header too short for IPv4")
        return ProxyHeader(total, str(IPv4Address(octets[16:20])), int.from_bytes(octets[24:26], "big"))
    if family == _INET6:
        if size < 36:
            raise ProxyError("PROXY header too short for IPv6")
        return ProxyHeader(total, _ipv6(IPv6Address(octets[16:32])), int.from_bytes(octets[48:50], "big"))
    return ProxyHeader(total)


def _ipv6(address: IPv6Address) -> str:
    """A mapped IPv4 address counts as IPv4, so that it matches IPv4 networks; a zone is no client address."""
    if address.scope_id is not None:
        raise ProxyError("zone in PROXY line")
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(address)
