"""What of a server profile changes the way of a mail: its servers, their order, TLS and login.

Connection pooling is left out: it decides over which connection a mail goes, not where to and how.
"""

from collections.abc import Hashable
from enum import StrEnum

from posthouse.core.profile import ServerProfile


class Aspect(StrEnum):
    """What of a profile differs from another."""

    SERVERS = "servers"
    """Which there are, or in which order they are listed."""
    PREFERENCE = "preference"
    TLS = "tls"
    LOGIN = "login"
    """User name, password or client certificate. One stored password is not told from another."""


def changed_aspects(before: ServerProfile, after: ServerProfile) -> tuple[Aspect, ...]:
    """In the order of `Aspect`; empty if mail goes the same way by both."""
    return tuple([aspect for aspect in Aspect if _settings(aspect, before) != _settings(aspect, after)])


def connects_alike(before: ServerProfile, after: ServerProfile) -> bool:
    """What is known of a server by way of one holds for the other, too."""
    return not {Aspect.TLS, Aspect.LOGIN} & set(changed_aspects(before, after))


def _settings(aspect: Aspect, profile: ServerProfile) -> Hashable:
    match aspect:
        case Aspect.SERVERS:
            return profile.server_texts
        case Aspect.PREFERENCE:
            return profile.preference
        case Aspect.TLS:
            return (
                profile.tls,
                profile.tls_verify,
                profile.tls_name,
                profile.tls_ca,
                profile.tls_pin,
                profile.tls_min,
            )
        case Aspect.LOGIN:
            return (
                profile.username,
                profile.password,
                profile.client_certificate,
                profile.allow_plaintext_auth,
            )
