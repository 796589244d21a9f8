"""PROXY protocol headers, whole, in pieces, and hostile."""

import socket
import struct

import pytest

from posthouse.core.proxy_protocol import ProxyError, ProxyHeader, parse_proxy

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("10.0.0.1") + struct.pack(">HH", 4567, 25)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + b"\0" * 16 + struct.pack(">HH", 4567, 25)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.7") + b"\0" * 16 + struct.pack(">HH", 4567, 25)


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(body)) + body


@pytest.mark.parametrize(
    ("octets", "address", "port"),
    [
        (b"PROXY TCP4 192.0.2.9 10.0.0.1 1234 25\r\n", "192.0.2.9", 1234),
        (b"PROXY TCP6 2001:DB8:0::9 ::1 1234 25\r\n", "2001:db8::9", 1234),
        (b"PROXY TCP6 ::ffff:192.0.2.9 ::1 1234 25\r\n", "192.0.2.9", 1234),
        (b"PROXY UNKNOWN\r\n", "", 0),
        (b"PROXY UNKNOWN ffff:f::1 ffff::2 65535 65535\r\n", "", 0),
        (v2(1, 0x11, V4), "192.0.2.7", 4567),
        (v2(1, 0x21, V6), "2001:db8::7", 4567),
        (v2(1, 0x21, MAPPED), "192.0.2.7", 4567),
        (v2(1, 0x11, V4 + b"\x04\x00\x03abc"), "192.0.2.7", 4567),
        (v2(0, 0x11, V4), "", 0),
        (v2(0, 0x00, b""), "", 0),
        (v2(1, 0x31, b"\0" * 216), "", 0),
        (v2(1, 0x12, V4), "", 0),
    ],
)
def test_header_is_read_and_is_incomplete_up_to_its_last_octet(octets: bytes, address: str, port: int) -> None:
    for end in range(len(octets)):
        assert parse_proxy(octets[:end]) is None
    assert parse_proxy(octets) == ProxyHeader(len(octets), address, port)
    assert parse_proxy(octets + b"EHLO x\r\n") == ProxyHeader(len(octets), address, port)


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"proxy TCP4 192.0.2.9 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.9 10.0.0.1 1\r\n",
        b"PROXY TCP4 192.0.2.999 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.9 10.0.0.1 65536 2\r\n",
        b"PROXY TCP4 192.0.2.9 10.0.0.1 -1 2\r\n",
        b"PROXY TCP4  192.0.2.9 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.\xff 10.0.0.1 1 2\r\n",
        b"PROXY UDP4 192.0.2.9 10.0.0.1 1 2\r\n",
        b"PROXY " + b"x" * 101,
        v2(2, 0x11, V4),
        SIGNATURE + b"\x11\x11\x00\x0c" + V4,
        v2(1, 0x11, V4[:11]),
        v2(1, 0x21, V6[:35]),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_malformed_or_unbounded_header_is_an_error(octets: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy(octets)
