"""Start-up settings of one node: posthouse.toml with environment and flags on top.

Scalars may be given in the environment (`POSTHOUSE_HOSTNAME`, `_DATA_DIR`, `_DATABASE`, `_WORKERS`, `_SMTP`,
`_CONSOLE`) and by flags of `serve`; flags win over environment, environment over file. All faults are told at once.
Standards: design section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, Values, join, read, shown
from posthouse.core.inventory import load_toml
from posthouse.core.limits import TABLE, Limits
from posthouse.core.network import Network, read_networks
from posthouse.core.own_address import is_loopback
from posthouse.core.smtp_path import is_literal, parse_mailbox
from posthouse.core.uri import parse_address, parse_host

__all__ = [
    "Address",
    "BareNewlines",
    "ListenerSettings",
    "ListenerTls",
    "Network",
    "NodeSettings",
    "OwnMail",
    "load_settings",
]


class ListenerTls(StrEnum):
    """TLS of a listener."""

    NONE = "none"
    STARTTLS_OPTIONAL = "starttls-optional"
    STARTTLS_REQUIRED = "starttls-required"
    IMPLICIT = "implicit"


class BareNewlines(StrEnum):
    """What a bare CR or LF in content leads to."""

    REFUSE = "refuse"
    NORMALISE = "normalise"


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port to listen on; port 0 asks the system for one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One SMTP listener."""

    listen: Address
    tls: ListenerTls = ListenerTls.NONE
    max_size: int = 50 * 1024 * 1024
    bare_newlines: BareNewlines = BareNewlines.REFUSE
    """For clients outside `trusted_clients`; for those in it `trusted_bare_newlines` holds."""
    trusted_bare_newlines: BareNewlines = BareNewlines.NORMALISE
    proxy_protocol_from: tuple[Network, ...] = ()
    xclient_from: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnMail:
    """How mail that posthouse generates leaves; design section 3."""

    profile: str
    sender: str
    """`from` in the file: the address in the From field of DSNs."""
    postmaster: str


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """All of posthouse.toml."""

    hostname: str
    data_dir: str = "./posthouse-data"
    database: str = "sqlite"
    workers: int = 1
    listeners: tuple[ListenerSettings, ...] = (ListenerSettings(Address("127.0.0.1", 2525)),)
    console: Address = Address("127.0.0.1", 8025)
    console_tls: bool = False
    """`tls` of [console]."""
    own_mail: OwnMail | None = None
    trusted_clients: tuple[Network, ...] = ()
    test_profiles: bool = True
    """Server profiles that nobody has tested, those of files, are tested in the background, once."""
    audit_days: int = 400
    """How long the audit log keeps a row; 0: for ever."""
    limits: Limits = field(default_factory=Limits)

    @property
    def own_mail_profile(self) -> str | None:
        """Name of the server profile that own mail leaves by."""
        return self.own_mail.profile if self.own_mail is not None else None


OVERRIDES = ("hostname", "data_dir", "database", "workers", "smtp", "console")
"""What environment and flags may set; `smtp` is the address of the first listener."""
_NEWLINES = tuple(BareNewlines)

