"""The digital ID and the own CAs on the disk: whole, private, one writer at a time; listeners show the new one."""

import os
import shutil
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse import client_tls, tls
from posthouse.client_tls import TlsPolicy, client_context, trust_besides
from posthouse.core import digital_id
from posthouse.core.certificate import facts_of
from posthouse.core.digital_id import DigitalId, Given
from posthouse.core.faults import InvalidInput
from posthouse.core.profile import TlsVerify
from posthouse.digital_id.authorities import MOST, Authorities
from posthouse.digital_id.store import DAYS, DigitalIds, DigitalIdUnusable, KeyType, Refused
from support.certificates import HOST, NOW, issuer, pem

DAY = 86400.0
NAMES = st.lists(
    st.one_of(
        st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,10}){1,3}", fullmatch=True),
        st.ip_addresses().map(str),
    ),
    min_size=1,
    max_size=5,
    unique=True,
)


@pytest.fixture
def ids(tmp_path: Path) -> DigitalIds:
    return DigitalIds(str(tmp_path))


def pin(ids: DigitalIds) -> str:
    found = ids.load()
    assert found is not None
    return facts_of(found.certificate).sha256


@settings(max_examples=20, deadline=None)
@given(names=NAMES, days=st.integers(1, 3650), kind=st.just(KeyType.ECDSA))
def test_what_is_generated_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], days: int, kind: KeyType
) -> None:
    ids = DigitalIds(str(tmp_path_factory.mktemp("id")))
    made = ids.generate(names, days, kind, NOW, replace=False).after
    loaded = ids.load()
    assert loaded is not None
    assert loaded.pem() == made.pem()
    facts = facts_of(loaded.certificate)
    assert sorted(facts.names) == sorted(names)
    assert (facts.not_after - NOW, facts.self_signed, facts.authority) == (days * DAY, True, False)


def test_rsa_is_made_on_demand(ids: DigitalIds) -> None:
    made = ids.generate([HOST], 9, KeyType.RSA, NOW, replace=False).after
    assert facts_of(made.certificate).key == "RSA 3072"
    assert facts_of(ids.renew(9, NOW, new_key=True).after.certificate).key == "RSA 3072"


def test_only_the_owner_reads_anything_of_it(ids: DigitalIds, tmp_path: Path) -> None:
    assert (ids.path(), ids.load()) == (None, None)
    assert list(tmp_path.iterdir()) == [], "looking makes nothing"
    ids.ensure(HOST, NOW)
    ids.request([HOST], KeyType.ECDSA, new_key=True, replace=False)
    Authorities(str(tmp_path)).add(pem(issuer("Own").certificate), NOW)
    folder = tmp_path / "digital-id"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    private = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.pem")}
    assert len(private) == 3
    assert set(private.values()) == {0o600}
    assert not list(folder.glob("*.new"))


