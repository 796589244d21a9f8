"""The composition root: the only place that joins adapters (clients, storage) to the flow.

`serve` is the supervisor's start; `python -m posthouse.app worker|console` are its children (see `node.py`).
"""

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from posthouse import __version__, node, telemetry, tls
from posthouse.client_tls import trust_besides
from posthouse.clients.clamd_test import ClamdTester
from posthouse.clients.metadefender import core_tester
from posthouse.clients.smtp import SmtpRelay
from posthouse.clients.smtp_test import SmtpTester
from posthouse.clients.vault import vault_tester
from posthouse.core.faults import Fault, InvalidInput
from posthouse.core.inventory import Inventory, apply_document, build_inventory, load_toml
from posthouse.core.kept_secret import given_texts, without_texts
from posthouse.core.mail_id import MailIds
from posthouse.core.owner import Start
from posthouse.core.profile_change import lost_to_own_mail
from posthouse.core.service_type import ServiceType
from posthouse.digital_id.authorities import Authorities
from posthouse.digital_id.stand_in import note_shown
from posthouse.inbound.listener import Listeners
from posthouse.mailflow.background_tests import BackgroundTests
from posthouse.mailflow.delivery import Delivery
from posthouse.mailflow.live import LiveRows
from posthouse.mailflow.pipeline import Pipeline
from posthouse.mailflow.profile_test import ProfileTest
from posthouse.ports import (
    Accounts,
    InventoryStore,
    RevisionConflict,
    SecretKeyUnusable,
    SecretUnreadable,
    ServerTester,
    SystemClock,
    Tools,
    Unseal,
    WorkerState,
)
from posthouse.settings import ListenerTls, NodeSettings, load_settings
from posthouse.storage import open as storage

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 5.0
FOLLOW_SECONDS = 5.0
"""How long mail that was under way at a rename may wait by the former name."""

open_shared = storage.open_shared


# --- serve: the supervisor -------------------------------------------------------------------------------


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
        text = _read(config)
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


def apply_inventory_file(
    store: InventoryStore, path: str | None, *, prune: bool, by: str, own_mail: str | None
) -> None:
    """What the file names is overwritten; what it does not name stays unless `prune`. Raises InvalidInput, also where
    the server profile that own mail leaves by would be lost (`own_mail`: its name).

    A lost key stops no start: secrets that the file has as texts then stay as they are stored, if they are.
    """
    if path is None:
        return
    document, fault = load_toml(_read(path))
    if fault is not None:
        raise InvalidInput((fault,))
    secrets, no_key = given_texts(document), None
    while True:
        stored = store.load()
        before = [p.document for p in stored.profiles]
        profiles, rules, faults = apply_document(before, stored.rules, document, prune=prune)
        if faults and no_key is not None:
            rule = f"Its secrets cannot be stored: {no_key}."
            raise InvalidInput((Fault("file", path, rule, no_key.remedy),))
        if faults := faults or lost_to_own_mail(before, profiles, own_mail):
            raise InvalidInput(faults)
        try:
            revision, now = stored.revision, time.time()
            store.replace(profiles, rules, expected_revision=revision, by=by, now=now, secrets=secrets)
            return
        except RevisionConflict:
            continue
        except SecretKeyUnusable as error:
            telemetry.logger("serve").error("secrets of the file not stored", error=str(error), remedy=error.remedy)
            document, secrets, no_key = without_texts(document), {}, error


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InvalidInput((Fault("file", path, f"cannot be read: {reason}.", "Give a readable file."),)) from error


def renew_console_key(data_dir: Path, accounts: Accounts, *, by: str) -> None:
    """After a restore: where a node has left a key in the data dir, one that is in force."""
    if (data_dir / "console.key").exists():
        leave_console_key(data_dir, accounts, by=by)


def leave_console_key(data_dir: Path, accounts: Accounts, *, by: str) -> None:
    """Leaves a 0600 file with an administrator key, so that the CLI on this machine can act."""
    path = data_dir / "console.key"
    if path.exists() and accounts.authenticate(path.read_text(encoding="ascii").strip()) is not None:
        return
    _, secret = accounts.create_key(name="console.key", role="administrator", by=by, now=time.time())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")


