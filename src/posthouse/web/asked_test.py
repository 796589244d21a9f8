"""What a TEST in REST asks for: the profile as it would be, with the saved secrets that may be used for it.

For who may do what see `profile_tests`.
Standards: design 2.11 and section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from posthouse.core.faults import Fault
from posthouse.core.fields import indexed
from posthouse.core.kept_secret import ENTER_AGAIN, has_use, keep_secrets, with_secrets
from posthouse.core.profile import KEPT, SECRET_FIELDS, ServerProfile, parse_profile, profile_json
from posthouse.core.profile_test import Inquiry
from posthouse.core.protection import weaker_way
from posthouse.core.service_type import TLS_SETTINGS, ServiceType
from posthouse.core.smtp_path import parse_mailbox
from posthouse.ports import Key, StoredProfile
from posthouse.web.auth import Right, may
from posthouse.web.changing import unstorable
from posthouse.web.problems import Problem, invalid, shown
from posthouse.web.tools import WebTools

Document = Mapping[str, object]

INQUIRY = frozenset({"mail_from", "rcpt_to"})
"""What may be asked besides the properties of a profile."""
_OF_THE_WAY = ("servers", "tls", *sorted(TLS_SETTINGS), "username", "client_certificate", "allow_plaintext_auth")
"""Properties that decide who gets a secret, and how."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The profile to test with its secrets, and the address to ask for."""

    profile: ServerProfile
    inquiry: Inquiry | None


def read_asked(tools: WebTools, key: Key, body: Document, saved: StoredProfile | None) -> Asked:
    """What to test; 422 with every fault, 403 for references that this key may not give."""
    if faults := unstorable(body):
        raise invalid(faults)
    given = {name: value for name, value in body.items() if name not in INQUIRY}
    inquiry, faults = _inquiry(tools, body)
    document = dict(given)
    if saved is not None:
        document = {**saved.document, **given}
        for name in SECRET_FIELDS:
            if name not in given and not has_use(document, name):
                document.pop(name, None)
    kept, kept_faults = keep_secrets(document, saved.document if saved else None, "")
    profile, found = parse_profile(kept, "")
    faults += [*found, *kept_faults]
    if profile is not None:
        faults += _reference_faults(kept, given, saved)
        if profile.type not in (types := tools.profile_test.types):
            remedy = f"These types can be tested: {', '.join(types) or 'none'}."
            faults.append(Fault("type", profile.type.value, "not built yet", remedy))
        if inquiry is not None and profile.type is not ServiceType.SMTP:
            rule = f"A {profile.type} server is not asked for addresses."
            faults.append(Fault("rcpt_to", inquiry.rcpt_to, rule, "Leave out rcpt_to and mail_from."))
    if profile is None or faults:
        raise invalid(faults)
    _check_references(key, profile, given, saved)
    if saved is not None:
        _check_way(key, profile, given, saved)
        secrets = {name: secret for name, secret in saved.secrets.items() if kept.get(name) == KEPT}
        profile = replace(with_secrets(profile, secrets), revision=saved.revision)
    return Asked(profile, inquiry)


def _reference_faults(kept: Document, given: Document, saved: StoredProfile | None) -> list[Fault]:
    """A saved reference goes to no new server and by no weaker way either, unless it is given again."""
    names = [name for name in SECRET_FIELDS if name not in given and kept.get(name) not in (None, KEPT)]
    if saved is None or not names or not (rule := weaker_way(kept, saved.document)):
        return []
    return [Fault(name, "***", rule, ENTER_AGAIN) for name in names]


def _check_way(key: Key, profile: ServerProfile, given: Document, saved: StoredProfile) -> None:
    """403 where a key that may not change the configuration would have a saved secret go another way than saved."""
    used = [name for name in SECRET_FIELDS if given.get(name, KEPT) == KEPT and getattr(profile, name) is not None]
    before, _ = parse_profile(saved.document, "")
    if may(key.role, Right.CONFIG_CHANGE) or not used:
        return
    now, then = profile_json(profile), profile_json(before) if before is not None else saved.document
    rule = f"The role {key.role} may have a saved secret used only as it is saved."
    remedy = f"Leave it out, or give {' and '.join(used)} as a text."
    faults = [Fault(name, "", rule, remedy) for name in _OF_THE_WAY if now.get(name) != then.get(name)]
    if faults:
        raise Problem(HTTPStatus.FORBIDDEN, "A saved secret is refused for a changed profile.", faults)


def _check_references(key: Key, profile: ServerProfile, given: Document, saved: StoredProfile | None) -> None:
    """403 where a key that may not change the configuration would have this node read a file or a secret for it."""
    if may(key.role, Right.CONFIG_CHANGE):
        return
    before: Document = saved.document if saved is not None else {}
    faults = [
        Fault(name, "", f"The role {key.role} may not have this node read a secret.", "Leave it out, or give a text.")
        for name in SECRET_FIELDS
        if isinstance(given.get(name), Mapping) and given[name] != KEPT
    ]
    if profile.tls_ca and profile.tls_ca != before.get("tls_ca"):
        rule = f"The role {key.role} may not have this node read a file."
        faults.append(Fault("tls_ca", "", rule, "Leave it out, or pin the certificate."))
    known = before.get("servers")
    for field, server in indexed("servers", profile.servers):
        if not server.host and str(server) not in (known if isinstance(known, list | tuple) else ()):
            rule = f"The role {key.role} may not have this node open a socket file."
            faults.append(Fault(field, "", rule, "Give host and port, or a socket that is saved."))
    if faults:
        raise Problem(HTTPStatus.FORBIDDEN, "A reference to what this node can read is refused.", faults)


def _inquiry(tools: WebTools, body: Document) -> tuple[Inquiry | None, list[Fault]]:
    """The address to ask for; the sender is that of own mail unless one is given, else the null reverse-path."""
    own = tools.settings.own_mail
    texts: dict[str, str] = {"mail_from": own.sender if own is not None else "", "rcpt_to": ""}
    faults = []
    for name in texts:
        value = body.get(name)
        if value is None or (value == "" and name == "mail_from"):
            texts[name] = "" if value == "" else texts[name]
        elif isinstance(value, str) and len(value) <= 320 and parse_mailbox(value, smtputf8=False) is not None:
            texts[name] = value
        else:
            faults.append(Fault(name, shown(name, value), "This is no mail address.", "Write it like local@domain."))
    if body.get("mail_from") is not None and body.get("rcpt_to") is None:
        faults.append(Fault("rcpt_to", "", "A sender is asked for together with a recipient.", "Give rcpt_to, too."))
    if not texts["rcpt_to"]:
        return None, faults
    return Inquiry(texts["mail_from"], texts["rcpt_to"]), faults