def test_root_leaves_files_to_the_owner_of_the_data_dir(
    ids: DigitalIds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_to: dict[str, tuple[int, int]] = {}

    def chown(path: Path, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        given_to[Path(path).name.partition(".")[0]] = (uid, gid)

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", chown)
    ids.ensure(HOST, NOW)
    owner = (tmp_path.stat().st_uid, tmp_path.stat().st_gid)
    assert given_to.pop("digital-id") == owner
    assert {"lock", "current"} < set(given_to)
    assert set(given_to.values()) == {owner}


def test_a_file_once_shown_never_changes_and_outlives_the_next_one(ids: DigitalIds) -> None:
    first = ids.ensure(HOST, NOW)
    octets = Path(first).read_bytes()
    ids.renew(DAYS, NOW, new_key=True)
    second = ids.path()
    assert second is not None
    assert second != first
    assert Path(first).read_bytes() == octets, "for who has looked just before"
    ids.renew(DAYS, NOW, new_key=True)
    assert not Path(first).exists()
    assert Path(second).exists()


def test_a_renewal_keeps_names_and_key_unless_asked(ids: DigitalIds) -> None:
    before = ids.generate([HOST, "192.0.2.1"], 5, KeyType.ECDSA, NOW, replace=False).after
    same = ids.renew(100, NOW, new_key=False)
    assert same.before is not None
    assert same.before.pem() == before.pem()
    assert same.after.key.public_key() == before.key.public_key()
    assert facts_of(same.after.certificate).names == (HOST, "192.0.2.1")
    assert facts_of(same.after.certificate).not_after == NOW + 100 * DAY
    assert ids.renew(100, NOW, new_key=True).after.key.public_key() != before.key.public_key()


@pytest.mark.parametrize(("common_name", "renewed_for"), [("old.example", "old.example"), ("Our gateway", HOST)])
def test_a_certificate_without_names_is_renewed_for_its_common_name_or_this_host(
    ids: DigitalIds, common_name: str, renewed_for: str
) -> None:
    made = issuer(common_name)
    ids.import_(Given(DigitalId(made.certificate, (), made.key).pem()), HOST, NOW)
    assert facts_of(ids.renew(9, NOW, new_key=False, hostname=HOST).after.certificate).names == (renewed_for,)


def test_long_names_are_renewed_whole(ids: DigitalIds) -> None:
    long = ".".join(["a" * 60] * 4) + ".example"
    ids.generate([long], 9, KeyType.ECDSA, NOW, replace=False)
    renewed = ids.renew(9, NOW, new_key=False).after.certificate
    names = renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [long]


def test_what_a_ca_has_issued_is_neither_renewed_nor_replaced_unasked(ids: DigitalIds) -> None:
    with pytest.raises(Refused, match="generate or import"):
        ids.renew(DAYS, NOW, new_key=False)
    issued = issuer("CA").leaf()
    ids.import_(Given(issued.pem()), HOST, NOW)
    with pytest.raises(Refused, match="issued by CN=CA"):
        ids.renew(DAYS, NOW, new_key=False)
    with pytest.raises(Refused, match="self-signed"):
        ids.generate([HOST], DAYS, KeyType.ECDSA, NOW, replace=False)
    assert pin(ids) == facts_of(issued.certificate).sha256
    ids.generate([HOST], DAYS, KeyType.ECDSA, NOW, replace=True)
    assert pin(ids) != facts_of(issued.certificate).sha256


@pytest.mark.parametrize("new_key", [True, False])
def test_a_request_waits_for_its_certificate_while_the_former_one_serves(ids: DigitalIds, new_key: bool) -> None:
    ids.ensure(HOST, NOW)
    before = pin(ids)
    asked = ids.request([HOST, "mx2.example"], KeyType.ECDSA, new_key=new_key, replace=False)
    assert pin(ids) == before
    signed = issuer("CA").sign(asked, since=NOW - 1, until=NOW + 90 * DAY)
    found = ids.import_(Given(pem(signed)), HOST, NOW)
    assert found.after.certificate == signed
    assert pin(ids) == facts_of(signed).sha256
    assert ids.requested() is None
    loaded = ids.load()
    assert loaded is not None
    assert loaded.key.public_key() == asked.public_key()


def test_a_request_that_waits_is_given_again_and_never_lost_unasked(ids: DigitalIds) -> None:
    ids.ensure(HOST, NOW)

    def ask(*names: str, kind: KeyType = KeyType.ECDSA, new_key: bool = True, replace: bool = False) -> object:
        return ids.request(names, kind, new_key=new_key, replace=replace)

    first = ask(HOST)
    assert ask(HOST) == first
    others: list[Callable[[], object]] = [
        lambda: ask("mx2.example"),
        lambda: ask(HOST, kind=KeyType.RSA),
        lambda: ask(HOST, new_key=False),
    ]
    for other in others:
        with pytest.raises(Refused, match="ask for replace"):
            other()
    waiting = ids.requested()
    assert waiting is not None
    assert waiting[0] == first
    second = ask(HOST, new_key=False, replace=True)
    assert second != first
    # With the key in force nothing is lost.
    assert ask(HOST, new_key=False) == second
    third = ask("mx2.example", new_key=False)
    assert third != second
    with pytest.raises(Refused):
        ask(HOST)


def test_an_import_of_another_pair_leaves_the_request_waiting(ids: DigitalIds) -> None:
    ids.request([HOST], KeyType.ECDSA, new_key=True, replace=False)
    ids.import_(Given(issuer("CA").leaf().pem()), HOST, NOW)
    assert ids.requested() is not None


def test_a_refused_import_changes_nothing(ids: DigitalIds, tmp_path: Path) -> None:
    ids.ensure(HOST, NOW)
    before = {path.name: path.is_symlink() or path.read_bytes() for path in (tmp_path / "digital-id").iterdir()}
    with pytest.raises(InvalidInput):
        ids.import_(Given(issuer("CA").leaf(until=NOW - 1).pem()), HOST, NOW)
    assert before == {
        path.name: path.is_symlink() or path.read_bytes() for path in (tmp_path / "digital-id").iterdir()
    }


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.BrainpoolP256R1()])
def test_what_no_client_can_speak_to_is_never_in_force(
    ids: DigitalIds, monkeypatch: pytest.MonkeyPatch, curve: ec.EllipticCurve
) -> None:
    ids.ensure(HOST, NOW)
    before = pin(ids)
    given = Given(issuer("CA").leaf(key=ec.generate_private_key(curve)).pem())
    with pytest.raises(InvalidInput, match="do not know this curve"):
        ids.import_(given, HOST, NOW)
    # Were the curve let through: the handshake finds it.
    monkeypatch.setattr(digital_id, "CURVES", (*digital_id.CURVES, curve.name))
    with pytest.raises(InvalidInput, match="No handshake of TLS succeeds with it"):
        ids.import_(given, HOST, NOW)
    assert pin(ids) == before


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_curves_of_tls_are_taken(ids: DigitalIds, curve: ec.EllipticCurve) -> None:
    made = issuer("CA").leaf(key=ec.generate_private_key(curve))
    ids.import_(Given(made.pem()), HOST, NOW)
    assert pin(ids) == facts_of(made.certificate).sha256


