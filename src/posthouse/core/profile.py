"""Server profiles: the values, their validation with all faults at once, their JSON form.

What a type allows stands in `service_type.ROWS`; `PROFILE_FIELDS` and `POOL_FIELDS` give defaults and ranges;
`profile_checks` has the properties that must match each other; `profile_advice` tells what is valid and yet hardly
meant.
Standards: seed 3.7 (properties, property validation); design sections 2.1 to 2.13.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from posthouse.core.details_link import BATCH_PATTERN, DETAILS_PATTERN
from posthouse.core.encryption import Tls, TlsVerify
from posthouse.core.faults import Fault
from posthouse.core.fields import FieldSpec, FieldType, Secret, Values, join, read, shown
from posthouse.core.profile_checks import Servers, canonical, check_dependencies, check_properties, problem_faults
from posthouse.core.service_type import MOST_SERVERS, ROWS, ServiceType
from posthouse.core.uri import Specification, parse_specification

__all__ = [
    "POOL_FIELDS",
    "PROFILE_FIELDS",
    "Pool",
    "Preference",
    "ServerProfile",
    "ServiceType",
    "Tls",
    "TlsVerify",
]


class Preference(StrEnum):
    """In which order the servers of a profile are addressed (design 2.5)."""

    FAILOVER = "failover"
    ROUND_ROBIN = "round-robin"
    RANDOM_START = "random-start"


@dataclass(frozen=True, slots=True)
class Pool:
    """Connection pooling; see `POOL_FIELDS` for meaning and units."""

    enabled: bool = False
    connections: int = 20
    expiry_seconds: int = 180
    max_age_seconds: int = 300
    max_messages: int = 0


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """A named group of servers of one service type; see `PROFILE_FIELDS`."""

    name: str
    type: ServiceType
    servers: tuple[Specification, ...]
    """At least one, none twice."""
    preference: Preference = Preference.FAILOVER
    tls: Tls = Tls.NONE
    tls_verify: TlsVerify | None = None
    """None: verify for required and smtps, none for optional."""
    tls_name: str = ""
    """Canonical host; an IPv6 address without brackets."""
    tls_ca: str = ""
    tls_pin: str = ""
    """64 hexadecimal digits in lower case for each pinned certificate, a space between."""
    tls_min: str = "1.2"
    username: str = ""
    password: Secret | None = None
    client_certificate: bool = False
    allow_plaintext_auth: bool = False
    pool: Pool = Pool()
    api_key: Secret | None = None
    public_url: str = ""
    details_pattern: str = ""
    """Empty: `details_link.DETAILS_PATTERN`."""
    batch_pattern: str = ""
    revision: int = 0
    server_texts: tuple[str, ...] = ()
    """`servers` in canonical text, made once; what preference, relay and trail use."""


POOL_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("enabled", FieldType.BOOLEAN, "keeps idle SMTP connections for reuse", False),
    FieldSpec("connections", FieldType.INTEGER, "most connections kept idle, over all servers", 20, 1, 999),
    FieldSpec("expiry_seconds", FieldType.INTEGER, "idle seconds before a kept connection is closed", 180, 1, 60000),
    FieldSpec("max_age_seconds", FieldType.INTEGER, "age past which a connection is not kept", 300, 1, 86400),
    FieldSpec("max_messages", FieldType.INTEGER, "mails after which it is not kept; 0: no bound", 0, 0, 1000000),
)

PROFILE_FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("name", FieldType.NAME, "unique name, case ignored", required=True),
    FieldSpec("type", FieldType.TEXT, "service type", choices=tuple(ServiceType), required=True),
    FieldSpec(
        "servers", FieldType.TEXTS, "server specifications (URI)", minimum=1, maximum=MOST_SERVERS, required=True
    ),
    FieldSpec(
        "preference",
        FieldType.TEXT,
        "order in which servers are addressed",
        Preference.FAILOVER.value,
        choices=tuple(Preference),
    ),
    FieldSpec(
        "tls",
        FieldType.TEXT,
        "transport level encryption for scheme smtp",
        Tls.NONE.value,
        choices=tuple(Tls),
        remedies=(
            ("tls", "Give the servers the scheme smtps for TLS from the start, or choose starttls-required."),
            ("smtps", "Give the servers the scheme smtps for TLS from the start, or choose starttls-required."),
            ("starttls", "Choose starttls-required, or starttls-optional to allow clear text."),
        ),
    ),
    FieldSpec(
        "tls_verify",
        FieldType.TEXT,
        "what is asked of the server's certificate",
        choices=tuple(TlsVerify),
        shown_default="verify; none for starttls-optional",
    ),
    FieldSpec(
        "tls_name", FieldType.TEXT, "name in the certificate", minimum=1, maximum=253, shown_default="the host"
    ),
    FieldSpec("tls_ca", FieldType.TEXT, "file of trusted certificates (PEM)", minimum=1, maximum=4096),
    FieldSpec(
        "tls_pin",
        FieldType.TEXT,
        "SHA-256 of the certificate, for `pinned`; of several servers' with a space between",
        minimum=1,
        maximum=9700,
    ),
    FieldSpec("tls_min", FieldType.TEXT, "lowest TLS version", "1.2", choices=("1.2", "1.3")),
    FieldSpec("username", FieldType.TEXT, "login at the server", minimum=1, maximum=255),
    FieldSpec("password", FieldType.SECRET, "password of the login; a text is stored encrypted"),
    FieldSpec("client_certificate", FieldType.BOOLEAN, "shows the node's digital ID to the server", False),
    FieldSpec("allow_plaintext_auth", FieldType.BOOLEAN, "sends the password without TLS", False),
    FieldSpec("pool", FieldType.TABLE, "connection pooling"),
    FieldSpec("api_key", FieldType.SECRET, "key of the Vault or Core; a text is stored encrypted"),
    FieldSpec("public_url", FieldType.TEXT, "base of the links to scan details", minimum=1, maximum=2048),
    *(
        FieldSpec(name, FieldType.TEXT, meaning, minimum=1, maximum=2048, shown_default=default)
        for name, meaning, default in (
            ("details_pattern", "link to the scan details of a file", DETAILS_PATTERN),
            ("batch_pattern", "link to those of all files of a mail", BATCH_PATTERN),
        )
    ),
)


SECRET_FIELDS = tuple(spec.name for spec in PROFILE_FIELDS if spec.type is FieldType.SECRET)
"""Names of the properties that may be stored encrypted."""
KEPT: Mapping[str, object] = {"set": True}
"""A stored text as everybody sees it, and, in what somebody gives, that it stays as it is."""


def parse_profile(value: object, path: str) -> tuple[ServerProfile | None, tuple[Fault, ...]]:
    """The profile, or None and every fault; `path` is where it stands, such as `server_profiles[0]`."""
    values, found = read(value, PROFILE_FIELDS, path)
    faults = list(found)
    pool_table = values.table("pool") or {}
    pool, pool_faults = read(pool_table, POOL_FIELDS, join(path, "pool"))
    faults.extend(pool_faults)
    service_type = ServiceType(values.text("type")) if values.text("type") else None
    servers: Servers = ()
    if service_type is not None:
        servers = _parse_servers(values, service_type, path, faults)
        faults.extend(check_properties(values, service_type, path))
        tls_known = all(fault.field != join(path, "tls") for fault in found)
        faults.extend(check_dependencies(values, service_type, servers, path, tls_known=tls_known))
    texts = canonical(values, path, faults)
    if faults or service_type is None:
        return None, tuple(faults)
    tls_verify = values.optional_text("tls_verify")
    return ServerProfile(
        name=values.text("name"),
        type=service_type,
        servers=tuple(server for _, server in servers),
        preference=Preference(values.text("preference")),
        tls=Tls(values.text("tls")),
        tls_verify=TlsVerify(tls_verify) if tls_verify else None,
        tls_name=texts["tls_name"],
        tls_ca=values.optional_text("tls_ca") or "",
        tls_pin=texts["tls_pin"],
        tls_min=values.text("tls_min"),
        username=values.optional_text("username") or "",
        password=values.secret("password"),
        client_certificate=values.boolean("client_certificate"),
        allow_plaintext_auth=values.boolean("allow_plaintext_auth"),
        pool=Pool(
            pool.boolean("enabled"),
            pool.integer("connections"),
            pool.integer("expiry_seconds"),
            pool.integer("max_age_seconds"),
            pool.integer("max_messages"),
        ),
        api_key=values.secret("api_key"),
        public_url=texts["public_url"],
        details_pattern=texts["details_pattern"],
        batch_pattern=texts["batch_pattern"],
        server_texts=tuple(str(server) for _, server in servers),
    ), ()


def profile_json(profile: ServerProfile) -> dict[str, object]:
    """Canonical JSON: defaults included, but only properties that the type allows and that are set at all."""
    values: dict[str, object] = {
        "preference": profile.preference.value,
        "tls": profile.tls.value,
        "tls_verify": profile.tls_verify.value if profile.tls_verify else None,
        "tls_name": profile.tls_name or None,
        "tls_ca": profile.tls_ca or None,
        "tls_pin": profile.tls_pin or None,
        "tls_min": profile.tls_min,
        "username": profile.username or None,
        "password": _secret_json(profile.password),
        "client_certificate": profile.client_certificate,
        "allow_plaintext_auth": profile.allow_plaintext_auth,
        "pool": {spec.name: getattr(profile.pool, spec.name) for spec in POOL_FIELDS},
        "api_key": _secret_json(profile.api_key),
        "public_url": profile.public_url or None,
        "details_pattern": profile.details_pattern or None,
        "batch_pattern": profile.batch_pattern or None,
    }
    allowed = ROWS[profile.type].properties
    return {
        "name": profile.name,
        "type": profile.type.value,
        "servers": list(profile.server_texts),
        **{name: value for name, value in values.items() if name in allowed and value is not None},
    }


def without_defaults(document: Mapping[str, object]) -> dict[str, object]:
    """A profile's JSON as export writes it: what equals its default is left out."""
    kept = _less(document, PROFILE_FIELDS)
    pool = document.get("pool")
    if isinstance(pool, Mapping):
        kept["pool"] = _less(pool, POOL_FIELDS)
        if not kept["pool"]:
            del kept["pool"]
    return kept


