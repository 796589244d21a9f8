"""Digital ID and TLS contexts of the listeners.

Contexts are costly (21 ms each), so one is built per identity and kept.
"""

import datetime
import os
import ssl
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAYS = 825


def ensure_digital_id(data_dir: str, hostname: str) -> tuple[str, str]:
    """Paths of certificate and key (PEM); a self-signed EC P-256 pair is made when there is none."""
    folder = Path(data_dir)
    certificate, key = folder / "digital-id.crt", folder / "digital-id.key"
    if not (certificate.exists() and key.exists()):
        _make(certificate, key, hostname)
    return str(certificate), str(key)


def _make(certificate: Path, key: Path, hostname: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    now = datetime.datetime.now(datetime.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(hostname))
    except ValueError:
        alternative = x509.DNSName(hostname)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    _write(
        key,
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        0o600,
    )
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, octets: bytes, mode: int) -> None:
    """Beside, then renamed: a reader never sees half a file."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
    os.replace(beside, path)


@lru_cache(maxsize=16)
def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """For listeners: TLS 1.2 and above."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def describe(connection: ssl.SSLObject) -> str:
    """`TLSv1.3 TLS_AES_256_GCM_SHA384`: for trail and Received."""
    cipher = connection.cipher()
    return f"{connection.version()} {cipher[0] if cipher else ''}".strip()
