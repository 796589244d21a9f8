"""Encryption of the secrets that are stored: passwords and API keys given as texts.

Keys are Fernet keys (AES-128-CBC with HMAC-SHA256), the first one encrypts, all decrypt. They are looked for in the
environment, then as a systemd credential, then in a file of the data dir, which is made when the first secret is
stored. What stands there is read again when a secret does not fit, so a key may change while the node runs.
"""

import fcntl
import hmac
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from posthouse.ports import SecretKeyUnusable, SecretUnreadable
from posthouse.storage import files

VARIABLE = "POSTHOUSE_SECRET_KEY"
CREDENTIAL = "posthouse-secret-key"
KEY_FILE = "secret.key"
NEW_FILE = "secret.key.new"
LOCK_FILE = "secret.lock"

Stored = Sequence[tuple[str, str]]
"""Whose a secret is, and its token."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys as found in one place, at least one."""

    where: str
    texts: tuple[str, ...] = field(repr=False)
    is_file: bool
    """The file of the data dir, which posthouse may change."""

    def fernet(self) -> MultiFernet:
        return MultiFernet([Fernet(text) for text in self.texts])


class Rotation:
    """The keys while stored secrets are encrypted anew."""

    def __init__(self, keys: Keys) -> None:
        self.where = keys.where
        self.to_drop = 0 if keys.is_file else len(keys.texts) - 1
        self._fernet = keys.fernet()

    def renew(self, token: str) -> str:
        """The token under the first key. Raises SecretUnreadable."""
        try:
            return self._fernet.rotate(token).decode("ascii")
        except InvalidToken:
            raise SecretUnreadable(f"no key of {self.where} fits") from None


