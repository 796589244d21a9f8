"""The keyring: where keys are looked for, who may read them, and a rotation that may stop anywhere."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from posthouse.core.fields import Secret
from posthouse.ports import SecretKeyUnusable, SecretUnreadable
from posthouse.storage import files
from posthouse.storage.inventory import Inventory
from posthouse.storage.open import SharedStore, open_shared
from posthouse.storage.secrets import CREDENTIAL, KEY_FILE, LOCK_FILE, NEW_FILE, VARIABLE, Keyring

CANARY = "canary-in-a-coal-mine"
PROFILE: dict[str, object] = {"name": "x", "type": "smtp", "servers": ["smtp://h:25"], "username": "u"}


def new_key() -> str:
    return Fernet.generate_key().decode()


def key_file(folder: Path) -> list[str]:
    return (folder / KEY_FILE).read_text().split()


def test_the_file_is_made_with_the_first_secret_and_only_for_us(tmp_path: Path) -> None:
    keyring = Keyring(str(tmp_path), {})
    assert keyring.find() is None
    assert not (tmp_path / KEY_FILE).exists()
    token = keyring.seal(CANARY, may_make=True)
    assert CANARY not in token
    assert keyring.unseal(token) == CANARY
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == [KEY_FILE, LOCK_FILE], "nothing else is left behind"
    assert Keyring(str(tmp_path), {}).unseal(token) == CANARY


def test_no_key_is_made_where_another_one_must_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SecretKeyUnusable) as caught:
        Keyring(str(tmp_path), {}).seal(CANARY, may_make=False)
    for place in (VARIABLE, CREDENTIAL, str(tmp_path / KEY_FILE)):
        assert place in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_of_many_processes_that_start_at_once_all_use_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        tokens = list(threads.map(lambda _: Keyring(str(tmp_path), {}).seal(CANARY, may_make=True), range(64)))
    assert len(key_file(tmp_path)) == 1
    assert {Keyring(str(tmp_path), {}).unseal(token) for token in tokens} == {CANARY}
    assert sorted(os.listdir(tmp_path)) == [KEY_FILE, LOCK_FILE]


def test_the_environment_comes_before_the_credential_and_that_before_the_file(tmp_path: Path) -> None:
    of_file = Keyring(str(tmp_path), {}).seal(CANARY, may_make=True)
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / CREDENTIAL).write_text(new_key())
    (folder / CREDENTIAL).chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(folder)}
    of_credential = Keyring(str(tmp_path), environ).seal(CANARY, may_make=False)
    of_environment = Keyring(str(tmp_path), {**environ, VARIABLE: new_key()}).seal(CANARY, may_make=False)
    assert Keyring(str(tmp_path), environ).unseal(of_credential) == CANARY
    for keyring, token in (
        (Keyring(str(tmp_path), environ), of_file),
        (Keyring(str(tmp_path), environ), of_environment),
        (Keyring(str(tmp_path), {}), of_credential),
    ):
        with pytest.raises(SecretUnreadable, match="fits no key of"):
            keyring.unseal(token)
    assert Keyring(str(tmp_path), {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}).unseal(of_file) == CANARY


def test_of_several_keys_the_first_encrypts_and_all_decrypt(tmp_path: Path) -> None:
    old, new = new_key(), new_key()
    token = Keyring(str(tmp_path), {VARIABLE: old}).seal(CANARY, may_make=False)
    both = Keyring(str(tmp_path), {VARIABLE: f"{new}, {old}"})
    assert both.unseal(token) == CANARY
    assert Keyring(str(tmp_path), {VARIABLE: new}).unseal(both.seal(CANARY, may_make=False)) == CANARY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_key_file_that_others_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    keyring = Keyring(str(tmp_path), {})
    sealed = keyring.seal(CANARY, may_make=True)
    (tmp_path / KEY_FILE).chmod(mode)
    uses: tuple[Callable[[], str], ...] = (
        lambda: keyring.unseal(sealed),
        lambda: keyring.seal(CANARY, may_make=True),
    )
    for use in uses:
        with pytest.raises(SecretKeyUnusable) as caught:
            use()
        assert f"{tmp_path / KEY_FILE} has mode {mode:04o}" in str(caught.value)
        assert caught.value.remedy == f"Run: chmod 600 {tmp_path / KEY_FILE}"


@pytest.mark.parametrize("text", ["not-at-all", "a" * 44, "short-one,", "A" * 40 + "===="])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    for place in ("environment", "file"):
        (tmp_path / KEY_FILE).write_text(text if place == "file" else new_key())
        (tmp_path / KEY_FILE).chmod(0o600)
        with pytest.raises(SecretKeyUnusable) as caught:
            Keyring(str(tmp_path), {VARIABLE: text} if place == "environment" else {}).seal(CANARY, may_make=True)
        assert text.strip(",") not in str(caught.value) + caught.value.remedy


def test_an_empty_key_file_is_a_fault_and_an_empty_variable_is_none(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).touch(0o600)
    for environ in ({}, {VARIABLE: " "}):
        with pytest.raises(SecretKeyUnusable, match="there is no key in"):
            Keyring(str(tmp_path), environ).find()


def test_a_key_that_changes_while_the_program_runs_is_read_again(tmp_path: Path) -> None:
    running = Keyring(str(tmp_path), {})
    old = running.seal(CANARY, may_make=True)
    assert running.unseal(old) == CANARY
    with Keyring(str(tmp_path), {}).rotating(lambda: [("x", old)]) as rotation:
        new = rotation.renew(old)
    assert running.unseal(old) == CANARY, "until the snapshot with the new one is in force"
    assert running.unseal(new) == CANARY
    assert running.unseal(old) == CANARY, "a mail under way has it still"
    with pytest.raises(SecretUnreadable):
        Keyring(str(tmp_path), {}).unseal(old)


def test_nothing_shows_a_key(tmp_path: Path) -> None:
    keyring = Keyring(str(tmp_path), {})
    keyring.seal(CANARY, may_make=True)
    assert key_file(tmp_path)[0] not in repr(keyring.find())


def test_the_same_text_is_known_and_what_cannot_be_read_is_not_the_same(tmp_path: Path) -> None:
    keyring = Keyring(str(tmp_path), {})
    token = keyring.seal(CANARY, may_make=True)
    assert keyring.same(token, CANARY)
    assert not keyring.same(token, CANARY + "x")
    (tmp_path / KEY_FILE).unlink()
    assert not Keyring(str(tmp_path), {}).same(token, CANARY)


def test_nothing_is_stored_under_a_key_that_does_not_fit_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = stored(tmp_path)
    shared.keyring.unseal(token(shared))
    first, second = {**PROFILE, "password": {"set": True}}, {**PROFILE, "name": "y", "password": {"set": True}}

    def replace(profiles: list[dict[str, object]], **texts: str) -> None:
        secrets = {name: {"password": Secret("text", text)} for name, text in texts.items()}
        revision = shared.inventory.revision()
        shared.inventory.replace(profiles, [], expected_revision=revision, by="op", now=2.0, secrets=secrets)

    monkeypatch.setenv(VARIABLE, other := new_key())
    with pytest.raises(SecretKeyUnusable, match="does not fit what is stored") as caught:
        replace([first, second], y="another")
    assert "enter every stored secret again at once" in caught.value.remedy
    assert shared.inventory.revision() == 1
    replace([first, second], x=CANARY, y="another")
    tokens = [p.secrets["password"].token for p in shared.inventory.load().profiles]
    assert [Keyring(str(tmp_path), {VARIABLE: other}).unseal(each) for each in tokens] == [CANARY, "another"], (
        "entered again: not left under a key that only this process has seen"
    )
    shared.close()


# --- rotation --------------------------------------------------------------------------------------------


class Stopped(BaseException):
    """The process is gone."""


class StoppingCalls(files.SystemCalls):
    """files.calls of a process that ends before the n-th call: nothing is carried out afterwards."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def _step(self, call: Callable[[], object]) -> None:
        self.count += 1
        if self.count >= self.at:
            raise Stopped
        call()

    def write(self, descriptor: int, octets: memoryview, offset: int, /) -> int:
        self._step(lambda: os.pwrite(descriptor, octets, offset))
        return len(octets)

    def fdatasync(self, descriptor: int, /) -> None:
        self._step(lambda: os.fdatasync(descriptor))

    def fsync(self, descriptor: int, /) -> None:
        self._step(lambda: os.fsync(descriptor))

    def rename(self, source: Path, target: Path, /) -> None:
        self._step(lambda: os.rename(source, target))

    def unlink(self, path: Path, /) -> None:
        self._step(lambda: os.unlink(path))

    def commit(self, transaction: files.Transaction, /) -> None:
        self._step(transaction.commit)


