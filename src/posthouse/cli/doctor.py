"""`posthouse doctor`: what is missing for real use, each with the fix."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posthouse.cli.errors import Exit, Stop
from posthouse.cli.options import JsonOption
from posthouse.cli.output import line, show_json, table
from posthouse.cli.remote import Remote, node_file
from posthouse.cli.stores import shared_store

if TYPE_CHECKING:
    from posthouse.cli.checks import Finding
    from posthouse.ports import StoredInventory
    from posthouse.settings import NodeSettings


def register(app: typer.Typer) -> None:
    """Adds the command to the program."""
    app.command()(doctor)


def doctor(
    config: Annotated[str | None, typer.Option("--config", metavar="FILE", help="posthouse.toml.")] = None,
    inventory: Annotated[
        str | None, typer.Option("--inventory", metavar="FILE", help="Look at this file instead of what is stored.")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option("--data-dir", metavar="DIR", help="Folder of the node's data.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, data dir, ports, own mail, rules and servers. Exit 1 on a fault."""
    found = list(_findings(config, inventory, data_dir))
    faults = sum(finding.status == "fault" for finding in found)
    warnings = sum(finding.status == "warn" for finding in found)
    if as_json:
        checks = [{"check": f.check, "status": f.status, "detail": f.detail, "remedy": f.remedy} for f in found]
        show_json({"ok": not faults, "checks": checks})
    else:
        table(("", "Check", "Found", "Remedy"), ((f.status, f.check, f.detail, f.remedy) for f in found), "")
        line(f"{len(found)} checks: {faults} faults, {warnings} warnings.")
    raise typer.Exit(Exit.FAULT if faults else Exit.OK)


def _findings(config: str | None, inventory: str | None, data_dir: str | None) -> "Iterator[Finding]":
    from posthouse.cli import checks
    from posthouse.core.faults import InvalidInput
    from posthouse.core.inventory import build_inventory

    settings, found = _settings(config, {} if data_dir is None else {"data_dir": data_dir})
    yield from found
    if settings is None:
        return
    yield checks.check_hostname(settings)
    yield from checks.check_data_dir(settings)
    if _runs(settings.data_dir):
        yield checks.Finding("node", checks.OK, "runs and is ready.")
    else:
        yield from checks.check_ports(settings)
    yield from checks.check_certificates(settings, time.time())
    try:
        stored, secrets = _stored(settings)
        yield from secrets
        documents = [profile.document for profile in stored.profiles] if stored else []
        rules = list(stored.rules) if stored else []
        if inventory is not None:
            documents, rules = _laid_over(documents, rules, inventory)
        snapshot = build_inventory(0, [(document, 0) for document in documents], rules)
    except InvalidInput as error:
        for fault in error.faults:
            yield checks.Finding("inventory", checks.FAULT, f"{fault.field}: {fault.rule}", fault.remedy)
        return
    except Stop as stop:
        yield checks.Finding("inventory", checks.FAULT, stop.message, stop.remedy)
        return
    yield checks.Finding("inventory", checks.OK, f"{len(documents)} server profiles, {len(rules)} rules, all valid.")
    yield checks.check_own_mail(settings, snapshot)
    yield from checks.check_rules(snapshot)
    yield from checks.check_profiles(snapshot)
    yield from checks.check_servers(settings, snapshot, checks.resolve_host)


def _settings(config: str | None, flags: Mapping[str, str]) -> "tuple[NodeSettings | None, list[Finding]]":
    from posthouse.cli.checks import FAULT, OK, Finding
    from posthouse.settings import load_settings

    text = None
    if config is not None:
        try:
            text = Path(config).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8 text"
            return None, [Finding("settings", FAULT, f"{config} cannot be read: {reason}.", "Give a readable file.")]
    settings, faults = load_settings(
        text, environ=os.environ, flags=flags, hostname=socket.getfqdn(), cores=os.cpu_count() or 1
    )
    if faults:
        return None, [Finding("settings", FAULT, f"{f.field} = {f.value}: {f.rule}", f.remedy) for f in faults]
    return settings, [Finding("settings", OK, "are valid." if config else "are the defaults.")]


def _runs(data_dir: str) -> bool:
    """The node that wrote `node.json` answers."""
    node = node_file(data_dir)
    if node is None:
        return False
    try:
        with Remote(node.console, data_dir, login=False) as remote:
            return remote.get("/readyz").get("ready") is True
    except Stop:
        return False


def _stored(settings: "NodeSettings") -> "tuple[StoredInventory | None, list[Finding]]":
    """None where nothing has been stored yet: a look must not make a database. With it, what its secrets are like."""
    from posthouse.cli.checks import check_secrets

    if settings.database == "sqlite" and not (Path(settings.data_dir) / "shared.db").exists():
        return None, []
    with shared_store(settings.data_dir, settings.database, make=False) as shared:
        stored = shared.inventory.load()
        return stored, list(check_secrets(stored, shared.unseal))


def _laid_over(
    profiles: list[Mapping[str, object]], rules: list[Mapping[str, object]], file: str
) -> tuple[list[Mapping[str, object]], list[Mapping[str, object]]]:
    """What is stored with an inventory file laid over it. Raises InvalidInput."""
    from posthouse.cli.config import read_document
    from posthouse.core.faults import InvalidInput
    from posthouse.core.inventory import apply_document

    new_profiles, new_rules, faults = apply_document(profiles, rules, read_document(Path(file)), prune=False)
    if faults:
        raise InvalidInput(faults)
    return [*new_profiles], [*new_rules]
