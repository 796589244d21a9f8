"""TLS towards next hops and scan servers: contexts, pins, and what went wrong in words.

A context that trusts the system's CAs takes 21 ms to build, so one is built per policy and kept, as long as the files
that the policy names stay the same. Errors of OpenSSL and of the event loops are translated here and nowhere else.
Standards: design sections 2.6 and 2.8; RFC 6066 section 3.
"""

import datetime
import os
import re
import ssl
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from cryptography import x509
from cryptography.x509.oid import NameOID

from posthouse.core.encryption import verified_by
from posthouse.core.profile import ServerProfile, TlsVerify
from posthouse.core.service_type import Encryption
from posthouse.core.smtp_opening import NOT_TLS
from posthouse.regular_file import check_regular, read_regular

__all__ = [
    "CertificateRefused",
    "TlsPolicy",
    "TlsSettingsError",
    "certificate_facts",
    "check_pin",
    "client_context",
    "fingerprint",
    "policy_of",
    "server_name",
    "tls_sentence",
]

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CONTEXTS = 128
"""Contexts kept. Those of former settings and of renewed files go when others need their place."""


class TlsSettingsError(Exception):
    """TLS settings that this node cannot carry out; the text is one sentence that names the file or setting."""


class CertificateRefused(ssl.SSLCertVerificationError):
    """The certificate was not trusted, or is for another name."""

    certificate: bytes = b""
    """What the server showed (DER), for people to look at and to pin; empty if it is not known."""


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What is asked of a server's TLS and shown to it; part of the key of the connection pool."""

    verify: TlsVerify
    ca: str = ""
    """File of trusted certificates (PEM); empty: those of the system."""
    pin: str = ""
    """SHA-256 of the certificate's DER: 64 hexadecimal digits in lower case."""
    minimum: str = "1.2"
    """Lowest TLS version: 1.2 or 1.3."""
    certificate: tuple[str, str] | None = None
    """Files of the digital ID that is shown, certificate and key (PEM)."""


def policy_of(profile: ServerProfile, data_dir_digital_id: tuple[str, str] | None, implicit: bool) -> TlsPolicy:
    """The policy of a profile; what its way of verifying does not use is left out, so equal ways are equal policies.

    `implicit` says that the server is reached by smtps or https. TlsSettingsError if the profile shows a digital ID
    and the node has none.
    """
    verify = verified_by(Encryption.ALWAYS if implicit else Encryption.AS_SET, profile.tls, profile.tls_verify)
    if profile.client_certificate and data_dir_digital_id is None:
        raise TlsSettingsError(
            f"server profile {profile.name} shows the node's digital ID (client_certificate), but this node has none"
        )
    return TlsPolicy(
        verify=verify,
        ca=profile.tls_ca if verify is TlsVerify.VERIFY else "",
        pin=profile.tls_pin if verify is TlsVerify.PINNED else "",
        minimum=profile.tls_min,
        certificate=data_dir_digital_id if profile.client_certificate else None,
    )


def server_name(tls_name: str, host: str) -> str:
    """The name to ask for and to verify, for `server_hostname`: `tls_name`, or else the host of the specification,
    both canonical.

    An address is verified against the addresses in the certificate, and no server name is sent for it (RFC 6066
    section 3); the ssl module does both.
    """
    return tls_name or host


# --- Contexts --------------------------------------------------------------------------------------------


def client_context(policy: TlsPolicy) -> ssl.SSLContext:
    """The context of a policy, built once for all connections, and anew after a file it names has changed.

    With `pinned` it takes any certificate: `check_pin` must follow the handshake. TlsSettingsError if a file is
    missing or is not what it should be.
    """
    ca = policy.ca if policy.verify is TlsVerify.VERIFY else ""
    files = [("tls_ca", ca)] if ca else []
    files += [("digital ID", path) for path in policy.certificate or ()]
    # Looked at before they are read: a change in between leads to one more build, never to a stale context.
    return _built(policy, tuple(_stamp(setting, path) for setting, path in files))


def _stamp(setting: str, path: str) -> tuple[int, ...]:
    """What changes with a file, also when it is written twice within one tick of the file system's clock."""
    try:
        found = os.stat(path)
        check_regular(found.st_mode, path)
    except OSError as error:
        raise TlsSettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=_CONTEXTS)