def stored(folder: Path) -> SharedStore:
    """A data dir with one profile whose password is the canary."""
    shared = open_shared(str(folder), "sqlite")
    document = {**PROFILE, "password": {"set": True}}
    secrets = {"x": {"password": Secret("text", CANARY)}}
    shared.inventory.replace([document], [], expected_revision=0, by="op", now=1.0, secrets=secrets)
    return shared


def key_files(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if name.startswith("secret.")} - {LOCK_FILE}


def token(shared: SharedStore) -> str:
    return shared.inventory.load().profiles[0].secrets["password"].token


def test_a_rotation_changes_key_and_token_and_nothing_else(tmp_path: Path) -> None:
    shared = stored(tmp_path)
    old_key, old_token, before = key_file(tmp_path), token(shared), shared.inventory.load()
    rotated = shared.inventory.rotate_secrets(by="secret rotate", now=2.0)
    assert (rotated.secrets, rotated.where, rotated.to_drop) == (1, str(tmp_path / KEY_FILE), 0)
    (new_key_text,) = key_file(tmp_path)
    assert [new_key_text] != old_key
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert Keyring(str(tmp_path), {}).unseal(token(shared)) == CANARY
    assert token(shared) != old_token
    after = shared.inventory.load()
    assert after.revision == before.revision + 1, "so that workers load it"
    assert after.profiles == before.profiles, "profiles keep revision and id of the secret: no connection is touched"
    row = shared.inventory.audit(1, None)[0]
    assert (row["what"], row["by"], row["detail"]) == (
        "secret rotate",
        "secret rotate",
        {"revision": 2, "secrets": 1},
    )
    shared.close()


