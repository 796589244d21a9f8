"""`posthouse serve`: the supervisor's start, from settings to running children."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from posthouse import __version__, node, telemetry
from posthouse.app.console_key import leave_console_key, warn_of_unused_key
from posthouse.app.inventory_file import apply_inventory_file, read_text
from posthouse.app.stores import open_shared
from posthouse.core.faults import InvalidInput
from posthouse.core.owner import Start
from posthouse.settings import NodeSettings, load_settings
from posthouse.storage import open as storage


def serve(config: str | None, inventory: str | None, flags: Mapping[str, str], prune: bool = False) -> int:
    """Runs a node until SIGTERM; prints `ready` on standard output. Returns the exit code."""
    telemetry.configure("serve")
    log = telemetry.logger("serve")
    try:
        settings = read_settings(config, flags)
        data_dir = Path(settings.data_dir)
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # For what an earlier start has left: its net under a process that hangs, and then a little more.
        with node.hold_data_dir(data_dir, settings.limits.drain_seconds + 2 * node.END_SECONDS) as lock:
            start = begin_start(data_dir)
            store = open_shared(str(data_dir), settings.database)
            apply_inventory_file(
                store.inventory, inventory, prune=prune, by="serve", own_mail=settings.own_mail_profile
            )
            leave_console_key(data_dir, store.accounts, by="serve")
            warn_of_unused_key(store)
            store.commands.begin(start)
            store.close()
            children = bind_children(settings, start)
            write_node_file(data_dir, children)

            def reload() -> NodeSettings | None:
                try:
                    fresh = read_settings(config, flags)
                    shared = open_shared(str(data_dir), settings.database)
                    try:
                        apply_inventory_file(
                            shared.inventory, inventory, prune=prune, by="SIGHUP", own_mail=fresh.own_mail_profile
                        )
                    finally:
                        shared.close()
                    reloaded, waiting = after_reload(settings, fresh)
                    if waiting:
                        log.warning("changed settings need a restart", settings=", ".join(waiting))
                    return reloaded
                except (InvalidInput, OSError) as error:
                    log.error("files refused, the old ones stay in force", error=str(error))
                    return None

            def ready() -> None:
                print("ready", flush=True)
                log.info("ready", smtp=[str(s.getsockname()) for s in children[0].sockets], version=__version__)

            return asyncio.run(node.Node(children, lock, ready, reload).run())
    except InvalidInput as error:
        for fault in error.faults:
            print(f"{fault}", file=sys.stderr)
        return 1
    except (node.PortTaken, node.DataDirTaken, storage.SchemaTooNew) as error:
        print(f"posthouse: {error}", file=sys.stderr)
        return 1


def read_settings(config: str | None, flags: Mapping[str, str]) -> NodeSettings:
    """posthouse.toml, environment and flags. Raises InvalidInput with all faults."""
    text = None
    if config is not None:
        text = read_text(config)
    settings, faults = load_settings(
        text,
        environ=os.environ,
        flags=flags,
        hostname=socket.getfqdn(),
        cores=os.cpu_count() or 1,
    )
    if settings is None:
        raise InvalidInput(faults)
    return settings


NEED_RESTART = ("data_dir", "database", "workers", "listeners", "console", "console_tls", "test_profiles")
"""Settings that the bound sockets and the running processes rest on."""


def after_reload(running: NodeSettings, fresh: NodeSettings) -> tuple[NodeSettings, list[str]]:
    """What is in force after SIGHUP, and the names of the changed settings that wait for a restart. Those stay as
    they are also for a worker that is started again: its sockets and its part of every number are the old ones."""
    kept = {name: getattr(running, name) for name in NEED_RESTART}
    return replace(fresh, **kept), [name for name, value in kept.items() if getattr(fresh, name) != value]


def begin_start(data_dir: Path) -> Start:
    """Who this node is (made at its first start), and a new boot id."""
    node_id_file = data_dir / "node-id"
    if not node_id_file.exists():
        node_id_file.write_text(os.urandom(6).hex(), encoding="ascii")
    return Start(node_id_file.read_text(encoding="ascii").strip(), os.urandom(4).hex())


def bind_children(settings: NodeSettings, start: Start) -> list[node.Child]:
    """Binds every address and lays out the children: workers first, then the console."""
    per_listener = [node.listen(listener.listen, settings.workers) for listener in settings.listeners]
    children = []
    for index in range(settings.workers):
        sockets = [copies[index] for copies in per_listener]
        children.append(_child("worker", index, start.owner(str(index)), settings, sockets))
    console = node.listen(settings.console, 1)
    children.append(_child("console", 0, start.owner("console"), settings, console))
    return children


def _child(role: str, index: int, owner: str, settings: NodeSettings, sockets: list[socket.socket]) -> node.Child:
    descriptors = tuple(s.fileno() for s in sockets)
    return node.Child(node.Boot(role, index, owner, settings, descriptors), sockets)


def write_node_file(data_dir: Path, children: list[node.Child]) -> None:
    """`node.json`: where this node listens, for the CLI and for tests. Replaced whole: no reader sees half of it."""
    smtp = [_address(s) for s in children[0].sockets]
    scheme = "https" if children[-1].boot.settings.console_tls else "http"
    facts = {"console": f"{scheme}://{_address(children[-1].sockets[0])}", "smtp": smtp, "pid": os.getpid()}
    fresh = data_dir / "node.json.new"
    fresh.write_text(json.dumps(facts) + "\n", encoding="ascii")
    fresh.replace(data_dir / "node.json")


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