def test_a_broken_one_is_told_and_can_be_replaced(ids: DigitalIds) -> None:
    path = Path(ids.ensure(HOST, NOW))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DigitalIdUnusable, match="certificate"):
        ids.load()
    assert ids.import_(Given(issuer("CA").leaf().pem()), HOST, NOW).before is None
    pin(ids)


@pytest.mark.parametrize("how", ["links followed", "links dropped", "only current"])
def test_a_copy_that_lost_its_links_loses_no_key_and_tells_the_way_back(
    ids: DigitalIds, tmp_path: Path, how: str
) -> None:
    issued = ids.import_(Given(issuer("CA").leaf().pem()), HOST, NOW).after
    folder, octets = tmp_path / "digital-id", issued.pem()
    shutil.copytree(folder, tmp_path / "copy" / "digital-id", symlinks=False)
    shutil.rmtree(folder)
    shutil.move(tmp_path / "copy" / "digital-id", folder)
    if how == "links dropped":
        (folder / "current").unlink()
    if how == "only current":
        next(folder.glob("id-*.pem")).unlink()
    remedy = "digital-id import .*/current" if how == "only current" else r"ln -sfn id-[0-9a-f]+\.pem .*/current"
    for look in (ids.path, ids.load, lambda: ids.ensure(HOST, NOW)):
        with pytest.raises(DigitalIdUnusable, match=f"{remedy}.*cp -a"):
            look()
    assert ids.certificate() is None
    # A new one is in force at once, however often; the issued key is still there.
    for _ in range(4):
        ids.generate([HOST], DAYS, KeyType.ECDSA, NOW, replace=False)
    assert octets in [file.read_bytes() for file in folder.glob("id-*.pem") if not file.is_symlink()]
    made = ids.load()
    assert made is not None
    assert made.pem() != octets
    if how != "only current":
        original = next(file for file in folder.glob("id-*.pem") if file.read_bytes() == octets)
        (folder / "current").unlink()
        (folder / "current").symlink_to(original.name)
        loaded = ids.load()
        assert loaded is not None
        assert loaded.pem() == octets


def test_many_writers_and_readers_at_once_always_see_a_pair(tmp_path: Path) -> None:
    ids, stop = DigitalIds(str(tmp_path)), threading.Event()
    ids.ensure(HOST, NOW)
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            found = ids.load()
            assert found is not None
            assert found.certificate.public_key() == found.key.public_key()
            seen.add(found.pem().decode())

    def write(_: int) -> str:
        return DigitalIds(str(tmp_path)).renew(DAYS, NOW, new_key=True).after.pem().decode()

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        written = list(pool.map(write, range(20)))
        stop.set()
        for reader in readers:
            reader.result()
    assert len(set(written)) == 20
    assert len(list((tmp_path / "digital-id").glob("id-*.pem"))) == 2


def test_a_reader_that_was_overtaken_twice_reads_the_new_one(
    ids: DigitalIds, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_before = [ids.ensure(HOST, NOW)]
    for _ in range(2):
        ids.renew(DAYS, NOW, new_key=True)
    in_force = ids.path
    newest = in_force()
    monkeypatch.setattr(ids, "path", lambda: looked_before.pop() if looked_before else in_force())
    found = ids.load()
    assert found is not None
    assert newest is not None
    assert found.pem() == Path(newest).read_bytes()
    Path(newest).unlink()
    with pytest.raises(DigitalIdUnusable, match=r"id-[0-9a-f]+\.pem cannot be read: No such file"):
        ids.load()


def test_processes_that_start_at_once_make_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: DigitalIds(str(tmp_path)).ensure(HOST, NOW), range(8)))
    assert len(made) == 1


# --- listeners -------------------------------------------------------------------------------------------


@contextmanager
def tls_echo(context: ssl.SSLContext) -> Iterator[int]:
    """Sends back the octets of each connection, in threads, until the block ends."""

    def serve(connection: socket.socket) -> None:
        with connection, context.wrap_socket(connection, server_side=True) as secured:
            while octets := secured.recv(100):
                secured.sendall(octets)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
        for each in threads:
            each.join(20)


def connected(port: int, name: str | None = HOST) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname=name)


