"""Patterns for addresses in security rules: what they match, and to which domain they are confined.

- `*` matches any run of characters, also none; `*` alone matches everything, the null reverse-path and a bare
  `postmaster` included. Without `*` the whole address must be equal.
- `/regex/` is RE2 and must match the *whole* address, as if it stood between `^` and `$`.
- `<>` matches the null reverse-path, which patterns see as the text `<>`.

Case is ignored in local part and domain. Addresses are compared without the quotes of a quoted local part and with
their domain in A-labels. Standards: RFC 5321 sections 2.3.5, 2.4, 4.1.2, 4.5.5; RFC 5890; design section 1.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, cast

import idna
import re2

from posthouse.core.fields import has_control
from posthouse.core.uri import Problem, parse_host

LONGEST = 1000
"""Characters of a pattern."""
NULL_PATH = "<>"
_QUOTED_PAIR = re.compile(r"\\(.)")
_WILD_DOMAIN = re.compile(r"[a-z0-9.*_-]+")
_LITERAL_SUFFIX = re.compile(r"\\?@((?:[A-Za-z0-9-]|\\[.-]|\[\.\])+)\$\Z")
_NAMED_GROUP = re.compile(r"\(\?P?<[A-Za-z0-9_]+>")


class Kind(Enum):
    """How a pattern is matched."""

    ANY = "any"
    ADDRESS = "address"
    DOMAIN = "domain"
    """`*@ours.example`."""
    SUBDOMAINS = "subdomains"
    """`*@*.ours.example`."""
    WILD = "wild"
    REGEX = "regex"


class Expression(Protocol):
    """A compiled RE2 expression."""

    def fullmatch(self, text: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern, ready to match."""

    text: str
    """As written."""
    kind: Kind
    key: str = ""
    """ADDRESS: the address; DOMAIN: the domain; SUBDOMAINS: `.ours.example`."""
    runs: tuple[str, ...] = ()
    """WILD: what stands between the `*`."""
    domain: str = ""
    """The literal domain that all addresses matched lie in or below; empty if there is none."""
    expression: Expression | None = field(default=None, compare=False, repr=False)

    @property
    def confined(self) -> bool:
        """It can match addresses of literal domains only: no open relay by it (design section 1)."""
        return bool(self.domain) or self.kind is Kind.ADDRESS

    def matches(self, text: str, domain: str) -> bool:
        """`text` and `domain` as `normalise` gives them."""
        match self.kind:
            case Kind.ANY:
                return True
            case Kind.ADDRESS:
                return text == self.key
            case Kind.DOMAIN:
                return domain == self.key
            case Kind.SUBDOMAINS:
                return domain.endswith(self.key)
            case Kind.WILD:
                return _match_runs(self.runs, text)
            case Kind.REGEX:
                return self.expression is not None and self.expression.fullmatch(text) is not None


def normalise(address: str) -> tuple[str, str]:
    """The address as patterns see it, and its domain (empty for the null reverse-path and bare `postmaster`)."""
    if not address:
        return NULL_PATH, ""
    if address.isascii() and not address.startswith('"'):
        text = address.lower()
        at = text.rfind("@")
        return text, text[at + 1 :] if at >= 0 else ""
    local, at_sign, domain = address.rpartition("@")
    if not at_sign:
        return _fold(address), ""
    if local.startswith('"') and local.endswith('"'):
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    domain = _to_a_labels(domain) or _fold(domain)
    return f"{_fold(local)}@{domain}", domain


def parse_pattern(text: str, *, null_path: bool) -> Pattern | tuple[str, str]:
    """The pattern, or the rule broken and a remedy. `null_path`: `<>` makes sense (senders)."""
    if not text or len(text) > LONGEST or has_control(text):
        return f"A pattern has 1 to {LONGEST} characters, none of them control characters.", "Write *@ours.example."
    if text.startswith("/"):
        return _parse_regex(text)
    if text == NULL_PATH:
        if null_path:
            return Pattern(text, Kind.ADDRESS, NULL_PATH)
        return "No recipient is <>; it is the null reverse-path of senders.", "Leave it out."
    if any(char.isspace() or char in '<>"' for char in text):
        rule = "A pattern has no white space, angle brackets or quotes."
        return rule, "Write the address only; a quoted local part is compared without its quotes."
    if not text.strip("*"):
        return Pattern(text, Kind.ANY)
    return _parse_wild(text)


