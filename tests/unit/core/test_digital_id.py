"""What is given to be a digital ID: read, put in order, refused with every fault; and when its end is warned of."""

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from posthouse.core.certificate import expiry_warning, facts_of, warn_stage
from posthouse.core.digital_id import DigitalId, Given, covers, key_pem, read_given
from posthouse.core.faults import Fault
from support.certificates import HOST, NOW, Issuer, issuer, pem

DAY = 86400.0


@pytest.fixture(scope="module")
def root() -> Issuer:
    return issuer("Root")


@pytest.fixture(scope="module")
def middle(root: Issuer) -> Issuer:
    return root.issuer("Middle")


@pytest.fixture(scope="module")
def leaf(middle: Issuer) -> DigitalId:
    return middle.leaf()


def read(given: Given, *known: DigitalId) -> DigitalId:
    found, faults, _ = read_given(given, [each.key for each in known], HOST, NOW)
    assert found is not None, faults
    return found


def faults(given: Given, *known: DigitalId) -> tuple[Fault, ...]:
    found, told, _ = read_given(given, [each.key for each in known], HOST, NOW)
    assert found is None
    assert told
    return told


def warnings(given: Given) -> str:
    return " ".join(read_given(given, [], HOST, NOW)[2])


def test_a_chain_is_put_in_order_and_the_root_is_left_out(root: Issuer, middle: Issuer, leaf: DigitalId) -> None:
    shuffled = pem(root.certificate, middle.certificate, leaf.certificate, middle.certificate)
    found = read(Given(shuffled, key_pem(leaf.key)))
    assert (found.certificate, found.chain) == (leaf.certificate, (middle.certificate,))
    assert warnings(Given(shuffled, key_pem(leaf.key))) == ""
    assert read(Given(found.pem())).pem() == found.pem(), "certificate and key in one text"


def test_strangers_are_left_out_and_a_missing_link_is_told(middle: Issuer, leaf: DigitalId) -> None:
    stranger = issuer("Middle").certificate  # of the same name, and has signed nothing here
    found = read(Given(pem(leaf.certificate, stranger), key_pem(leaf.key)))
    assert found.chain == ()
    told = warnings(Given(pem(leaf.certificate, stranger), key_pem(leaf.key)))
    assert "1 of the given certificates do not belong to the chain" in told
    assert "no intermediate certificate" in told


def test_a_known_key_is_taken_where_none_is_given(leaf: DigitalId, middle: Issuer) -> None:
    assert read(Given(pem(leaf.certificate)), middle.leaf(), leaf).key is leaf.key
    (fault,) = faults(Given(pem(leaf.certificate)), middle.leaf())
    assert (fault.field, "missing" in fault.rule) == ("private_key", True)


def test_a_key_of_another_certificate_is_refused(leaf: DigitalId, middle: Issuer) -> None:
    (fault,) = faults(Given(pem(leaf.certificate), key_pem(middle.leaf().key)))
    assert (fault.field, fault.value) == ("private_key", "***")
    assert fault.rule == "The private key does not belong to the certificate."


def test_all_faults_come_at_once(root: Issuer) -> None:
    old = root.issuer("Old", since=NOW - 90 * DAY, until=NOW - DAY)
    bad = old.leaf(since=NOW + DAY, usage=(x509.oid.ExtendedKeyUsageOID.CODE_SIGNING,))
    told = " ".join(fault.rule for fault in faults(Given(pem(bad.certificate, old.certificate), key_pem(bad.key))))
    assert "The certificate is not valid before 2025-11-25." in told
    assert "The intermediate certificate CN=Old has expired on 2025-11-23." in told
    assert "neither servers nor clients" in told
    broken = [fault.field for fault in faults(Given(b"nothing", b"nothing"))]
    assert broken == ["certificate", "private_key"]


def test_a_certificate_that_ends_this_very_second_has_expired(root: Issuer) -> None:
    over = root.leaf(until=NOW)
    assert "has expired" in faults(Given(over.pem()))[0].rule
    assert read(Given(root.leaf(until=NOW + 1).pem()))


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (rsa.generate_private_key(65537, 1024), "RSA 1024"),
        (ec.generate_private_key(ec.SECP192R1()), "ECDSA secp192r1"),
        (dsa.generate_private_key(2048), "DSAPrivateKey"),
    ],
)
def test_weak_keys_are_refused(leaf: DigitalId, key: rsa.RSAPrivateKey, shown: str) -> None:
    octets = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert [(fault.field, fault.value) for fault in faults(Given(pem(leaf.certificate), octets))] == [
        ("private_key", shown)
    ]