NODE_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("hostname", FieldType.TEXT, "greeting, EHLO, Received, DSN", minimum=1, shown_default="the full name"),
    FieldSpec("data_dir", FieldType.TEXT, "folder of the node's data", "./posthouse-data", minimum=1, maximum=4096),
    FieldSpec("database", FieldType.TEXT, "`sqlite` or `postgresql://...`", "sqlite", minimum=1, maximum=4096),
    FieldSpec("workers", FieldType.INTEGER, "worker processes", None, 1, 256, shown_default="cores - 1, at least 1"),
    FieldSpec("own_mail", FieldType.TABLE, "how mail that posthouse generates leaves"),
    FieldSpec("trusted_clients", FieldType.TEXTS, "client networks (CIDR) that are trusted"),
    FieldSpec(
        "test_profiles", FieldType.BOOLEAN, "server profiles of files are tested once, in the background", True
    ),
    FieldSpec("audit_days", FieldType.INTEGER, "days that the audit log keeps a row; 0: for ever", 400, 0, 36500),
    FieldSpec("listeners", FieldType.TABLES, "SMTP listeners", minimum=1, maximum=64, shown_default="127.0.0.1:2525"),
    FieldSpec("console", FieldType.TABLE, "console and REST"),
    FieldSpec("limits", FieldType.TABLE, "limits and deadlines"),
)
OWN_MAIL_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("profile", FieldType.NAME, "server profile of type smtp", required=True),
    FieldSpec("from", FieldType.TEXT, "address in the From field of DSNs", minimum=1, maximum=510, required=True),
    FieldSpec("postmaster", FieldType.TEXT, "address that gets mail to postmaster", minimum=1, maximum=510),
)
LISTENER_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("listen", FieldType.TEXT, "HOST:PORT; port 0 takes a free one", minimum=1, maximum=300, required=True),
    FieldSpec("tls", FieldType.TEXT, "TLS towards clients", ListenerTls.NONE.value, choices=tuple(ListenerTls)),
    FieldSpec("max_size", FieldType.SIZE, "largest content of a mail", 50 * 1024**2, 65536, 1024**3),
    FieldSpec("bare_newlines", FieldType.TEXT, "bare CR or LF in content", _NEWLINES[0].value, choices=_NEWLINES),
    FieldSpec(
        "trusted_bare_newlines",
        FieldType.TEXT,
        "the same for trusted_clients",
        BareNewlines.NORMALISE.value,
        choices=_NEWLINES,
    ),
    FieldSpec("proxy_protocol_from", FieldType.TEXTS, "client networks that speak PROXY v1 or v2"),
    FieldSpec("xclient_from", FieldType.TEXTS, "client networks that may use XCLIENT"),
)
CONSOLE_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("listen", FieldType.TEXT, "HOST:PORT; port 0 takes a free one", "127.0.0.1:8025", 1, 300),
    FieldSpec("tls", FieldType.BOOLEAN, "HTTPS, with the node's digital ID", False),
    FieldSpec("allow_plain_http", FieldType.BOOLEAN, "listens beyond loopback without TLS", False),
)
LIMIT_FIELDS: tuple[FieldSpec, ...] = tuple(
    FieldSpec(
        row.name,
        FieldType.SIZE if row.unit == "octets" else FieldType.INTEGER,
        row.meaning,
        row.default,
        row.minimum,
        row.maximum,
    )
    for row in TABLE
)


def load_settings(
    toml_text: str | None, *, environ: Mapping[str, str], flags: Mapping[str, str], hostname: str, cores: int
) -> tuple[NodeSettings | None, tuple[Fault, ...]]:
    """The settings, or None and every fault. `hostname` and `cores` are the machine's, for the defaults.

    `flags` has names of `OVERRIDES`. Faults of environment and flags have the field `POSTHOUSE_SMTP` or `--smtp`.
    """
    document, toml_fault = load_toml(toml_text or "")
    if toml_fault is not None:
        return None, (toml_fault,)
    faults: list[Fault] = []
    document, sources = _override(document, environ, flags, faults)
    values, found = read(document, NODE_FIELDS, "")
    console, console_found = read(values.table("console") or {}, CONSOLE_FIELDS, "console")
    limits, limits_found = read(values.table("limits") or {}, LIMIT_FIELDS, "limits")
    faults += [*found, *console_found, *limits_found]
    listeners = tuple(_listener(where, table, faults) for where, table in values.tables("listeners"))
    _check_twice(listeners, faults)
    workers = values.value("workers")
    settings = NodeSettings(
        hostname=_hostname(values.optional_text("hostname"), hostname, faults),
        data_dir=values.text("data_dir"),
        database=_database(values.text("database"), faults),
        workers=workers if isinstance(workers, int) else max(1, cores - 1),
        listeners=listeners,
        console=_console(console, faults),
        console_tls=console.boolean("tls"),
        own_mail=_own_mail(values.table("own_mail"), faults),
        trusted_clients=read_networks(values, "trusted_clients", faults),
        test_profiles=values.boolean("test_profiles"),
        audit_days=values.integer("audit_days"),
        limits=Limits(**{spec.name: limits.integer(spec.name) for spec in LIMIT_FIELDS}),
    )
    if faults:
        return None, tuple(_at_source(fault, sources) for fault in faults)
    return settings, ()


