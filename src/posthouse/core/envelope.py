"""The envelope of a mail and what is known of the SMTP session that brought it; arguments of MAIL, RCPT, XCLIENT.

The parsers return the value or the reply that refuses it; they never raise and let no control character pass.
Standards: RFC 5321 sections 2.3.1, 3.3, 4.1.2; RFC 1870; RFC 3461 section 4; RFC 6152; RFC 6531; RFC 6533
section 3; Postfix XCLIENT_README.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from posthouse.core.smtp_path import find_path_end, parse_mailbox
from posthouse.core.smtp_reply import Reply, reply


class Body(StrEnum):
    """The BODY parameter of MAIL (RFC 6152); `UNSTATED` if the client sent none."""

    UNSTATED = ""
    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path with its RFC 3461 parameters."""

    address: str
    """Forward-path without angle brackets, domain in lower case, local part as given."""
    notify: str = ""
    """NOTIFY as upper-case list such as `SUCCESS,FAILURE`, `NEVER`, or empty."""
    orcpt: str = ""
    """ORCPT as received (`rfc822;user@example`, xtext kept), or empty."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path, forward-paths and parameters of one mail transaction."""

    reverse_path: str
    """Without angle brackets; empty for the null reverse-path `<>`."""
    recipients: tuple[Recipient, ...]
    body: Body = Body.UNSTATED
    smtputf8: bool = False
    ret: str = ""
    """`FULL`, `HDRS` or empty (RFC 3461 section 4.3)."""
    envid: str = ""
    """ENVID as received, xtext kept, or empty (RFC 3461 section 4.4)."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What one SMTP session told us, as it goes into trail, policy and Received."""

    client_address: str
    """IP address, in its shortest text form; after PROXY or XCLIENT the address they named."""
    client_port: int
    helo: str
    protocol: str
    """RFC 3848 keyword for Received: SMTP, ESMTP, ESMTPS, UTF8SMTP, UTF8SMTPS."""
    listener: str
    """The listener's address such as `0.0.0.0:25`."""
    tls: str = ""
    """TLS version and cipher, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`, or empty."""
    trusted: bool = False
    """The client is in `trusted_clients`."""
    peer_address: str = ""
    """The connecting address where PROXY or XCLIENT named another client, else empty."""


@dataclass(frozen=True, slots=True)
class MailArguments:
    """What MAIL said."""

    reverse_path: str
    size: int = 0
    """Declared octets (RFC 1870); 0 if not declared."""
    body: Body = Body.UNSTATED
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class XclientAttributes:
    """What XCLIENT said of the real client; empty or 0 where it said nothing or `[UNAVAILABLE]`."""

    address: str = ""
    """IP address in its shortest text form."""
    port: int = 0
    helo: str = ""
    protocol: str = ""
    """`SMTP` or `ESMTP`."""


MAX_ENVID = 100
MAX_ORCPT = 500

_LOCAL = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_PLAIN_LOCAL = rb"[A-Za-z0-9#$&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9#$&'*+/=?^_`{|}~-]+)*"
_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rb"%s(?:\.%s)*" % (_LABEL, _LABEL)
_COMMON_MAIL = re.compile(
    rb"[Ff][Rr][Oo][Mm]:<(?:(%s)@(%s))?>(?: SIZE=([0-9]{1,20}))?(?: BODY=(7BIT|8BITMIME))?" % (_LOCAL, _DOMAIN)
)
_COMMON_RCPT = re.compile(rb"[Tt][Oo]:<(%s)@(%s)>" % (_PLAIN_LOCAL, _DOMAIN))
_COMMON_MAX = 256
"""Arguments longer than this take the slow way, which looks at lengths."""
_BODIES = {None: Body.UNSTATED, b"7BIT": Body.SEVEN_BIT, b"8BITMIME": Body.EIGHT_BIT}

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")
_HEX = r"\+(?:[2-689A-F][0-9A-F]|7[0-9A-E])"
"""An encoded octet of xtext that is no control character."""
_XTEXT = re.compile(rf"(?:[!-*,-<>-~]|{_HEX})*")
_UNITEXT = re.compile(
    rf"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|{_HEX}|\\x\{{(?!0*[01]?[0-9A-Fa-f]\}})[0-9A-Fa-f]{{2,6}}\}})*"
)
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]{1,40}")
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_XCLIENT_ATTRIBUTES = frozenset(
    {"NAME", "REVERSE_NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"}
)
_HELO = re.compile(r"[!-~]{1,255}")

