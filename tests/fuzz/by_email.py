"""What Python's `email` makes of a mail: another reader, with two parsers of its own."""

import email
import email.policy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value

_FAULTS = (ValueError, IndexError, AttributeError, KeyError, TypeError, LookupError, RecursionError, AssertionError)
"""What it raises over mails that it cannot read: its own faults, or its way to say so."""


@dataclass(frozen=True)
class Seen:
    """A part that is no multipart."""

    octets: bytes
    """Decoded."""
    names: tuple[str, ...]
    type: str
    """Empty if it declares none."""


def seen(octets: bytes, *, newer: bool) -> list[Seen]:
    """All its leaves. `newer`: by the newer of the two parsers (policy `default`); else by that of `compat32`."""
    try:
        message: Message = (
            email.message_from_bytes(octets, policy=email.policy.default)
            if newer
            else email.message_from_bytes(octets)
        )
        parts = list(message.walk())
    except _FAULTS:
        return []
    return [one for part in parts for one in _leaf(part)]


def _leaf(part: Message) -> Iterator[Seen]:
    try:
        payload = None if part.is_multipart() else part.get_payload(decode=True)
    except _FAULTS:
        return
    if isinstance(payload, bytes):
        yield Seen(payload, tuple(dict.fromkeys(_names(part))), _type(part))


def _names(part: Message) -> Iterator[str]:
    for field, parameter in (("content-disposition", "filename"), ("content-type", "name")):
        try:
            given = part.get_param(parameter, None, field)
            name = "" if given is None else collapse_rfc2231_value(given)
        except _FAULTS:
            continue
        if isinstance(name, str) and name.strip():
            yield _readable(name)


def _type(part: Message) -> str:
    try:
        return part.get_content_type() if part.get("content-type") is not None else ""
    except _FAULTS:
        return ""


def _readable(name: str) -> str:
    """Octets that are not ASCII come as lone surrogates: they are UTF-8 or, for want of that, Latin-1."""
    if not re.search("[\udc80-\udcff]", name):
        return name
    octets = name.encode("utf-8", "surrogateescape")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
