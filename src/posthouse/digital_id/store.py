"""The digital ID of a node on its disk.

`digital-id/current` leads to a file with certificate, chain and key that is never changed once it is there: who has
looked where it leads reads a pair that belongs together, whatever happens meanwhile. A new one is a new file, to
which `current` then leads. The one before stays for those who read it just now: `former` leads to it. No other file
is ever removed, for it may hold the only copy of an issued key.
"""

import errno
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from posthouse.core.certificate import alternative_names, facts_of
from posthouse.core.digital_id import DigitalId, Given, PrivateKey, key_pem, names_of, private_key, read_given
from posthouse.core.faults import Fault, InvalidInput
from posthouse.digital_id import issue
from posthouse.digital_id.folder import Folder
from posthouse.digital_id.handshake import handshake_fault
from posthouse.digital_id.issue import DAYS, KeyType, key_type

CURRENT, FORMER, REQUEST = "current", "former", "request.pem"

__all__ = ["DAYS", "DigitalIdUnusable", "DigitalIds", "KeyType", "Refused", "Renewed"]


class DigitalIdUnusable(Exception):
    """There is a digital ID, but it cannot be read; the text is one sentence."""


class Refused(Exception):
    """What was asked for is not to be done with the digital ID as it is; the text has the remedy."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A digital ID put in force."""

    before: DigitalId | None
    """None: there was none, or none that could be read."""
    after: DigitalId
    warnings: tuple[str, ...] = ()