_NO_SYNTAX = reply(501, "5.5.4", "Syntax: MAIL FROM:<reverse-path> [parameters], no blank at the colon")
_NO_RCPT_SYNTAX = reply(501, "5.5.4", "Syntax: RCPT TO:<forward-path> [parameters], no blank at the colon")
_BAD_REVERSE_PATH = reply(501, "5.1.7", "Reverse-path is not valid (RFC 5321 section 4.1.2)")
_BAD_FORWARD_PATH = reply(501, "5.1.3", "Forward-path is not valid (RFC 5321 section 4.1.2)")
_ROUTED_LOCAL_PART = reply(553, "5.1.3", "Local parts with %, ! or a second @ are not taken")
_NEEDS_SMTPUTF8 = reply(553, "5.6.7", "Address needs SMTPUTF8 in MAIL (RFC 6531)")
_NO_UTF8 = reply(501, "5.5.2", "Not UTF-8")
_BAD_XCLIENT = reply(501, "5.5.4", "Bad XCLIENT attribute")


def parse_mail(argument: bytes, max_size: int) -> MailArguments | Reply:
    """The argument of MAIL, from `FROM:` on; a declared size above `max_size` octets is refused (552 5.3.4)."""
    common = _COMMON_MAIL.fullmatch(argument) if len(argument) <= _COMMON_MAX else None
    if common is None:
        return _parse_mail(argument, max_size)
    local, domain, size, body = common.groups()
    octets = int(size) if size else 0
    if octets > max_size:
        return too_big(max_size)
    path = f"{local.decode()}@{domain.lower().decode()}" if local else ""
    return MailArguments(path, octets, _BODIES[body])


def parse_rcpt(argument: bytes, *, smtputf8: bool) -> Recipient | Reply:
    """The argument of RCPT, from `TO:` on. Bare `postmaster` in any case becomes `postmaster`."""
    common = _COMMON_RCPT.fullmatch(argument) if len(argument) <= _COMMON_MAX else None
    if common is None:
        return _parse_rcpt(argument, smtputf8)
    local, domain = common.groups()
    return Recipient(f"{local.decode()}@{domain.lower().decode()}")


def too_big(max_size: int) -> Reply:
    """RFC 1870 section 6.1."""
    return reply(552, "5.3.4", f"Message is larger than {max_size} octets")


def _parse_mail(argument: bytes, max_size: int) -> MailArguments | Reply:
    split = _split(argument, "FROM:", _NO_SYNTAX)
    if isinstance(split, Reply):
        return split
    path, parameters = split
    smtputf8 = "SMTPUTF8" in parameters
    if not path:
        reverse_path = ""
    else:
        mailbox = parse_mailbox(path, smtputf8=smtputf8)
        if mailbox is None:
            return _NEEDS_SMTPUTF8 if not smtputf8 and _is_utf8_mailbox(path) else _BAD_REVERSE_PATH
        reverse_path = str(mailbox)
    size = 0
    body = Body.UNSTATED
    ret = envid = ""
    for name, value in parameters.items():
        match name:
            case "SIZE":
                if not _SIZE.fullmatch(value):
                    return _bad_parameter(name)
                size = int(value)
                if size > max_size:
                    return too_big(max_size)
            case "BODY":
                if value.upper() not in ("7BIT", "8BITMIME"):
                    return _bad_parameter(name)
                body = Body(value.upper())
            case "SMTPUTF8":
                if value:
                    return _bad_parameter(name)
            case "RET":
                ret = value.upper()
                if ret not in ("FULL", "HDRS"):
                    return _bad_parameter(name)
            case "ENVID":
                if not value or len(value) > MAX_ENVID or not _XTEXT.fullmatch(value):
                    return _bad_parameter(name)
                envid = value
            case _:
                return _unknown_parameter(name)
    return MailArguments(reverse_path, size, body, smtputf8, ret, envid)