def _override(
    document: dict[str, object], environ: Mapping[str, str], flags: Mapping[str, str], faults: list[Fault]
) -> tuple[dict[str, object], dict[str, str]]:
    """The document with environment and flags laid over it, and for each field so set where it came from."""
    document = {**document, "listeners": document.get("listeners", [{"listen": "127.0.0.1:2525"}])}
    sources: dict[str, str] = {}
    given = {name: (f"POSTHOUSE_{name.upper()}", environ.get(f"POSTHOUSE_{name.upper()}", "")) for name in OVERRIDES}
    for name, (source, text) in {
        **given,
        **{name: (f"--{name.replace('_', '-')}", flags[name]) for name in flags},
    }.items():
        if not text:
            continue
        match name:
            case "workers":
                document["workers"] = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
            case "smtp":
                listeners = document["listeners"]
                if isinstance(listeners, list) and listeners and isinstance(listeners[0], Mapping):
                    document["listeners"] = [{**listeners[0], "listen": text}, *listeners[1:]]
                sources["listeners[0].listen"] = source
                continue
            case "console":
                table = document.get("console", {})
                if isinstance(table, Mapping):
                    document["console"] = {**table, "listen": text}
                sources["console.listen"] = source
                continue
            case _:
                document[name] = text
        sources[name] = source
    return document, sources


def _at_source(fault: Fault, sources: Mapping[str, str]) -> Fault:
    return Fault(sources.get(fault.field, fault.field), fault.value, fault.rule, fault.remedy)


def _listener(where: str, table: Mapping[str, object], faults: list[Fault]) -> ListenerSettings:
    values, found = read(table, LISTENER_FIELDS, where)
    faults += found
    address = _address(values, where, faults)
    return ListenerSettings(
        listen=address,
        tls=ListenerTls(values.text("tls")),
        max_size=values.integer("max_size"),
        bare_newlines=BareNewlines(values.text("bare_newlines")),
        trusted_bare_newlines=BareNewlines(values.text("trusted_bare_newlines")),
        proxy_protocol_from=read_networks(values, "proxy_protocol_from", faults),
        xclient_from=read_networks(values, "xclient_from", faults),
    )


def _address(values: Values, where: str, faults: list[Fault]) -> Address:
    """Port 0 at a fault, which is told; a missing `listen` was told by `read`."""
    text = values.text("listen")
    parsed = parse_address(text) if text else ("", 0)
    if isinstance(parsed, list):
        faults += [Fault(join(where, "listen"), shown(text), p.rule, p.remedy) for p in parsed]
        return Address("", 0)
    return Address(*parsed)


def _check_twice(listeners: tuple[ListenerSettings, ...], faults: list[Fault]) -> None:
    seen: set[Address] = set()
    for at, listener in enumerate(listeners):
        address = listener.listen
        if address.port and address in seen:
            faults.append(
                Fault(f"listeners[{at}].listen", str(address), "Another listener has it.", "Choose another.")
            )
        seen.add(address)


def _console(values: Values, faults: list[Fault]) -> Address:
    address = _address(values, "console", faults)
    allowed = values.boolean("tls") or values.boolean("allow_plain_http")
    if address.host and not (allowed or is_loopback(address.host)):
        rule = "Without TLS the console listens on loopback only."
        remedy = (
            "Set console.tls = true, or use 127.0.0.1, or set console.allow_plain_http = true; keys then cross the "
            "network in clear."
        )
        faults.append(Fault("console.listen", str(address), rule, remedy))
    return address


def _own_mail(table: Mapping[str, object] | None, faults: list[Fault]) -> OwnMail | None:
    if table is None:
        return None
    values, found = read(table, OWN_MAIL_FIELDS, "own_mail")
    faults += found
    sender, postmaster = values.text("from"), values.optional_text("postmaster") or ""
    for name, text in (("from", sender), ("postmaster", postmaster)):
        if text and parse_mailbox(text, smtputf8=True) is None:
            faults.append(Fault(f"own_mail.{name}", shown(text), "This is no mail address.", "Write local@domain."))
    return OwnMail(values.text("profile"), sender, postmaster)


def _hostname(given: str | None, machine: str, faults: list[Fault]) -> str:
    """The machine's name is a default only: where it is no name, `localhost` stands in."""
    text = machine if given is None else given
    if is_literal(text):
        return text
    found = "" if text.startswith("[") else parse_host(text)
    if isinstance(found, str) and found and not found.split(".")[-1].isdigit():
        return found
    if given is None:
        return "localhost"
    remedy = "Write a name such as mx1.example, or an address literal such as [192.0.2.1]."
    faults.append(Fault("hostname", shown(given), "This is no host name.", remedy))
    return given


def _database(text: str, faults: list[Fault]) -> str:
    if text == "sqlite" or (text.startswith("postgresql://") and len(text) > 13 and " " not in text):
        return text
    scheme = text.split("://")[0] if "://" in text else text.split(":")[0]
    faults.append(Fault("database", shown(scheme), "This is no database.", "Write sqlite or postgresql://..."))
    return text