class DigitalIds:
    """The digital ID of one data dir; for many threads and processes at once. Methods that write raise OSError."""

    def __init__(self, data_dir: str) -> None:
        self._folder = Folder(data_dir)

    # --- reading ------------------------------------------------------------------------------------------

    def path(self) -> str | None:
        """The file with certificate, chain and key (PEM) that is in force; None if there is none. Raises
        DigitalIdUnusable. Cheap: one call of the system."""
        try:
            return self._look()
        except DigitalIdUnusable as fault:
            # The first one may be made just now: the file is there a moment before the link to it.
            try:
                with self._folder.writing():
                    return self._look()
            except OSError:
                raise fault from None

    def _look(self) -> str | None:
        """As `path`, for those who write."""
        link = self._folder.path / CURRENT
        try:
            return str(self._folder.path / os.readlink(link))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise DigitalIdUnusable(_unreadable(error)) from error
            plain = error.errno == errno.EINVAL
        files = sorted(self._folder.path.glob("id-*.pem"), key=lambda each: (each.lstat().st_mtime, each.name))
        if not (plain or files):
            return None
        # A copy of the data dir has followed links, or left them out. No other key may take the place of this one.
        fault = "is no link any more" if plain else f"is missing beside {files[-1].name}"
        remedy = f"`ln -sfn {files[-1].name} {link}`" if files else f"`posthouse digital-id import {link}`"
        raise DigitalIdUnusable(
            f"the digital ID {link} {fault}: {remedy} brings it back (copy a data dir with `cp -a`, it keeps links)"
        )

    def load(self) -> DigitalId | None:
        """The one in force. Raises DigitalIdUnusable."""
        return self._load(self.path)

    def _load(self, look: Callable[[], str | None]) -> DigitalId | None:
        try:
            path, octets = _read(look)
        except OSError as error:
            raise DigitalIdUnusable(_unreadable(error)) from error
        if path is None:
            return None
        try:
            own, *chain = x509.load_pem_x509_certificates(octets)
        except ValueError as error:
            raise DigitalIdUnusable(f"the digital ID {path} has no certificate that can be read") from error
        key = private_key(octets[octets.rfind(b"-----BEGIN ") :])
        if isinstance(key, Fault):
            raise DigitalIdUnusable(f"the digital ID {path} has no private key that can be read")
        return DigitalId(own, tuple(chain), key)

    def certificate(self) -> x509.Certificate | None:
        """That of the one in force; None if there is none that can be read."""
        try:
            path, octets = _read(self.path)
            return x509.load_pem_x509_certificate(octets) if path is not None else None
        except (OSError, ValueError, DigitalIdUnusable):
            return None

    def requested(self) -> tuple[x509.CertificateSigningRequest, PrivateKey] | None:
        """The request whose certificate has not been imported yet. One that cannot be read counts as none."""
        octets = self._folder.read(REQUEST)
        if octets is None:
            return None
        try:
            asked = x509.load_pem_x509_csr(octets)
        except ValueError:
            return None
        key = private_key(octets[octets.rfind(b"-----BEGIN ") :])
        return None if isinstance(key, Fault) else (asked, key)

    # --- writing ------------------------------------------------------------------------------------------

    def ensure(self, hostname: str, now: float) -> str:
        """The file in force; a self-signed one is made when there is none. Raises DigitalIdUnusable."""
        path = self.path()
        if path is None:
            with self._folder.writing():
                path = self._look()  # another process may have been first
                if path is None:
                    made = issue.self_signed(issue.new_key(KeyType.ECDSA), [hostname], DAYS, now)
                    path = self._put(made)
        return path

    def generate(self, names: Sequence[str], days: int, kind: KeyType, now: float, *, replace: bool) -> Renewed:
        """A new key with a self-signed certificate. Refused where it would take the place of an issued one, unless
        `replace`."""
        with self._folder.writing():
            before = self._before()
            if before is not None and not replace and not facts_of(before.certificate).self_signed:
                raise Refused(
                    "The digital ID was issued by a CA: a self-signed one would take its place. Ask for replace, or "
                    "for a new certificate by a request."
                )
            made = issue.self_signed(issue.new_key(kind), names, days, now)
            self._put(made)
            return Renewed(before, made)

    def renew(self, days: int, now: float, *, new_key: bool, hostname: str = "localhost") -> Renewed:
        """A self-signed certificate anew, for the same names (`hostname` if it has none that can be kept), with the
        same key or a new one of its kind. Refused if there is none, or one that a CA has issued."""
        with self._folder.writing():
            before = self._load(self._look)
            if before is None:
                raise Refused("There is no digital ID: generate or import one.")
            facts = facts_of(before.certificate)
            if not facts.self_signed:
                raise Refused(
                    f"The digital ID was issued by {facts.issuer}: only that CA can renew it. Make a request, have "
                    "it signed, and import the certificate."
                )
            key = issue.new_key(key_type(before.key)) if new_key else before.key
            made = issue.self_signed(key, names_of(before.certificate) or (hostname,), days, now)
            self._put(made)
            return Renewed(before, made)

    def request(
        self, names: Sequence[str], kind: KeyType, *, new_key: bool, replace: bool
    ) -> x509.CertificateSigningRequest:
        """A request to a CA, with the key in force or a new one; kept until its certificate is imported.

        One that waits is given again where it is for the same names and such a key. One with another key, to which
        the CA's answer may be on its way, is forgotten with its key only to `replace`: else Refused.
        """
        with self._folder.writing():
            current = None if new_key else self._load(self._look)
            waiting = self.requested()
            if waiting is not None and not replace:
                asked, key = waiting
                in_force = current is not None and key.public_key() == current.key.public_key()
                # Of a new key, only its kind was asked for.
                same_key = in_force if current is not None else key_type(key) is kind
                if same_key and set(names) == set(alternative_names(asked)):
                    return asked
                if not in_force:
                    raise Refused(
                        "Another request waits for its certificate, and its key would be lost: import what the CA "
                        "gives for it, or ask for replace."
                    )
            key = issue.new_key(kind) if current is None else current.key
            asked = issue.request(key, names)
            self._folder.write(REQUEST, asked.public_bytes(serialization.Encoding.PEM) + key_pem(key))
            return asked

    def import_(self, given: Given, hostname: str, now: float) -> Renewed:
        """Puts what was given in force. Raises InvalidInput with every fault."""
        with self._folder.writing():
            before, asked = self._before(), self.requested()
            known = [asked[1]] if asked is not None else []
            known += [before.key] if before is not None else []
            found, faults, warnings = read_given(given, known, hostname, now)
            if found is None:
                raise InvalidInput(faults)
            self._put(found)
            if asked is not None and asked[0].public_key() == found.certificate.public_key():
                self._folder.remove(REQUEST)
            return Renewed(before, found, warnings)

    def _before(self) -> DigitalId | None:
        """A broken one is in nobody's way."""
        try:
            return self._load(self._look)
        except DigitalIdUnusable:
            return None

    def _put(self, found: DigitalId) -> str:
        path = self._folder.write(f"id-{token_hex(8)}.pem", found.pem())
        # What OpenSSL does not take, and what no client can speak to, is never in force.
        if fault := handshake_fault(str(path)):
            self._folder.remove(path.name)
            rule = f"No handshake of TLS succeeds with it: {fault}."
            remedy = "Have it issued for a key of ECDSA P-256 or RSA 2048 at least, signed with SHA-256."
            raise InvalidInput((Fault("certificate", "", rule, remedy),))
        former, eldest = self._link(CURRENT), self._link(FORMER)
        self._folder.keep_plain(CURRENT, f"id-{token_hex(8)}.pem")
        if former is not None:
            self._folder.link(FORMER, former)
        self._folder.link(CURRENT, path.name)
        if eldest is not None and eldest not in (path.name, former):
            self._folder.remove(eldest)
        return str(path)

    def _link(self, name: str) -> str | None:
        """Where one of the links leads; None if it is none, or leads to none of the files made here."""
        try:
            target = os.readlink(self._folder.path / name)
        except OSError:
            return None
        return target if _FILE.fullmatch(target) else None


_FILE = re.compile(r"id-[0-9a-f]+\.pem")


def _read(look: Callable[[], str | None]) -> tuple[str | None, bytes]:
    """Path and octets of the file in force. Raises OSError, and what `look` raises."""
    path = look()
    while path is not None:
        try:
            return path, Path(path).read_bytes()
        except FileNotFoundError:
            before, path = path, look()
            if path == before:
                raise
            # Changed twice since it was looked at; the new one is there.
    return None, b""


def _unreadable(error: OSError) -> str:
    return f"the digital ID {error.filename} cannot be read: {error.strerror}"
