"""How well the way to a server protects a secret, so that none goes by a weaker way than it was entered for.

| Weaker is | for |
| --- | --- |
| another host, port or path | all: the secret was not entered for it |
| clear text instead of TLS; starttls-optional instead of TLS in any case | smtp, http |
| a certificate that nobody looks at, where it was verified or pinned | TLS |
| another pin, `tls_ca` or `tls_name`: who chooses those chooses who gets the secret | a certificate looked at |
| clear text where the password was never sent in clear text | smtp without TLS |

Read off documents, given and canonical ones: what is not valid in them has a fault of its own and tells none here.
Standards: design sections 2.6, 2.7, 2.9 and 4.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from posthouse.core.encryption import (
    Tls,
    TlsVerify,
    encryption_of,
    parse_pin,
    parse_tls_name,
    tls_comes_about,
    verified_by,
)
from posthouse.core.service_type import Encryption, ServiceType
from posthouse.core.uri import Specification, parse_specification

Document = Mapping[str, object]

_FIRMNESS = {Tls.NONE: 0, Tls.STARTTLS_OPTIONAL: 1, Tls.STARTTLS_REQUIRED: 2}


@dataclass(frozen=True, slots=True)
class _Protection:
    """Of the way to one server; what can be compared is the better the higher it is."""

    tls: int
    """0 clear text, 1 if the server offers it, 2 always."""
    checked: tuple[str, ...]
    """What the server's certificate has to agree with; empty if with nothing."""
    sent: bool
    """Whether a login is sent that way at all."""


def weaker_way(given: Document, stored: Document) -> str:
    """Why a secret that was entered for `stored` may not go to the servers of `given`; empty if it may."""
    known = list(_ways(stored))
    new, weaker = [], []
    for server, protection in _ways(given):
        before = [other for known_server, other in known if _place(known_server) == _place(server)]
        if not before:
            new.append(str(server))
        elif all(_is_weaker(protection, other) for other in before):
            weaker.append(str(server))
    if new:
        return f"A secret is not sent to a server that it was not entered for: {', '.join(new)}."
    if weaker:
        return f"A secret is not sent by a way that protects it less than before: {', '.join(weaker)}."
    return ""


def _is_weaker(now: _Protection, before: _Protection) -> bool:
    return (
        now.tls < before.tls
        or (bool(before.checked) and now.checked != before.checked)
        or (now.sent and not before.sent and not now.tls)
    )


def _ways(document: Document) -> Iterator[tuple[Specification, _Protection]]:
    servers, kind = document.get("servers"), document.get("type")
    if kind not in list(ServiceType) or not isinstance(servers, list | tuple):
        return
    service_type = ServiceType(str(kind))
    for text in servers:
        server = parse_specification(text, service_type) if isinstance(text, str) else None
        if isinstance(server, Specification):
            yield server, _protection(document, encryption_of(service_type, server), server)


def _protection(document: Document, encryption: Encryption, server: Specification) -> _Protection:
    given = document.get("tls")
    given = Tls.NONE if given is None else given
    tls = Tls(str(given)) if given in list(Tls) else Tls.STARTTLS_REQUIRED
    if not tls_comes_about(encryption, tls):
        in_clear = encryption is Encryption.NEVER or document.get("allow_plaintext_auth") is True
        return _Protection(0, (), in_clear)
    asked = _text(document, "tls_verify")
    verify = verified_by(encryption, tls, TlsVerify(asked) if asked in list(TlsVerify) else None)
    checked: tuple[str, ...] = ()
    match verify:
        case TlsVerify.VERIFY:
            name = parse_tls_name(_text(document, "tls_name") or server.host)
            checked = (verify, _text(document, "tls_ca"), str(name))
        case TlsVerify.PINNED:
            checked = (verify, parse_pin(_text(document, "tls_pin")) or "")
        case TlsVerify.NONE:
            pass
    return _Protection(_FIRMNESS[tls] if encryption is Encryption.AS_SET else 2, checked, True)


def _place(server: Specification) -> tuple[str, str, int, str]:
    """smtp and smtps, http and https of one port are the same server."""
    return server.scheme.removesuffix("s"), server.host, server.port, server.path


def _text(document: Document, name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""
