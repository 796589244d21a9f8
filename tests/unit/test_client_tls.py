"""TLS towards servers: policies, contexts and what they let through, and faults in words."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from posthouse import client_tls
from posthouse.client_tls import (
    CertificateRefused,
    TlsPolicy,
    TlsSettingsError,
    check_pin,
    client_context,
    fingerprint,
    policy_of,
    server_name,
    tls_sentence,
)
from posthouse.core.profile import ServerProfile, Tls, TlsVerify
from posthouse.core.service_type import ServiceType
from posthouse.tls import ensure_digital_id
from support.plain_client import PlainClient
from support.servers import LOOPS, run
from support.tls_servers import (
    NAME,
    STARTTLS_ONLY,
    ServerKind,
    TlsServer,
    client_digital_id,
    tls_server,
    trusted_ca,
    write_certificate,
)

CLOSED = "the server closed the connection during the handshake"
NO_VERSION = "no common TLS version (the server may only speak TLS 1.1)"
WANTS = "the server wants a client certificate"
BAD_CERTIFICATES = {
    ServerKind.WRONG_NAME: "the certificate is for other.example, not mail.example",
    ServerKind.EXPIRED: "certificate expired on 2024-02-29",
    ServerKind.SELF_SIGNED: "self-signed certificate",
    ServerKind.UNKNOWN_CA: "certificate issued by an unknown CA: Nobody's CA",
}
"""With `verify`; without it these are as good as any."""
BAD_HANDSHAKES = {
    ServerKind.TLS11_ONLY: NO_VERSION,
    ServerKind.HANDSHAKE_CUT: CLOSED,
    ServerKind.WANTS_CERTIFICATE: WANTS,
}
"""Whatever is verified."""
NO_HANDSHAKE = {ServerKind.NOT_OFFERED, ServerKind.REFUSED_454}
HANDSHAKES = [
    pytest.param(kind, implicit, id=f"{kind}, {'implicit' if implicit else 'starttls'}")
    for kind in ServerKind
    for implicit in (False, True)
    if kind not in NO_HANDSHAKE and not (implicit and kind in STARTTLS_ONLY)
]


def policy_for(server: TlsServer, verify: TlsVerify = TlsVerify.VERIFY, **changes: Any) -> TlsPolicy:
    """What an administrator would set for this server."""
    pin = server.pin if verify is TlsVerify.PINNED else ""
    ca = server.ca if verify is TlsVerify.VERIFY else ""
    return replace(TlsPolicy(verify, ca=ca, pin=pin), **changes)


@contextmanager
def reached(server: TlsServer, policy: TlsPolicy, name: str = NAME) -> Iterator[tuple[PlainClient, ssl.SSLSocket]]:
    """A connection with TLS: the greeting or the reply to STARTTLS was read."""
    with PlainClient(server.port) as client:
        if not server.implicit:
            assert client.reply().startswith("220 ")
            assert "STARTTLS" in client.say("EHLO client.example")
            assert client.say("STARTTLS").startswith("220 ")
        wrapped = client.start_tls(client_context(policy), name)
        if server.implicit:
            assert client.reply().startswith("220 ")
        yield client, wrapped


def outcome(server: TlsServer, policy: TlsPolicy, name: str = NAME) -> str:
    """Empty if EHLO was answered under TLS and the pin is right; else the sentence."""
    try:
        with reached(server, policy, name) as (client, wrapped):
            assert client.say("EHLO client.example").startswith("250")
            return check_pin(policy, wrapped)
    except (OSError, EOFError) as error:
        return tls_sentence(error, policy.minimum)


# --- What each policy lets through -----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "implicit"), HANDSHAKES)
def test_verify_takes_good_certificates_and_says_what_is_wrong_with_others(kind: ServerKind, implicit: bool) -> None:
    with tls_server(kind, implicit=implicit) as server:
        found = outcome(server, policy_for(server))
    assert found == {**BAD_CERTIFICATES, **BAD_HANDSHAKES}.get(kind, "")
    assert server.session.tls == (not found)
    assert server.session.sni == (None if kind in (ServerKind.TLS11_ONLY, ServerKind.HANDSHAKE_CUT) else NAME)


@pytest.mark.parametrize("verify", [TlsVerify.NONE, TlsVerify.PINNED])
@pytest.mark.parametrize(("kind", "implicit"), HANDSHAKES)
def test_without_verification_or_with_the_right_pin_any_certificate_is_taken(
    kind: ServerKind, implicit: bool, verify: TlsVerify
) -> None:
    with tls_server(kind, implicit=implicit) as server:
        assert outcome(server, policy_for(server, verify)) == BAD_HANDSHAKES.get(kind, "")


def test_a_clear_text_server_does_not_speak_tls() -> None:
    with tls_server(ServerKind.NOT_OFFERED) as server, PlainClient(server.port) as client:
        with pytest.raises(ssl.SSLError) as caught:
            client.start_tls(client_context(policy_for(server, TlsVerify.NONE)), NAME)
        assert tls_sentence(caught.value) == "the server does not speak TLS here"


def test_the_minimum_version_is_kept() -> None:
    with tls_server(tls_max=ssl.TLSVersion.TLSv1_2) as server:
        assert outcome(server, policy_for(server)) == ""
        assert outcome(server, policy_for(server, minimum="1.3")) == (
            "no common TLS version (the server may only speak TLS 1.2)"
        )
    assert [session.tls_version for session in server.sessions] == ["TLSv1.2", ""]
    with tls_server() as server:
        assert outcome(server, policy_for(server, minimum="1.3")) == ""
    assert server.session.tls_version == "TLSv1.3"


def test_an_address_is_verified_against_addresses_and_no_server_name_is_sent() -> None:
    with tls_server(names=["127.0.0.1"]) as server:
        assert outcome(server, policy_for(server), "127.0.0.1") == ""
        assert outcome(server, policy_for(server), "127.0.0.2") == ("the certificate is for 127.0.0.1, not 127.0.0.2")
        assert outcome(server, policy_for(server), NAME) == f"the certificate is for 127.0.0.1, not {NAME}"
    assert [session.sni for session in server.sessions] == [None, None, NAME]
    with tls_server(names=["a.example", "b.example", "c.example", "d.example", "2001:db8::1"]) as server:
        assert outcome(server, policy_for(server), "2001:db8::1") == ""
        assert outcome(server, policy_for(server), "2001:db8::2") == (
            "the certificate is for a.example, b.example, c.example and 2 more, not 2001:db8::2"
        )


def test_wildcards_stand_for_one_label() -> None:
    with tls_server(names=["*.ours.example"]) as server:
        assert outcome(server, policy_for(server), "mx.ours.example") == ""
        assert outcome(server, policy_for(server), "a.mx.ours.example") == (
            "the certificate is for *.ours.example, not a.mx.ours.example"
        )


def test_without_a_file_of_cas_those_of_the_system_are_trusted() -> None:
    with tls_server() as server:
        assert outcome(server, TlsPolicy(TlsVerify.VERIFY)) == "certificate issued by an unknown CA: Trusted CA"
    assert client_context(TlsPolicy(TlsVerify.VERIFY)).cert_store_stats()["x509_ca"] > 0


def test_a_self_signed_certificate_may_be_named_as_trusted() -> None:
    with tls_server(ServerKind.SELF_SIGNED) as server:
        policy = TlsPolicy(TlsVerify.VERIFY, ca=server.certificate)
        assert outcome(server, policy) == ""
        assert outcome(server, policy, "127.0.0.1") == f"the certificate is for {NAME}, not 127.0.0.1"


def test_an_issuing_ca_is_trusted_without_its_root(tmp_path: Path) -> None:
    issuing = trusted_ca().create_child_ca()
    ca = tmp_path / "issuing.pem"
    issuing.cert_pem.write_to_path(ca)
    certificate, key = write_certificate(issuing.issue_cert(NAME), tmp_path, "server")
    assert _handshake(certificate, key, TlsPolicy(TlsVerify.VERIFY, ca=str(ca))) == ""


def test_an_expired_or_future_certificate_of_a_ca_is_not_blamed_on_the_server(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    later = trusted_ca().issue_cert(NAME, not_before=now + timedelta(days=40), not_after=now + timedelta(days=50))
    files = write_certificate(later, tmp_path, "later")
    ca = tmp_path / "ca.pem"
    trusted_ca().cert_pem.write_to_path(ca)
    expected = f"certificate not valid before {now + timedelta(days=40):%Y-%m-%d}"
    assert _handshake(*files, TlsPolicy(TlsVerify.VERIFY, ca=str(ca))) == expected
    good = trusted_ca().issue_cert(NAME).cert_chain_pems[0].bytes().decode()
    for code, sentence in (
        (10, "the certificate of its CA has expired"),
        (9, "the certificate of its CA is not valid yet"),
    ):
        error = refused(code, "about time")
        error.certificate = ssl.PEM_cert_to_DER_cert(good)
        assert tls_sentence(error) == sentence


def _handshake(certificate: str, key: str, policy: TlsPolicy) -> str:
    """Both ends in memory: empty, or the sentence."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_context(policy).wrap_bio(to_client, to_server, server_hostname=NAME)
    ends = [client, server]
    while ends:
        end = ends.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            ends.append(end)
        except ssl.SSLError as error:
            return tls_sentence(error)
    return ""