class Keyring:
    """The keys of one data dir. Of many processes at once, each with its own."""

    def __init__(self, data_dir: str, environ: Mapping[str, str] = os.environ) -> None:
        self._folder = Path(data_dir)
        self._environ = environ
        self._known: list[MultiFernet] = []
        """Those in use, and those before: a mail under way may have a token from before a rotation."""

    def unseal(self, token: str) -> str:
        """ports.Unseal. Raises SecretUnreadable."""
        for known in self._known:
            try:
                return _text(known, token)
            except InvalidToken:
                pass  # another key than this, or newer than all that are known here
        keys = self._keys()
        fernet = keys.fernet()
        try:
            text = _text(fernet, token)
        except InvalidToken:
            raise SecretUnreadable(f"the stored secret fits no key of {keys.where}") from None
        self._known = [fernet, *self._known[:1]]
        return text

    def seal(self, text: str, *, may_make: bool) -> str:
        """A new token under the first key as it is now; with `may_make`, one is made if there is none.

        Raises SecretKeyUnusable.
        """
        keys = self.find()
        if keys is None and may_make:
            self._make()
            keys = self.find()
        if keys is None:
            raise self._missing()
        return keys.fernet().encrypt(text.encode()).decode("ascii")

    def check_fits(self, tokens: Iterable[str]) -> None:
        """Raises SecretKeyUnusable if the keys as they are now cannot read one of them."""
        keys = self._keys()
        fernet = keys.fernet()
        for token in tokens:
            try:
                _text(fernet, token)
            except InvalidToken:
                raise SecretKeyUnusable(
                    f"the key of {keys.where} does not fit what is stored",
                    "Bring back the key that fits, or enter every stored secret again at once.",
                ) from None

    def same(self, token: str, text: str) -> bool:
        """Whether the token is of that text, in constant time; False if the keys as they are now cannot read it."""
        try:
            known = _text(self._keys().fernet(), token)
        except (SecretKeyUnusable, InvalidToken):
            return False
        return hmac.compare_digest(known.encode(), text.encode())

    def find(self) -> Keys | None:
        """The keys, of the first place that has any. Raises SecretKeyUnusable."""
        given = self._environ.get(VARIABLE, "")
        if given.strip():
            return _parse(given, f"the environment ({VARIABLE})", is_file=False)
        folder = self._environ.get("CREDENTIALS_DIRECTORY", "")
        if folder and (credential := Path(folder) / CREDENTIAL).exists():
            where = f"the systemd credential {CREDENTIAL}"
            return _parse(_read(credential, private=False), where, is_file=False)
        path = self._folder / KEY_FILE
        return _parse(_read(path, private=True), str(path), is_file=True) if path.exists() else None

    def unused_file(self) -> Path | None:
        """The key file, if it is there though another place has the keys in use. Raises SecretKeyUnusable."""
        keys, path = self.find(), self._folder / KEY_FILE
        return path if keys is not None and not keys.is_file and path.exists() else None

    @contextmanager
    def rotating(self, look: Callable[[], Stored]) -> Iterator[Rotation]:
        """A new first key in the file, beside the old ones until the block has ended well. One at a time.

        `look`: what is stored, which the old keys must fit, all of it: else this is the wrong database or the wrong
        data dir, and the secrets of the right one would be lost with the old key. Until that is known nothing is
        written. Interrupted at any point: the file has every key that a token may be under. SecretKeyUnusable if
        there is no key, only one that posthouse cannot replace where it is, or nothing stored; SecretUnreadable if
        something stored fits no key.
        """
        with self._locked():
            old = self._keys()
            if not old.is_file and len(old.texts) < 2:
                raise SecretKeyUnusable(
                    f"the key is in {old.where}, where posthouse cannot change it",
                    "Put a new key before it, with a comma between, restart the nodes, and call this again.",
                )
            _check_stored(look(), old)
            if not old.is_file:
                yield Rotation(old)
                return
            new = Fernet.generate_key().decode("ascii")
            self._write([new, *old.texts])
            yield Rotation(Keys(old.where, (new, *old.texts), True))
            self._write([new])

    def _keys(self) -> Keys:
        keys = self.find()
        if keys is None:
            raise self._missing()
        return keys

    def _missing(self) -> SecretKeyUnusable:
        return SecretKeyUnusable(
            f"there is no key for stored secrets: looked for in the environment ({VARIABLE}), the systemd credential "
            f"{CREDENTIAL} and {self._folder / KEY_FILE}",
            "Bring the key back, or enter every stored secret again at once.",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time writes the key file."""
        # No link is followed: who calls this may be root, and the data dir is not root's.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._folder / LOCK_FILE, flags, 0o600)
        try:
            self._give(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _give(self, descriptor: int) -> None:
        """To the owner of the data dir, where root runs this: else the node could not read what is its own."""
        if os.geteuid() == 0 and os.fstat(descriptor).st_nlink == 1:
            owner = os.stat(self._folder)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    def _make(self) -> None:
        """The key file, unless another process was first."""
        with self._locked():
            if not (self._folder / KEY_FILE).exists():
                self._write([Fernet.generate_key().decode("ascii")])

    def _write(self, keys: Sequence[str]) -> None:
        """The key file, whole, on the disk; only under the lock. Always by the same name beside it, so that of all
        writes that were interrupted at most one such file with keys is left."""
        beside = self._folder / NEW_FILE
        files.unlink(beside)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._give(descriptor)
            files.write_all(descriptor, "".join(f"{key}\n" for key in keys).encode("ascii"), 0)
            files.sync_octets(descriptor)
        except BaseException:
            files.unlink(beside)
            raise
        finally:
            os.close(descriptor)
        files.rename(beside, self._folder / KEY_FILE)
        files.fsync_folder(self._folder)


def _check_stored(stored: Stored, keys: Keys) -> None:
    """Raises SecretKeyUnusable where nothing is stored, and SecretUnreadable for the first token that no key fits."""
    if not stored:
        raise SecretKeyUnusable(
            "no secret is stored in this database", "Give the data dir and the --database that the node is run with."
        )
    fernet = keys.fernet()
    for whose, token in stored:
        try:
            _text(fernet, token)
        except InvalidToken:
            said = f"no key of {keys.where} fits the stored secrets of {whose}"
            raise SecretUnreadable(said) from None


def _text(fernet: MultiFernet, token: str) -> str:
    return fernet.decrypt(token).decode()


def _read(path: Path, *, private: bool) -> str:
    """`private`: refused if others can read it. (systemd's own files are; their mode shows the mask of an ACL.)"""
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if private and mode & 0o077:
                raise SecretKeyUnusable(
                    f"the key file {path} has mode {mode:04o}: others can read it", f"Run: chmod 600 {path}"
                )
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SecretKeyUnusable(f"the key file {path} cannot be read: {why}", "Make it readable for us.") from error


def _parse(given: str, where: str, *, is_file: bool) -> Keys:
    """Keys with commas or white space between. No fault repeats any of them."""
    texts = tuple(given.replace(",", " ").split())
    remedy = "A key is 32 random octets in URL-safe base64: openssl rand -base64 32 | tr +/ -_"
    if not texts:
        raise SecretKeyUnusable(f"there is no key in {where}", remedy)
    for number, text in enumerate(texts, 1):
        try:
            Fernet(text)
        except ValueError:
            raise SecretKeyUnusable(f"key {number} in {where} is no key", remedy) from None
    return Keys(where, texts, is_file)
