"""What a mail administrator can do about a stage of a TEST: one table, one test for each row.

A row holds for a stage, for service types and for faults that its pattern is found in; the first that fits is taken,
the last row of a stage fits all. Stages that succeeded may leave something to be done, too.
Standards: design 2.6 to 2.8 and 2.11.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.core.profile_test import StageName, StageResult
from posthouse.core.service_type import ServiceType

EXPIRY_DAYS = 30
"""A certificate with fewer days left is spoken of."""

SLOW_SECONDS = 3.0
"""A greeting that takes longer is spoken of."""


@dataclass(frozen=True, slots=True)
class Row:
    """`advice` may name facts of the stage and words of its profile in braces."""

    stage: StageName | None
    """None: any stage of these types."""
    pattern: str
    """Regular expression, searched for in the fault."""
    advice: str
    types: tuple[ServiceType, ...] = tuple(ServiceType)
    port: str = ""
    """Only for servers at this port."""


_CORE = (ServiceType.METADEFENDER_CORE,)
_VAULT = (ServiceType.METADEFENDER_VAULT,)
_HTTP = _CORE + _VAULT
_PRODUCTS = {
    ServiceType.SMTP: "the mail server",
    ServiceType.METADEFENDER_CORE: "MetaDefender Core",
    ServiceType.METADEFENDER_VAULT: "Vault",
    ServiceType.CLAMAV: "clamd",
}
_VAULT_PORT = "Write port 8010: Vault answers there since version 1.3.7, and no longer at 8000."
_LICENCE = "Activate or renew the licence in MetaDefender Core (Settings > License): without one it scans nothing."
_PIN = 'tls_verify = "pinned" and tls_pin = "{sha256}"'
_KEYRING = "^the stored|is not stored$|^the key |^there is no key|^no key|^key "
"""What storage says of stored secrets that it cannot read."""
_KEYRING_ADVICE = "Bring back the key of stored secrets on this node (`posthouse doctor`), or enter the secret again."
_S = StageName
ROWS: tuple[Row, ...] = (
    Row(None, "speaks SMTP", "Give the port of {product}: a mail server answers at {port}.", _HTTP),
    Row(None, "it speaks TLS", "Write https://{host}:{port}: the server expects TLS from the first octet.", _HTTP),
    Row(None, "not answer as HTTP", "Check the port: what answers at {port} is not {product}.", _HTTP),
    Row(
        None,
        "redirects",
        "Give scheme, host and port where {product} itself answers: no redirect is followed, so that no key goes to "
        "another host.",
        _HTTP,
    ),
    Row(
        None,
        "within the time",
        "Look why {product} is so slow: its load and its log, or a proxy before it that cannot reach it.",
        _HTTP,
    ),
    Row(
        None,
        "in clear text|may expect TLS",
        "Write https://{host}:{port} if the server expects TLS there; else look in the log of {product}, or of its "
        "proxy, why it does not answer.",
        _HTTP,
    ),
    Row(
        None,
        "^connection lost|connection was lost",
        "Look in the log of {product}, or of the proxy before it, why it closes the connection.",
        _HTTP,
    ),
    Row(None, "longer than", "Check address and port: {product} would not answer at such length.", _HTTP),
    Row(
        _S.RESOLVE,
        "listener of this node",
        "Give address and port of {product}: {host} port {port} is where this posthouse itself takes mail.",
        (*_HTTP, ServiceType.CLAMAV),
    ),
    Row(
        _S.RESOLVE,
        "listener of this node",
        "Name the next hop instead: {host} port {port} is where this posthouse itself listens.",
    ),
    Row(
        _S.RESOLVE,
        "link-local",
        "Give the server's routable address: at link-local ones other services of a machine's host answer.",
    ),
    Row(
        _S.RESOLVE,
        "name not found",
        "Check how {host} is spelt, and that the DNS of this node knows it; an address needs no DNS.",
    ),
    Row(_S.RESOLVE, "", "Check that the DNS servers of this node answer (/etc/resolv.conf), then test again."),
    Row(
        _S.CONNECT,
        "^socket",
        "Check that clamd runs (without signatures it does not start: run freshclam), that LocalSocket is this path, "
        "and that the user of posthouse may open it.",
    ),
    Row(
        _S.CONNECT,
        "refused",
        "Check that clamd runs (without signatures it does not start: run freshclam), and that TCPSocket {port} and "
        "TCPAddr are set for this address.",
        (ServiceType.CLAMAV,),
    ),
    Row(_S.CONNECT, "refused|no answer", _VAULT_PORT, _VAULT, "8000"),
    Row(
        _S.CONNECT,
        "refused",
        "Check the port, and that {product} runs and listens on this address: nothing accepts at port {port}.",
    ),
    Row(
        _S.CONNECT,
        "no answer",
        "Allow TCP port {port} from this node to {host}: a firewall drops it, or no machine has that address.",
    ),
    Row(_S.CONNECT, "unreachable", "Check the address and the routes of this node: there is no way to {host}."),
    Row(
        _S.CONNECT,
        "open files|local port",
        "Give this node more open files or local ports: the fault is not the server's.",
    ),
    Row(_S.CONNECT, "", "Check address, port and the firewalls between this node and {host}."),
    Row(
        _S.GREETING,
        "speaks HTTP",
        "Give the port of the SMTP server (25, 587 or 465): a web server answers at {port}.",
    ),
    Row(_S.GREETING, "speaks TLS", "Write smtps://{host}:{port}: the server expects TLS from the first octet."),
    Row(_S.GREETING, "not greet as SMTP", "Check the port: what answers at {port} is no SMTP server."),
    Row(
        _S.GREETING,
        "no greeting",
        "If the server expects TLS from the start (port 465) write smtps://{host}:{port}; if it is no SMTP server "
        "(a web server waits, too) give another port; else its DNS may be slow in looking up this node's address.",
    ),
    Row(
        _S.GREETING,
        "^4",
        "Test again later: the server is busy or limits the connections of this node; its log says which.",
    ),
    Row(
        _S.GREETING,
        "^5",
        "Allow this node's address at the server (access list, receive connector): it refuses to serve it.",
    ),
    Row(
        _S.GREETING,
        "",
        "Look in the server's log why it closes at once; often it does not allow this node's address.",
    ),
    Row(
        _S.EHLO,
        "EHLO: 5",
        "Set `hostname` in posthouse.toml to a name that DNS has for this node: the server refuses {hostname}.",
    ),
    Row(_S.EHLO, "", "Look in the server's log why it does not answer EHLO, then test again."),
    Row(
        _S.TLS,
        "^tls_|^digital ID|^own CAs|shows the node's digital ID|^this node has no digital ID",
        "Correct that setting or file on this node: the server is not to blame.",
    ),
    Row(
        _S.TLS,
        "does not offer STARTTLS",
        "Switch on STARTTLS at the server (it needs a certificate); if clear text may be used there, choose "
        "starttls-optional without login and verification, or none.",
    ),
    Row(
        _S.TLS,
        "STARTTLS: ",
        "Look in the server's log why its TLS is not available: often its certificate or key cannot be read.",
    ),
    Row(
        _S.TLS,
        "in clear text after",
        "Send no mail there: somebody between, or a faulty server, slips octets in before TLS; update the server.",
    ),
    Row(
        _S.TLS,
        "does not speak TLS",
        "Write http://{host}:{port}, or give the port where {product} speaks TLS: at this one it does not.",
        _HTTP,
    ),
    Row(
        _S.TLS,
        "does not speak TLS",
        "Write smtp://{host} with tls = starttls-required, or give the port where the server speaks TLS (465).",
    ),
    Row(
        _S.TLS,
        "not valid",
        "Check the clocks of both machines, and that the server has the right certificate: it is not valid yet.",
    ),
    Row(
        _S.TLS,
        "^certificate expired|^the certificate of its CA has expired",
        f"Renew the server's certificate; until then you can pin it with {_PIN}.",
    ),
    Row(
        _S.TLS,
        "self-signed",
        f"Compare the fingerprint with the server's and pin it: {_PIN}; or give the server a certificate of a CA.",
    ),
    Row(
        _S.TLS,
        "unknown CA",
        "Give the file of the CA's certificate as tls_ca ({issuer}), or to all profiles by "
        f"`posthouse digital-id ca add FILE`; or pin the server's with {_PIN}.",
    ),
    Row(
        _S.TLS,
        "certificate is for",
        'If this is the right server set tls_name to a name of its certificate (tls_name = "{tls_name}"), else '
        "correct the server specification.",
    ),
    Row(
        _S.TLS,
        "is revoked|not meant for servers|too weak",
        "Give the server another certificate: one meant for servers and not revoked, with RSA keys of 2048 bits or "
        "more and SHA-256.",
    ),
    Row(
        _S.TLS,
        "no TLS within|took longer|took too long",
        "Look why the server does not go on with TLS: its load, its log, or a firewall or proxy that meddles.",
    ),
    Row(
        _S.TLS,
        "no common TLS version",
        "Switch on TLS 1.2 or 1.3 at the server (see tls_min): what it offers is older and unsafe.",
    ),
    Row(
        _S.TLS,
        "has the fingerprint",
        'Compare with the server: if its certificate was renewed set tls_pin = "{sha256}", else somebody is between.',
    ),
    Row(
        _S.TLS,
        "no common cipher",
        "Switch on ciphers of today at the server (ECDHE with AES-GCM); for one that asks for a client "
        "certificate set client_certificate = true.",
    ),
    Row(
        _S.TLS,
        "client certificate",
        "Let the vault ask for no client certificate: posthouse shows one to mail servers and Cores only.",
        _VAULT,
    ),
    Row(
        _S.TLS,
        "wants a client certificate|misses one",
        "Set client_certificate = true and let the server trust this node's digital ID.",
    ),
    Row(
        _S.TLS,
        "client certificate",
        "Let the server trust this node's digital ID (`posthouse digital-id show`); renew it if it has expired.",
    ),
    Row(
        _S.TLS,
        "name it was asked for",
        "Set tls_name to a name that the server knows: it has no certificate for the one asked for.",
    ),
    Row(
        _S.TLS,
        "",
        "Look in the server's log why its handshake failed: often a missing certificate, old ciphers or a proxy.",
    ),
    Row(
        _S.AUTH,
        "not sent in clear text",
        "Credentials are sent under TLS only: choose starttls-required or write smtps://, or set "
        "allow_plaintext_auth = true if the network can be trusted.",
    ),
    Row(
        _S.AUTH,
        "does not offer AUTH",
        "Switch on AUTH PLAIN or LOGIN at the server (often only at port 587 or 465), or leave out username and "
        "password if it knows this node by its address.",
    ),
    Row(
        _S.AUTH,
        "AUTH: 53[45]",
        "Check user name ({username}) and password, and that this account may log in by SMTP; further tries may "
        "lock it.",
    ),
    Row(
        _S.AUTH,
        "AUTH: 4",
        "Test again later: the server cannot check passwords at present; its log says why.",
    ),
    Row(
        _S.AUTH,
        "^the password's",
        "Correct the reference of the password on this node: the variable has to be set, or the file readable.",
    ),
    Row(_S.AUTH, _KEYRING, _KEYRING_ADVICE),
    Row(_S.AUTH, "", "Look in the server's log why it refuses the login of {username}."),
    Row(
        _S.MAIL,
        ": 53[08]|STARTTLS",
        "Give username and password, or choose starttls-required: the server takes no mail without.",
    ),
    Row(_S.MAIL, "MAIL: 5", "Give a sender that the server accepts ({mail_from} is refused), or allow it there."),
    Row(
        _S.MAIL,
        "RCPT: 5",
        "Check that {rcpt_to} exists, and that the server relays for its domain from this node's address.",
    ),
    Row(_S.MAIL, ": 4", "Test again later: the server puts this mail off (greylisting, or it is busy)."),
    Row(_S.MAIL, "", "Look in the server's log why it does not answer."),
    Row(_S.PING, "as clamd", "Check the port: what answers there is no clamd (its TCPSocket is 3310 as a rule)."),
    Row(_S.PING, "", "Look in clamd's log: it may still be loading signatures, or be out of threads."),
    Row(
        _S.VERSION,
        "",
        "Check address and port (8008 as a rule): what answers at {port} is not MetaDefender Core.",
        _CORE,
    ),
    Row(_S.VERSION, "", "Look in clamd's log why it does not answer VERSION."),
    Row(_S.EICAR, "no signatures", "Run freshclam and let clamd reload: without its signatures it finds nothing."),
    Row(_S.EICAR, "not found", "Run freshclam and let clamd reload: it lets the test pattern EICAR pass."),
    Row(_S.EICAR, "", "Look in clamd's log why it does not scan; StreamMaxLength must allow whole mails."),
    Row(_S.READY, "", _VAULT_PORT, _VAULT, "8000"),
    Row(
        _S.READY,
        "",
        "Check address, port (8010 as a rule) and path (/vault_rest): what answers there is not Vault.",
        _VAULT,
    ),
    Row(_S.READY, "licence", _LICENCE),
    Row(
        _S.READY,
        "no active engine",
        "Look at licence and engines in MetaDefender Core (Inventory > Technologies): none is active, so nothing is "
        "scanned.",
    ),
    Row(
        _S.READY,
        "",
        "Look at the health check of MetaDefender Core (Settings > Health check) and its log: until it is ready it "
        "scans nothing.",
    ),
    Row(
        _S.KEY,
        "misses a field",
        "See whether a proxy before Vault takes the field Authorization out, and whether it is a vault that answers: "
        "of a wrong key Vault says 403.",
        _VAULT,
    ),
    Row(
        _S.KEY,
        "refuses the API key",
        "Make a new API key in Vault and give it as api_key: keys expire, and end with the account of their owner.",
        _VAULT,
    ),
    Row(
        _S.KEY,
        "refuses the API key",
        "Give the API key of an active user of MetaDefender Core as api_key, or none if its rules ask for none.",
    ),
    Row(
        _S.KEY,
        "^the API key's",
        "Correct the reference of the API key on this node: the variable has to be set, or the file readable.",
    ),
    Row(_S.KEY, _KEYRING, _KEYRING_ADVICE),
    Row(_S.KEY, "", "Look in the log of {product} why it does not answer."),
    Row(_S.LICENCE, "licence", _LICENCE),
    Row(_S.LICENCE, "", "Look in the log of MetaDefender Core why it does not tell its licence."),
)

DOWNGRADED = "Mail goes in clear text, because TLS failed: mend the server's TLS, then choose starttls-required."
IN_CLEAR = (
    "Mail goes in clear text, because the server offers no STARTTLS: switch it on there, then choose "
    "starttls-required."
)
UNVERIFIED = f"Anybody could stand in for the server, since no certificate is asked for: pin this one with {_PIN}."
SLOW = (
    "Look why the server takes {seconds} s to greet, often DNS look-ups of this node's address that fail; until then "
    "a connection pool spares most mails the wait."
)
EXPIRES = "Renew the server's certificate: it has {days_left} days left."
LICENCE_EXPIRES = "Renew the licence of MetaDefender Core: it has {days_left} days left."
NO_DATABASE = "Run freshclam, and let clamd reload: it has signatures of your own only, none of ClamAV."
_MORE = re.compile(r" and \d+ more$")


def advise(stage: StageResult, words: Mapping[str, str], service_type: ServiceType) -> str:
    """One sentence; empty where nothing is to be done. `words`: host, port, username, hostname."""
    known = {
        "seconds": f"{stage.seconds:.0f}",
        "product": _PRODUCTS[service_type],
        **{name: str(value) for name, value in stage.detail.items()},
    }
    if "names" in known:
        known["tls_name"] = _one_name(known["names"])
    sentence = _sentence(stage, service_type, words.get("port", ""))
    return sentence.format_map(defaultdict(lambda: "?", {**known, **words}))


def _one_name(names: str) -> str:
    """The first of the names of a certificate that is no wildcard; a name that would fit if all are."""
    each = _MORE.sub("", names).split(", ")
    return next((name for name in each if not name.startswith("*")), each[0].replace("*", "mail", 1))


def _sentence(stage: StageResult, service_type: ServiceType, port: str) -> str:
    if not stage.ok:
        rows = (
            row
            for row in ROWS
            if row.stage in (None, stage.name) and service_type in row.types and row.port in ("", port)
        )
        return next((row.advice for row in rows if re.search(row.pattern, stage.fault)), "")
    if stage.name is StageName.GREETING and stage.seconds >= SLOW_SECONDS:
        return SLOW
    if stage.detail.get("downgraded"):
        return DOWNGRADED
    if stage.detail.get("in_clear"):
        return IN_CLEAR
    if "database" in stage.detail:
        return NO_DATABASE
    days = stage.detail.get("days_left")
    if isinstance(days, int) and days < EXPIRY_DAYS:
        return EXPIRES if stage.name is StageName.TLS else LICENCE_EXPIRES
    return UNVERIFIED if stage.detail.get("certificate") == "unverified" else ""
