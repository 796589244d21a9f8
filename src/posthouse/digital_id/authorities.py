"""The own CAs of a node: certificates that it trusts besides those of the system.

One file, so that it is read and looked at at once.
"""

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from posthouse.core.certificate import CertificateFacts, facts_of
from posthouse.core.digital_id import read_certificates
from posthouse.core.faults import Fault, InvalidInput
from posthouse.digital_id.folder import Folder

FILE = "authorities.pem"
MOST = 100


class AuthoritiesUnusable(Exception):
    """The file of the own CAs cannot be read; the text is one sentence."""


class Authorities:
    """Those of one data dir, each known by the SHA-256 of its certificate.

    All methods raise AuthoritiesUnusable, those that write OSError, too.
    """

    def __init__(self, data_dir: str) -> None:
        self._folder = Folder(data_dir)
        self.path = str(self._folder.path / FILE)
        """There only if there is an own CA."""

    def facts(self) -> list[CertificateFacts]:
        """In the order in which they were added."""
        return [facts_of(certificate) for certificate in self._load()]

    def add(self, pem: bytes, now: float) -> tuple[CertificateFacts, ...]:
        """All certificates in the text; those that are there already change nothing. Raises InvalidInput."""
        given, faults = read_certificates(pem, "certificate")
        for certificate in given:
            faults += _faults(facts_of(certificate), now)
        if faults:
            raise InvalidInput(tuple(faults))
        with self._folder.writing():
            stored = self._load()
            together = [*stored, *(each for each in given if each not in stored)]
            if len(together) > MOST:
                rule = f"A node has {MOST} own CAs at most."
                raise InvalidInput((Fault("certificate", "", rule, "Remove those that are not needed."),))
            if together != stored:
                self._write(together)
        return tuple(facts_of(certificate) for certificate in given)

    def remove(self, sha256: str) -> CertificateFacts | None:
        """None if there is no such own CA."""
        if not self._load():
            return None
        with self._folder.writing():
            stored = self._load()
            found = next((each for each in stored if facts_of(each).sha256 == sha256), None)
            if found is None:
                return None
            self._write([each for each in stored if each != found])
            return facts_of(found)

    def _load(self) -> list[x509.Certificate]:
        try:
            octets = self._folder.read(FILE)
            return x509.load_pem_x509_certificates(octets) if octets is not None else []
        except OSError as error:
            raise AuthoritiesUnusable(f"the own CAs {self.path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise AuthoritiesUnusable(f"the own CAs {self.path} are no file of certificates (PEM)") from error

    def _write(self, certificates: Sequence[x509.Certificate]) -> None:
        if certificates:
            self._folder.write(FILE, b"".join(each.public_bytes(Encoding.PEM) for each in certificates))
        else:
            self._folder.remove(FILE)
            self._folder.sync()


def _faults(facts: CertificateFacts, now: float) -> list[Fault]:
    faults = []
    if not facts.authority:
        rule = "It is no certificate of a CA."
        remedy = "Give that of the CA that has issued it; a single server is trusted by tls_pin."
        faults.append(Fault("certificate", facts.subject, rule, remedy))
    if now >= facts.not_after:
        faults.append(Fault("certificate", facts.subject, "It has expired.", "Give the CA's present certificate."))
    return faults
