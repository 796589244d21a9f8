"""The API key of a profile as it may leave in a header field."""

import re

from posthouse.clients.way import secret_text
from posthouse.core.profile import ServerProfile
from posthouse.ports import SecretUnreadable, Unseal

_FIELD = re.compile(r"[!-~]+")
"""What may stand in a header field, and nothing else may leave with it."""


def api_key(profile: ServerProfile, unseal: Unseal) -> str:
    """Empty if the profile has none. Raises SecretUnreadable."""
    if profile.api_key is None:
        return ""
    key = secret_text(profile.api_key, unseal, "API key")
    if not _FIELD.fullmatch(key):
        raise SecretUnreadable("the API key's text has characters that no key has")
    return key
