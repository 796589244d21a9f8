"""The grammar of reverse-paths and forward-paths.

Strict: what RFC 5321 section 4.1.2 does not produce is refused. Length of a local part is bounded more
generously than 64 octets (section 4.5.3.1: impose no limits where possible; VERP addresses are longer).
Standards: RFC 5321 sections 4.1.2, 4.1.3 and appendix C (source routes are stripped); RFC 6531 section 3.3.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import idna

MAX_LOCAL = 255
MAX_DOMAIN = 255
# Classes that hold all of Unicode are written by what they leave out: the other way takes 50 ms to compile.
_ATOM = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]+'
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED = re.compile(r'"(?:[^\x00-\x1f"\\\x7f]|\\[ -~])*"')
_LETTER_DIGIT = r"[^\x00-/:-@\[-`{-\x7f]"
_LABEL = rf"{_LETTER_DIGIT}(?:[^\x00-,./:-@\[-`{{-\x7f]*{_LETTER_DIGIT})?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[(?:([0-9]{1,3}(?:\.[0-9]{1,3}){3})|IPv6:([0-9A-Fa-f:.]+))\]", re.IGNORECASE)
_ROUTE = re.compile(rf"@(?:{_DOMAIN.pattern}|\[[^\[\]\\]+\])(?:,@(?:{_DOMAIN.pattern}|\[[^\[\]\\]+\]))*:")
_UPPER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_OTHER_DOTS = re.compile("[\u3002\uff0e\uff61]")
"""IDNA reads these as dots, so a label that holds one is several."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Local part as given (quotes included) and domain or address literal, ASCII letters in lower case."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


def lower_ascii(text: str) -> str:
    """ASCII letters in lower case; U-labels stay as they are."""
    return text.translate(_UPPER)


def find_path_end(text: str) -> int:
    """Index of the `>` that closes the path at the start of `text`, which begins with `<`; -1 if there is none.

    A quoted local part may hold `>`.
    """
    if '"' not in text:
        return text.find(">")
    quoted = False
    at = 1
    while at < len(text):
        char = text[at]
        if quoted and char == "\\":
            at += 1
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            return at
        at += 1
    return -1


def parse_mailbox(path: str, *, smtputf8: bool) -> Mailbox | None:
    """The mailbox inside the angle brackets; None if it breaks the grammar."""
    if not path.isprintable() or not (smtputf8 or path.isascii()):
        return None
    start = 0
    if path.startswith("@"):
        route = _ROUTE.match(path)
        if route is None:
            return None
        start = route.end()
    local = (_QUOTED if path.startswith('"', start) else _DOT_STRING).match(path, start)
    if local is None or not path.startswith("@", local.end()):
        return None
    domain = _domain(path[local.end() + 1 :])
    if domain is None or len(local.group().encode()) > MAX_LOCAL:
        return None
    return Mailbox(local.group(), domain)


def _domain(text: str) -> str | None:
    if text.startswith("["):
        return lower_ascii(text) if is_literal(text) else None
    if not _DOMAIN.fullmatch(text) or len(text.encode()) > MAX_DOMAIN:
        return None
    labels = text.split(".")
    if any(len(label) > 63 for label in labels):
        return None
    if not text.isascii() and not all(label.isascii() or _is_u_label(label) for label in labels):
        return None
    return lower_ascii(text)


def is_literal(text: str) -> bool:
    """An IPv4 or IPv6 address literal; no other tag is registered (RFC 5321 section 4.1.3)."""
    literal = _LITERAL.fullmatch(text)
    if literal is None:
        return False
    try:
        if literal.group(1):
            IPv4Address(literal.group(1))
        else:
            IPv6Address(literal.group(2))
    except AddressValueError:
        return False
    return True


def _is_u_label(label: str) -> bool:
    if _OTHER_DOTS.search(label):
        return False
    try:
        idna.encode(label, uts46=True)
    except idna.IDNAError:
        return False
    return True