def warn_of_unused_key(store: storage.SharedStore) -> None:
    """A key file that is not in use: with a copy of the data dir it opens what was ever stored under it."""
    try:
        unused = store.keyring.unused_file()
    except SecretKeyUnusable:
        return  # told where a secret is wanted
    if unused is not None:
        remedy = "Once `posthouse doctor` can read all stored secrets by the key in use, delete the file."
        telemetry.logger("serve").warning("key file is not in use", file=str(unused), remedy=remedy)


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


# --- children --------------------------------------------------------------------------------------------


def _read_boot() -> node.Boot:
    boot = node.read_message(0)
    if not isinstance(boot, node.Boot):
        raise SystemExit("posthouse.app is started by `posthouse serve` only")
    return boot


def _listen_to_supervisor(
    settings: NodeSettings, on_settings: Callable[[NodeSettings], None], on_end: Callable[[], None]
) -> None:
    """A thread that waits for new settings, or for the end of the supervisor."""

    def wait() -> None:
        drain = settings.limits.drain_seconds
        while (message := node.read_message(0)) is not None:
            if isinstance(message, NodeSettings):
                drain = message.limits.drain_seconds
                on_settings(message)
        on_end()
        # The supervisor's net under a process that hangs is gone with it, and the next start waits for this one.
        time.sleep(drain + node.END_SECONDS)
        os._exit(1)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *given: object) -> None:
    """From another thread; a loop that has ended hears nothing more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *given)


def _say_ready() -> None:
    """To the supervisor; if that is gone, the end of standard input says so."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"ready\n")


def load_inventory(store: InventoryStore) -> Inventory:
    """The stored inventory as the snapshot that the flow works with."""
    stored = store.load()
    return build_inventory(
        stored.revision,
        [(p.document, p.revision) for p in stored.profiles],
        stored.rules,
        {str(p.document["name"]): p.secrets for p in stored.profiles},
        stored.drains,
        {name: str(p.document["name"]) for p in stored.profiles for name in p.former},
    )