# --- Pins ------------------------------------------------------------------------------------------------


def test_another_certificate_than_the_pinned_one_is_told_by_both_fingerprints() -> None:
    with tls_server() as server:
        found = outcome(server, TlsPolicy(TlsVerify.PINNED, pin="ab" * 32))
        assert found == f"the certificate has the fingerprint {server.pin[:16]}…, pinned is abababababababab…"


def test_a_connection_without_certificate_fits_no_pin() -> None:
    class Bare(ssl.SSLObject):
        def getpeercert(self, binary_form: bool = False) -> Any:
            return None

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = Bare
    connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    assert check_pin(TlsPolicy(TlsVerify.PINNED, pin="ab" * 32), connection) == "the server showed no certificate"


# --- Client certificates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tls_max", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("implicit", [False, True])
def test_the_digital_id_is_shown_to_servers_that_want_it(
    tmp_path: Path, implicit: bool, tls_max: ssl.TLSVersion
) -> None:
    known = client_digital_id(tmp_path)
    with tls_server(ServerKind.WANTS_CERTIFICATE, implicit=implicit, tls_max=tls_max) as server:
        assert outcome(server, policy_for(server, certificate=known)) == ""
        assert server.session.client_subject == "node.example"
        without = outcome(server, policy_for(server))
    both = "no common cipher, or the server wants a client certificate"
    assert without == (WANTS if tls_max is ssl.TLSVersion.TLSv1_3 else both)


