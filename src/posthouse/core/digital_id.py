"""A certificate, its chain and its key as somebody gives them to be the node's digital ID: read and checked.

All faults at once, none of which shows anything of a key or a passphrase.
Standards: RFC 5280 section 4.2.1; RFC 7468; RFC 8446 section 4.4.2 (the sender's certificate first, each
certified by the next).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from posthouse.core.certificate import READING_FAULTS, facts_of, is_issued_by, is_self_signed
from posthouse.core.faults import Fault
from posthouse.core.uri import Problem, parse_host

__all__ = [
    "DigitalId",
    "Given",
    "PrivateKey",
    "covers",
    "key_pem",
    "names_of",
    "private_key",
    "read_certificates",
    "read_given",
    "read_names",
    "suitability",
]

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""Kinds of keys that clients of TLS know."""

CHAIN_MOST = 10
RSA_BITS_LEAST, CURVE_BITS_LEAST = 2048, 256
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Others (secp256k1, brainpool) are in no handshake that clients offer: RFC 8446 section 4.2.3."""
_WEAK_HASHES = (hashes.MD5, hashes.SHA1)
_KEY_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DigitalId:
    """A pair that belongs together."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    """Intermediate certificates, each certified by the next."""
    key: PrivateKey = field(repr=False)

    def der(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def pem(self) -> bytes:
        """One file for all: certificate, chain, key without passphrase."""
        octets = [each.public_bytes(serialization.Encoding.PEM) for each in (self.certificate, *self.chain)]
        return b"".join([*octets, key_pem(self.key)])


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody gave for an import. Where there is no key, it is one that the node has."""

    certificate: bytes = b""
    """PEM: certificate and chain in any order, perhaps with the key."""
    private_key: bytes = field(default=b"", repr=False)
    """PEM."""
    pkcs12: bytes = field(default=b"", repr=False)
    """Instead of both."""
    passphrase: str = field(default="", repr=False)


def read_given(
    given: Given, known: Sequence[PrivateKey], hostname: str, now: float
) -> tuple[DigitalId | None, tuple[Fault, ...], tuple[str, ...]]:
    """The digital ID in it, every fault if it is none, and what its owner should know. `known`: keys of the node."""
    if given.pkcs12 and (given.certificate or given.private_key):
        rule = "A PKCS#12 file has certificate and key."
        return None, (Fault("pkcs12", "", rule, "Give either pkcs12, or certificate and private_key."),), ()
    if given.pkcs12:
        certificates, key, faults = _read_pkcs12(given)
    else:
        certificates, key, faults = _read_pem(given, known)
    if faults or key is None:
        return None, tuple(faults), ()
    field_name = "pkcs12" if given.pkcs12 else "certificate"
    own = next((each for each in certificates if _fits(each, key)), None)
    if own is None:
        rule = "The private key does not belong to the certificate."
        remedy = "Give the key that the certificate was requested with."
        return None, (Fault("pkcs12" if given.pkcs12 else "private_key", "***", rule, remedy),), ()
    chain, warnings = _chain(own, certificates)
    found = DigitalId(own, chain, key)
    faults = _faults(found, field_name, now)
    if faults:
        return None, tuple(faults), ()
    return found, (), (*warnings, *suitability(found, hostname))


def read_certificates(pem: bytes, field_name: str) -> tuple[list[x509.Certificate], list[Fault]]:
    """All certificates in a text."""
    remedy = "Give it in PEM: -----BEGIN CERTIFICATE----- and what follows."
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return [], [Fault(field_name, "", "There is no certificate in it that can be read.", remedy)]
    return list(dict.fromkeys(found)), []