class Worker:
    """One worker process: a whole gateway."""

    def __init__(self, boot: node.Boot) -> None:
        self._boot = boot
        self._settings = boot.settings
        self._stop = asyncio.Event()
        self._log = telemetry.logger("worker")

    async def run(self) -> None:
        """Until SIGTERM or the end of the supervisor."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        settings, boot, clock = self._settings, self._boot, SystemClock()
        # First of all: a worker that hangs as it starts ends too. New settings find all parts made, for what comes
        # here is carried out at the first wait below.
        _listen_to_supervisor(
            settings,
            lambda fresh: _post(loop, self._reload_settings, fresh),
            lambda: _post(loop, self._stop.set),
        )
        trust_besides(Authorities(settings.data_dir).path)
        self._shared = storage.open_shared(settings.data_dir, settings.database)
        spool = storage.open_spool(settings.data_dir, settings.database, boot.owner, clock, loop)
        unseal = self._shared.keyring.unseal
        relay = self._relay = SmtpRelay(settings.hostname, settings.limits, self._share, self._digital_id, unseal)
        tools = Tools(clock, spool, relay, MailIds(clock.now, os.urandom).new, random.random)
        inventory = self._load_inventory()
        self._delivery = Delivery(
            tools, settings, inventory, self._transactions(settings), telemetry.DeliveryLog(f"worker-{boot.index}")
        )
        self._pipeline = Pipeline(tools, settings, inventory, self._delivery)
        contexts = self._tls_contexts()
        sockets = [socket.socket(fileno=descriptor) for descriptor in boot.descriptors]
        self._listeners = Listeners(
            sockets=sockets,
            settings=settings,
            reception=self._pipeline,
            tls_contexts=contexts,
            clock=clock,
        )
        taken = await spool.take_back(clock.now())
        if taken:
            self._log.info("took back mail", mails=taken)
        await self._listeners.start()
        tasks = [loop.create_task(self._delivery.run()), loop.create_task(self._poll(clock, spool))]
        # Mails die by reference counts; what is here now stays. So the collector has next to nothing to find.
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Together: what is still accepted stays in the spool and goes on at the next start.
        drain = self._settings.limits.drain_seconds
        await asyncio.gather(self._listeners.drain(drain), self._delivery.stop(drain))
        relay.close()
        await relay.closed()
        await spool.close()
        self._shared.close()

    def _load_inventory(self) -> Inventory:
        """The snapshot. A stored secret that cannot be read is told now, not only when mail waits for it."""
        inventory = load_inventory(self._shared.inventory)
        for profile in inventory.profiles.values():
            for secret in (profile.password, profile.api_key):
                try:
                    if secret is not None and secret.source == "stored":
                        self._shared.keyring.unseal(secret.token)
                except SecretUnreadable as error:
                    self._log.error("stored secret cannot be read", profile=profile.name, error=str(error))
        return inventory

    def _share(self, number: int) -> int:
        """This worker's part of a per-node number: n//N + (k < n%N)."""
        return number // self._settings.workers + (self._boot.index < number % self._settings.workers)

    def _transactions(self, settings: NodeSettings) -> int:
        return max(1, self._share(settings.limits.transactions_per_server))

    def _digital_id(self) -> tuple[str, str]:
        return tls.ensure_digital_id(self._settings.data_dir, self._settings.hostname)

    def _tls_contexts(self) -> list[ssl.SSLContext | None]:
        wanted = [listener.tls is not ListenerTls.NONE for listener in self._settings.listeners]
        context = tls.renewing_context(self._digital_id, self._settings.hostname) if any(wanted) else None
        return [context if each else None for each in wanted]

    def _reload_settings(self, fresh: NodeSettings) -> None:
        """Limits, trusted clients, own mail and hostname change at once; listeners need a restart."""
        self._settings = fresh
        self._delivery.reload(fresh, self._transactions(fresh))
        self._relay.reload(fresh.hostname, fresh.limits)
        self._pipeline.settings = fresh
        self._listeners.reload(fresh)

    async def _poll(self, clock: SystemClock, spool: storage.MailSpool) -> None:
        """Looks for a new inventory revision and for commands; writes the live rows, and once the first is there says
        `ready`: a node whose workers are all ready is one whose /readyz counts them all."""
        loop = asyncio.get_running_loop()
        worker, since = self._boot.owner, clock.now() - 60
        live = LiveRows(worker, self._delivery.servers, self._relay.pools.facts, clock)
        last: dict[str, object] = {}
        written, followed = 0.0, 0.0
        while True:
            try:
                now = clock.now()
                if abs(now - written) >= 1:
                    facts, rows = self._facts(), live.look(self._delivery.inventory.next_hops())
                    news = facts != last or rows.rows or rows.all
                    if news or abs(now - written) >= HEARTBEAT_SECONDS:
                        state = WorkerState(worker, now, facts)
                        await loop.run_in_executor(None, self._shared.commands.heartbeat, state, rows)
                        live.written(rows)
                        if not written:
                            _say_ready()
                        last, written = facts, now
                revision = await loop.run_in_executor(None, self._shared.inventory.revision)
                if revision != self._pipeline.inventory.revision:
                    fresh = await loop.run_in_executor(None, self._load_inventory)
                    self._pipeline.inventory = fresh
                    self._delivery.take_inventory(fresh)
                    self._relay.pools.retire(fresh.profiles)
                    self._log.info("inventory in force", revision=fresh.revision)
                    followed = 0.0
                self._relay.pools.leave(self._delivery.servers.drained)
                if abs(now - followed) >= FOLLOW_SECONDS:
                    await self._delivery.follow_renames()
                    followed = now
                for command in await loop.run_in_executor(None, self._shared.commands.pending, worker, since):
                    acted = await self._delivery.command(command)
                    await loop.run_in_executor(
                        None, self._shared.commands.report, worker, command.id, acted, clock.now()
                    )
            except Exception as error:
                self._log.error("shared database not reached", error=repr(error))
            await asyncio.sleep(POLL_SECONDS)

    def _facts(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "sessions": self._listeners.sessions_open,
            "accepted_sessions": self._listeners.sessions_accepted,
            "memory_mails": self._delivery.in_memory,
            "received": self._pipeline.received,
            "relayed": self._delivery.relayed,
            "inventory_revision": self._pipeline.inventory.revision,
        }