def test_a_signature_with_sha1_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "sha1.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha1", "-subj", "/CN=old", "-days", "9"]
    subprocess.run([*command, "-keyout", str(tmp_path / "key"), "-out", str(out)], check=True, capture_output=True)
    told = faults(Given(out.read_bytes(), (tmp_path / "key").read_bytes()))
    assert "The certificate is signed with SHA1, which nobody trusts." in [fault.rule for fault in told]


def test_an_encrypted_key_wants_its_passphrase_and_shows_none(leaf: DigitalId) -> None:
    octets = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary-p"))
    certificate = pem(leaf.certificate)
    assert read(Given(certificate, octets, passphrase="canary-p")).key.public_key() == leaf.key.public_key()
    for given in (Given(certificate, octets), Given(certificate, octets, passphrase="canary-wrong")):
        (fault,) = faults(given)
        assert fault.field == "passphrase"
        assert "canary" not in str(fault)
        assert "canary" not in repr(given)
    (fault,) = faults(Given(certificate, key_pem(leaf.key), passphrase="canary-p"))
    assert fault.rule == "The private key has no passphrase."


def test_pkcs12_holds_all(leaf: DigitalId, middle: Issuer) -> None:
    octets = pkcs12.serialize_key_and_certificates(
        b"x",
        leaf.key,
        leaf.certificate,
        [middle.certificate],
        BestAvailableEncryption(b"canary-p"),
    )
    found = read(Given(pkcs12=octets, passphrase="canary-p"))
    assert (found.certificate, found.chain) == (leaf.certificate, (middle.certificate,))
    for given in (Given(pkcs12=octets, passphrase="canary-w"), Given(pkcs12=b"no"), Given(b"x", pkcs12=octets)):
        assert [fault.field for fault in faults(given)] == ["pkcs12"]


def test_names_and_usage_are_warned_of(root: Issuer) -> None:
    other = root.leaf(names=("other.example",), usage=(x509.oid.ExtendedKeyUsageOID.SERVER_AUTH,))
    told = warnings(Given(other.pem()))
    assert "not for mx.example" in told
    assert "next hops may refuse it" in told
    assert "no subject alternative name" in warnings(Given(root.leaf(names=()).pem()))


@pytest.mark.parametrize(
    ("name", "host", "covered"),
    [
        ("mx.example", "MX.example.", True),
        ("*.example", "mx.example", True),
        ("*.example", "a.mx.example", False),
        ("*.example", "example", False),
        ("192.0.2.1", "[192.0.2.1]", True),
        ("2001:db8::1", "[IPv6:2001:db8:0::1]", True),
        ("mx.example.org", "mx.example", False),
    ],
)
def test_which_names_cover_a_host(name: str, host: str, covered: bool) -> None:
    assert covers([name], host) is covered


def test_facts_are_what_a_pin_and_people_need(leaf: DigitalId) -> None:
    facts = facts_of(leaf.certificate)
    assert facts.sha256 == leaf.certificate.fingerprint(hashes.SHA256()).hex()
    assert (facts.names, facts.issuer, facts.key) == ((HOST,), "CN=Middle", "ECDSA P-256")
    assert (facts.self_signed, facts.authority, facts.server, facts.client) == (False, False, True, True)


@pytest.mark.parametrize(
    ("left", "stage"),
    [
        (30 * DAY + 1, None),
        (30 * DAY, 30),
        (14 * DAY + 1, 30),
        (14 * DAY, 14),
        (3 * DAY + 1, 14),
        (3 * DAY, 3),
        (1, 3),
        (0, 0),
        (-DAY, 0),
    ],
)
def test_the_end_is_warned_of_at_30_14_and_3_days(left: float, stage: int | None) -> None:
    assert warn_stage(NOW + left, NOW) == stage
    assert bool(expiry_warning("it", NOW + left, NOW)) == (stage is not None)


def test_warnings_count_whole_days() -> None:
    assert expiry_warning("The digital ID", NOW + 2.5 * DAY, NOW) == "The digital ID expires in 2 days"
    assert expiry_warning("The digital ID", NOW - 1.5 * DAY, NOW) == "The digital ID expired 1 day ago"