def _less(document: Mapping[str, object], table: tuple[FieldSpec, ...]) -> dict[str, object]:
    defaults = {spec.name: spec.default for spec in table if spec.default is not None}
    return {name: value for name, value in document.items() if name not in defaults or defaults[name] != value}


def _secret_json(secret: Secret | None) -> dict[str, object] | None:
    """References as written; a stored text only as "set" (design section 4: secrets are write-only)."""
    if secret is None:
        return None
    return {secret.source: secret.value} if secret.source in ("env", "file") else dict(KEPT)


def _parse_servers(values: Values, service_type: ServiceType, path: str, faults: list[Fault]) -> Servers:
    servers: list[tuple[str, Specification]] = []
    seen: dict[str, str] = {}
    for where, text in values.entries("servers"):
        parsed = parse_specification(text, service_type)
        if not isinstance(parsed, Specification):
            faults.extend(problem_faults(where, text, parsed))
            continue
        first = seen.setdefault(str(parsed), where)
        if first != where:
            rule = f"This is the same server as {first}: {parsed}."
            faults.append(Fault(where, shown(text), rule, "Name each server once."))
        servers.append((where, parsed))
    most, count = ROWS[service_type].maximum_servers, len(values.entries("servers"))
    if most == 1 < count:
        rule = f"A {service_type} profile has exactly one server."
        faults.append(Fault(join(path, "servers"), f"{count} servers", rule, "Make a profile for each server."))
    return tuple(servers)
