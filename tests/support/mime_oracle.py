"""Python's `email` as another reader of mail: what it decodes out of one."""

import email
import email.policy
from email.message import Message


def payloads(octets: bytes, newer: bool) -> list[bytes]:
    """Of all leaves, decoded; `newer`: by the newer of the library's two parsers."""
    try:
        parser = email.message_from_bytes
        parts: list[Message] = [*(parser(octets, policy=email.policy.default) if newer else parser(octets)).walk()]
    except (ValueError, IndexError, AttributeError, KeyError, TypeError, RecursionError):
        return []
    made = []
    for part in parts:
        try:
            payload = None if part.is_multipart() else part.get_payload(decode=True)
        except (ValueError, IndexError, AttributeError, KeyError, TypeError, LookupError):
            continue
        if isinstance(payload, bytes):
            made.append(squeezed(payload))
    return made


def squeezed(octets: bytes) -> bytes:
    """Without line ends and NULs: the library's own are made otherwise."""
    return octets.translate(None, b"\r\n\x00 ")