def shown(connection: ssl.SSLSocket) -> str:
    certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return facts_of(x509.load_der_x509_certificate(certificate)).sha256


@pytest.mark.parametrize("name", [HOST, None])
def test_a_listener_shows_the_new_one_and_open_sessions_go_on(
    ids: DigitalIds, tmp_path: Path, name: str | None
) -> None:
    context = tls.renewing_context(lambda: tls.ensure_digital_id(str(tmp_path), HOST))
    with tls_echo(context) as port, connected(port, name) as open_session:
        first = pin(ids)
        assert shown(open_session) == first
        # A key of another kind: the former one must not be offered any more.
        ids.generate([HOST], DAYS, KeyType.RSA, NOW, replace=False)
        with connected(port, name) as fresh:
            assert shown(fresh) == pin(ids) != first
        open_session.sendall(b"still here")
        assert open_session.recv(100) == b"still here"


def test_a_listener_shows_the_former_one_while_the_new_one_is_broken(
    ids: DigitalIds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = tls.renewing_context(lambda: tls.ensure_digital_id(str(tmp_path), HOST))
    first = pin(ids)
    ids.renew(DAYS, NOW, new_key=True)
    broken = ids.path()
    assert broken is not None
    octets = Path(broken).read_bytes()
    Path(broken).write_bytes(b"garbage")
    with tls_echo(context) as port:
        for _ in range(2):
            with connected(port) as connection:
                assert shown(connection) == first
        Path(broken).write_bytes(octets)
        with connected(port) as connection:
            assert shown(connection) == pin(ids) != first
    out = capsys.readouterr()
    assert (out.out + out.err).count("the former one is shown") == 1


def test_sessions_are_resumed_under_the_same_one(tmp_path: Path) -> None:
    context = tls.renewing_context(lambda: tls.ensure_digital_id(str(tmp_path), HOST))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    known: ssl.SSLSession | None = None
    with tls_echo(context) as port:
        for reused in (False, True):
            connection = socket.create_connection(("127.0.0.1", port), 20)
            with client.wrap_socket(connection, server_hostname=HOST, session=known) as secured:
                secured.sendall(b"x")
                assert secured.recv(1) == b"x"
                assert secured.session_reused is reused
                known = secured.session


# --- own CAs ---------------------------------------------------------------------------------------------


def test_own_cas_are_added_listed_and_removed(tmp_path: Path) -> None:
    own = Authorities(str(tmp_path))
    one, other = issuer("One"), issuer("Other")
    assert own.facts() == []
    assert own.remove("0" * 64) is None
    added = own.add(pem(one.certificate, other.certificate, one.certificate), NOW)
    assert [each.subject for each in added] == ["CN=One", "CN=Other"]
    assert own.add(pem(one.certificate), NOW) == added[:1]
    assert own.facts() == list(added)
    assert own.remove(added[0].sha256) == added[0]
    assert own.remove(added[0].sha256) is None
    assert own.remove(added[1].sha256) == added[1]
    assert not Path(own.path).exists()


def test_what_is_no_ca_or_has_expired_is_refused_at_once(tmp_path: Path) -> None:
    own = Authorities(str(tmp_path))
    leaf, old = issuer("CA").leaf().certificate, issuer("Old", since=NOW - 9 * DAY, until=NOW).certificate
    with pytest.raises(InvalidInput) as refused:
        own.add(pem(leaf, old), NOW)
    assert [fault.rule for fault in refused.value.faults] == ["It is no certificate of a CA.", "It has expired."]
    with pytest.raises(InvalidInput):
        own.add(b"nothing", NOW)
    assert own.facts() == []
    assert MOST == 100


def test_clients_trust_own_cas_besides_those_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_tls, "_own_authorities", "")
    own, ca = Authorities(str(tmp_path)), issuer("Own", until=2_000_000_000)
    leaf = ca.leaf(until=2_000_000_000)
    file = tmp_path / "leaf.pem"
    file.write_bytes(leaf.pem())
    policy = TlsPolicy(TlsVerify.VERIFY)

    def trusted() -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 20) as connection,
                client_context(policy).wrap_socket(connection, server_hostname=HOST),
            ):
                return True
        except ssl.SSLCertVerificationError:
            return False

    served = tls.server_context(str(file), str(file))
    with quiet_tls(served) as port:
        trust_besides(own.path)
        assert not trusted()
        (added,) = own.add(pem(ca.certificate), NOW)
        assert trusted()
        assert client_context(policy) is client_context(policy)
        assert len(client_context(policy).get_ca_certs()) > 0
        own.remove(added.sha256)
        assert not trusted()


@contextmanager
def quiet_tls(context: ssl.SSLContext) -> Iterator[int]:
    """Handshakes that the client ends are fine."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(1)
                except (ssl.SSLError, OSError):
                    pass

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
