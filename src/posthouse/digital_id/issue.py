"""Makes keys, self-signed certificates and certificate requests (RFC 2986)."""

import datetime
from collections.abc import Sequence
from enum import StrEnum
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthouse.core.digital_id import DigitalId, PrivateKey, plain_host

DAYS = 825
"""Validity of a self-signed certificate unless asked otherwise."""
_EARLIER = datetime.timedelta(minutes=5)
"""Clocks of others may go after ours."""
_COMMON_NAME_MOST = 64


class KeyType(StrEnum):
    """Keys that are made here."""

    ECDSA = "ecdsa-p256"
    RSA = "rsa-3072"


def new_key(kind: KeyType) -> PrivateKey:
    match kind:
        case KeyType.ECDSA:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.RSA:
            return rsa.generate_private_key(65537, 3072)


def key_type(key: PrivateKey) -> KeyType:
    """The kind to make in place of such a key."""
    return KeyType.RSA if isinstance(key, rsa.RSAPrivateKey) else KeyType.ECDSA


def self_signed(key: PrivateKey, names: Sequence[str], days: int, now: float) -> DigitalId:
    """Valid from now on for `days`; the first of the names is its common name. For servers and clients of TLS."""
    since = datetime.datetime.fromtimestamp(now, datetime.UTC)
    subject = _subject(names)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since - _EARLIER)
        .not_valid_after(since + datetime.timedelta(days=days))
        .add_extension(_alternatives(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_USAGE, critical=False)
    )
    return DigitalId(builder.sign(key, _digest(key)), (), key)


def request(key: PrivateKey, names: Sequence[str]) -> x509.CertificateSigningRequest:
    """For a CA."""
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(names))
        .add_extension(_alternatives(names), critical=False)
        .add_extension(_USAGE, critical=False)
    )
    return builder.sign(key, _digest(key))


_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def _subject(names: Sequence[str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, plain_host(names[0])[:_COMMON_NAME_MOST])])


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in map(plain_host, names):
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    """Ed25519 has its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
