"""What a certificate says, in words and numbers, and when its end is to be warned of.

Standards: RFC 5280 sections 4.1.2.5 (validity) and 4.2.1 (extensions).
"""

from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = [
    "READING_FAULTS",
    "WARN_DAYS",
    "CertificateFacts",
    "alternative_names",
    "expiry_warning",
    "facts_of",
    "fingerprint",
    "is_issued_by",
    "is_self_signed",
    "key_text",
    "warn_stage",
]

WARN_DAYS = (30, 14, 3)
"""Days left at which the end of a certificate is warned of, each time more urgently."""
DAY = 86400.0
_SHOWN = 200
READING_FAULTS = (ValueError, TypeError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension)
"""What cryptography raises for extensions that are not as they should be."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate. Texts of it are cut, and have no character that moves a cursor."""

    subject: str
    names: tuple[str, ...]
    """DNS names and addresses that it is for."""
    issuer: str
    serial: str
    """Hexadecimal digits."""
    sha256: str
    """Of the DER: what `tls_pin` takes."""
    not_before: float
    """Epoch seconds, as `not_after`."""
    not_after: float
    key: str
    """Such as `ECDSA P-256` or `RSA 3072`."""
    self_signed: bool
    authority: bool
    """It may issue others."""
    server: bool
    """It may be shown by a server, and `client` by a client (extended key usage)."""
    client: bool

    def days_left(self, now: float) -> int:
        """Whole days; negative once it has expired."""
        return int((self.not_after - now) // DAY)


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Never raises for extensions that cannot be read, which count as absent, nor for a key of an unknown kind."""
    usage = _usage(certificate)
    return CertificateFacts(
        subject=_name(certificate.subject),
        names=alternative_names(certificate),
        issuer=_name(certificate.issuer),
        serial=f"{certificate.serial_number:x}",
        sha256=fingerprint(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        key=_key(certificate),
        self_signed=is_self_signed(certificate),
        authority=_authority(certificate),
        server=usage is None or bool(usage & {ExtendedKeyUsageOID.SERVER_AUTH, _ANY}),
        client=usage is None or bool(usage & {ExtendedKeyUsageOID.CLIENT_AUTH, _ANY}),
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER."""
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


_ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


def warn_stage(not_after: float, now: float) -> int | None:
    """The smallest of WARN_DAYS that has been reached, 0 once it has expired; None while there is time."""
    if now >= not_after:
        return 0
    return min((days for days in WARN_DAYS if not_after - now <= days * DAY), default=None)


def expiry_warning(what: str, not_after: float, now: float) -> str:
    """A sentence about `what`, such as `the digital ID`; empty while there is time."""
    stage = warn_stage(not_after, now)
    if stage is None:
        return ""
    days = int(abs(not_after - now) // DAY)
    count = f"{days} day{'' if days == 1 else 's'}"
    return f"{what} expired {count} ago" if stage == 0 else f"{what} expires in {count}"


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Issuer and subject are the same, and its own key has signed it."""
    return is_issued_by(certificate, certificate)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """By name and signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _key(certificate: x509.Certificate) -> str:
    try:
        return key_text(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return "unknown"


def key_text(key: CertificatePublicKeyTypes) -> str:
    """The kind of a public key and its size."""
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {_CURVES.get(key.curve.name, key.curve.name)}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case _:
            return type(key).__name__.lstrip("_").removesuffix("PublicKey")


_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def alternative_names(certificate: x509.Certificate | x509.CertificateSigningRequest) -> tuple[str, ...]:
    """DNS names and addresses that it is, or shall be, for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
        addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    except (*READING_FAULTS, x509.ExtensionNotFound):
        return ()
    return tuple(_clean(name) for name in (*names, *addresses))


def _usage(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier] | None:
    """None where it may be used for anything."""
    try:
        return frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (*READING_FAULTS, x509.ExtensionNotFound):
        return None


def _authority(certificate: x509.Certificate) -> bool:
    """Without basic constraints (X.509 v1 roots) a self-signed one counts as an authority."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return is_self_signed(certificate)
    except READING_FAULTS:
        return False


def _name(name: x509.Name) -> str:
    try:
        return _clean(name.rfc4514_string())
    except READING_FAULTS:
        return ""


def _clean(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:_SHOWN])
