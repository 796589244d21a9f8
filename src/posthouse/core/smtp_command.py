"""Commands to a next hop, and what its EHLO reply allows in them.

Every value that came from outside is checked here before it goes into a line: no control character, blank or
angle bracket can end a command or add a parameter.
Standards: RFC 5321 section 4.1; RFC 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 3461 (DSN), 2920 (PIPELINING).
"""

import re
from dataclasses import dataclass

from posthouse.core.envelope import Body, Recipient
from posthouse.core.smtp_reply import Reply

_PLAIN = r"[^\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff<>\"\\]"
_ADDRESS = re.compile(
    rf'(?:{_PLAIN}+|"(?:[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"\\]|\\[\x20-\x7e])*"@{_PLAIN}+)\Z'
)
_VALUE = re.compile(r"[\x21-\x3c\x3e-\x7e]+\Z")
"""esmtp-value of RFC 5321 section 4.1.2: neither `=` nor blank nor control; xtext is a part of it."""
_NOTIFY = frozenset({"NEVER", "SUCCESS", "FAILURE", "DELAY"})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the next hop announced in its reply to EHLO; nothing after HELO."""

    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()
    """Names of the AUTH mechanisms."""
    size: bool = False
    size_limit: int = 0
    """Octets of the longest mail it takes; 0 for no limit told (RFC 1870 section 4)."""


def read_capabilities(reply: Reply) -> Capabilities:
    """From a 2yz reply to EHLO, whose first line is the server's greeting; unknown keywords count nothing."""
    words = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        words[keyword.upper()] = parameters.strip()
    limit = words.get("SIZE", "")
    return Capabilities(
        pipelining="PIPELINING" in words,
        eight_bit="8BITMIME" in words,
        smtputf8="SMTPUTF8" in words,
        dsn="DSN" in words,
        starttls="STARTTLS" in words,
        auth=frozenset(words.get("AUTH", "").upper().split()),
        size="SIZE" in words,
        size_limit=int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 20 else 0,
    )


def writable(address: str) -> bool:
    """`address` can stand between angle brackets in a command without ending path or line."""
    return _ADDRESS.match(address) is not None


def mail_command(
    reverse_path: str,
    offered: Capabilities,
    *,
    size: int,
    body: Body,
    smtputf8: bool,
    ret: str,
    envid: str,
) -> bytes:
    """MAIL with the parameters that are offered and needed; `reverse_path` must be empty or `writable`."""
    line = f"MAIL FROM:<{reverse_path}>"
    if offered.size:
        line += f" SIZE={size}"
    if offered.eight_bit and body is not Body.UNSTATED:
        line += f" BODY={body.value}"
    if smtputf8:
        line += " SMTPUTF8"
    if offered.dsn:
        if ret in ("FULL", "HDRS"):
            line += f" RET={ret}"
        if envid and _VALUE.match(envid):
            line += f" ENVID={envid}"
    return line.encode() + b"\r\n"


def rcpt_command(recipient: Recipient, offered: Capabilities) -> bytes:
    """RCPT; its address must be `writable`. An ORCPT that is not plain ASCII is left out (RFC 6533 section 3 has
    an ASCII form for each)."""
    if not offered.dsn or not (recipient.notify or recipient.orcpt):
        return b"RCPT TO:<%b>\r\n" % recipient.address.encode()
    line = f"RCPT TO:<{recipient.address}>"
    if recipient.notify and _NOTIFY.issuperset(recipient.notify.split(",")):
        line += f" NOTIFY={recipient.notify}"
    if recipient.orcpt and _VALUE.match(recipient.orcpt):
        line += f" ORCPT={recipient.orcpt}"
    return line.encode() + b"\r\n"
