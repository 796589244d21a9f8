"""The composition root with stored secrets: an inventory file, a snapshot, and a key that is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.app.console_key import warn_of_unused_key
from posthouse.app.inventory_file import apply_inventory_file
from posthouse.app.stores import load_inventory
from posthouse.core.faults import InvalidInput
from posthouse.core.fields import Secret
from posthouse.storage.open import SharedStore, open_shared
from posthouse.storage.secrets import KEY_FILE, VARIABLE

CANARY = "canary-in-a-coal-mine"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedStore]:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    shared = open_shared(str(tmp_path), "sqlite")
    yield shared
    shared.close()


def apply(store: SharedStore, folder: Path, *profiles: tuple[str, str, str]) -> None:
    """Profiles by name, server and password (TOML)."""
    text = "".join(
        f'[[server_profiles]]\nname = "{name}"\ntype = "smtp"\nservers = ["{server}"]\nusername = "u"\n'
        f"password = {password}\n"
        for name, server, password in profiles
    )
    (folder / "inventory.toml").write_text(text)
    apply_inventory_file(store.inventory, str(folder / "inventory.toml"), prune=False, by="serve", own_mail=None)


def password(store: SharedStore, name: str = "a") -> str:
    secret = load_inventory(store.inventory).profiles[name].password
    assert secret is not None
    return store.keyring.unseal(secret.token)


def test_a_file_applied_twice_changes_nothing(store: SharedStore, tmp_path: Path) -> None:
    for _ in range(2):
        apply(store, tmp_path, ("a", "h", f'"{CANARY}"'))
    assert store.inventory.revision() == 1
    assert password(store) == CANARY
    apply(store, tmp_path, ("a", "h", '"other"'))
    assert (store.inventory.revision(), password(store)) == (2, "other")


def test_no_snapshot_holds_or_shows_the_text(store: SharedStore, tmp_path: Path) -> None:
    apply(store, tmp_path, ("a", "h", f'"{CANARY}"'))
    assert CANARY not in repr(load_inventory(store.inventory)) + repr(store.inventory.load())


@pytest.mark.parametrize("trouble", ["lost", "readable by others", "no key"])
def test_without_its_key_a_node_starts_and_keeps_what_is_stored(
    store: SharedStore, tmp_path: Path, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / KEY_FILE
    apply(store, tmp_path, ("a", "h", f'"{CANARY}"'), ("b", "h", '"b"'))
    kept = path.read_text()
    match trouble:
        case "lost":
            path.unlink()
        case "readable by others":
            path.chmod(0o644)
        case _:
            path.write_text("x")
    later = open_shared(str(tmp_path), "sqlite")
    apply(later, tmp_path, ("a", "h", f'"{CANARY}"'))
    assert later.inventory.revision() == 1
    said = capsys.readouterr()
    assert "secrets of the file not stored" in said.out + said.err
    assert str(path) in said.out + said.err
    assert CANARY not in said.out + said.err
    path.write_text(kept)
    path.chmod(0o600)
    assert (password(later), password(later, "b")) == (CANARY, "b")
    later.close()


def test_without_a_key_nothing_new_is_stored_nor_kept_for_another_host(store: SharedStore, tmp_path: Path) -> None:
    apply(store, tmp_path, ("a", "h", f'"{CANARY}"'))
    (tmp_path / KEY_FILE).chmod(0o644)
    for profile in (("b", "h", f'"{CANARY}"'), ("a", "other", f'"{CANARY}"')):
        later = open_shared(str(tmp_path), "sqlite")
        with pytest.raises(InvalidInput, match="chmod 600") as caught:
            apply(later, tmp_path, profile)
        assert CANARY not in str(caught.value)
        assert later.inventory.revision() == 1
        later.close()


def test_with_the_wrong_key_a_file_heals_what_it_names(
    store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(store, tmp_path, ("a", "h", f'"{CANARY}"'))
    monkeypatch.setenv(VARIABLE, "A" * 43 + "=")
    later = open_shared(str(tmp_path), "sqlite")
    apply(later, tmp_path, ("a", "h", f'"{CANARY}"'))
    assert (later.inventory.revision(), password(later)) == (2, CANARY)
    later.close()


def test_a_reference_is_kept_as_written(store: SharedStore, tmp_path: Path) -> None:
    apply(store, tmp_path, ("a", "h", '{ env = "P" }'))
    assert load_inventory(store.inventory).profiles["a"].password == Secret("env", "P")
    assert not (tmp_path / KEY_FILE).exists()


def test_a_key_file_beside_a_key_that_comes_before_it_is_warned_of(
    store: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(store, tmp_path, ("a", "h", f'"{CANARY}"'))
    key = (tmp_path / KEY_FILE).read_text().strip()

    def said() -> str:
        capsys.readouterr()
        warn_of_unused_key(store)
        captured = capsys.readouterr()
        return captured.out + captured.err

    assert said() == "", "the file is in use"
    monkeypatch.setenv(VARIABLE, key)
    told = said()
    assert "key file is not in use" in told
    assert str(tmp_path / KEY_FILE) in told
    assert key not in told
    monkeypatch.setenv(VARIABLE, "no key")
    assert said() == "", "told elsewhere"
    monkeypatch.setenv(VARIABLE, key)
    (tmp_path / KEY_FILE).unlink()
    assert said() == ""
