"""What `posthouse doctor` looks at: one function a check, each with what it found and how to mend it."""

import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from posthouse.core.digital_id import suitability
from posthouse.core.inventory import Inventory
from posthouse.core.own_address import is_loopback
from posthouse.core.profile import ServiceType
from posthouse.core.profile_advice import advise_profile
from posthouse.core.rule import is_open_relay
from posthouse.core.uri import Specification
from posthouse.digital_id.authorities import AuthoritiesUnusable
from posthouse.digital_id.endings import DIGITAL_ID, endings
from posthouse.digital_id.store import DigitalIds, DigitalIdUnusable
from posthouse.ports import SecretUnreadable, StoredInventory, Unseal
from posthouse.settings import Address, NodeSettings

OK, WARN, FAULT = "ok", "warn", "fault"

Resolve = Callable[[str], Sequence[str]]
"""Addresses of a host name. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    status: str
    """ok, warn or fault."""
    detail: str
    remedy: str = ""


def check_hostname(settings: NodeSettings) -> Finding:
    """Other servers look at the name in EHLO and Received (RFC 5321 section 4.1.1.1)."""
    name = settings.hostname
    if "." not in name.strip(".") and not name.startswith("["):
        remedy = 'Set hostname = "mx1.example" in posthouse.toml to the name that DNS has for this node.'
        return Finding("hostname", WARN, f"{name} is not a full domain name.", remedy)
    return Finding("hostname", OK, name)


def check_certificates(settings: NodeSettings, now: float) -> Iterator[Finding]:
    """The digital ID and the own CAs; nothing of what is not there, as the digital ID is made when it is needed."""
    try:
        found = endings(settings.data_dir)
        own = DigitalIds(settings.data_dir).load()
    except (AuthoritiesUnusable, DigitalIdUnusable) as error:
        remedy = "Bring the file back, or give what was in it by `posthouse digital-id import` (or `ca add`)."
        yield Finding("certificates", FAULT, f"{error}.", remedy)
        return
    for ending in found:
        check = "digital ID" if ending.kind == DIGITAL_ID else "own CA"
        stage = ending.stage(now)
        if stage is not None:
            told = ending.warning(now)
            status = FAULT if stage == 0 and ending.kind == DIGITAL_ID else WARN
            yield Finding(check, status, f"{told[0].upper()}{told[1:]}.", ending.remedy)
        else:
            yield Finding(check, OK, f"{ending.facts.subject}, {ending.facts.days_left(now)} days left.")
    for sentence in suitability(own, settings.hostname) if own is not None else ():
        yield Finding(
            "digital ID", WARN, sentence, "Generate or import one that fits: `posthouse digital-id --help`."
        )


def check_secrets(stored: StoredInventory, unseal: Unseal) -> Iterator[Finding]:
    """Every stored secret can be read; nothing where none is stored. The node may have a key that we have not."""
    count = 0
    for profile in stored.profiles:
        for name, secret in profile.secrets.items():
            try:
                unseal(secret.token)
                count += 1
            except SecretUnreadable as error:
                remedy = getattr(error, "remedy", "Bring back the key that fits, or enter the secret again.")
                yield Finding("secrets", WARN, f"{name} of {profile.document['name']}: {error}.", remedy)
    if count:
        yield Finding("secrets", OK, f"{count} stored secrets can be read.")


def check_data_dir(settings: NodeSettings) -> Iterator[Finding]:
    """Exists or can be made, can be written, is closed to others, and has space for mail."""
    folder = Path(settings.data_dir)
    home = folder
    while not home.exists() and home != home.parent:
        home = home.parent
    if not home.is_dir() or not os.access(home, os.W_OK | os.X_OK):
        remedy = f"Make it and give it to the user that runs posthouse: install -d -m 700 -o USER {folder}"
        yield Finding("data dir", FAULT, f"{folder} cannot be written.", remedy)
        return
    if home != folder:
        yield Finding("data dir", OK, f"{folder} is not there yet; `serve` makes it.")
    elif stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield Finding("data dir", WARN, f"{folder} is open to other users.", f"chmod 700 {folder}")
    else:
        yield Finding("data dir", OK, f"{folder} can be written.")
    free = shutil.disk_usage(home).free
    largest = max(listener.max_size for listener in settings.listeners)
    needed = max(settings.limits.free_octets, 2 * largest)
    mebi = 1024 * 1024
    if free < needed:
        told = f"{free // mebi} MiB free; below {needed // mebi} MiB mail is put off (452 4.3.1)."
        yield Finding("free space", FAULT, told, "Make space, or put data_dir on a larger disk.")
    elif free < 4 * needed:
        told = f"{free // mebi} MiB free; mail is put off below {needed // mebi} MiB."
        yield Finding("free space", WARN, told, "Make space soon.")
    else:
        yield Finding("free space", OK, f"{free // mebi} MiB free.")


def check_ports(settings: NodeSettings) -> Iterator[Finding]:
    """For a node that does not run: every address can be bound."""
    wanted = [("listener", listener.listen) for listener in settings.listeners] + [("console", settings.console)]
    for what, address in wanted:
        fault = _bind_fault(address)
        name = f"{what} {address}"
        if fault is None:
            yield Finding(name, OK, "is free.")
        elif fault == "denied":
            remedy = "Give it CAP_NET_BIND_SERVICE, or listen above port 1023."
            yield Finding(name, FAULT, "may not be bound by this user.", remedy)
        else:
            remedy = f"Find who has it with `ss -ltnp 'sport = :{address.port}'`, or listen elsewhere."
            yield Finding(name, FAULT, f"cannot be bound: {fault}.", remedy)


def _bind_fault(address: Address) -> str | None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except PermissionError:
        return "denied"
    except OSError as error:
        return error.strerror or str(error)
    return None


def check_own_mail(settings: NodeSettings, inventory: Inventory) -> Finding:
    """Without it no DSN can leave (design section 3)."""
    own = settings.own_mail
    if own is None:
        remedy = 'Set own_mail = { profile = "...", from = "postmaster@...", postmaster = "admin@..." }.'
        return Finding("own mail", WARN, "is not set: delivery status notifications become failed emails.", remedy)
    profile = inventory.profiles.get(own.profile)
    if profile is None or profile.type is not ServiceType.SMTP:
        told = f"names {own.profile}, which is no server profile of type smtp."
        return Finding("own mail", FAULT, told, "Name one in own_mail.profile, or add it to the inventory.")
    if not own.postmaster:
        return Finding(
            "own mail", WARN, "has no postmaster: mail to postmaster is refused.", "Set own_mail.postmaster."
        )
    return Finding("own mail", OK, f"leaves by {own.profile} as {own.sender}.")


def check_rules(inventory: Inventory) -> Iterator[Finding]:
    """Open relays, and an empty policy."""
    enabled = [rule for rule in inventory.policy.rules if rule.enabled]
    if not enabled:
        told = "There are none: every recipient is refused."
        yield Finding("rules", WARN, told, "Add a rule with `posthouse config apply inventory.toml`.")
    for rule in enabled:
        if is_open_relay(rule.clients, rule.recipients):
            remedy = "Name recipients of your own domains, or clients of a /8 (IPv6 /32) at most."
            yield Finding(f"rule {rule.name}", FAULT, "is an OPEN RELAY: anybody may send anywhere by it.", remedy)
    if enabled:
        yield Finding("rules", OK, f"{len(enabled)} in force.")


def check_servers(settings: NodeSettings, inventory: Inventory, resolve: Resolve) -> Iterator[Finding]:
    """Every server of every profile resolves, and no next hop is one of our own listeners. The socket of a clamd
    may be one of another node, so nothing is told of it."""
    profiles = inventory.profiles.values()
    servers = [(profile, server) for profile in profiles for server in profile.servers if server.host]
    hosts = sorted({server.host for _, server in servers})
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = dict(zip(hosts, pool.map(lambda host: _resolved(host, resolve), hosts), strict=True))
    for profile, server in servers:
        addresses, fault = found[server.host]
        check = f"profile {profile.name}"
        if fault:
            yield Finding(check, FAULT, f"{server} does not resolve: {fault}.", "Mend DNS, or the server's name.")
        elif profile.type is ServiceType.SMTP and _is_own(server, addresses, settings):
            told = f"{server} is a listener of this node: mail would loop."
            yield Finding(check, FAULT, told, "Name the next hop instead.")
        else:
            yield Finding(check, OK, f"{server} resolves.")


def check_profiles(inventory: Inventory) -> Iterator[Finding]:
    """Advice on every profile; what is grave is a fault."""
    for profile in inventory.profiles.values():
        for advice in advise_profile(profile):
            told = f"{advice.field} is valid, but to be looked at again."
            yield Finding(f"profile {profile.name}", FAULT if advice.grave else WARN, told, advice.sentence)


def _resolved(host: str, resolve: Resolve) -> tuple[tuple[str, ...], str]:
    try:
        return tuple(resolve(host)), ""
    except (OSError, UnicodeError) as error:
        return (), getattr(error, "strerror", None) or str(error)


def _is_own(server: Specification, addresses: Sequence[str], settings: NodeSettings) -> bool:
    """Loopback addresses are ours for a listener on all addresses, too."""
    for listener in settings.listeners:
        host, port = listener.listen.host, listener.listen.port
        if port != server.port:
            continue
        if host in addresses or (host in ("0.0.0.0", "::") and any(is_loopback(a) for a in addresses)):
            return True
    return False


def resolve_host(host: str) -> list[str]:
    """By the system's resolver."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