def _built(policy: TlsPolicy, stamps: tuple[tuple[int, ...], ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = _Connection
    context.sslsocket_class = _BlockingConnection
    context.minimum_version = _VERSIONS[policy.minimum]
    if policy.verify is not TlsVerify.VERIFY:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif policy.ca:
        # Every certificate of the file is trusted: an issuing CA without its root, too, as with Python 3.13.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cafile=policy.ca)
        except (OSError, ValueError) as error:
            _read("tls_ca", policy.ca)
            raise TlsSettingsError(f"tls_ca: {policy.ca} is no file of certificates (PEM)") from error
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if policy.certificate is not None:
        _show(context, *policy.certificate)
    return context


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        # A password, even an empty one: without it OpenSSL would ask for it on the terminal and wait.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise TlsSettingsError(f"digital ID: {_digital_id_fault(certificate, key, error)}") from error


def _digital_id_fault(certificate: str, key: str, error: Exception) -> str:
    """OpenSSL does not say which of the two files it means."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"the private key {key} does not belong to the certificate {certificate}"
    octets = _read("digital ID", certificate)
    _read("digital ID", key)
    try:
        x509.load_pem_x509_certificates(octets)
    except ValueError:
        return f"{certificate} is no certificate (PEM)"
    return f"{key} is no private key (PEM without password)"


def _read(setting: str, path: str) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise TlsSettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from error


class _Connection(ssl.SSLObject):
    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise _refused(error, self) from error


class _BlockingConnection(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as error:
            raise _refused(error, self) from error


def _refused(error: ssl.SSLCertVerificationError, connection: object) -> CertificateRefused:
    """The same error with the certificate, which `getpeercert` keeps to itself unless the handshake succeeded."""
    refused = CertificateRefused(*error.args)
    for name in ("library", "reason", "verify_code", "verify_message"):
        setattr(refused, name, getattr(error, name))
    # Public since Python 3.13 only. Where it is missing, sentences say less and nothing else changes.
    get_chain = getattr(getattr(connection, "_sslobj", None), "get_unverified_chain", None)
    chain = get_chain() if get_chain else None
    if chain:
        refused.certificate = ssl.PEM_cert_to_DER_cert(chain[0].public_bytes())
    return refused


# --- Pins ------------------------------------------------------------------------------------------------


def fingerprint(certificate: bytes) -> str:
    """What `tls_pin` takes: SHA-256 of the DER, in hexadecimal digits."""
    return sha256(certificate).hexdigest()


def check_pin(policy: TlsPolicy, connection: ssl.SSLObject | ssl.SSLSocket) -> str:
    """After the handshake: empty if the certificate is the pinned one, or nothing is pinned; else what is wrong."""
    if policy.verify is not TlsVerify.PINNED:
        return ""
    shown = connection.getpeercert(binary_form=True)
    if not shown:
        return "the server showed no certificate"
    found = fingerprint(shown)
    if found == policy.pin:
        return ""
    return f"the certificate has the fingerprint {found[:16]}…, pinned is {policy.pin[:16]}…"


def certificate_facts(certificate: bytes) -> dict[str, object]:
    """What a TEST shows of a certificate (DER), and what is needed to pin it: names, issuer, days left (negative once
    it has expired), SHA-256. A certificate that cannot be read has only its SHA-256."""
    facts: dict[str, object] = {"sha256": fingerprint(certificate)}
    try:
        read = x509.load_der_x509_certificate(certificate)
        left = read.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        issuer = ", ".join(_clean(str(each.value)) for each in read.issuer)
        return {"names": _names(read), "issuer": issuer, "days_left": left.days, **facts}
    except ValueError:
        return facts


# --- Sentences -------------------------------------------------------------------------------------------

_CLOSED = "the server closed the connection during the handshake"
_NOT_ACCEPTED = "the server does not accept the client certificate, or misses one"
_OLDER = {"1.2": "1.1", "1.3": "1.2"}
_VERSION_REASONS = {
    "NO_PROTOCOLS_AVAILABLE",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "UNSUPPORTED_PROTOCOL",
    "VERSION_TOO_LOW",
    "WRONG_SSL_VERSION",
}
_REASONS = {
    "BAD_RECORD_TYPE": NOT_TLS,
    "HTTP_REQUEST": NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": NOT_TLS,
    "RECORD_LAYER_FAILURE": NOT_TLS,
    "UNKNOWN_PROTOCOL": NOT_TLS,
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "UNEXPECTED_EOF_WHILE_READING": _CLOSED,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "no common cipher, or the server wants a client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": _NOT_ACCEPTED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": _NOT_ACCEPTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _NOT_ACCEPTED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": _NOT_ACCEPTED,
    "TLSV1_ALERT_ACCESS_DENIED": _NOT_ACCEPTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server finds the client certificate expired",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not know the CA of the client certificate",
    "TLSV1_ALERT_INTERNAL_ERROR": "the server has an internal error in TLS",
    "TLSV1_UNRECOGNIZED_NAME": "the server does not know the name it was asked for",
    "DH_KEY_TOO_SMALL": "the server's keys are too weak",
}
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 18, 62, 64
"""Of OpenSSL's X509_V_ERR codes, which stay the same for ever."""
_UNKNOWN_CA = {2, 19, 20, 21}
_VERIFY_CODES = {
    23: "the certificate is revoked",
    26: "the certificate is not meant for servers",
    66: "the key of the certificate is too weak",
    67: "the key of the CA is too weak",
    68: "the certificate is signed with an algorithm that is too weak",
}
_LIBRARY_MARKS = re.compile(r"^\[[^]]*\] *| *\(_ssl\.c:\d+\)$")
_QUOTED = re.compile(r"'([^']+)'")
_LONGER_THAN = re.compile(r"handshake is taking longer than ([\d.]+) seconds")
_NAMES_SHOWN = 3
_SHOWN = 100
"""Characters of a name that comes from the server."""


def tls_sentence(error: BaseException, minimum: str = "1.2") -> str:
    """What ended a handshake, or the first reply after it, as an administrator understands it; no full stop.

    Also for a client certificate refused in TLS 1.3, which the client learns with that first reply. `minimum` is that
    of the policy.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_sentence(error)
    if isinstance(error, ssl.SSLError):
        return _handshake_sentence(error, minimum)
    text = str(error)
    if longer := _LONGER_THAN.search(text):
        return f"the TLS handshake took longer than {float(longer[1]):g} seconds"
    if isinstance(error, TimeoutError):
        return "the TLS handshake took too long"
    if isinstance(error, ConnectionRefusedError):
        return "the server refuses connections"
    if isinstance(error, (ConnectionError, EOFError)):
        return _CLOSED
    return text or type(error).__name__


def _handshake_sentence(error: ssl.SSLError, minimum: str) -> str:
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return _CLOSED
    # Missing in errors that no C code raised.
    reason = getattr(error, "reason", None) or ""
    if reason in _VERSION_REASONS:
        return f"no common TLS version (the server may only speak TLS {_OLDER[minimum]})"
    return _REASONS.get(reason) or f"TLS failed: {_library_text(str(error))}"


def _certificate_sentence(error: ssl.SSLCertVerificationError) -> str:
    code = getattr(error, "verify_code", 0)
    message = getattr(error, "verify_message", "") or _library_text(str(error))
    shown = _parsed(error)
    now = datetime.datetime.now(datetime.UTC)
    if code == _EXPIRED:
        if shown is None or shown.not_valid_after_utc > now:
            return "certificate expired" if shown is None else "the certificate of its CA has expired"
        return f"certificate expired on {shown.not_valid_after_utc:%Y-%m-%d}"
    if code == _NOT_YET_VALID:
        if shown is None or shown.not_valid_before_utc < now:
            return "certificate not valid yet" if shown is None else "the certificate of its CA is not valid yet"
        return f"certificate not valid before {shown.not_valid_before_utc:%Y-%m-%d}"
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        asked = _QUOTED.search(message)
        names = _names(shown) if shown else ""
        return f"the certificate is for {names or 'another name'}, not {asked[1] if asked else 'the one asked for'}"
    if code == _SELF_SIGNED:
        return "self-signed certificate"
    if code in _UNKNOWN_CA:
        issuer = _common_name(shown.issuer) if shown else ""
        return f"certificate issued by an unknown CA{f': {issuer}' if issuer else ''}"
    return _VERIFY_CODES.get(code) or f"the certificate is not trusted: {message}"


def _parsed(error: ssl.SSLCertVerificationError) -> x509.Certificate | None:
    if not isinstance(error, CertificateRefused) or not error.certificate:
        return None
    try:
        return x509.load_der_x509_certificate(error.certificate)
    except ValueError:
        return None


def _names(certificate: x509.Certificate) -> str:
    """Whom a certificate is for: its names and addresses, or else its common name."""
    names: list[str] = []
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternative.get_values_for_type(x509.DNSName)
        names += [str(address) for address in alternative.get_values_for_type(x509.IPAddress)]
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        pass
    shown = ", ".join(_clean(name) for name in names[:_NAMES_SHOWN]) or _common_name(certificate.subject)
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown


def _common_name(name: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for found in name.get_attributes_for_oid(kind):
            return _clean(str(found.value))
    return ""


def _clean(name: str) -> str:
    """Names come from the server: nothing in them may move a cursor or break a line of the trail."""
    return "".join(each if each.isprintable() else "?" for each in name[:_SHOWN])


def _library_text(text: str) -> str:
    return _LIBRARY_MARKS.sub("", text)
