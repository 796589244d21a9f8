"""The part tree: where the parts of a mail are, as most readers see them. Spans of octets, no copies.

Octets are those of the content without dot-stuffing and without the final dot; every line ends in CRLF (the receiver
sees to that, RFC 5321 section 4.1.1.4), but nothing else is sure.
Standards: RFC 2045, RFC 2046, RFC 2183, RFC 2231.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A header field."""

    name: str
    """Lower case."""
    start: int
    """First octet of the name."""
    value: int
    """First octet after the colon."""
    end: int
    """After the CRLF of the last line."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part; the root is the mail itself."""

    path: str
    """The root of a multipart is "", its parts `1`, `2`, theirs `2.1`; a root that is no multipart is `1`."""
    start: int
    """First octet of its header, after the delimiter line."""
    body: int
    """First octet of its body, after the empty line."""
    end: int
    """After its last octet: the CRLF before the next delimiter belongs to that."""
    fields: tuple[Field, ...]
    type: str
    """`text/plain`, lower case, with the defaults of RFC 2045 section 5.2 where it is missing or bad."""
    charset: str
    encoding: str
    """`base64`, `quoted-printable`, `7bit`, ...; lower case."""
    disposition: str
    """`attachment`, `inline`, or empty."""
    names: tuple[str, ...]
    content_id: str
    """Without angle brackets."""
    boundary: bytes = b""
    """Of a multipart."""
    parts: tuple["Part", ...] = ()
    """Of a multipart; of message/rfc822 the one message."""
