"""The name under which a vault keeps an attachment, as it travels in a header field.

How names beyond ASCII travel in the header parameter `file_name` the documents of Vault do not tell: they go as
percent-encoded UTF-8, as MetaDefender Core of the same vendor wants them.
Standards: RFC 3986 section 2.1; RFC 9110 section 5.5.
"""

from urllib.parse import quote

MOST_CHARACTERS = 150
"""Encoded at most 1,800 octets: servers take header fields of 4 to 8 KiB, and Windows names of 255 characters."""
_ENDING = 20
"""Characters of an ending that is kept when a name is cut: what opens a file goes by it."""
_NEVER = frozenset('/\\<>:"|?*')
"""Separators of paths, and what no name has on Windows, where vaults run."""
_AS_IT_IS = " !#$&'()+,;=@[]^_`{}~"


def file_name(name: str) -> str:
    """Value of the header field: printable ASCII, without blanks at its ends, never empty."""
    plain = "".join("_" if char in _NEVER or not char.isprintable() else char for char in name)
    plain = plain.strip(" .") or "attachment"
    if len(plain) > MOST_CHARACTERS:
        stem, dot, ending = plain.rpartition(".")
        tail = f".{ending}" if dot and stem and len(ending) <= _ENDING else ""
        plain = plain[: MOST_CHARACTERS - len(tail)].rstrip(" .") + tail
    return quote(plain, safe=_AS_IT_IS)
