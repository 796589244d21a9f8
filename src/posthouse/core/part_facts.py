"""What people would take a part for: body text, an image inside of it, or an attachment.

Standards: RFC 2183 section 2; RFC 2392 (cid:); RFC 2557 section 4.2 (Content-Location); RFC 8551 section 3.2.2
(smime-type); RFC 3156 section 4 (PGP/MIME).
"""

import html
import re
from collections.abc import Iterable
from urllib.parse import unquote

from posthouse.core.mime.header import Buffer, value
from posthouse.core.mime.part import Part

_MOST = 2000
"""References of one HTML part that are looked at."""
_CID = re.compile(rb"cid:([^\s\"'<>)]{1,500})", re.IGNORECASE)
_SOURCE = re.compile(rb"(?:src|background|url)[ \t]{0,9}[=(][ \t]{0,9}[\"']?([^\s\"'<>)]{1,1000})", re.IGNORECASE)
_ENVELOPED = re.compile(rb"smime-type[^;=]{0,20}=[^;]{0,20}?(?:enveloped|encrypted)-data", re.IGNORECASE)
_CMS_TYPES = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_BODY_TYPES = ("text/plain", "text/html", "text/enriched", "text/calendar", "text/richtext", "text/x-amp-html")


def referred(text: bytes) -> set[str]:
    """Content-IDs and locations that an HTML text names, as `reference` folds them."""
    found: set[str] = set()
    for pattern in (_CID, _SOURCE):
        for number, match in enumerate(pattern.finditer(text)):
            if number >= _MOST:
                break
            found.add(reference(match[1].decode("latin-1")))
    return found


def reference(text: str) -> str:
    """A Content-ID or a location, so that two spellings of it are equal."""
    return html.unescape(unquote(text)).strip(" <>").lower()


def is_named(octets: Buffer, part: Part, names: set[str]) -> bool:
    """Its Content-ID or Content-Location is one of the `names`."""
    if not names:
        return False
    if part.content_id and reference(part.content_id) in names:
        return True
    locations = (value(octets, field) for field in part.fields if field.name == "content-location")
    return any(reference(location.decode("latin-1")) in names for location in locations)


def is_attachment(part: Part, types: Iterable[str], *, inline: bool) -> bool:
    """`types`: by content. An image that the HTML names is none, if it is an image; nor is a text without a name."""
    if part.boundary or part.type.startswith("multipart/"):
        return False
    if part.disposition == "attachment" and not inline:
        return True
    if inline:
        return not part.type.startswith("image/") or any(not name.startswith("image/") for name in types)
    return bool(part.names) or part.type not in _BODY_TYPES


def declared_encryption(octets: Buffer, part: Part) -> str:
    """As in `PartFacts.encrypted`, by the fields of the part alone."""
    if part.type in ("multipart/encrypted", "application/pgp-encrypted"):
        return "pgp"
    if part.type in _CMS_TYPES:
        fields = (value(octets, field) for field in part.fields if field.name == "content-type")
        if any(_ENVELOPED.search(field) for field in fields):
            return "s/mime"
    return ""