def _parse_wild(text: str) -> Pattern | tuple[str, str]:
    local, at_sign, domain = text.rpartition("@")
    if not at_sign:
        folded = _fold(text)
        if folded == "postmaster":
            return Pattern(text, Kind.ADDRESS, folded)
        if "*" in text:
            return Pattern(text, Kind.WILD, runs=tuple(folded.split("*")))
        return "Without @ and * this matches no address.", f"Did you mean *@{text}?"
    if not local or not domain:
        return "The local part or the domain is missing.", f"Did you mean {local or '*'}@{domain or '*'}?"
    local = re.sub(r"\*+", "*", _fold(local))
    canonical = _canonical_domain(domain)
    if canonical is None:
        return "The part after @ is no domain.", "Write a name, an address literal, or a name with *."
    if "*" not in local + canonical:
        return Pattern(text, Kind.ADDRESS, f"{local}@{canonical}", domain=canonical)
    if "*" not in canonical:
        if local == "*":
            return Pattern(text, Kind.DOMAIN, canonical, domain=canonical)
        return Pattern(text, Kind.WILD, runs=tuple(f"{local}@{canonical}".split("*")), domain=canonical)
    # Below a single label (`*.example`) lies a whole top-level domain: that confines nothing.
    parent = canonical[2:] if canonical.startswith("*.") else ""
    confined = parent if "*" not in parent and "." in parent else ""
    if local == "*" and parent and "*" not in parent:
        return Pattern(text, Kind.SUBDOMAINS, f".{parent}", domain=confined)
    return Pattern(text, Kind.WILD, runs=tuple(f"{local}@{canonical}".split("*")), domain=confined)


def _parse_regex(text: str) -> Pattern | tuple[str, str]:
    if len(text) < 3 or not text.endswith("/"):
        return "A regular expression stands between two slashes.", r"Write /.*@ours\.example$/."
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    inner = text[1:-1]
    try:
        expression = cast(Expression, re2.compile(inner, options))
    except re2.error as error:
        detail = error.args[0] if error.args else ""
        reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        return f"RE2 does not take this expression: {reason}.", "Use the syntax of RE2: no look-around, no \\1."
    return Pattern(text, Kind.REGEX, domain=literal_domain(inner), expression=expression)


def literal_domain(expression: str) -> str:
    """The domain of a regular expression that ends in a literal `@domain$` on every branch; else empty.

    Conservative: what is not surely confined is not. A dot is literal as `\\.` or `[.]` only; alternation outside
    a group, an end inside a group, inline flags and `\\Q` quoting confine nothing.
    """
    suffix = _LITERAL_SUFFIX.search(expression)
    if suffix is None or not _plain_prefix(expression[: suffix.start()]):
        return ""
    domain = suffix.group(1).replace("[.]", ".").replace("\\", "").lower()
    return "" if isinstance(parse_host(domain), Problem) else domain


def _plain_prefix(text: str) -> bool:
    """What stands before the suffix is closed in itself and has no alternation outside groups."""
    depth = at = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            if at + 1 >= len(text) or text[at + 1] in "QE":
                return False
            at += 2
        elif char == "[":
            at = _after_class(text, at)
            if at < 0:
                return False
        elif char == "(":
            if text.startswith("(?", at) and not (text.startswith("(?:", at) or _NAMED_GROUP.match(text, at)):
                return False
            depth += 1
            at += 1
        elif char == ")":
            depth -= 1
            at += 1
        elif char == "|" and depth == 0:
            return False
        else:
            at += 1
    return depth == 0


def _after_class(text: str, at: int) -> int:
    """Index after the character class that begins at `at`; -1 if it does not end."""
    at += 2 if text.startswith("[^", at) else 1
    if text.startswith("]", at):
        at += 1
    while at < len(text):
        if text[at] == "]":
            return at + 1
        if text[at] == "\\":
            at += 2
        elif text.startswith("[:", at):
            end = text.find(":]", at + 2)
            if end < 0:
                return -1
            at = end + 2
        else:
            at += 1
    return -1


def _fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def _to_a_labels(domain: str) -> str:
    """The domain in A-labels and lower case; empty if it has none."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        return ""


def _canonical_domain(domain: str) -> str | None:
    """Domain of a pattern: `*` kept, literal labels as A-labels; None if it can be no domain."""
    if domain.startswith("[") and domain.endswith("]") and domain.isascii() and "*" not in domain:
        return domain.lower()
    if "*" not in domain:
        host = parse_host(domain)
        return None if isinstance(host, Problem) else host
    labels = [label.lower() if label.isascii() else _to_a_labels(label) for label in domain.split(".")]
    canonical = re.sub(r"\*+", "*", ".".join(labels))
    return canonical if all(labels) and _WILD_DOMAIN.fullmatch(canonical) else None


def _match_runs(runs: tuple[str, ...], text: str) -> bool:
    """`text` begins with the first run, ends with the last, and holds the others in between, in order."""
    first, last = runs[0], runs[-1]
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for run in runs[1:-1]:
        at = text.find(run, at, end)
        if at < 0:
            return False
        at += len(run)
    return True