def test_a_rotation_may_be_interrupted_at_each_step(tmp_path: Path) -> None:
    keys_left = []
    for number in range(1, 50):
        folder = tmp_path / str(number)
        folder.mkdir()
        shared = stored(folder)
        running = Keyring(str(folder), {})
        running.unseal(token(shared))
        real, stopped = files.calls, False
        try:
            files.calls = StoppingCalls(number)
            shared.inventory.rotate_secrets(by="op", now=2.0)
        except Stopped:
            stopped = True
        finally:
            files.calls = real
        assert Keyring(str(folder), {}).unseal(token(shared)) == CANARY, f"stopped before call {number}"
        assert running.unseal(token(shared)) == CANARY
        keys_left.append(len(key_file(folder)))
        assert key_files(folder) - {NEW_FILE} == {KEY_FILE}, "no other name ever holds a key"
        shared.inventory.rotate_secrets(by="op", now=3.0)
        assert len(key_file(folder)) == 1
        assert key_files(folder) == {KEY_FILE}
        assert Keyring(str(folder), {}).unseal(token(shared)) == CANARY
        shared.close()
        if not stopped:
            break
    # Unlink, write, sync, rename, sync of the folder; commit; the same five again; not stopped.
    assert keys_left == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1]


def test_a_file_that_an_interrupted_rotation_left_is_written_anew_and_no_link_is_followed(tmp_path: Path) -> None:
    shared = stored(tmp_path)
    foreign = tmp_path / "foreign"
    foreign.write_text("as it was")
    (tmp_path / NEW_FILE).symlink_to(foreign)
    shared.inventory.rotate_secrets(by="op", now=2.0)
    assert key_files(tmp_path) == {KEY_FILE}
    assert Keyring(str(tmp_path), {}).unseal(token(shared)) == CANARY
    (tmp_path / LOCK_FILE).unlink()
    (tmp_path / LOCK_FILE).symlink_to(foreign)
    with pytest.raises(OSError):
        shared.inventory.rotate_secrets(by="op", now=2.0)
    assert foreign.read_text() == "as it was"
    shared.close()