def test_a_digital_id_of_an_unknown_ca_is_refused_in_words(tmp_path: Path) -> None:
    unknown = client_digital_id(tmp_path, known=False)
    with tls_server(ServerKind.WANTS_CERTIFICATE) as server:
        found = outcome(server, policy_for(server, certificate=unknown))
    assert found == "the server does not know the CA of the client certificate"


def test_the_digital_id_that_posthouse_makes_is_taken_where_it_is_known(tmp_path: Path) -> None:
    own = ensure_digital_id(str(tmp_path), "mx1.example")
    with tls_server(ServerKind.WANTS_CERTIFICATE, client_ca=own[0]) as server:
        assert outcome(server, policy_for(server, certificate=own)) == ""
    assert server.session.client_subject == "mx1.example"


# --- Contexts are kept -----------------------------------------------------------------------------------


def test_equal_policies_have_one_context() -> None:
    policy = TlsPolicy(TlsVerify.NONE)
    context = client_context(policy)
    assert client_context(replace(policy)) is context
    assert client_context(replace(policy, minimum="1.3")) is not context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not context.options & ssl.OP_NO_TICKET


def test_a_renewed_digital_id_is_used_without_a_restart(tmp_path: Path) -> None:
    files = client_digital_id(tmp_path)
    policy = TlsPolicy(TlsVerify.NONE, certificate=files)
    context = client_context(policy)
    assert client_context(policy) is context
    renewed = client_digital_id(tmp_path, "renewed.example")
    for new, old in zip(renewed, files, strict=True):
        os.replace(new, old)
    assert client_context(policy) is not context
    with tls_server(ServerKind.WANTS_CERTIFICATE) as server:
        assert outcome(server, policy) == ""
    assert server.session.client_subject == "renewed.example"


def test_a_changed_file_of_cas_is_read_anew(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca)
    policy = TlsPolicy(TlsVerify.VERIFY, ca=str(ca))
    with tls_server() as server:
        assert outcome(server, policy) == "certificate issued by an unknown CA: Trusted CA"
        trusted_ca().cert_pem.write_to_path(ca, append=True)
        assert outcome(server, policy) == ""
    before = client_context(policy)
    os.utime(ca, ns=(1, 1))
    assert client_context(policy) is not before


# --- Settings that cannot be carried out -----------------------------------------------------------------


def settings_error(policy: TlsPolicy) -> str:
    with pytest.raises(TlsSettingsError) as caught:
        client_context(policy)
    return str(caught.value)