def _parse_rcpt(argument: bytes, smtputf8: bool) -> Recipient | Reply:
    split = _split(argument, "TO:", _NO_RCPT_SYNTAX)
    if isinstance(split, Reply):
        return split
    path, parameters = split
    if path.lower() == "postmaster":
        address = "postmaster"
    else:
        mailbox = parse_mailbox(path, smtputf8=smtputf8)
        if mailbox is None:
            if not smtputf8 and _is_utf8_mailbox(path):
                return _NEEDS_SMTPUTF8
            return _ROUTED_LOCAL_PART if path.count("@") > 1 and not path.startswith("@") else _BAD_FORWARD_PATH
        if any(char in mailbox.local for char in "%!@"):
            return _ROUTED_LOCAL_PART
        address = str(mailbox)
    notify = orcpt = ""
    for name, value in parameters.items():
        match name:
            case "NOTIFY":
                notify = value.upper()
                wanted = notify.split(",")
                if notify != "NEVER" and (not _NOTIFY.issuperset(wanted) or len(set(wanted)) != len(wanted)):
                    return _bad_parameter(name)
            case "ORCPT":
                if not _is_orcpt(value, smtputf8):
                    return _bad_parameter(name)
                orcpt = value
            case _:
                return _unknown_parameter(name)
    return Recipient(address, notify, orcpt)


def _split(argument: bytes, keyword: str, syntax: Reply) -> tuple[str, dict[str, str]] | Reply:
    """Path without angle brackets, and parameters by upper-case keyword (empty where there is no value)."""
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        return _NO_UTF8
    if text[: len(keyword)].upper() != keyword or text[len(keyword) : len(keyword) + 1] != "<":
        return syntax
    text = text[len(keyword) :]
    end = find_path_end(text)
    if end < 0 or text[end + 1 : end + 2] not in ("", " "):
        return syntax
    parameters: dict[str, str] = {}
    for word in text[end + 1 :].split(" "):
        if not word:
            continue
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or not word.isprintable():
            return _bad_parameter("")
        name = parameter.group(1).upper()
        if name in parameters:
            return _bad_parameter(name)
        parameters[name] = parameter.group(2) or ""
    return text[1:end], parameters


def _is_utf8_mailbox(path: str) -> bool:
    return not path.isascii() and parse_mailbox(path, smtputf8=True) is not None


def _is_orcpt(value: str, smtputf8: bool) -> bool:
    kind, separator, address = value.partition(";")
    if not separator or not address or len(value) > MAX_ORCPT or not _ADDRESS_TYPE.fullmatch(kind):
        return False
    if kind.lower() == "utf-8":
        return bool(_UNITEXT.fullmatch(address)) and (smtputf8 or address.isascii())
    return bool(_XTEXT.fullmatch(address))


def _bad_parameter(name: str) -> Reply:
    return reply(501, "5.5.4", f"Bad parameter {name[:40]}".rstrip())


def _unknown_parameter(name: str) -> Reply:
    return reply(555, "5.5.4", f"Parameter {name[:40]} is not known")


def parse_xclient(argument: bytes) -> XclientAttributes | Reply:
    """The argument of XCLIENT: `NAME=value` pairs, values in xtext. NAME, LOGIN and DEST* are not used."""
    given: dict[str, str] = {}
    for word in argument.split(b" "):
        try:
            name, separator, value = word.decode("ascii").partition("=")
        except UnicodeDecodeError:
            return _BAD_XCLIENT
        name = name.upper()
        if not separator or name not in _XCLIENT_ATTRIBUTES or name in given or not _XTEXT.fullmatch(value):
            return _BAD_XCLIENT
        text = re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found.group(1), 16)), value)
        given[name] = "" if text.upper() in ("[UNAVAILABLE]", "[TEMPUNAVAIL]") else text
    address, port = given.get("ADDR", ""), given.get("PORT", "")
    helo, protocol = given.get("HELO", ""), given.get("PROTO", "").upper()
    if address:
        bare = address[5:] if address[:5].upper() == "IPV6:" else address
        if "%" in bare:
            return _BAD_XCLIENT
        try:
            address = str(ip_address(bare))
        except ValueError:
            return _BAD_XCLIENT
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        return _BAD_XCLIENT
    if protocol not in ("", "SMTP", "ESMTP") or (helo and not is_helo(helo)):
        return _BAD_XCLIENT
    return XclientAttributes(address, int(port) if port else 0, helo, protocol)


def is_helo(name: str) -> bool:
    """An argument of EHLO or HELO that we take: 1 to 255 printable ASCII characters without blanks.

    More generous than a domain or address literal, because many honest clients give neither.
    """
    return _HELO.fullmatch(name) is not None