def test_what_root_writes_belongs_to_the_owner_of_the_data_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = stored(tmp_path)
    given: list[tuple[str, int, int]] = []

    def give(descriptor: int, user: int, group: int) -> None:
        given.append((os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2], user, group))

    monkeypatch.setattr(os, "fchown", give)
    owner = tmp_path.stat()
    for user in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        shared.inventory.rotate_secrets(by="op", now=2.0)
    ours = (owner.st_uid, owner.st_gid)
    assert given == [(LOCK_FILE, *ours), (NEW_FILE, *ours), (NEW_FILE, *ours)]
    shared.close()


def test_what_is_stored_while_the_key_changes_is_not_lost(tmp_path: Path) -> None:
    shared = stored(tmp_path)
    console = open_shared(str(tmp_path), "sqlite")
    console.keyring.unseal(token(shared))
    with shared.keyring.rotating(lambda: [("x", token(shared))]):
        revision = console.inventory.revision()
        document = {**PROFILE, "password": {"set": True}}
        secrets = {"x": {"password": Secret("text", "another")}}
        console.inventory.replace([document], [], expected_revision=revision, by="op", now=2.0, secrets=secrets)
    assert Keyring(str(tmp_path), {}).unseal(token(shared)) == "another"
    for each in (shared, console):
        each.close()


def test_a_secret_that_no_key_fits_stops_the_rotation_and_is_named(tmp_path: Path) -> None:
    shared = stored(tmp_path)
    lost = key_file(tmp_path)
    (tmp_path / KEY_FILE).write_text(other := new_key())
    with pytest.raises(SecretUnreadable, match="server profile 'x'"):
        shared.inventory.rotate_secrets(by="op", now=2.0)
    assert shared.inventory.revision() == 1
    assert (tmp_path / KEY_FILE).read_text() == other, "whatever it is for, nothing is added and nothing dropped"
    with (tmp_path / KEY_FILE).open("a") as file:
        file.write("\n".join(["", *lost]))
    assert shared.inventory.rotate_secrets(by="op", now=2.0).secrets == 1
    assert len(key_file(tmp_path)) == 1
    shared.close()


def test_a_key_that_posthouse_cannot_change_needs_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = new_key(), new_key()
    monkeypatch.setenv(VARIABLE, old)
    shared = stored(tmp_path)
    with pytest.raises(SecretKeyUnusable, match=VARIABLE) as caught:
        shared.inventory.rotate_secrets(by="op", now=2.0)
    assert "new key before it" in caught.value.remedy
    monkeypatch.setenv(VARIABLE, f"{new},{old}")
    assert shared.inventory.rotate_secrets(by="op", now=2.0).to_drop == 1
    assert Keyring(str(tmp_path), {VARIABLE: new}).unseal(token(shared)) == CANARY
    assert not (tmp_path / KEY_FILE).exists()
    shared.close()


def test_a_database_without_secrets_is_the_wrong_one_and_takes_no_key_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = stored(tmp_path)
    before = (tmp_path / KEY_FILE).read_bytes()
    (tmp_path / "other").mkdir()
    other = open_shared(str(tmp_path / "other"), "sqlite")
    inventory = Inventory(other.database, shared.keyring)
    for environ in ("", f"{new_key()},{before.decode().strip()}"):
        monkeypatch.setenv(VARIABLE, environ)
        with pytest.raises(SecretKeyUnusable, match="no secret is stored in this database") as caught:
            inventory.rotate_secrets(by="op", now=2.0)
        assert "--database" in caught.value.remedy
    assert (tmp_path / KEY_FILE).read_bytes() == before
    assert other.inventory.revision() == 0
    for each in (shared, other):
        each.close()


def test_without_a_key_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    shared = open_shared(str(tmp_path), "sqlite")
    with pytest.raises(SecretKeyUnusable, match="no key"):
        shared.inventory.rotate_secrets(by="op", now=2.0)
    assert not (tmp_path / KEY_FILE).exists()
    shared.close()