def test_a_file_of_cas_that_is_missing_or_garbage_is_named(tmp_path: Path) -> None:
    missing, garbage, empty, broken = (str(tmp_path / name) for name in ("missing", "garbage", "empty", "broken"))
    Path(garbage).write_bytes(bytes(range(256)))
    Path(empty).touch()
    Path(broken).write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")

    def found(ca: str) -> str:
        return settings_error(TlsPolicy(TlsVerify.VERIFY, ca=ca))

    assert found(missing) == f"tls_ca: {missing} cannot be read: No such file or directory"
    assert found(str(tmp_path)) == f"tls_ca: {tmp_path} cannot be read: Is a directory"
    os.mkfifo(pipe := str(tmp_path / "pipe"))
    for each in (pipe, "/dev/zero"):
        assert found(each) == f"tls_ca: {each} cannot be read: it is no regular file"
    for each in (garbage, empty, broken):
        assert found(each) == f"tls_ca: {each} is no file of certificates (PEM)"
    assert client_context(TlsPolicy(TlsVerify.NONE, ca=missing)), "what is not used is not read"


def test_a_digital_id_that_is_missing_or_garbage_is_named(tmp_path: Path) -> None:
    certificate, key = client_digital_id(tmp_path)
    _, other_key = client_digital_id(tmp_path, "other.example")
    missing, garbage, locked = (str(tmp_path / name) for name in ("missing", "garbage", "locked"))
    Path(garbage).write_bytes(b"garbage")
    private = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"secret")
    Path(locked).write_bytes(
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    )

    def found(certificate: str, key: str) -> str:
        return settings_error(TlsPolicy(TlsVerify.NONE, certificate=(certificate, key)))

    assert found(missing, key) == f"digital ID: {missing} cannot be read: No such file or directory"
    assert found(certificate, missing) == f"digital ID: {missing} cannot be read: No such file or directory"
    assert found(certificate, str(tmp_path)) == f"digital ID: {tmp_path} cannot be read: Is a directory"
    os.mkfifo(pipe := str(tmp_path / "pipe"))
    assert found(certificate, pipe) == f"digital ID: {pipe} cannot be read: it is no regular file"
    assert found(garbage, key) == f"digital ID: {garbage} is no certificate (PEM)"
    for each in (garbage, locked):
        assert found(certificate, each) == f"digital ID: {each} is no private key (PEM without password)"
    assert found(certificate, other_key) == (
        f"digital ID: the private key {other_key} does not belong to the certificate {certificate}"
    )


# --- Policies of profiles --------------------------------------------------------------------------------


def profile(**changes: Any) -> ServerProfile:
    return replace(ServerProfile("relay", ServiceType.SMTP, ()), **changes)


@pytest.mark.parametrize(
    ("tls", "implicit", "verify"),
    [
        (Tls.STARTTLS_REQUIRED, False, TlsVerify.VERIFY),
        (Tls.STARTTLS_OPTIONAL, False, TlsVerify.NONE),
        (Tls.NONE, True, TlsVerify.VERIFY),
        (Tls.STARTTLS_OPTIONAL, True, TlsVerify.VERIFY),
    ],
)
def test_certificates_are_verified_unless_tls_is_optional(tls: Tls, implicit: bool, verify: TlsVerify) -> None:
    assert policy_of(profile(tls=tls), None, implicit).verify is verify
    for given in TlsVerify:
        assert policy_of(profile(tls=tls, tls_verify=given), None, implicit).verify is given


def test_settings_that_a_way_of_verifying_does_not_use_are_left_out() -> None:
    full = profile(tls=Tls.STARTTLS_REQUIRED, tls_ca="/ca.pem", tls_pin="ab" * 32, tls_min="1.3")
    assert policy_of(full, None, False) == TlsPolicy(TlsVerify.VERIFY, ca="/ca.pem", minimum="1.3")
    pinned = replace(full, tls_verify=TlsVerify.PINNED)
    assert policy_of(pinned, None, False) == TlsPolicy(TlsVerify.PINNED, pin="ab" * 32, minimum="1.3")
    unverified = replace(full, tls_verify=TlsVerify.NONE)
    assert policy_of(unverified, None, False) == TlsPolicy(TlsVerify.NONE, minimum="1.3")


def test_the_digital_id_is_shown_only_where_the_profile_says_so() -> None:
    files = ("digital-id.crt", "digital-id.key")
    assert policy_of(profile(), files, True).certificate is None
    assert policy_of(profile(client_certificate=True), files, True).certificate == files
    with pytest.raises(TlsSettingsError, match=r"server profile relay shows the node's digital ID .* has none"):
        policy_of(profile(client_certificate=True), None, True)


def test_policies_are_keys() -> None:
    assert len({TlsPolicy(TlsVerify.NONE), TlsPolicy(TlsVerify.NONE), TlsPolicy(TlsVerify.VERIFY)}) == 2


