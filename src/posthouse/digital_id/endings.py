"""When the certificates of a node end, and what to do about it: the same words in log, doctor and REST."""

from dataclasses import dataclass

from posthouse.core.certificate import CertificateFacts, expiry_warning, facts_of, warn_stage
from posthouse.digital_id.authorities import Authorities
from posthouse.digital_id.store import DigitalIds

DIGITAL_ID, AUTHORITY = "digital-id", "authority"


@dataclass(frozen=True, slots=True)
class Ending:
    """One certificate of a node."""

    kind: str
    """`digital-id`, or `authority` for an own CA."""
    facts: CertificateFacts

    def stage(self, now: float) -> int | None:
        """As `core.certificate.warn_stage`."""
        return warn_stage(self.facts.not_after, now)

    def warning(self, now: float) -> str:
        """One sentence without a full stop; empty while there is time."""
        what = "the digital ID" if self.kind == DIGITAL_ID else f"the own CA {self.facts.subject}"
        return expiry_warning(what, self.facts.not_after, now)

    @property
    def remedy(self) -> str:
        if self.kind == AUTHORITY:
            return "Add the CA's present certificate (`posthouse digital-id ca add FILE`), or remove this one."
        if self.facts.self_signed:
            return "Renew it: `posthouse digital-id renew`; who has pinned it needs the new fingerprint."
        return "Have it issued anew: `posthouse digital-id request`, then `posthouse digital-id import FILE`."


def endings(data_dir: str) -> list[Ending]:
    """Of the digital ID, if there is one that can be read, and of the own CAs. Raises AuthoritiesUnusable."""
    own = DigitalIds(data_dir).certificate()
    found = [Ending(DIGITAL_ID, facts_of(own))] if own is not None else []
    return found + [Ending(AUTHORITY, facts) for facts in Authorities(data_dir).facts()]
