"""Media types as text: `application/zip`. Standards: RFC 2045 section 5.1."""

import re

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}", re.IGNORECASE)


def is_type(text: str) -> bool:
    """A type and a subtype, without parameters."""
    return _TYPE.fullmatch(text) is not None
