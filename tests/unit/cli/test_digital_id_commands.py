"""`posthouse digital-id`, and what `doctor` says of certificates."""

import contextlib
import socket
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from posthouse import tls
from posthouse.cli import checks
from posthouse.cli.remote import CA_VARIABLE
from posthouse.core.certificate import facts_of
from posthouse.core.digital_id import Given, key_pem
from posthouse.digital_id.authorities import Authorities
from posthouse.digital_id.stand_in import note_shown
from posthouse.digital_id.store import DigitalIds, KeyType
from posthouse.settings import NodeSettings
from support.certificates import HOST, NOW, issuer, pem
from support.command_line import CommandLine, command_line
from support.served import served

DAY = 86400.0
CA = issuer("CA")
CANARY = "canary-passphrase-Zx41"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.delenv(CA_VARIABLE, raising=False)
    monkeypatch.delenv("POSTHOUSE_PASSPHRASE", raising=False)
    return command_line(tmp_path, monkeypatch, capsys)


@pytest.fixture
def leaf(tmp_path: Path) -> tuple[str, str, str]:
    """Files of a certificate and its key, and the fingerprint."""
    made = CA.leaf()
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    certificate.write_bytes(pem(made.certificate, CA.certificate))
    key.write_bytes(key_pem(made.key))
    return str(certificate), str(key), facts_of(made.certificate).sha256


def test_show_tells_what_a_pin_needs_and_who_uses_it(cli: CommandLine) -> None:
    with cli.node():
        assert "There is no digital ID yet" in cli("digital-id", "show").out
        made = cli("digital-id", "generate", "--name", HOST, "--name", "mx2.example", "--days", "20")
        ran = cli("digital-id", "show")
        document = cli("digital-id", "show", "--json").json
    assert made.code == 0, made
    assert made.out == ran.out
    lines = dict(line.split("  ", 1) for line in ran.out.splitlines())
    assert lines["names"].strip() == f"{HOST}, mx2.example"
    assert lines["sha256"].strip() == f"{document['certificate']['sha256']}  (as tls_pin)"
    assert lines["valid"].strip() == "2025-11-24 15:55:00Z to 2025-12-14 16:00:00Z, 20 days left"
    assert lines["used by"].strip() == "nothing"
    assert lines["key"].strip() == "ECDSA P-256"
    assert "warning: The digital ID expires in 20 days. Renew it" in ran.err
    assert "is not for mx.test" in ran.err


def test_renew_and_rsa(cli: CommandLine) -> None:
    with cli.node():
        ran = cli("digital-id", "renew")
        assert (ran.code, "generate or import" in ran.err) == (1, True)
        assert cli("digital-id", "generate", "--rsa", "--json").json["certificate"]["key"] == "RSA 3072"
        assert cli("digital-id", "renew", "--json").json["certificate"]["key"] == "RSA 3072"


def test_a_certificate_is_imported_with_its_key(cli: CommandLine, leaf: tuple[str, str, str]) -> None:
    certificate, key, sha256 = leaf
    with cli.node():
        refused = cli("digital-id", "import", certificate)
        assert refused.code == 1
        assert "private_key" in refused.err
        ran = cli("digital-id", "import", certificate, "--key", key)
        assert ran.code == 0, ran
        assert sha256 in ran.out
        again = cli("digital-id", "renew")
    assert "posthouse" not in again.out
    assert "issued by CN=CA" in again.err
    secret = Path(key).read_text().splitlines()[1]
    assert secret not in refused.err + ran.out + ran.err


def test_a_request_goes_to_a_file_and_its_certificate_needs_no_key(cli: CommandLine, tmp_path: Path) -> None:
    out, signed = tmp_path / "node.csr", tmp_path / "signed.pem"
    with cli.node():
        assert cli("digital-id", "request", "--rsa").code == 2
        shown = cli("digital-id", "request", "--name", HOST)
        assert shown.out.startswith("-----BEGIN CERTIFICATE REQUEST-----")
        ran = cli("digital-id", "request", "--new-key", "--name", HOST, "--out", str(out))
        assert (ran.code, ran.out) == (0, "")
        request = x509.load_pem_x509_csr(out.read_bytes())
        assert "waits for its certificate" in cli("digital-id", "show").err
        signed.write_bytes(pem(CA.sign(request, since=NOW - 1, until=NOW + 90 * DAY)))
        assert cli("digital-id", "import", str(signed), "--json").json["certificate"]["issuer"] == "CN=CA"