def private_key(pem: bytes, passphrase: str = "") -> PrivateKey | Fault:
    """The key, or what is wrong with it."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode() or None)
    except TypeError:
        if passphrase:
            return Fault("passphrase", "***", "The private key has no passphrase.", "Leave the passphrase out.")
        return Fault("passphrase", "", "The private key is encrypted.", "Give its passphrase, too.")
    except (ValueError, UnsupportedAlgorithm):
        if passphrase or b"ENCRYPTED" in pem:
            return Fault("passphrase", "***", "The private key cannot be decrypted with it.", "Check the passphrase.")
        return Fault("private_key", "***", "This is no private key.", "Give a key in PEM (PKCS#8, RSA or EC).")
    return _usable(key, "private_key")


def key_pem(key: PrivateKey) -> bytes:
    """PKCS#8 without passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def covers(names: Sequence[str], hostname: str) -> bool:
    """Whether a certificate with these names is for that host; a wildcard stands for one label (RFC 6125)."""
    wanted = plain_host(hostname)
    for name in (each.lower().removesuffix(".") for each in names):
        if name == wanted:
            return True
        if name.startswith("*.") and "." in wanted and name[1:] == wanted[wanted.index(".") :]:
            return True
    return False


def plain_host(hostname: str) -> str:
    """A name in lower case; of an address literal the address."""
    text = hostname.lower().removesuffix(".")
    inner = text.removeprefix("[").removesuffix("]").removeprefix("ipv6:")
    try:
        return str(ip_address(inner))
    except ValueError:
        return text


def read_names(names: Sequence[str]) -> tuple[tuple[str, ...], list[Fault]]:
    """Names and addresses for a certificate in their canonical form, each once; a wildcard may be the first label."""
    found, faults = [], []
    for at, name in enumerate(names):
        try:
            found.append(str(ip_address(plain_host(name))))
            continue
        except ValueError:
            host = parse_host(name.removeprefix("*."))
        if isinstance(host, Problem) or (name.startswith("*.") and "." not in host):
            rule = "This is no name or address of a host."
            faults.append(Fault(f"names[{at}]", name[:200], rule, "Write a name such as mx1.example, or an address."))
        else:
            found.append(f"*.{host}" if name.startswith("*.") else host)
    return tuple(dict.fromkeys(found)), faults


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Whole names and addresses to renew a certificate for: those of its subject alternative name, else its common
    name; without those that are no names of hosts."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        given = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    except (*READING_FAULTS, x509.ExtensionNotFound):
        given = []
    common = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    for names in (given, common):
        kept = [name for each in names for name in read_names([each])[0]]
        if kept:
            return tuple(dict.fromkeys(kept))
    return ()


# --- Reading ---------------------------------------------------------------------------------------------

_Read = tuple[list[x509.Certificate], PrivateKey | None, list[Fault]]


def _read_pem(given: Given, known: Sequence[PrivateKey]) -> _Read:
    certificates, faults = read_certificates(given.certificate, "certificate")
    inside = _KEY_PEM.search(given.certificate)
    pem = given.private_key or (inside[0] if inside else b"")
    if pem:
        key = private_key(pem, given.passphrase)
        if isinstance(key, Fault):
            return certificates, None, [*faults, key]
        return certificates, key, faults
    own = next((key for each in certificates for key in known if _fits(each, key)), None)
    if own is None and certificates:
        rule = "It is missing, and none of this node's keys belongs to the certificate."
        faults.append(Fault("private_key", "", rule, "Give the key, or a certificate for the request of this node."))
    return certificates, own, faults


def _read_pkcs12(given: Given) -> _Read:
    try:
        key, own, others = pkcs12.load_key_and_certificates(given.pkcs12, given.passphrase.encode() or None)
    except (ValueError, UnsupportedAlgorithm):
        rule = "It cannot be read with this passphrase, or is no PKCS#12 file."
        return [], None, [Fault("pkcs12", "***", rule, "Check file and passphrase.")]
    certificates = [each for each in (own, *others) if each is not None]
    if key is None or not certificates:
        missing = "key" if key is None else "certificate"
        return (
            certificates,
            None,
            [Fault("pkcs12", "***", f"There is no {missing} in it.", "Export both into one file.")],
        )
    usable = _usable(key, "pkcs12")
    return (certificates, None, [usable]) if isinstance(usable, Fault) else (certificates, usable, [])


