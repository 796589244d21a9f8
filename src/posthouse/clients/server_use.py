"""What connections to one server of a profile were used for, how long they took, and the certificate it showed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from posthouse.client_tls import certificate_shown
from posthouse.core.histogram import Counts, Recent


@dataclass(slots=True)
class ServerUse:
    """Counts are since the worker began, times of the last 5 to 10 minutes (`core.histogram`)."""

    fresh: int = 0
    """Transactions over a connection that was opened for them."""
    reused: int = 0
    """Transactions over a kept one."""
    stale: int = 0
    """Kept ones found unfit only when used: one silent try on a fresh connection each."""
    opened: int = 0
    """Connections opened, for probes too."""
    tls: int = 0
    """TLS handshakes that succeeded, for probes too."""
    tls_saved: int = 0
    """Transactions over a kept connection under TLS that proved fresh."""
    connecting: Recent = field(default_factory=Recent, compare=False, repr=False)
    """From the look-up of the name until the connection was there."""
    handshakes: Recent = field(default_factory=Recent, compare=False, repr=False)
    transactions: Recent = field(default_factory=Recent, compare=False, repr=False)
    """From MAIL to the last reply, of those that left the connection fit."""
    _certificate: bytes = field(default=b"", compare=False, repr=False)
    _shown: Mapping[str, object] | None = field(default=None, compare=False, repr=False)

    def saw(self, handshake: float, certificate: bytes) -> None:
        """An opening is over: seconds of its TLS handshake (0: none that succeeded), and the certificate (DER), which
        is read only when it is another one than before."""
        if handshake:
            self.tls += 1
            self.handshakes.add(handshake, monotonic())
        if certificate and certificate != self._certificate:
            self._certificate, self._shown = certificate, certificate_shown(certificate)

    def facts(self) -> dict[str, object]:
        """For the live row."""
        return {
            "fresh": self.fresh,
            "reused": self.reused,
            "stale": self.stale,
            "opened": self.opened,
            "tls": self.tls,
            "tls_saved": self.tls_saved,
        }

    def times(self) -> dict[str, Counts]:
        """Samples by bucket, for the live row; in JSON the numbers of buckets become texts."""
        now = monotonic()
        return {
            "connect": self.connecting.counts(now),
            "tls": self.handshakes.counts(now),
            "transaction": self.transactions.counts(now),
        }

    @property
    def certificate(self) -> Mapping[str, object] | None:
        """Names and end of the certificate seen last; None before the first."""
        return self._shown
