"""The way to one server of a profile: address, TLS and login, read off the profile when a connection is opened.

Secrets and certificates are looked up then and not before, so that a renewed one is used without a restart.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from posthouse.client_tls import TlsPolicy, TlsSettingsError, policy_of, server_name
from posthouse.core.fields import Secret
from posthouse.core.profile import ServerProfile, Tls, TlsVerify
from posthouse.core.smtp_opening import Login, Security
from posthouse.digital_id.store import DigitalIdUnusable
from posthouse.ports import SecretUnreadable, Unseal
from posthouse.regular_file import read_regular

DigitalId = Callable[[], tuple[str, str]]
"""Paths of the node's certificate and key (PEM)."""


def no_key(_token: str) -> str:
    """ports.Unseal where nothing is stored."""
    raise SecretUnreadable("there is no key for stored secrets here")


@dataclass(frozen=True, slots=True)
class Way:
    """How one server is reached."""

    host: str
    port: int
    security: Security
    policy: TlsPolicy | None = None
    """None: no TLS, whatever the server offers."""
    name: str = ""
    """What its certificate is for."""

    def greeting_only(self) -> "Way":
        """For a probe of the endpoint: no login, no STARTTLS, and with implicit TLS any certificate."""
        policy = replace(self.policy, verify=TlsVerify.NONE, ca="", pin="") if self.policy is not None else None
        return replace(self, security=Security(implicit=self.security.implicit), policy=policy)

    def without_login(self) -> "Way":
        """For a probe while the login is left alone."""
        return replace(self, security=replace(self.security, login=None))

    def in_clear(self) -> "Way":
        """The same server without TLS, after a handshake failed that was optional."""
        return replace(self, security=Security(downgraded=True), policy=None)


def way_to(profile: ServerProfile, server: str, digital_id: DigitalId, unseal: Unseal = no_key) -> Way:
    """Raises TlsSettingsError and SecretUnreadable: faults of this node, not of the server."""
    specification = profile.servers[profile.server_texts.index(server)]
    implicit = specification.scheme == "smtps"
    if not implicit and profile.tls is Tls.NONE:
        return Way(specification.host, specification.port, Security(login=_login(profile, unseal)))
    policy = policy_of(profile, shown_id(profile, digital_id), implicit)
    login = _login(profile, unseal)
    # Clear text would do only where nothing is asked of TLS but that it be used if possible (design section 2.6).
    indifferent = login is None and not profile.client_certificate and policy.verify is TlsVerify.NONE
    optional = profile.tls is Tls.STARTTLS_OPTIONAL and not implicit
    return Way(
        specification.host,
        specification.port,
        Security(Tls.NONE if implicit else profile.tls, implicit, optional and indifferent, login),
        policy,
        server_name(profile.tls_name, specification.host),
    )


def shown_id(profile: ServerProfile, digital_id: DigitalId) -> tuple[str, str] | None:
    """The digital ID, where the profile shows it. Raises TlsSettingsError, also where it cannot be made or read."""
    if not profile.client_certificate:
        return None
    try:
        return digital_id()
    except OSError as error:
        what = f"digital ID: {error.filename or 'its file'} cannot be made or read: {error.strerror or error}"
        remedy = "let the user that runs posthouse write to the data dir, or put certificate and key there"
        raise TlsSettingsError(f"{what}; {remedy}") from error
    except DigitalIdUnusable as error:
        raise TlsSettingsError(str(error)) from error


def _login(profile: ServerProfile, unseal: Unseal) -> Login | None:
    if profile.password is None:
        return None
    return Login(profile.username, secret_text(profile.password, unseal), profile.allow_plaintext_auth)


def secret_text(secret: Secret, unseal: Unseal = no_key, what: str = "password") -> str:
    """The secret itself: a variable of the environment, the first line of a file, a text as given or as stored.

    `what` it is, for the sentence. Raises SecretUnreadable.
    """
    match secret.source:
        case "env":
            value = os.environ.get(secret.value, "")
            if not value:
                raise SecretUnreadable(f"the {what}'s variable {secret.value} is not set in the environment")
            return value
        case "file":
            try:
                value = read_regular(secret.value).decode("utf-8").partition("\n")[0].rstrip("\r")
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8 text"
                raise SecretUnreadable(f"the {what}'s file {secret.value} cannot be read: {why}") from error
            if not value:
                raise SecretUnreadable(f"the {what}'s file {secret.value} is empty")
            return value
        case "stored":
            return unseal(secret.token)
        case "text":
            return secret.value
        case _:
            raise SecretUnreadable(f"the {what} is not stored")