def _usable(key: object, field_name: str) -> PrivateKey | Fault:
    remedy = f"Use ECDSA P-256, P-384 or P-521, Ed25519, or RSA of {RSA_BITS_LEAST} bits at least."
    match key:
        case rsa.RSAPrivateKey() if key.key_size < RSA_BITS_LEAST:
            return Fault(field_name, f"RSA {key.key_size}", "The key is too weak.", remedy)
        case ec.EllipticCurvePrivateKey() if key.curve.key_size < CURVE_BITS_LEAST:
            return Fault(field_name, f"ECDSA {key.curve.name}", "The key is too weak.", remedy)
        case ec.EllipticCurvePrivateKey() if key.curve.name not in CURVES:
            rule = "Clients of TLS do not know this curve."
            return Fault(field_name, f"ECDSA {key.curve.name}", rule, remedy)
        case rsa.RSAPrivateKey() | ec.EllipticCurvePrivateKey() | ed25519.Ed25519PrivateKey():
            return key
        case _:
            return Fault(field_name, type(key).__name__, "TLS does not use keys of this kind.", remedy)


def _fits(certificate: x509.Certificate, key: PrivateKey) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


# --- Checking --------------------------------------------------------------------------------------------


def _chain(
    own: x509.Certificate, certificates: Sequence[x509.Certificate]
) -> tuple[tuple[x509.Certificate, ...], list[str]]:
    """From the certificate upwards, as far as what was given goes; roots and strangers are left out."""
    rest = [each for each in certificates if each != own]
    chain: list[x509.Certificate] = []
    last = own
    while not is_self_signed(last) and len(chain) < CHAIN_MOST:
        issuer = next((each for each in rest if is_issued_by(last, each)), None)
        if issuer is None:
            break
        rest.remove(issuer)
        last = issuer
        if not is_self_signed(issuer):
            chain.append(issuer)
    warnings = []
    if rest:
        warnings.append(f"{len(rest)} of the given certificates do not belong to the chain and are left out.")
    if not chain and last == own and not is_self_signed(own):
        warnings.append("There is no intermediate certificate: servers and clients may not find the way to the CA.")
    return tuple(chain), warnings


def _faults(found: DigitalId, field_name: str, now: float) -> list[Fault]:
    faults = []
    for each in (found.certificate, *found.chain):
        facts = facts_of(each)
        what = "The certificate" if each is found.certificate else f"The intermediate certificate {facts.subject}"
        if now >= facts.not_after:
            rule = f"{what} has expired on {_day(facts.not_after)}."
            faults.append(Fault(field_name, facts.subject, rule, "Give one that is in force."))
        if now < facts.not_before:
            rule = f"{what} is not valid before {_day(facts.not_before)}."
            faults.append(Fault(field_name, facts.subject, rule, "Check the clock of this node, or wait."))
        if isinstance(each.signature_hash_algorithm, _WEAK_HASHES):
            rule = f"{what} is signed with {each.signature_hash_algorithm.name.upper()}, which nobody trusts."
            faults.append(Fault(field_name, facts.subject, rule, "Have it issued anew with SHA-256."))
    facts = facts_of(found.certificate)
    if not (facts.server or facts.client):
        rule = "Its extended key usage allows neither servers nor clients of TLS."
        faults.append(Fault(field_name, facts.subject, rule, "Have it issued for serverAuth and clientAuth."))
    return faults


def suitability(found: DigitalId, hostname: str) -> list[str]:
    """What it is not fit for on a node of that hostname: a sentence each."""
    facts = facts_of(found.certificate)
    warnings = []
    if not facts.names:
        warnings.append("The certificate has no subject alternative name: clients that verify it refuse it.")
    elif not covers(facts.names, hostname):
        warnings.append(f"The certificate is not for {hostname}, the hostname of this node.")
    if not facts.server:
        warnings.append("Its extended key usage is for clients only: clients of a listener or the console refuse it.")
    if not facts.client:
        warnings.append(
            "Its extended key usage is for servers only: next hops may refuse it from server profiles with "
            "client_certificate."
        )
    return warnings


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
