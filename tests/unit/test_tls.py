"""The digital ID and the TLS contexts of listeners."""

import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from posthouse import tls


def test_digital_id_is_made_once_with_a_key_only_its_owner_reads(tmp_path: Path) -> None:
    certificate, key = tls.ensure_digital_id(str(tmp_path), "mx.example")
    assert stat.S_IMODE(Path(key).stat().st_mode) == 0o600
    made = Path(certificate).read_bytes()
    parsed = x509.load_pem_x509_certificate(made)
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.example"]
    public = parsed.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert tls.ensure_digital_id(str(tmp_path), "other.example") == (certificate, key)
    assert Path(certificate).read_bytes() == made
    assert certificate == key


def test_context_is_built_once_and_takes_tls_1_2_at_least(tmp_path: Path) -> None:
    paths = tls.ensure_digital_id(str(tmp_path), "192.0.2.1")
    context = tls.server_context(*paths)
    assert context is tls.server_context(*paths)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
