"""What is valid in a server profile and yet hardly meant, or to be known: advice, in the same words everywhere.

Faults keep a profile from being saved; advice never does. Grave advice is shown in red in console and `doctor`.
Standards: seed 3.7 (SMTP server limitations, View scan details, passwords in clear text); design sections 2.2, 2.6,
2.7, 2.10 and 2.12.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.core.details_link import broken_elsewhere
from posthouse.core.encryption import Tls, TlsVerify, encryption_of, tls_comes_about, verified_by
from posthouse.core.fields import indexed
from posthouse.core.own_address import is_loopback
from posthouse.core.profile import ServerProfile
from posthouse.core.service_type import Encryption, ServiceType
from posthouse.core.uri import Specification, advise

MANY_CONNECTIONS = 20
"""Kept idle connections above which the relay's own limit is called to mind; the seed's default."""
EXCHANGE_LIMITS = "https://docs.microsoft.com/en-us/exchange/mail-flow/message-rate-limits"
"""The page that the seed names."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Advice on one property of a profile."""

    field: str
    """Path within the profile, such as `servers[1]` or `pool.connections`."""
    sentence: str
    """For a mail administrator: what is so, and what might be better."""
    grave: bool = False
    """A secret or mail is in danger."""


def advise_profile(profile: ServerProfile) -> tuple[Advice, ...]:
    """All advice on a valid profile: that on single servers first, then by property."""
    return (*_on_servers(profile), *_on_login(profile), *_on_tls(profile), *_on_pool(profile), *_on_scan(profile))


def advice_json(advice: Advice) -> dict[str, object]:
    """`{field, sentence, grave}`."""
    return {"field": advice.field, "sentence": advice.sentence, "grave": advice.grave}


def _on_servers(profile: ServerProfile) -> Iterator[Advice]:
    for field, server in indexed("servers", profile.servers):
        if sentence := advise(server, profile.type):
            yield Advice(field, sentence)


def _on_login(profile: ServerProfile) -> Iterator[Advice]:
    clear = _in_clear(profile)
    if profile.allow_plaintext_auth and not (profile.password is not None and clear):
        told = "No password is sent without TLS here, so this is not needed: leave it out, lest it allows more later."
        yield Advice("allow_plaintext_auth", told)
    elif profile.allow_plaintext_auth:
        told = "The password may be sent in clear text, where anybody on the way can read it: use TLS instead."
        yield Advice("allow_plaintext_auth", told, grave=True)
    elif profile.password is not None and clear:
        told = f"{clear[0]} is reached without TLS, where the password is never sent, so no mail can go there."
        yield Advice("tls", f"{told} Choose starttls-required or scheme smtps.")
    far = [server for server in clear if not is_loopback(server.host)]
    if profile.api_key is not None and far:
        yield Advice("api_key", f"The key is sent to {far[0]} in clear text: use https if the network is not yours.")


def _on_tls(profile: ServerProfile) -> Iterator[Advice]:
    asked = {verified_by(encryption, profile.tls, profile.tls_verify) for encryption in _by_tls(profile)}
    if profile.tls_verify is TlsVerify.NONE and asked and profile.tls is not Tls.STARTTLS_OPTIONAL:
        told = "Nobody looks at the certificate, so anybody on the way may answer as the server: verify or pin it."
        yield Advice("tls_verify", told)
    if profile.tls_pin and TlsVerify.PINNED not in asked:
        yield Advice("tls_pin", "The pin is not looked at: choose tls_verify = pinned to use it.")
    if profile.tls_ca and TlsVerify.VERIFY not in asked:
        yield Advice("tls_ca", "The file is not looked at: choose tls_verify = verify to use it.")


def _on_pool(profile: ServerProfile) -> Iterator[Advice]:
    """Seed: "Most SMTP servers limit the number of parallel inbound SMTP connections"."""
    if profile.pool.enabled and profile.pool.connections > MANY_CONNECTIONS:
        told = "Most SMTP servers limit the number of parallel connections: ask what yours allow."
        yield Advice("pool.connections", f"{told} Microsoft Exchange Server: {EXCHANGE_LIMITS}.")


def _on_scan(profile: ServerProfile) -> Iterator[Advice]:
    """Seed: the link is broken if browsing happens on another machine than the one that it names."""
    if profile.type is not ServiceType.METADEFENDER_CORE or profile.public_url:
        return
    for field, server in indexed("servers", profile.servers):
        if told := broken_elsewhere(server.host):
            yield Advice(field, f"Links to scan details will {told}")


def _in_clear(profile: ServerProfile) -> list[Specification]:
    """Servers that are reached without TLS."""
    return [s for s in profile.servers if not tls_comes_about(encryption_of(profile.type, s), profile.tls)]


def _by_tls(profile: ServerProfile) -> list[Encryption]:
    """Of the servers that are reached by TLS."""
    found = [encryption_of(profile.type, server) for server in profile.servers]
    return [encryption for encryption in found if tls_comes_about(encryption, profile.tls)]
