"""`digital-id` and `certificate-authorities`: what they answer, what is audited, and that no key is ever told."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12

from posthouse.core.certificate import facts_of
from posthouse.core.digital_id import key_pem
from posthouse.core.inventory import apply_document
from posthouse.settings import Address, ListenerSettings, ListenerTls, NodeSettings
from support.certificates import HOST, NOW, issuer, pem
from support.rest import Rest

ID, CAS = "/api/v1/digital-id", "/api/v1/certificate-authorities"
DAY = 86400.0
CA = issuer("CA")


@pytest.fixture
def rest(tmp_path: Path) -> Rest:
    listeners = (
        ListenerSettings(Address("127.0.0.1", 2525)),
        ListenerSettings(Address("127.0.0.1", 465), ListenerTls.IMPLICIT),
    )
    return Rest(settings=NodeSettings(HOST, str(tmp_path), listeners=listeners, console_tls=True))


def said(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    assert "PRIVATE KEY" not in answer.text
    return answer.json()


def faults(answer: Any) -> list[tuple[str, str]]:
    return [(fault["field"], fault["value"]) for fault in said(answer, 422)["errors"]]


def test_without_one_nothing_is_made_by_looking(rest: Rest, tmp_path: Path) -> None:
    state = said(rest.client().get(ID))
    assert (state["certificate"], state["chain"], state["request"], state["warnings"]) == (None, [], None, [])
    assert state["fault"] == ""
    assert said(rest.client().get(CAS)) == {"items": [], "next": None}
    assert list(tmp_path.iterdir()) == []


def test_it_is_told_who_uses_it(rest: Rest) -> None:
    stored = rest.inventory.load()
    shows = {"name": "shows", "type": "smtp", "servers": ["smtps://h"], "client_certificate": True}
    profiles, rules, found = apply_document(
        [p.document for p in stored.profiles], stored.rules, {"server_profiles": [shows]}, prune=False
    )
    assert not found
    rest.inventory.replace(profiles, rules, expected_revision=stored.revision, by="t", now=0)
    used = said(rest.client().get(ID))["used_by"]
    assert used == {"listeners": ["127.0.0.1:465"], "server_profiles": ["shows"], "console": True}


def test_generate_then_renew_and_the_audit_of_both(rest: Rest) -> None:
    client = rest.client()
    first = said(client.post(f"{ID}/generate", json={"names": ["MX.example", "192.0.2.1"], "days": 10}))
    own = first["certificate"]
    assert own["names"] == ["mx.example", "192.0.2.1"]
    assert (own["days_left"], own["self_signed"], own["key"]) == (10, True, "ECDSA P-256")
    assert first["warnings"][0].startswith("The digital ID expires in 10 days. Renew it")
    second = said(client.post(f"{ID}/renew"))
    assert second["certificate"]["names"] == own["names"]
    assert second["warnings"] == []
    newer, older = rest.inventory.rows[:2]
    assert (older["what"], newer["what"]) == ("digital ID generated", "digital ID renewed")
    assert newer["by"] == "key administrator (k1)"
    detail: Any = newer["detail"]
    assert detail["before"]["sha256"] == own["sha256"]
    assert detail["after"]["sha256"] == second["certificate"]["sha256"]
    assert detail["same_key"] is True
    assert said(client.get(ID)) == second


def test_a_request_is_told_until_its_certificate_is_imported(rest: Rest) -> None:
    client = rest.client()
    asked = said(client.post(f"{ID}/request", json={"new_key": True}))
    assert (asked["names"], asked["key"]) == ([HOST], "ECDSA P-256")
    assert said(client.get(ID))["request"] == asked
    request = x509.load_pem_x509_csr(asked["request"].encode())
    assert request.is_signature_valid
    signed = CA.sign(request, since=NOW - 1, until=NOW + 90 * DAY)
    state = said(client.post(f"{ID}/import", json={"certificate": pem(signed).decode()}))
    assert (state["certificate"]["issuer"], state["request"]) == ("CN=CA", None)
    assert said(client.post(f"{ID}/renew"), 409)["detail"].startswith("The digital ID was issued by CN=CA")
    assert said(client.post(f"{ID}/generate"), 409)["detail"].startswith("The digital ID was issued by a CA")
    assert said(client.post(f"{ID}/generate", json={"replace": True}))["certificate"]["self_signed"]


def test_renew_without_one_is_a_conflict(rest: Rest) -> None:
    assert "generate or import" in said(rest.client().post(f"{ID}/renew"), 409)["detail"]


def test_pkcs12_is_imported_with_its_passphrase(rest: Rest) -> None:
    leaf = CA.leaf()
    octets = pkcs12.serialize_key_and_certificates(
        b"x", leaf.key, leaf.certificate, [CA.certificate], BestAvailableEncryption(b"canary-p")
    )
    text = base64.b64encode(octets).decode()
    wrong = rest.client().post(f"{ID}/import", json={"pkcs12": text, "passphrase": "canary-w"})
    assert faults(wrong) == [("pkcs12", "***")]
    assert "canary" not in wrong.text
    state = said(rest.client().post(f"{ID}/import", json={"pkcs12": text, "passphrase": "canary-p"}))
    assert state["certificate"]["sha256"] == facts_of(leaf.certificate).sha256


def test_an_import_tells_all_faults_and_changes_nothing(rest: Rest) -> None:
    client = rest.client()
    before = said(client.post(f"{ID}/generate"))
    audited = len(rest.inventory.rows)
    answer = client.post(f"{ID}/import", json={"certificate": "no", "private_key": "no"})
    assert faults(answer) == [("certificate", ""), ("private_key", "***")]
    assert said(client.get(ID)) == before
    assert len(rest.inventory.rows) == audited


def test_no_body_with_a_key_in_it_comes_back(rest: Rest) -> None:
    """Wherever a key stands by mistake, in whatever shape: not in the answer, not in the audit."""
    leaf = CA.leaf()
    secret = key_pem(leaf.key).decode()
    canary = secret.splitlines()[1][:40]
    encrypted = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    certificate = pem(leaf.certificate).decode()
    bodies: list[Any] = [
        secret,
        [secret],
        {"private_key": [secret], "certificate": {"x": secret}},
        {"certificate": secret, "private_key": certificate},
        {"certificate": certificate, "private_key": encrypted},
        {"certificate": certificate, "private_key": secret, "passphrase": secret},
        {"certificate": certificate, "pkcs12": secret},
        {"pkcs12": {"a": secret}, "passphrase": [secret]},
        {"key": secret, secret: secret},
        {"names": {"a": secret}, "days": secret, "replace": secret, "new_key": secret},
    ]
    client = rest.client()
    for path in (f"{ID}/import", f"{ID}/generate", f"{ID}/renew", f"{ID}/request", CAS):
        for body in bodies:
            for content in (json.dumps(body), json.dumps(body)[:-3]):
                answer = client.post(path, content=content.encode(), headers={"Content-Type": "application/json"})
                assert answer.status_code == 422, (path, body, answer.text)
                assert canary not in answer.text
                assert answer.json()["errors"]
    assert canary not in str(rest.inventory.rows)
    said(client.post(f"{ID}/import", json={"certificate": certificate, "private_key": secret}))
    assert canary not in str(rest.inventory.rows) + client.get(ID).text + client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("generate", {"days": 0}, "days"),
        ("generate", {"days": 3651}, "days"),
        ("generate", {"days": "9"}, "days"),
        ("generate", {"names": ["mx_1..example"]}, "names[0]"),
        ("generate", {"names": ["ok.example", "*.com."]}, "names[1]"),
        ("generate", {"key": "dsa"}, "key"),
        ("renew", {"new_key": 1}, "new_key"),
        ("request", {"names": ["a" * 300]}, "names.0"),
        ("import", {"pkcs12": "not base64"}, "pkcs12"),
    ],
)
def test_values_that_are_not_allowed_are_faults(rest: Rest, path: str, body: object, field: str) -> None:
    assert [found for found, _ in faults(rest.client().post(f"{ID}/{path}", json=body))] == [field]


def test_own_cas_are_added_listed_and_removed(rest: Rest) -> None:
    client = rest.client()
    soon = issuer("Soon", until=NOW + 13.5 * DAY)
    added = said(client.post(CAS, json={"certificate": pem(CA.certificate, soon.certificate).decode()}), 201)
    assert [each["warning"] for each in added["items"]] == ["", "the own CA CN=Soon expires in 13 days"]
    assert said(client.get(CAS)) == added
    first = added["items"][0]["id"]
    assert first == facts_of(CA.certificate).sha256
    assert client.delete(f"{CAS}/{first}").status_code == 204
    assert said(client.delete(f"{CAS}/{first}"), 404)["status"] == 404
    assert [each["subject"] for each in said(client.get(CAS))["items"]] == ["CN=Soon"]
    assert [row["what"] for row in rest.inventory.rows[:2]] == ["own CA removed", "own CAs added"]
    leaf = CA.leaf().certificate
    assert faults(client.post(CAS, json={"certificate": pem(leaf).decode()})) == [("certificate", "CN=mx.example")]


def test_files_that_cannot_be_read_are_told_and_replaced(rest: Rest, tmp_path: Path) -> None:
    client = rest.client()
    said(client.post(f"{ID}/generate"))
    current = (tmp_path / "digital-id" / "current").resolve()
    current.write_bytes(b"broken")
    state = said(client.get(ID))
    assert (state["certificate"], "no certificate that can be read" in state["fault"]) == (None, True)
    assert said(client.post(f"{ID}/renew"), 409)
    said(client.post(f"{ID}/generate"))
    (tmp_path / "digital-id" / "authorities.pem").write_bytes(b"broken")
    assert "no file of certificates" in said(client.get(CAS), 409)["detail"]
    assert client.get("/metrics").status_code == 200


def test_a_data_dir_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    rest = Rest(settings=NodeSettings(HOST, str(tmp_path / "none")))
    assert "cannot be written: No such file" in said(rest.client().post(f"{ID}/generate"), 500)["detail"]


def test_metrics_tell_when_certificates_expire(rest: Rest) -> None:
    client = rest.client()
    own = said(client.post(f"{ID}/generate", json={"days": 10}))["certificate"]
    said(client.post(CAS, json={"certificate": pem(CA.certificate).decode()}), 201)
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("posthouse_certificate")]
    assert len(lines) == 2
    assert f'certificate="digital-id",sha256="{own["sha256"][:16]}"' in lines[0]
    assert float(lines[0].rpartition(" ")[2]) == own["not_after"]
    assert 'certificate="authority"' in lines[1]


def test_the_openapi_has_bodies_and_examples(rest: Rest) -> None:
    paths = rest.app().openapi()["paths"]
    for path in ("generate", "renew", "request", "import"):
        operation = paths[f"{ID}/{path}"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]["examples"]
        assert operation["responses"]["200"]["content"]["application/json"]["example"]
    properties = paths[f"{ID}/import"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert [name for name, spec in properties.items() if spec.get("writeOnly")] == [
        "private_key",
        "pkcs12",
        "passphrase",
    ]
