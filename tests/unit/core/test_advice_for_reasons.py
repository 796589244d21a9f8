"""No reason that TLS, this node's settings or its keyring give is left with the advice for what nobody foresaw."""

import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from posthouse import client_tls
from posthouse.client_tls import tls_sentence
from posthouse.clients.way import secret_text
from posthouse.core import ladder_advice
from posthouse.core.fields import Secret
from posthouse.core.ladder_advice import ROWS, advise
from posthouse.core.profile_test import StageName, failed
from posthouse.core.service_type import ServiceType
from posthouse.ports import SecretUnreadable
from posthouse.storage.secrets import KEY_FILE, VARIABLE, Keyring

WORDS = {"host": "mail.example", "port": "2525", "username": "relay", "hostname": "mx1.example"}
TLS_TYPES = [ServiceType.SMTP, ServiceType.METADEFENDER_CORE, ServiceType.METADEFENDER_VAULT]
GENERAL = {"the server closed the connection during the handshake", "the server has an internal error in TLS"}
"""For which nothing more can be said than where to look."""
CERTIFICATE = (
    "certificate expired",
    "certificate expired on 2024-02-29",
    "the certificate of its CA has expired",
    "certificate not valid yet",
    "certificate not valid before 2030-01-01",
    "the certificate of its CA is not valid yet",
    "the certificate is for a.example, not b.example",
    "self-signed certificate",
    "certificate issued by an unknown CA",
    "the certificate has the fingerprint 00…, pinned is 11…",
)
REASONS = sorted(
    {*client_tls._REASONS.values(), *client_tls._VERIFY_CODES.values(), *CERTIFICATE}
    | {tls_sentence(TimeoutError()), tls_sentence(OSError("SSL handshake is taking longer than 60.0 seconds"))}
)


def fallback(stage: StageName) -> str:
    return next(row.advice for row in reversed(ROWS) if row.stage is stage)


@pytest.mark.parametrize("service_type", TLS_TYPES)
@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_of_tls_has_advice_of_its_own(service_type: ServiceType, reason: str) -> None:
    said = advise(failed(StageName.TLS, 0.0, reason), WORDS, service_type)
    assert (said == fallback(StageName.TLS)) == (reason in GENERAL)


def test_what_the_library_says_in_its_own_words_is_looked_up_in_the_log() -> None:
    for reason in client_tls._VERSION_REASONS:
        error = ssl.SSLError(1, "x")
        error.reason = reason
        said = advise(failed(StageName.TLS, 0.0, tls_sentence(error)), WORDS, ServiceType.SMTP)
        assert said.startswith("Switch on TLS 1.2 or 1.3")
    strange = tls_sentence(ssl.SSLError(1, "[SSL: STRANGE] strange (_ssl.c:1)"))
    assert advise(failed(StageName.TLS, 0.0, strange), WORDS, ServiceType.SMTP) == fallback(StageName.TLS)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the server finds the client certificate expired", "`posthouse digital-id show`"),
        ("certificate expired", "Renew the server's certificate"),
        ("the certificate of its CA has expired", "Renew the server's certificate"),
        ("the certificate is not meant for servers", "Give the server another certificate"),
        ("the server's keys are too weak", "Give the server another certificate"),
    ],
)
def test_whose_certificate_it_is_is_not_mixed_up(reason: str, told: str) -> None:
    assert told in advise(failed(StageName.TLS, 0.0, reason), WORDS, ServiceType.SMTP)


def _settings_faults() -> list[str]:
    """Of `client_tls`, as its source has them."""
    source = Path(client_tls.__file__).read_text("utf-8")
    found = re.findall(r'TlsSettingsError\(\s*f?"([^"]+)"', source)
    return [re.sub(r"\{[^}]*\}", "x", each) for each in found]


def test_every_fault_of_the_settings_blames_this_node() -> None:
    faults = [
        *_settings_faults(),
        "tls_pin is no SHA-256 fingerprint: it has to be 64",
        "this node has no digital ID",
    ]
    assert len(faults) >= 6
    for fault in faults:
        for setting in ("tls_ca", "own CAs"):
            shown = re.sub("^x: x ", f"{setting}: /etc/self-signed/expired.pem ", fault)
            said = advise(failed(StageName.TLS, 0.0, shown), WORDS, ServiceType.SMTP)
            assert said.startswith("Correct that setting or file on this node"), shown


# --- secrets -----------------------------------------------------------------------------------------


def _no_key(folder: Path) -> Keyring:
    return Keyring(str(folder), {})


def _open_file(folder: Path) -> Keyring:
    (folder / KEY_FILE).write_text(Fernet.generate_key().decode())
    (folder / KEY_FILE).chmod(0o644)
    return Keyring(str(folder), {})


def _unreadable(folder: Path) -> Keyring:
    (folder / KEY_FILE).mkdir()
    return Keyring(str(folder), {})


def _empty(folder: Path) -> Keyring:
    (folder / KEY_FILE).touch(0o600)
    return Keyring(str(folder), {})


def _no_fernet(folder: Path) -> Keyring:
    return Keyring(str(folder), {VARIABLE: "short"})


def _another(folder: Path) -> Keyring:
    return Keyring(str(folder), {VARIABLE: Fernet.generate_key().decode()})


@pytest.mark.parametrize("stage", [StageName.AUTH, StageName.KEY])
@pytest.mark.parametrize("made", [_no_key, _open_file, _unreadable, _empty, _no_fernet, _another])
def test_every_reason_of_the_keyring_has_advice_on_the_keyring(
    made: Callable[[Path], Keyring], stage: StageName, tmp_path: Path
) -> None:
    token = Fernet(Fernet.generate_key()).encrypt(b"x").decode()
    with pytest.raises(SecretUnreadable) as raised:
        secret_text(Secret("stored", "id", token), made(tmp_path).unseal)
    service_type = ServiceType.SMTP if stage is StageName.AUTH else ServiceType.METADEFENDER_CORE
    said = advise(failed(stage, 0.0, str(raised.value)), WORDS, service_type)
    assert said == ladder_advice._KEYRING_ADVICE


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (Secret("env", "TEST_NO_SUCH_VARIABLE"), "Correct the reference"),
        (Secret("file", "/no/such/file"), "Correct the reference"),
        (Secret("file", "/dev/null"), "Correct the reference"),
        (Secret("set", ""), "Bring back the key"),
        (Secret("stored", "id"), "Bring back the key"),
    ],
)
@pytest.mark.parametrize(
    ("stage", "what", "service_type"),
    [
        (StageName.AUTH, "password", ServiceType.SMTP),
        (StageName.KEY, "API key", ServiceType.METADEFENDER_VAULT),
    ],
)
def test_every_reason_of_a_reference_has_advice(
    secret: Secret, told: str, stage: StageName, what: str, service_type: ServiceType
) -> None:
    with pytest.raises(SecretUnreadable) as raised:
        secret_text(secret, what=what)
    assert advise(failed(stage, 0.0, str(raised.value)), WORDS, service_type).startswith(told)
