"""Links to scan details: the page of a MetaDefender Core that tells of one file, or of the batch of one mail.

Where a Core shows them has changed from version to version, so the pattern is a setting of the profile. Only base and
ids are put in, percent-encoded, so that nothing that a scanner says makes it another link.
Standards: seed 3.7 (View scan details); design section 2.12; RFC 3986 sections 2 and 3.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote

from posthouse.core.own_address import is_loopback
from posthouse.core.service_type import ServiceType
from posthouse.core.uri import Problem, parse_authority, parse_specification

DETAILS_PATTERN = "{base}/#/user/dashboard/processingHistory/dataId/{data_id}"
"""Of MetaDefender Core 5: a page that asks for a login."""
BATCH_PATTERN = "{base}/file/batch/{batch_id}"
"""The document of a batch: of a page there is no description."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("base", "data_id", "batch_id")
_START = re.compile(r"https?://", re.IGNORECASE)
_URI = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
_EXAMPLE = f"Write it like {DETAILS_PATTERN}."


@dataclass(frozen=True, slots=True)
class LinkBase:
    """Where the links of one profile lead to."""

    public_url: str = ""
    """Canonical, or empty: then the server that scanned."""
    details_pattern: str = ""
    """Empty: the default; so are those of batches."""
    batch_pattern: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A link, and why it may be broken; empty if it is not known to be."""

    url: str
    warning: str = ""


def parse_details_pattern(text: str) -> str | tuple[Problem, ...]:
    """The pattern as it is, or everything that is wrong with it, part by part."""
    names = _PLACEHOLDER.findall(text)
    unknown = [name for name in names if name not in _KNOWN]
    problems = [Problem("placeholder", "There is no placeholder of this name.", _EXAMPLE) for _ in unknown[:1]]
    if not {"data_id", "batch_id"} & set(names):
        problems.append(Problem("placeholder", "It leads to the same page for every file.", _EXAMPLE))
    if not _URI.fullmatch(_PLACEHOLDER.sub("", text)):
        problems.append(Problem("address", "It has characters that no URL may have.", _EXAMPLE))
    start = _START.match(text)
    if text.startswith("{base}"):
        if not text.removeprefix("{base}").startswith(("/", "#", "?")):
            problems.append(Problem("base", "After {base} a path, a query or a fragment begins.", _EXAMPLE))
    elif start is None:
        problems.append(Problem("scheme", "It begins with {base}, http:// or https://.", _EXAMPLE))
    else:
        parse_authority(re.split(r"[/?#]", text[start.end() :], maxsplit=1)[0], problems, "Leave it out.")
    return tuple(problems) or text


def details_link(base: LinkBase, server: str, data_id: str, batch_id: str) -> Link | None:
    """Of one file. `server`: the one that scanned it, canonical, or empty. None if there is nothing to link to."""
    return _link(base, base.details_pattern or DETAILS_PATTERN, server, data_id, batch_id)


def batch_link(base: LinkBase, server: str, batch_id: str) -> Link | None:
    """Of a mail's batch."""
    return _link(base, base.batch_pattern or BATCH_PATTERN, server, "", batch_id)


def broken_elsewhere(host: str) -> str:
    """The seed's warning, for a link that names this host; empty if it is no loopback one."""
    return f"name {host}, which is broken on any other machine: set public_url." if is_loopback(host) else ""


def _link(base: LinkBase, pattern: str, server: str, data_id: str, batch_id: str) -> Link | None:
    values = {"base": base.public_url or server, "data_id": data_id, "batch_id": batch_id}
    if not all(values.get(name) for name in _PLACEHOLDER.findall(pattern)):
        return None
    url = _PLACEHOLDER.sub(lambda found: _value(found[1], values[found[1]]), pattern)
    if base.public_url or "{base}" not in pattern:
        return Link(url)
    parsed = parse_specification(server, ServiceType.METADEFENDER_CORE)
    if isinstance(parsed, tuple):
        return None
    told = broken_elsewhere(parsed.host)
    return Link(url, f"The links to scan details {told}" if told else "")


def _value(name: str, value: str) -> str:
    return value if name == "base" else quote(value, safe="")
