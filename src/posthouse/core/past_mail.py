"""Mails of the history as the policy was asked about them."""

from dataclasses import dataclass

from posthouse.core.mail import MailId


@dataclass(frozen=True, slots=True)
class PastRecipient:
    """One recipient of the history, and what was decided then."""

    address: str
    """Where it went."""
    rule: str
    """Empty for mail to a postmaster that went by `own_mail`."""
    profile: str
    """Also after an operator rerouted it."""


@dataclass(frozen=True, slots=True)
class PastMail:
    """What the policy was asked with."""

    id: MailId
    received_at: float
    """Epoch seconds."""
    client: str
    reverse_path: str
    recipients: tuple[PastRecipient, ...]