def encrypted_files(tmp_path: Path) -> list[list[str]]:
    """Arguments of `import` for one certificate whose key has a passphrase, in two forms."""
    made = CA.leaf()
    certificate, key, together = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "both.p12"
    certificate.write_bytes(pem(made.certificate))
    protection = BestAvailableEncryption(CANARY.encode())
    key.write_bytes(made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    together.write_bytes(pkcs12.serialize_key_and_certificates(b"", made.key, made.certificate, None, protection))
    return [[str(certificate), "--key", str(key)], [str(together)]]


def test_a_passphrase_comes_from_a_file_or_the_environment(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_text(f"{CANARY}\n")
    with cli.node():
        for files in encrypted_files(tmp_path):
            refused = cli("digital-id", "import", *files)
            assert refused.code == 1
            assert cli("digital-id", "import", *files, "--passphrase-file", str(file)).code == 0
            monkeypatch.setenv("POSTHOUSE_PASSPHRASE", CANARY)
            assert cli("digital-id", "import", *files).code == 0
            monkeypatch.setenv("POSTHOUSE_PASSPHRASE", CANARY + "x")
            wrong = cli("digital-id", "import", *files, "--json")
            monkeypatch.delenv("POSTHOUSE_PASSPHRASE")
            assert (wrong.code, CANARY in wrong.out + wrong.err) == (1, False)


def test_files_that_are_no_certificates_end_with_one_line(cli: CommandLine, tmp_path: Path) -> None:
    binary, large = tmp_path / "x.der", tmp_path / "large"
    binary.write_bytes(b"\x30\x82\xff")
    large.write_bytes(b"-" * (1024**2 + 1))
    with cli.node():
        for arguments in (["/nowhere"], [str(large)], [str(binary), "--key", str(binary)]):
            ran = cli("digital-id", "import", *arguments)
            assert ran.code in (1, 2), ran
            assert ran.err.startswith("error: ")


def test_own_cas_are_listed_added_and_removed(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(pem(CA.certificate))
    sha256 = facts_of(CA.certificate).sha256
    with cli.node():
        assert "There are no own CAs." in cli("digital-id", "ca", "list").out
        assert "CN=CA" in cli("digital-id", "ca", "add", str(file)).out
        assert cli("digital-id", "ca", "list", "--json").json["items"][0]["id"] == sha256
        for wrong in (sha256[:7], "f" * 64 if not sha256.startswith("f") else "0" * 64):
            assert "names" in cli("digital-id", "ca", "remove", wrong).err
        assert cli("digital-id", "ca", "remove", sha256[:8].upper()).code == 0
        assert "There are no own CAs." in cli("digital-id", "ca", "list").out


# --- a console with TLS ----------------------------------------------------------------------------------


def test_the_own_console_is_trusted_by_its_digital_id_alone(cli: CommandLine, tmp_path: Path) -> None:
    cli.folder.mkdir()
    ids = DigitalIds(str(cli.folder))
    ids.generate(["other.example"], 1, KeyType.ECDSA, NOW, replace=False)  # of another name, and long expired
    context = tls.renewing_context(lambda: tls.ensure_digital_id(str(cli.folder), HOST))
    with served(cli.rest, context) as address:
        assert address.startswith("https://")
        cli.leave(address)
        assert cli("key", "list").code == 0
        ran = cli("profile", "list")
        assert (ran.code, "exchange" in ran.out) == (0, True), ran
        # Renewed with another key: the next command knows.
        ids.renew(825, NOW, new_key=True)
        assert cli("profile", "list").code == 0
    # One that does not have what lies in the data dir is somebody else.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stranger = tls.renewing_context(lambda: tls.ensure_digital_id(str(elsewhere), HOST))
    with served(cli.rest, stranger) as address:
        cli.leave(address)
        ran = cli("profile", "list")
        assert (ran.code, "another certificate than that of the data dir" in ran.err) == (3, True)
        assert "--data-dir" in ran.err
        assert CA_VARIABLE in ran.err


@pytest.mark.parametrize("how", ["for clients only", "broken"])
def test_no_digital_id_locks_the_command_line_out_of_its_own_console(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    cli.folder.mkdir()
    ids = DigitalIds(str(cli.folder))
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH]
    path = Path(str(ids.import_(Given(CA.leaf(usage=usage).pem()), HOST, NOW) and ids.path()))
    if how == "broken":
        path.unlink()
    context = tls.renewing_context(
        lambda: tls.ensure_digital_id(str(cli.folder), HOST),
        HOST,
        lambda certificate: note_shown(str(cli.folder), certificate),
    )
    with served(cli.rest, context) as address:
        cli.leave(address)
        assert cli("profile", "list").code == 0
        for spelling in ("localhost", "127.0.0.1"):
            monkeypatch.setenv("POSTHOUSE_SERVER", address.replace("127.0.0.1", spelling))
            assert cli("profile", "list").code == 0
        monkeypatch.delenv("POSTHOUSE_SERVER")
        # Mended at once, and known at once.
        ids.generate([HOST], 9, KeyType.ECDSA, NOW, replace=True)
        assert cli("profile", "list").code == 0
        # Broken as it runs: the former one is shown on, and known.
        Path(str(ids.path())).unlink()
        assert cli("profile", "list").code == 0


def test_who_shows_another_certificate_gets_no_api_key(cli: CommandLine, tmp_path: Path) -> None:
    cli.folder.mkdir()
    DigitalIds(str(cli.folder)).ensure(HOST, NOW)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    context = tls.renewing_context(lambda: tls.ensure_digital_id(str(elsewhere), HOST))
    heard: list[bytes] = []

    def listen() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            heard.append(secured.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=listen)
        thread.start()
        cli.leave(f"https://127.0.0.1:{listener.getsockname()[1]}")
        assert cli("profile", "list").code == 3
        thread.join(20)
    assert heard in ([], [b""])


def test_another_console_is_verified_with_a_ca_of_its_own(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = issuer("Own", until=2_000_000_000)
    made = ca.leaf(names=("localhost",), until=2_000_000_000)
    file, trusted = tmp_path / "leaf.pem", tmp_path / "ca.pem"
    file.write_bytes(made.pem())
    trusted.write_bytes(pem(ca.certificate))
    monkeypatch.setenv("POSTHOUSE_API_KEY", cli.rest.secrets["administrator"])
    with served(cli.rest, tls.server_context(str(file), str(file))) as address:
        monkeypatch.setenv("POSTHOUSE_SERVER", address.replace("127.0.0.1", "localhost"))
        assert cli("profile", "list").code == 3
        monkeypatch.setenv(CA_VARIABLE, str(trusted))
        assert cli("profile", "list").code == 0
        monkeypatch.setenv(CA_VARIABLE, str(tmp_path / "nothing"))
        ran = cli("profile", "list")
        assert (ran.code, CA_VARIABLE in ran.err) == (2, True)


# --- doctor ----------------------------------------------------------------------------------------------


def found(folder: Path, now: float) -> list[tuple[str, str]]:
    settings = NodeSettings(HOST, str(folder))
    return [(each.check, each.status) for each in checks.check_certificates(settings, now)]


def test_doctor_warns_of_certificates_that_end(tmp_path: Path) -> None:
    assert found(tmp_path, NOW) == []
    DigitalIds(str(tmp_path)).generate([HOST], 31, KeyType.ECDSA, NOW, replace=False)
    Authorities(str(tmp_path)).add(pem(issuer("Own", until=NOW + 40 * DAY).certificate), NOW)
    assert found(tmp_path, NOW) == [("digital ID", "ok"), ("own CA", "ok")]
    assert found(tmp_path, NOW + DAY) == [("digital ID", "warn"), ("own CA", "ok")]
    assert found(tmp_path, NOW + 31 * DAY) == [("digital ID", "fault"), ("own CA", "warn")]
    assert found(tmp_path, NOW + 41 * DAY) == [("digital ID", "fault"), ("own CA", "warn")]


def test_doctor_tells_what_does_not_fit_or_cannot_be_read(tmp_path: Path) -> None:
    ids = DigitalIds(str(tmp_path))
    ids.import_(Given(CA.leaf(names=("other.example",)).pem()), HOST, NOW)
    assert found(tmp_path, NOW) == [("digital ID", "ok"), ("digital ID", "warn")]
    (tmp_path / "digital-id" / "current").resolve().write_bytes(b"broken")
    assert found(tmp_path, NOW) == [("certificates", "fault")]


def test_doctor_as_a_command_looks_at_them(cli: CommandLine) -> None:
    cli.folder.mkdir(mode=0o700)
    DigitalIds(str(cli.folder)).generate([HOST], 1, KeyType.ECDSA, NOW, replace=False)
    ran = cli("doctor", "--data-dir", str(cli.folder), "--json")
    (check,) = [each for each in ran.json["checks"] if each["check"] == "digital ID" and each["status"] == "fault"]
    assert "expired" in check["detail"]
    assert "posthouse digital-id renew" in check["remedy"]
    assert stat.S_IMODE((cli.folder / "digital-id").stat().st_mode) == 0o700
