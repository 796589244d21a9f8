"""`posthouse profile test NAME --pin`: trust the certificates that a test has seen, and only those.

Works where the test failed because of the certificate: that is what pinning is for. Whoever pins has compared the
SHA-256 with what the administrator of the server tells.
Standards: design 2.6 ("A TEST offers to pin the certificate it saw").
"""

import sys
from collections.abc import Mapping
from typing import cast

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.output import line, plain, show_json, table
from posthouse.cli.profile_changes import PROFILES, put
from posthouse.cli.profile_documents import mark_text
from posthouse.cli.remote import Remote, segment

Document = Mapping[str, object]


def pin(remote: Remote, name: str, result: Document, *, yes: bool, as_json: bool) -> None:
    """Pins what `result` has seen, once people agree; the profile is then tested again and saved."""
    from posthouse.core.profile import SECRET_FIELDS

    profile, tag = remote.tagged(f"{PROFILES}/{segment(name)}")
    seen = certificates(result)
    wanted = reached_by_tls(profile)
    if not wanted:
        raise Stop(Exit.FAULT, "No server of the profile is reached by TLS: there is nothing to pin.")
    if unseen := [server for server in wanted if server not in seen]:
        message = f"No certificate was seen of {', '.join(unseen)}, so nothing is pinned."
        raise Stop(Exit.FAULT, message, remedy="Let each server come as far as TLS, then pin all of them.")
    if not as_json:
        _show({server: seen[server] for server in wanted})
    if not yes:
        if not sys.stdin.isatty():
            raise Stop(Exit.USAGE, "Nobody is there to compare the SHA-256.", remedy="Add --yes to pin them all.")
        if not typer.confirm("Do the servers' administrators tell the same SHA-256?", err=True):
            raise Stop(Exit.REFUSED, "Nothing was changed.")
    pins = " ".join(dict.fromkeys(str(seen[server]["sha256"]) for server in wanted))
    try:
        saved = put(remote, name, {**profile, "tls_verify": "pinned", "tls_pin": pins}, tag, as_json)
    except Stop as stop:
        if not any(fault.field in SECRET_FIELDS for fault in stop.faults):
            raise
        remedy = f'posthouse profile edit "{plain(name)}" --tls-verify pinned --tls-pin "{pins}" --password-prompt'
        raise Stop(stop.code, stop.message, stop.faults, f"Enter the secret with the pin: {remedy}") from stop
    if as_json:
        show_json(saved)
    else:
        line(f"Server profile {saved.get('name')} is pinned: {mark_text(saved.get('tested'))}.")


def certificates(result: Document) -> dict[str, Document]:
    """By server, the facts of the certificate that it showed."""
    found: dict[str, Document] = {}
    for server in cast(list[Document], result["servers"]):
        for stage in cast(list[Document], server["stages"]):
            detail = stage["detail"]
            if isinstance(detail, Mapping) and "sha256" in detail:
                found[str(server["server"])] = detail
    return found


def reached_by_tls(profile: Document) -> list[str]:
    """The servers that show a certificate if they are well."""
    from posthouse.core.encryption import Tls, encryption_of, tls_comes_about
    from posthouse.core.service_type import ServiceType
    from posthouse.core.uri import Specification, parse_specification

    kind, tls = ServiceType(str(profile["type"])), Tls(str(profile.get("tls", Tls.NONE)))
    found = []
    for server in cast(list[object], profile["servers"]):
        parsed = parse_specification(str(server), kind)
        if isinstance(parsed, Specification) and tls_comes_about(encryption_of(kind, parsed), tls):
            found.append(str(parsed))
    return found


def _show(seen: Mapping[str, Document]) -> None:
    table(
        ("Server", "For", "Issued by", "Valid from", "Valid until", "SHA-256"),
        (
            (server, *(facts.get(name) for name in ("names", "issuer", "valid_from", "valid_until", "sha256")))
            for server, facts in seen.items()
        ),
        "",
    )
