"""`public_url`: where people's browsers reach what a profile's servers show, such as scan details.

It is an absolute http(s) URL without user info, query and fragment, since links are made by adding to its path.
Standards: RFC 3986 section 3; seed 3.7 (View scan details); design section 2.12.
"""

import re

from posthouse.core.fields import has_control
from posthouse.core.uri import Problem, parse_authority, plain_path, without_query

PORTS = {"http": 80, "https": 443}
_START = re.compile(r"(https?)://", re.IGNORECASE)
_EXAMPLE = "Write it like https://core.example."


def parse_public_url(text: str) -> str | tuple[Problem, ...]:
    """Canonical (scheme and host in lower case, A-labels, no port that the scheme implies, no slash at the end), or
    everything that is wrong with it, part by part."""
    if has_control(text) or any(char.isspace() for char in text):
        return (Problem("address", "There are control characters or white space in it.", _EXAMPLE),)
    found = _START.match(text)
    if found is None:
        return (Problem("scheme", "An absolute URL of scheme http or https is needed.", _EXAMPLE),)
    problems: list[Problem] = []
    scheme, rest = found.group(1).lower(), text[found.end() :]
    authority, slash, tail = without_query(rest, problems).partition("/")
    host, number = parse_authority(authority, problems, "Leave it out.")
    port = "" if number in (None, PORTS[scheme]) else f":{number}"
    path = (slash + tail).removesuffix("/") if tail else ""
    if path and not plain_path(path):
        problems.append(Problem("path", "This is no plain absolute path.", "Write it like /core."))
    shown = f"[{host}]" if ":" in host else host
    return tuple(problems) or f"{scheme}://{shown}{port}{path}"