@pytest.mark.parametrize(
    ("tls_name", "host", "name"),
    [
        ("", "mail.example", "mail.example"),
        ("", "2001:db8::1", "2001:db8::1"),
        ("other.example", "mail.example", "other.example"),
    ],
)
def test_the_name_to_verify_is_the_host_unless_one_is_given(tls_name: str, host: str, name: str) -> None:
    assert server_name(tls_name, host) == name


# --- Sentences -------------------------------------------------------------------------------------------


def refused(code: int, message: str) -> CertificateRefused:
    error = CertificateRefused(
        1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message} (_ssl.c:1006)"
    )
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refused(10, "certificate has expired"), "certificate expired"),
        (refused(9, "certificate is not yet valid"), "certificate not valid yet"),
        (refused(62, "not valid for 'a.example'."), "the certificate is for another name, not a.example"),
        (refused(19, "self-signed certificate in certificate chain"), "certificate issued by an unknown CA"),
        (refused(23, "certificate revoked"), "the certificate is revoked"),
        (refused(24, "invalid CA certificate"), "the certificate is not trusted: invalid CA certificate"),
        (
            ssl.SSLCertVerificationError(1, "[SSL: X] certificate verify failed (_ssl.c:1)"),
            "the certificate is not trusted: certificate verify failed",
        ),
        (ssl.SSLError(1, "[SSL: ODD] something odd (_ssl.c:12)"), "TLS failed: something odd"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), CLOSED),
        (ssl.SSLZeroReturnError(6, "closed"), CLOSED),
        (ConnectionResetError(104, "Connection reset by peer"), CLOSED),
        (asyncio.IncompleteReadError(b"", 1), CLOSED),
        (ConnectionRefusedError(111, "Connection refused"), "the server refuses connections"),
        (TimeoutError(), "the TLS handshake took too long"),
        (OSError("no route"), "no route"),
        (OSError(), "OSError"),
        (TlsSettingsError("tls_ca: /x cannot be read: gone"), "tls_ca: /x cannot be read: gone"),
        (
            ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds: aborting the connection"),
            "the TLS handshake took longer than 60 seconds",
        ),
    ],
)
def test_faults_are_told_in_one_sentence(error: BaseException, sentence: str) -> None:
    assert tls_sentence(error) == sentence


def test_a_certificate_that_cannot_be_parsed_changes_only_the_sentence() -> None:
    error = refused(10, "certificate has expired")
    error.certificate = b"garbage"
    assert tls_sentence(error) == "certificate expired"


def test_names_from_the_server_cannot_break_a_line() -> None:
    assert client_tls._clean("a\r\nb\x1b[2J\u202e" + "x" * 200) == "a??b?[2J?" + "x" * 91


@pytest.mark.parametrize("loop", LOOPS)
def test_event_loops_pass_on_the_certificate_that_was_refused(loop: str) -> None:
    async def refuse(server: TlsServer) -> CertificateRefused:
        context = client_context(policy_for(server))
        with pytest.raises(CertificateRefused) as caught:
            await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname=NAME)
        return caught.value

    with tls_server(ServerKind.EXPIRED, implicit=True) as server:
        error = run(loop, refuse(server))
    assert tls_sentence(error) == "certificate expired on 2024-02-29"
    assert fingerprint(error.certificate) == server.pin


@pytest.mark.parametrize("loop", LOOPS)
def test_event_loops_tell_pins_and_cuts(loop: str) -> None:
    async def connect(server: TlsServer, policy: TlsPolicy) -> str:
        context = client_context(policy)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname=NAME)
        assert await reader.readline()
        writer.transport.abort()
        return check_pin(policy, writer.get_extra_info("ssl_object"))

    wrong = TlsPolicy(TlsVerify.PINNED, pin="ab" * 32)
    with tls_server(implicit=True) as server:
        assert run(loop, connect(server, policy_for(server, TlsVerify.PINNED))) == ""
        assert run(loop, connect(server, wrong)).startswith("the certificate has the fingerprint ")
    with tls_server(ServerKind.HANDSHAKE_CUT, implicit=True) as server:
        with pytest.raises(OSError) as caught:
            run(loop, connect(server, wrong))
        assert tls_sentence(caught.value) == CLOSED


@pytest.mark.parametrize("loop", LOOPS)
def test_event_loops_tell_a_server_that_never_answers(loop: str) -> None:
    async def connect(port: int) -> None:
        context = client_context(TlsPolicy(TlsVerify.NONE))
        await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=NAME, ssl_handshake_timeout=0.125
        )

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError) as caught:
        run(loop, connect(silent.getsockname()[1]))
    assert tls_sentence(caught.value) == "the TLS handshake took longer than 0.125 seconds"