def run_worker(boot: node.Boot) -> None:
    """The worker process; uvloop, or plain asyncio when POSTHOUSE_LOOP=asyncio."""
    telemetry.configure(f"worker-{boot.index}")
    if os.environ.get("POSTHOUSE_LOOP") == "asyncio":
        asyncio.run(Worker(boot).run())
    else:
        import uvloop

        uvloop.run(Worker(boot).run())


def _own_listeners(data_dir: str) -> list[tuple[str, int]]:
    """`node.json` knows which ports the listeners got."""
    facts = json.loads((Path(data_dir) / "node.json").read_text("utf-8"))
    return [_host_and_port(address) for address in facts["smtp"]]


def _testers(
    settings: NodeSettings, unseal: Unseal, listeners: list[tuple[str, int]]
) -> Mapping[ServiceType, ServerTester]:
    """TEST of server profiles, in the console process."""

    def digital_id() -> tuple[str, str]:
        return tls.ensure_digital_id(settings.data_dir, settings.hostname)

    return {
        ServiceType.SMTP: SmtpTester(settings.hostname, settings.limits, digital_id, listeners, unseal),
        ServiceType.METADEFENDER_CORE: core_tester(digital_id, listeners, unseal),
        ServiceType.METADEFENDER_VAULT: vault_tester(digital_id, listeners, unseal),
        ServiceType.CLAMAV: ClamdTester(listeners),
    }


def _host_and_port(address: str) -> tuple[str, int]:
    """What `_address` has joined."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def run_console(boot: node.Boot) -> None:
    """The console process: REST API."""
    from posthouse.web.audit_end import AuditEnd
    from posthouse.web.expiry import ExpiryWatch
    from posthouse.web.server import create_app
    from posthouse.web.server import serve as serve_web
    from posthouse.web.tools import WebTools

    telemetry.configure("console")
    settings = boot.settings
    shared = storage.open_shared(settings.data_dir, settings.database)
    history = storage.open_history(settings.data_dir, settings.database)
    trust_besides(Authorities(settings.data_dir).path)
    context = None
    if settings.console_tls:
        context = tls.renewing_context(
            lambda: tls.ensure_digital_id(settings.data_dir, settings.hostname),
            settings.hostname,
            lambda certificate: note_shown(settings.data_dir, certificate),
        )
    listeners, unseal = _own_listeners(settings.data_dir), shared.keyring.unseal
    profile_test = ProfileTest(_testers(settings, unseal, listeners), settings.hostname)
    tools = WebTools(
        inventory=shared.inventory,
        accounts=shared.accounts,
        commands=shared.commands,
        history=history,
        clock=SystemClock(),
        settings=settings,
        start=Start.of(boot.owner),
        version=__version__,
        hosts=(settings.hostname,) if settings.console_tls else (),
        profile_test=profile_test,
    )
    app = create_app(tools)
    bound = socket.socket(fileno=boot.descriptors[0])

    def reload(fresh: NodeSettings) -> None:
        profile_test.reload(_testers(fresh, unseal, listeners), fresh.hostname)
        app.state.tools = replace(tools, settings=fresh)
        telemetry.logger("console").info("console has the new settings")

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        _listen_to_supervisor(settings, lambda fresh: _post(loop, reload, fresh), lambda: _post(loop, stop.set))
        audit_end = AuditEnd(tools.inventory, lambda: app.state.tools.settings.audit_days)
        beside = [
            loop.create_task(ExpiryWatch(settings.data_dir).run(tools.clock)),
            loop.create_task(audit_end.run(tools.clock)),
        ]
        if settings.test_profiles:
            tests = BackgroundTests(tools.inventory, profile_test, tools.clock, f"node {tools.start.node}")
            beside.append(loop.create_task(tests.run()))
        try:
            await serve_web(app, bound, on_ready=_say_ready, stop=stop, tls=context)
        finally:
            for task in beside:
                task.cancel()

    asyncio.run(main())


def main(role: str) -> None:
    """Entry of a child process."""
    boot = _read_boot()
    match role:
        case "worker":
            run_worker(boot)
        case "console":
            run_console(boot)
        case _:
            raise SystemExit(f"unknown role {role!r}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
