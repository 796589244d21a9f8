"""Users and roles: the values and their validation. A password is checked here and never shown.

Standards: design section 4 (roles, users); NIST SP 800-63B (length over composition, and one form of each text).
"""

import unicodedata
from collections.abc import Mapping
from enum import StrEnum

from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, has_control, name_key, read

PASSWORD_LENGTH = (12, 128)
"""Fewest and most characters."""


class Role(StrEnum):
    """Of keys and users; what each may do stands in `web.auth.RIGHTS`."""

    ADMINISTRATOR = "administrator"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    HELPDESK = "helpdesk"


USER_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("name", FieldType.NAME, "unique name, case ignored", required=True),
    FieldSpec("role", FieldType.TEXT, "what the user may do", choices=tuple(Role), required=True),
)
NEW_USER_FIELDS: tuple[FieldSpec, ...] = (
    *USER_FIELDS,
    FieldSpec("password", FieldType.SECRET, "12 to 128 characters, not the name; never shown", required=True),
)


def check_user(document: object) -> tuple[str, str, tuple[Fault, ...]]:
    """Name (NFC) and role of a user, and every fault."""
    values, faults = read(document, USER_FIELDS, "")
    return values.text("name"), values.text("role"), faults


def check_new_user(document: object) -> tuple[str, str, str, tuple[Fault, ...]]:
    """Name, role and password (NFC) of a user to be added, and every fault."""
    values, found = read(document, NEW_USER_FIELDS, "")
    given = document.get("password") if isinstance(document, Mapping) else None
    faults = list(found)
    if given is not None:  # no reference is a password: what kind of value it is, is told below
        faults = [fault for fault in faults if fault.field != "password"] + check_password(given, values.text("name"))
    return values.text("name"), values.text("role"), password_text(given), tuple(faults)


def check_password(password: object, name: str) -> list[Fault]:
    """What keeps a text from being the password of the user of that name."""
    fewest, most = PASSWORD_LENGTH
    if not isinstance(password, str):
        return [Fault("password", "***", "The value must be a text.", "Write a text.")]
    text, faults = password_text(password), []
    if not fewest <= len(text) <= most:
        rule = f"A password has {fewest} to {most} characters; this one has {len(text)}."
        faults.append(Fault("password", "***", rule, "A few words that nobody else would put together are good."))
    if has_control(text):
        faults.append(Fault("password", "***", "There are control characters in it.", "Leave them out."))
    if name and name_key(text) == name_key(name):
        faults.append(Fault("password", "***", "It is the name of the user.", "Choose another one."))
    return faults


def password_text(password: object) -> str:
    """The one form (NFC) in which a password is hashed and compared, however a keyboard has made it."""
    return unicodedata.normalize("NFC", password) if isinstance(password, str) else ""
