"""A CA of a test: issues what is wanted, good and bad."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from posthouse.core.digital_id import DigitalId

HOST = "mx.example"
NOW = 1_764_000_000.0
"""2025-11-24 16:00 UTC, as `MemoryClock`."""
DAY = 86400.0


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


@dataclass(frozen=True)
class Issuer:
    """A CA, or an intermediate one."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issuer(self, name: str, *, since: float = NOW - DAY, until: float = NOW + 900 * DAY) -> "Issuer":
        """An intermediate CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Issuer(
            _certificate(name, key.public_key(), self, self.certificate.subject, since, until, ca=True), key
        )

    def leaf(
        self,
        names: Sequence[str] = (HOST,),
        *,
        since: float = NOW - DAY,
        until: float = NOW + 90 * DAY,
        usage: Sequence[x509.ObjectIdentifier] = (),
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> DigitalId:
        key = key or ec.generate_private_key(ec.SECP256R1())
        name = names[0] if names else HOST
        own = _certificate(name, key.public_key(), self, self.certificate.subject, since, until, names, usage)
        return DigitalId(own, (), key)

    def sign(self, request: x509.CertificateSigningRequest, *, since: float, until: float) -> x509.Certificate:
        """What a CA makes of a request."""
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return _certificate(hosts[0], key, self, self.certificate.subject, since, until, hosts)


def issuer(name: str, *, since: float = NOW - DAY, until: float = NOW + 900 * DAY) -> Issuer:
    """A root."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Issuer(_certificate(name, key.public_key(), key, None, since, until, ca=True), key)


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    signer: Issuer | ec.EllipticCurvePrivateKey,
    issued_by: x509.Name | None,
    since: float,
    until: float,
    names: Sequence[str] = (),
    usage: Sequence[x509.ObjectIdentifier] = (),
    ca: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(min(since, until - 1), UTC))
        .not_valid_after(datetime.fromtimestamp(until, UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)
    return builder.sign(signer.key if isinstance(signer, Issuer) else signer, hashes.SHA256())
